import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from detflow.data import making
from detflow.data.judging.audit import AuditOptions
from detflow.data.making import BadLimit, RecordOptions, publish_records
from detflow.data.records.manifest import read_manifest, read_memberships
from detflow.data.records.reading import read_samples
from detflow.data.sources.splits import SplitBy
from detflow.digests import digest_files
from detflow.errors import ConfigError, DataError, EnvironmentFault, Locked
from detflow.publish import publish_directory

ROOT = Path(__file__).parents[2]


def test_bccd(shared_data, tmp_path):
    code = """
import sys
from detflow.cli.main import cli
cli.main(standalone_mode=False)
assert not {"tensorflow", "tf_keras"} & set(sys.modules)
"""
    arguments = [
        "make-records",
        str(shared_data("bccd")),
        "--output",
        str(tmp_path / "bccd"),
        "--json",
    ]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    manifest = json.loads(result.stdout)
    assert manifest == json.loads((tmp_path / "bccd" / "manifest.json").read_text())
    assert (manifest["annotations_found"], manifest["images_found"]) == (364, 364)
    assert {name: split["images"] for name, split in manifest["splits"].items()} == {
        "train": 205,
        "val": 87,
        "test": 72,
    }
    assert manifest["unions"] == {"trainval": ["train", "val"]}
    totals = {
        name: sum(split["objects_per_class"][name] for split in manifest["splits"].values())
        for name in manifest["classes"]
    }
    assert totals == {"Platelets": 361, "RBC": 4153, "WBC": 372}
    assert manifest["repairs"] == {"box_zero_area": 2}
    assert manifest["fingerprint"] in (ROOT / "datasets/bccd.md").read_text()

    assert manifest["quarantined"] == {}
    ledger = [
        json.loads(line) for line in (tmp_path / "bccd" / "ledger.jsonl").read_text().splitlines()
    ]
    zero = [entry for entry in ledger if entry["code"] == "box_zero_area"]
    assert len(zero) == 2
    assert all(
        entry["action"] == "repaired" and entry["line"] and entry["object_index"] for entry in zero
    )
    samples = list(
        read_samples(tmp_path / "bccd", read_manifest(tmp_path / "bccd"), "train+val+test")
    )
    assert len(samples) == 364
    assert sum(len(sample.objects) for sample in samples) == 4886


def test_plates16(shared_data, tmp_path):
    manifest = publish_records(
        shared_data("plates16"), tmp_path / "out", RecordOptions(report=False)
    )
    assert {name: split["images"] for name, split in manifest["splits"].items()} == {
        "train": 12,
        "valid": 4,
    }
    assert sum(split["objects"] for split in manifest["splits"].values()) == 20
    assert manifest["repairs"] == {"image_transcoded": 16}
    for sample in read_samples(tmp_path / "out", read_manifest(tmp_path / "out"), "valid"):
        assert sample.encoded.startswith(b"\xff\xd8\xff")
        assert sample.filename.endswith(".jpg")


def test_raccoon(shared_data, tmp_path):
    manifest = publish_records(shared_data("raccoon"), tmp_path / "out", RecordOptions())
    assert sum(split["objects"] for split in manifest["splits"].values()) == 217
    assert (
        sum(split["images"] for split in manifest["splits"].values())
        == manifest["annotations_found"]
        == 200
    )
    assert set(manifest["splits"]) == {"train", "val", "test"}
    assert all(split["images"] for split in manifest["splits"].values())


def leftovers(folder):
    return [path for path in folder.iterdir() if ".tmp-" in path.name]


@pytest.mark.parametrize(
    "begun",
    [RecordOptions(), RecordOptions(report=False), RecordOptions(audit=AuditOptions(seed=9))],
)
def test_two_runs_to_one_output_do_not_disturb_each_other(voc_set, tmp_path, begun):
    voc_set.add("a")
    request = making._name_request(voc_set.root, begun)
    with (
        publish_directory(tmp_path / "out", request),
        pytest.raises(Locked, match="another process is writing there"),
    ):
        publish_records(voc_set.root, tmp_path / "out", RecordOptions(jobs=1))


def test_too_little_space_is_told_before_anything_is_written(voc_set, tmp_path, monkeypatch):
    voc_set.add("a")
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: SimpleNamespace(total=9, used=9, free=10)
    )
    with pytest.raises(EnvironmentFault, match=r"[\d,]+ bytes are needed and 10 are free"):
        publish_records(voc_set.root, tmp_path / "out", RecordOptions())
    assert list(tmp_path.iterdir()) == [voc_set.root]


@pytest.mark.parametrize(
    "function", ["shards._write_shard", "report.page.render_report", "making._build_manifest"]
)
def test_a_disk_that_fills_up_keeps_the_old_records(voc_set, tmp_path, monkeypatch, function):
    voc_set.add("a")
    publish_records(voc_set.root, tmp_path / "out", RecordOptions())
    before = digest_files(tmp_path / "out")

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"detflow.data.{function}", full)
    with pytest.raises(
        EnvironmentFault,
        match=r"the disk is full: about [\d,]+ bytes are needed and [\d,]+ are free",
    ):
        publish_records(voc_set.root, tmp_path / "out", RecordOptions(jobs=1))
    assert digest_files(tmp_path / "out") == before
    assert leftovers(tmp_path) == []


def test_a_file_size_limit_is_an_environment_fault(voc_set, tmp_path, command, small_files):
    for index in range(20):
        image = voc_set.encode(voc_set.draw(400, 300, seed=index), quality=95)
        voc_set.add(f"{index}", image=image, size=(400, 300))
    with small_files(60_000):
        result = command("make-records", voc_set.root, "--output", tmp_path / "out", "--jobs", "1")
    assert result.returncode == 5, result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [voc_set.root]


def test_a_read_only_output_is_told_before_any_work(voc_set, tmp_path, monkeypatch):
    voc_set.add("a")
    monkeypatch.setattr(making, "audit_dataset", lambda *args: pytest.fail("work was done"))

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(EnvironmentFault, match="permission denied"):
        publish_records(voc_set.root, tmp_path / "out", RecordOptions())


def test_old_members_stay_with_keep_splits(voc_set, tmp_path):
    for index in range(30):
        voc_set.add(f"{index:03d}", voc_set.object(f"rare{index % 10}"))
    publish_records(voc_set.root, tmp_path / "one", RecordOptions())
    before = read_memberships(tmp_path / "one")
    for index in range(30, 60):
        voc_set.add(f"{index:03d}", voc_set.object(f"rare{index % 10}"))
    manifest = publish_records(
        voc_set.root, tmp_path / "two", RecordOptions(keep_splits=tmp_path / "one")
    )
    after = read_memberships(tmp_path / "two")
    assert len(after) == 60
    assert {key: after[key] for key in before} == before
    assert manifest["split_rule"]["kept_from"] == read_manifest(tmp_path / "one").fingerprint


@pytest.mark.parametrize(("number", "objects"), [(1, 1), (2, 1), (3, 0)])
def test_tiny_datasets_give_a_result_or_a_clear_refusal(voc_set, tmp_path, number, objects):
    for index in range(number):
        voc_set.write(f"{index}.jpg", voc_set.encode(voc_set.draw(seed=index)))
        voc_set.write(
            f"{index}.xml", voc_set.xml(*[voc_set.object()] * objects, filename=f"{index}.jpg")
        )
    if objects:
        manifest = publish_records(voc_set.root, tmp_path / "out", RecordOptions())
        assert manifest["splits"]["train"]["images"] >= 1
        assert sum(split["images"] for split in manifest["splits"].values()) == number
        assert (
            len(
                list(
                    read_samples(
                        tmp_path / "out", read_manifest(tmp_path / "out"), "train+val+test"
                    )
                )
            )
            == number
        )
    else:
        with pytest.raises(DataError, match="no class to learn"):
            publish_records(voc_set.root, tmp_path / "out", RecordOptions())


def test_leaks_are_written_twice_only_when_allowed(voc_set, tmp_path):
    for name in "abc":
        voc_set.add(name)
    voc_set.write("train.txt", "a\nb\n")
    voc_set.write("val.txt", "b\nc\n")
    with pytest.raises(DataError, match="1 problem must be looked at first"):
        publish_records(voc_set.root, tmp_path / "out", RecordOptions())
    manifest = publish_records(
        voc_set.root, tmp_path / "out", RecordOptions(audit=AuditOptions(allow_leaks=True))
    )
    assert {name: split["images"] for name, split in manifest["splits"].items()} == {
        "train": 2,
        "val": 2,
    }


def test_an_image_that_changes_meanwhile_is_found(voc_set, tmp_path, monkeypatch):
    voc_set.add("a")
    original = making.require_acceptable

    def change(*args):
        original(*args)
        voc_set.write("images/a.jpg", voc_set.encode(voc_set.draw(seed=99)))

    monkeypatch.setattr(making, "require_acceptable", change)
    with pytest.raises(DataError, match=r"images/a\.jpg: the image changed"):
        publish_records(voc_set.root, tmp_path / "out", RecordOptions(jobs=1))


def test_the_dataset_is_never_replaced(voc_set):
    voc_set.add("a")
    before = digest_files(voc_set.root)
    for output in (voc_set.root, voc_set.root.parent, voc_set.root / "images"):
        with pytest.raises(ConfigError):
            publish_records(voc_set.root, output, RecordOptions())
    assert digest_files(voc_set.root) == before


def test_what_cannot_be_mended_is_set_aside_and_the_sums_add_up(voc_set, tmp_path):
    for index in range(5):
        voc_set.add(f"good{index}")
    whole = (voc_set.root / "images" / "good0.jpg").read_bytes()
    voc_set.add("cut", image=whole[:-2])
    voc_set.add("text", image=b"not an image")
    (voc_set.root / "annotations" / "alone.xml").write_text(
        "<annotation><filename>nowhere.jpg</filename></annotation>"
    )
    manifest = publish_records(voc_set.root, tmp_path / "out", RecordOptions())
    assert manifest["quarantined"] == {"image_missing": 1, "image_undecodable": 2}
    written = sum(split["images"] for split in manifest["splits"].values())
    assert written + sum(manifest["quarantined"].values()) == manifest["annotations_found"] == 8
    for limit, fails in (("2", True), ("3", False), ("37%", True), ("37.5%", False)):
        options = RecordOptions(max_bad=BadLimit.parse(limit))
        if fails:
            with pytest.raises(DataError, match="3 of 8 annotations are unusable"):
                publish_records(voc_set.root, tmp_path / "out", options)
        else:
            publish_records(voc_set.root, tmp_path / "out", options)


def test_more_than_half_set_aside_is_refused_unless_allowed(voc_set, tmp_path, command):
    voc_set.add("good")
    voc_set.add("cut", image=b"not an image")
    run = ("make-records", voc_set.root, "--output", tmp_path / "out")
    assert command(*run).returncode == 0
    voc_set.add("text", image=b"not an image")
    for refused in (command(*run), command("check", voc_set.root)):
        assert refused.returncode == 3
        assert refused.stderr.splitlines()[-1].endswith(
            "2 of 3 annotations would be set aside, more than half of them; look at the reasons "
            "named above, or allow it with --max-bad 100%"
        )
    assert command(*run, "--max-bad", "2").returncode == 0


def test_strict_mends_nothing(voc_set, tmp_path, command):
    voc_set.add("a", size=(64, 47))
    result = command("make-records", voc_set.root, "--output", tmp_path / "out", "--strict")
    assert result.returncode == 3
    first, last = result.stderr.splitlines()
    assert first == (
        "annotations/a.xml:1: the annotation's <size> differs from the image (64x47), "
        "expected 64x48; taken from the pixels"
    )
    assert "--strict mends nothing, and 1 repair and 0 quarantines are needed" in last
    assert not (tmp_path / "out").exists()


def test_a_dataset_without_annotations_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no VOC annotation"):
        publish_records(tmp_path / "empty", tmp_path / "out", RecordOptions())


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "-1%", "nan%", "%"])
def test_a_limit_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="--max-bad"):
        BadLimit.parse(text)


def test_classes_keep_the_order_that_the_user_gives(voc_set, tmp_path):
    voc_set.add("a", voc_set.object("cat"), voc_set.object("dog", (1, 1, 5, 5)))
    options = RecordOptions(audit=AuditOptions(classes=("dog", "cat"), split_by=SplitBy.SEED))
    assert publish_records(voc_set.root, tmp_path / "out", options)["classes"] == ["dog", "cat"]
    assert (
        (tmp_path / "out" / "label_map.pbtxt")
        .read_text()
        .startswith("item {\n  id: 1\n  name: 'dog'")
    )


@pytest.mark.parametrize(
    ("output", "fixed"), [("out", "out/fixed"), ("out", "out"), ("out/records", "out")]
)
def test_the_mended_set_and_the_records_do_not_lie_in_one_another(voc_set, tmp_path, output, fixed):
    voc_set.add("1")
    options = RecordOptions(jobs=1, write_fixed=tmp_path / fixed)
    with pytest.raises(ConfigError, match="lie in one another"):
        publish_records(voc_set.root, tmp_path / output, options)
    assert not list(tmp_path.glob("out/**/*"))
