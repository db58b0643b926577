import json
import struct

import pytest

from detflow.data.records.manifest import read_manifest
from detflow.data.records.reading import read_samples, verify_shards
from detflow.data.records.schema import to_record_box
from detflow.errors import ArtifactError
from detflow.types import Box, ImageSize, ObjectAnnotation


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
