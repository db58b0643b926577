import json

import pytest

from detflow.data.judging.audit import AuditOptions
from detflow.data.making import RecordOptions, publish_records
from detflow.data.records.manifest import (
    find_image_name,
    parse_split,
    read_manifest,
    read_memberships,
    resolve_split,
)
from detflow.digests import seal
from detflow.errors import ArtifactError, ConfigError


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


@pytest.mark.parametrize(
    ("name", "splits"),
    [("train", ["train"]), ("trainval", ["train", "val"]), ("test+val", ["test", "val"])],
)
def test_a_name_means_splits_without_a_manifest_too(name, splits):
    assert list(parse_split(name)) == splits


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("manifest.json", lambda path: path.unlink(), "manifest is missing"),
        ("manifest.json", lambda path: path.write_text("{"), "manifest is damaged"),
        ("manifest.json", lambda path: path.write_text("[]"), "manifest is damaged"),
        (
            "manifest.json",
            lambda path: path.write_text(path.read_text().replace('"classes"', '"klasses"')),
            "its digest differs",
        ),
        (
            "manifest.json",
            lambda path: path.write_text(
                path.read_text().replace('"format_version": 2', '"format_version": 9')
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


def change(name, entry, value):
    def edit(content):
        content["splits"][name][entry] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda content: content.update(classes=["cat", "cow"]), "fingerprint"),
        (lambda content: content.pop("classes"), "classes"),
        (lambda content: content["unions"].update(all=["train", "nowhere"]), "union all"),
        (change("train", "images", 1), r"split train has 1 images, its shards have \d+ records"),
        (change("train", "objects", 1), r"split train has 1 objects, its classes have \d+"),
        (change("train", "objects_per_class", {"cow": 2}), "a class that the manifest lacks"),
        (change("train", "objects_per_class", {"cat": -2}), "fewer than 0 objects"),
        (
            lambda content: content["splits"]["train"]["shards"][0].update(name="../train"),
            "not a shard's name",
        ),
        (
            lambda content: content["splits"]["train"]["shards"].append(
                content["splits"]["train"]["shards"][0]
            ),
            "a shard is listed twice",
        ),
        (
            lambda content: content["splits"]["train"]["shards"][0].update(bytes=-1),
            "fewer than 0 records or bytes",
        ),
        (
            lambda content: content["splits"]["train"]["shards"][0].update(bytes=float("inf")),
            "the manifest is damaged",
        ),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused_whoever_wrote_it(records, edit, message):
    path = records / "manifest.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="its digest differs"):
        read_manifest(records)
    path.write_text(json.dumps(seal(content)))
    with pytest.raises(ArtifactError, match=message) as caught:
        read_manifest(records)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["manifest.json", "label_map.pbtxt"])
def test_every_flipped_bit_is_noticed_or_changes_nothing(records, name, flip_bits):
    expected = read_manifest(records)
    for read in flip_bits(records / name, lambda: read_manifest(records)):
        assert read == expected


def test_the_fingerprint_follows_the_data(voc_set, tmp_path):
    for index in range(3):
        voc_set.add(f"a{index}")
    fingerprints = []
    for seed in (0, 0, 1):
        publish_records(
            voc_set.root, tmp_path / "out", RecordOptions(audit=AuditOptions(seed=seed))
        )
        fingerprints.append(read_manifest(tmp_path / "out").fingerprint)
    voc_set.add("a3")
    publish_records(voc_set.root, tmp_path / "out", RecordOptions())
    fingerprints.append(read_manifest(tmp_path / "out").fingerprint)
    assert fingerprints[0] == fingerprints[1]
    assert len(set(fingerprints)) == 3


def test_an_index_that_is_nested_too_deep_is_refused(records):
    (records / "index.jsonl").write_text("[" * 100_000)
    with pytest.raises(ArtifactError, match="the index cannot be read"):
        read_memberships(records)
    assert find_image_name(records, "shard", 0) is None
