import pytest

from detflow.data.check import check_records
from detflow.data.records.lint.find import find_record_files, find_record_folders
from detflow.errors import DataError


def test_missing_shards_are_named(example, write, lint):
    write(example(), name="train-00000-of-00003.tfrecord")
    path = write(example(), name="train-00002-of-00003.tfrecord")
    report = lint(path.parent)
    assert [finding.path for finding in report.examples["shard_missing"]] == [
        "train-00001-of-00003.tfrecord"
    ]
    assert report.splits["train"].files == 2


def test_a_name_cannot_promise_a_million_lines(example, write, lint):
    path = write(example(), name="coco_val.record-00000-of-99999")
    report = lint(path.parent)
    assert report.counts["shard_missing"] <= 20
    assert list(report.splits) == ["coco_val"]


def test_which_files_are_meant(example, write, tmp_path):
    path = write(example(), name="a.tfrecord")
    for name in ("b.record-00000-of-00002", "c-00000-of-00001", "d.tfrecords.gz"):
        write(example(), name=name)
    for name in ("notes.txt", ".hidden.tfrecord", "e-00000-of-00001.json"):
        write(example(), name=name)
    assert [file.name for file in find_record_files(path.parent)] == [
        "a.tfrecord",
        "b.record-00000-of-00002",
        "c-00000-of-00001",
        "d.tfrecords.gz",
    ]
    unusual = write(example(), name="data.bin")
    assert find_record_files(unusual) == [unusual]
    (tmp_path / "text.bin").write_text("hello")
    with pytest.raises(DataError, match="there is no TFRecord file"):
        check_records(tmp_path / "text.bin", 1)


def test_which_folders_are_meant(example, write, ours, tmp_path):
    """Parts in folders that are called like splits belong to the folder around them."""
    (tmp_path / "exports" / "deep").mkdir(parents=True)
    for folder in ("", "deep/train", "deep/Valid", "deep/old", "records/test"):
        path = tmp_path / "exports" / folder / "a.tfrecord"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(write(example()).read_bytes())
    (tmp_path / "exports" / ".cache").mkdir()
    write(example()).rename(tmp_path / "exports" / ".cache" / "b.tfrecord")
    (tmp_path / "exports" / "deep" / "test").mkdir()
    ours.rename(tmp_path / "exports" / "deep" / "dev")
    root = tmp_path / "exports"
    assert [folder.relative_to(root).as_posix() for folder in find_record_folders(root)] == [
        ".",
        "deep",
        "deep/dev",
        "deep/old",
        "records",
    ]
    names = [
        file.relative_to(root / "deep").as_posix() for file in find_record_files(root / "deep")
    ]
    assert names == ["Valid/a.tfrecord", "train/a.tfrecord"]
