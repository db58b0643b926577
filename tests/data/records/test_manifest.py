import pytest

from detflow.data.judging.audit import AuditOptions
from detflow.data.making import RecordOptions, publish_records
from detflow.data.records.manifest import read_manifest, resolve_split
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
        publish_records(
            voc_set.root, tmp_path / "out", RecordOptions(audit=AuditOptions(seed=seed))
        )
        fingerprints.append(read_manifest(tmp_path / "out").fingerprint)
    voc_set.add("a3")
    publish_records(voc_set.root, tmp_path / "out", RecordOptions())
    fingerprints.append(read_manifest(tmp_path / "out").fingerprint)
    assert fingerprints[0] == fingerprints[1]
    assert len(set(fingerprints)) == 3
