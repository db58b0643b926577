import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.data.convert import ConversionOptions, convert_dataset
from detflow.data.judging.audit import AuditOptions
from detflow.data.records.manifest import read_manifest, resolve_split
from detflow.data.records.reading import read_samples, verify_shards
from detflow.data.records.schema import decode_sample, encode_sample, to_record_box
from detflow.errors import ArtifactError, ConfigError
from detflow.types import Box, ImageSize, LabelMap, ObjectAnnotation, Sample

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
edges = st.floats(0.0, 1.0, width=32)
LABEL_MAP = LabelMap(("cat", "dog", "Blutkörperchen"))


@st.composite
def boxes(draw):
    ymin, ymax = sorted(draw(st.lists(edges, min_size=2, max_size=2, unique=True)))
    xmin, xmax = sorted(draw(st.lists(edges, min_size=2, max_size=2, unique=True)))
    return Box(ymin, xmin, ymax, xmax)


objects = st.builds(
    ObjectAnnotation,
    st.sampled_from(LABEL_MAP.names),
    boxes(),
    difficult=st.booleans(),
    truncated=st.booleans(),
    pose=names | st.just(""),
)
samples = st.builds(
    Sample,
    key=names,
    source_id=st.integers(0, 2**40),
    filename=names,
    size=st.builds(ImageSize, st.integers(1, 65_500), st.integers(1, 65_500)),
    encoded=st.binary(max_size=64),
    objects=st.lists(objects, max_size=6).map(tuple),
)


@given(samples)
def test_a_sample_survives_the_round_trip(sample):
    data = encode_sample(sample, LABEL_MAP)
    assert decode_sample(data, LABEL_MAP) == sample
    assert encode_sample(sample, LABEL_MAP) == data


def test_file_names_need_not_be_utf8():
    sample = Sample("ann/\udce9", 1, "img/\udce9.jpg", ImageSize(4, 4), b"x", ())
    assert decode_sample(encode_sample(sample, LABEL_MAP), LABEL_MAP) == sample


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.data())
def test_voc_boxes_stay_boxes_when_they_are_rounded(width, height, data):
    xmin = data.draw(st.integers(1, width))
    ymin = data.draw(st.integers(1, height))
    size = ImageSize(width, height)
    box = Box.from_voc(
        xmin, ymin, data.draw(st.integers(xmin, width)), data.draw(st.integers(ymin, height)), size
    )
    rounded = to_record_box(box)
    assert to_record_box(rounded) == rounded
    assert rounded.to_voc(size) == pytest.approx(box.to_voc(size), abs=2e-3)


def test_a_box_that_is_not_rounded_is_refused():
    sample = Sample(
        "a",
        1,
        "a.jpg",
        ImageSize(3, 3),
        b"x",
        (ObjectAnnotation("cat", Box(0.0, 0.0, 1 / 3, 1.0)),),
    )
    with pytest.raises(ValueError, match="not rounded"):
        encode_sample(sample, LABEL_MAP)


def test_classes_that_disagree_with_the_label_map_are_found():
    sample = Sample(
        "a", 1, "a.jpg", ImageSize(4, 4), b"x", (ObjectAnnotation("cat", Box(0.0, 0.0, 0.5, 1.0)),)
    )
    with pytest.raises(ValueError, match="do not agree"):
        decode_sample(encode_sample(sample, LABEL_MAP), LabelMap(("dog", "cat")))


@pytest.fixture
def records(voc_set, tmp_path):
    for split, number in (("train", 6), ("val", 3)):
        for index in range(number):
            voc_set.add(f"{split}{index}", images=f"{split}/images", annotations=f"{split}/annots")
    convert_dataset(voc_set.root, tmp_path / "records", ConversionOptions())
    return tmp_path / "records"


def test_samples_are_read_back(records, voc_set):
    manifest = read_manifest(records)
    train = list(read_samples(records, manifest, "train"))
    assert len(train) == manifest.splits["train"].images == 6
    both = list(read_samples(records, manifest, "trainval"))
    assert both == train + list(read_samples(records, manifest, "val"))
    assert sorted(sample.source_id for sample in both) == list(range(1, 10))
    for sample in both:
        assert sample.encoded == (voc_set.root / sample.filename).read_bytes()
        assert sample.objects == (
            ObjectAnnotation("cat", to_record_box(Box.from_voc(10, 10, 30, 30, ImageSize(64, 48)))),
        )


def test_splits_have_names(records):
    manifest = read_manifest(records)
    assert resolve_split(manifest, "train") == ("train",)
    assert (
        resolve_split(manifest, "trainval")
        == resolve_split(manifest, "train+val")
        == ("train", "val")
    )
    with pytest.raises(ConfigError, match=r"did you mean 'train'\? the records have train, val"):
        resolve_split(manifest, "trian")
    with pytest.raises(ConfigError, match="there is no split 'test'"):
        resolve_split(manifest, "test")
    with pytest.raises(ConfigError, match="train\\+train"):
        resolve_split(manifest, "train+train")


def test_a_flipped_bit_is_found_with_its_record_and_image(records):
    manifest = read_manifest(records)
    verify_shards(records, manifest, ["trainval"])
    shard = manifest.splits["train"].shards[0]
    entries = [json.loads(line) for line in (records / "index.jsonl").read_text().splitlines()]
    entry = next(one for one in entries if one["shard"] == shard.name and one["record"] == 4)
    content = bytearray((records / shard.name).read_bytes())
    content[entry["offset"] + 400] ^= 1
    (records / shard.name).write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        verify_shards(records, manifest, ["train"])
    assert str(caught.value).startswith(
        f"{records / shard.name}:record 4: the data's checksum is wrong"
    )
    assert f"begins at byte {entry['offset']:,} (image {entry['image']})" in str(caught.value)
    with pytest.raises(ArtifactError, match="record 4"):
        list(read_samples(records, manifest, "train"))
    verify_shards(records, manifest, ["val"])


def _empty(path):
    path.write_bytes(b"")


def _cut(path):
    path.write_bytes(path.read_bytes()[:-5])


def _cut_at_a_record(path):
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    path.write_bytes(path.read_bytes()[: length + 16])


def _swap(path):
    path.write_bytes((path.parent / "val-00000-of-00001.tfrecord").read_bytes())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_empty, "has 0 records"),
        (_cut, "the file ends inside the record"),
        (_cut_at_a_record, "has 1 records"),
        (_swap, "has 3 records"),
        (lambda path: path.unlink(), "missing"),
    ],
)
def test_a_shard_that_is_not_the_manifests_is_named(records, damage, message):
    manifest = read_manifest(records)
    damage(records / "train-00000-of-00001.tfrecord")
    with pytest.raises(ArtifactError, match=f"train-00000-of-00001.tfrecord.*{message}"):
        verify_shards(records, manifest, ["val", "train"])
    with pytest.raises(ArtifactError, match=r"train-00000-of-00001\.tfrecord"):
        list(read_samples(records, manifest, "train"))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("manifest.json", lambda path: path.unlink(), "manifest is missing"),
        ("manifest.json", lambda path: path.write_text("{"), "manifest is damaged"),
        ("manifest.json", lambda path: path.write_text("[]"), "manifest is damaged"),
        (
            "manifest.json",
            lambda path: path.write_text(path.read_text().replace('"classes"', '"klasses"')),
            "classes",
        ),
        (
            "manifest.json",
            lambda path: path.write_text(path.read_text().replace('"cat"', '"dog"')),
            "fingerprint",
        ),
        (
            "manifest.json",
            lambda path: path.write_text(path.read_text().replace("train-0", "../tra-0")),
            "not a shard's name",
        ),
        (
            "manifest.json",
            lambda path: path.write_text(
                path.read_text().replace('"format_version": 1', '"format_version": 9')
            ),
            "9",
        ),
        ("label_map.pbtxt", lambda path: path.unlink(), "label map cannot be read"),
        (
            "label_map.pbtxt",
            lambda path: path.write_text("item { id: 1 name: 'dog' }"),
            "different classes",
        ),
    ],
)
def test_a_damaged_manifest_or_label_map_is_named(records, name, damage, message):
    damage(records / name)
    with pytest.raises(ArtifactError, match=message):
        read_manifest(records)


def test_the_fingerprint_follows_the_data(voc_set, tmp_path):
    for index in range(3):
        voc_set.add(f"a{index}")
    fingerprints = []
    for seed in (0, 0, 1):
        convert_dataset(
            voc_set.root, tmp_path / "out", ConversionOptions(audit=AuditOptions(seed=seed))
        )
        fingerprints.append(read_manifest(tmp_path / "out").fingerprint)
    voc_set.add("a3")
    convert_dataset(voc_set.root, tmp_path / "out", ConversionOptions())
    fingerprints.append(read_manifest(tmp_path / "out").fingerprint)
    assert fingerprints[0] == fingerprints[1]
    assert len(set(fingerprints)) == 3
