import json
import subprocess
import sys

import pytest

from detflow.dataset.audit import AuditOptions
from detflow.dataset.convert import BadLimit, ConversionOptions, convert_dataset
from detflow.dataset.records import read_manifest, read_samples
from detflow.dataset.splits import SplitBy
from detflow.errors import ConfigError, DataError
from detflow.publish import digest_files


def run(*arguments):
    code = "from detflow.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, "make-records", *map(str, arguments)], capture_output=True, text=True)


def test_bccd(shared_data, tmp_path):
    code = """
import sys
from detflow.cli import cli
cli.main(standalone_mode=False)
assert not {"tensorflow", "tf_keras"} & set(sys.modules)
"""
    arguments = ["make-records", str(shared_data("bccd")), "--output", str(tmp_path / "bccd"), "--json"]
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    manifest = json.loads(result.stdout)
    assert manifest == json.loads((tmp_path / "bccd" / "manifest.json").read_text())
    assert (manifest["annotations_found"], manifest["images_found"]) == (364, 364)
    assert {name: split["images"] for name, split in manifest["splits"].items()} == {"train": 205, "val": 87, "test": 72}
    assert manifest["unions"] == {"trainval": ["train", "val"]}
    totals = {name: sum(split["objects_per_class"][name] for split in manifest["splits"].values()) for name in manifest["classes"]}
    assert totals == {"Platelets": 361, "RBC": 4153, "WBC": 372}
    assert manifest["repairs"] == {"box_zero_area": 2}
    assert manifest["quarantined"] == {}
    ledger = [json.loads(line) for line in (tmp_path / "bccd" / "ledger.jsonl").read_text().splitlines()]
    zero = [entry for entry in ledger if entry["code"] == "box_zero_area"]
    assert len(zero) == 2
    assert all(entry["action"] == "repaired" and entry["line"] and entry["object_index"] for entry in zero)
    samples = list(read_samples(tmp_path / "bccd", read_manifest(tmp_path / "bccd"), "train+val+test"))
    assert len(samples) == 364
    assert sum(len(sample.objects) for sample in samples) == 4886


def test_plates16(shared_data, tmp_path):
    manifest = convert_dataset(shared_data("plates16"), tmp_path / "out", ConversionOptions())
    assert {name: split["images"] for name, split in manifest["splits"].items()} == {"train": 12, "valid": 4}
    assert sum(split["objects"] for split in manifest["splits"].values()) == 20
    assert manifest["repairs"] == {"image_transcoded": 16}
    for sample in read_samples(tmp_path / "out", read_manifest(tmp_path / "out"), "valid"):
        assert sample.encoded.startswith(b"\xff\xd8\xff")
        assert sample.filename.endswith(".jpg")


def test_raccoon(shared_data, tmp_path):
    manifest = convert_dataset(shared_data("raccoon"), tmp_path / "out", ConversionOptions())
    assert sum(split["objects"] for split in manifest["splits"].values()) == 217
    assert sum(split["images"] for split in manifest["splits"].values()) == manifest["annotations_found"] == 200
    assert set(manifest["splits"]) == {"train", "val", "test"}
    assert all(split["images"] for split in manifest["splits"].values())


def test_bytes_do_not_depend_on_the_number_of_processes_or_on_what_was_there(voc_set, tmp_path):
    for index in range(70):
        voc_set.add(f"{index:03d}")
    digests = []
    for name, jobs in (("one", 1), ("two", 2), ("one", 1)):
        convert_dataset(voc_set.root, tmp_path / name, ConversionOptions(jobs=jobs))
        digests.append(digest_files(tmp_path / name))
    assert digests[0] == digests[1] == digests[2]
    assert "train-00000-of-00002.tfrecord" in digests[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "set", "two"]


def test_the_dataset_is_never_replaced(voc_set):
    voc_set.add("a")
    before = digest_files(voc_set.root)
    for output in (voc_set.root, voc_set.root.parent, voc_set.root / "images"):
        with pytest.raises(ConfigError):
            convert_dataset(voc_set.root, output, ConversionOptions())
    assert digest_files(voc_set.root) == before


def test_what_cannot_be_mended_is_set_aside_and_the_sums_add_up(voc_set, tmp_path):
    for index in range(5):
        voc_set.add(f"good{index}")
    whole = (voc_set.root / "images" / "good0.jpg").read_bytes()
    voc_set.add("cut", image=whole[:-2])
    voc_set.add("text", image=b"not an image")
    (voc_set.root / "annotations" / "alone.xml").write_text("<annotation><filename>nowhere.jpg</filename></annotation>")
    manifest = convert_dataset(voc_set.root, tmp_path / "out", ConversionOptions())
    assert manifest["quarantined"] == {"image_missing": 1, "image_undecodable": 2}
    written = sum(split["images"] for split in manifest["splits"].values())
    assert written + sum(manifest["quarantined"].values()) == manifest["annotations_found"] == 8
    for limit, fails in (("2", True), ("3", False), ("37%", True), ("37.5%", False)):
        options = ConversionOptions(max_bad=BadLimit.parse(limit))
        if fails:
            with pytest.raises(DataError, match="3 of 8 annotations are unusable"):
                convert_dataset(voc_set.root, tmp_path / "out", options)
        else:
            convert_dataset(voc_set.root, tmp_path / "out", options)


def test_strict_mends_nothing(voc_set, tmp_path):
    voc_set.add("a", size=(64, 47))
    result = run(voc_set.root, "--output", tmp_path / "out", "--strict")
    assert result.returncode == 3
    first, last = result.stderr.splitlines()
    assert first == (
        "annotations/a.xml:1: the annotation's <size> differs from the image (64x47), expected 64x48; taken from the pixels"
    )
    assert "--strict mends nothing, and 1 repairs and 0 quarantines are needed" in last
    assert not (tmp_path / "out").exists()


def test_a_dataset_without_annotations_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no VOC annotation"):
        convert_dataset(tmp_path / "empty", tmp_path / "out", ConversionOptions())


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "-1%", "nan%", "%"])
def test_a_limit_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="--max-bad"):
        BadLimit.parse(text)


def test_classes_keep_the_order_that_the_user_gives(voc_set, tmp_path):
    voc_set.add("a", voc_set.object("cat"), voc_set.object("dog", (1, 1, 5, 5)))
    options = ConversionOptions(audit=AuditOptions(classes=("dog", "cat"), split_by=SplitBy.SEED))
    assert convert_dataset(voc_set.root, tmp_path / "out", options)["classes"] == ["dog", "cat"]
    assert (tmp_path / "out" / "label_map.pbtxt").read_text().startswith("item {\n  id: 1\n  name: 'dog'")
