import json
import math

import pytest

from detflow.data.check import check_records
from detflow.data.records.lint.judge import lint_records
from detflow.data.records.tfrecord import frame_record
from detflow.data.rules import CONSUMERS, Severity
from detflow.data.workers.processes import open_workers
from detflow.errors import ArtifactError


def test_a_sound_foreign_set_passes(example, write, lint):
    report = lint(write(example(), example()))
    assert dict(report.counts) == {}
    assert report.num_images == 2
    assert dict(report.splits["train"].objects_per_class) == {"cat": 2, "dog": 2}
    assert report.blocked["Model Garden"] == report.blocked["TF OD API"] == []
    assert report.blocked["detflow"] == [
        "there is no manifest.json; detflow reads what make-records writes"
    ]


def test_our_own_set_passes(ours, lint):
    report = lint(ours)
    assert dict(report.counts) == {}
    assert report.has_manifest
    assert report.blocked == {name: [] for name in CONSUMERS}
    assert sum(split.images for split in report.splits.values()) == 12


def test_images_without_objects_are_negatives_not_faults(example, write, lint):
    bare = dict.fromkeys(("ymin", "xmin", "ymax", "xmax", "label", "text"))
    report = lint(write(example(**bare), example()))
    assert dict(report.counts) == {}
    assert report.splits["train"].negatives == 1
    assert dict(lint(write(example(**bare))).counts) == {"no_objects": 1}


def test_a_damaged_payload_costs_one_record(example, write, lint):
    path = write(example(), example(), example())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    report = lint(path)
    assert dict(report.counts) == {"data_damaged": 1}
    assert report.num_images == 2
    assert report.examples["data_damaged"][0].record == 1
    assert all(report.blocked.values())


@pytest.mark.parametrize("kept", [5, 400])
def test_a_cut_file_is_named(example, write, kept, lint):
    path = write(example(), example())
    first = len(path.read_bytes()) // 2
    path.write_bytes(path.read_bytes()[: first + kept])
    assert lint(path).counts["framing_damaged"] == 1


def test_a_wrong_length_ends_the_file(example, write, lint):
    path = write(example(), example())
    content = bytearray(path.read_bytes())
    content[3] ^= 0x40
    path.write_bytes(content)
    report = lint(path)
    assert dict(report.counts) == {"framing_damaged": 1}
    assert report.num_images == 0


def test_a_compressed_file_and_an_empty_one(example, write, lint):
    import gzip

    path = write(example())
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert dict(lint(path).counts) == {"compressed": 1}
    path.write_bytes(b"")
    assert dict(lint(path).counts) == {"file_empty": 1}


def test_doubles(example, write, voc_set, lint):
    image = voc_set.encode(voc_set.draw())
    first, same = example(image=image, source_id=[b"7"]), example(image=image, source_id=[b"7"])
    report = lint(write(first, same))
    assert dict(report.counts) == {"source_id_twice": 1, "image_twice": 1}
    other = write(example(image=image), name="test.record")
    report = lint(other.parent)
    assert report.counts["image_in_two_splits"] == 2
    assert report.count(Severity.ERROR) == 2


def test_names_and_ids_must_agree_across_the_set(example, write, lint):
    report = lint(write(example(), example(text=[b"dog", b"cat"])))
    assert dict(report.counts) == {"class_conflict": 2}
    report = lint(write(example(), example(label=[3, 2])))
    assert report.examples["class_conflict"][0].value == "id 3, name 'cat'"


def test_the_label_map_beside_the_files_counts(example, write, lint):
    path = write(example())
    (path.parent / "classes.pbtxt").write_text("item { id: 1 name: 'cat' }")
    assert dict(lint(path).counts) == {"class_id_unknown": 1}
    (path.parent / "classes.pbtxt").write_text(
        "item { id: 1 name: 'dog' } item { id: 2 name: 'cat' }"
    )
    assert dict(lint(path).counts) == {"class_conflict": 2}
    for other in ("cat", "Cat"):
        (path.parent / "classes.pbtxt").write_text(
            f"item {{ id: 1 name: '/m/1' display_name: '{other}' }} item {{ id: 2 name: 'dog' }}"
        )
        expected = {} if other == "cat" else {"class_conflict": 1}
        assert dict(lint(path).counts) == expected
    (path.parent / "classes.pbtxt").write_text("nonsense")
    assert dict(lint(path).counts) == {"label_map_damaged": 1}


def shard_of(records):
    return max(records.glob("train-*.tfrecord"))


def test_our_set_with_a_shard_removed(ours, lint):
    shard_of(ours).unlink()
    report = lint(ours)
    assert report.counts["manifest_disagrees"] >= 1
    assert report.blocked["detflow"]


def test_our_set_with_a_record_removed(ours, lint):
    path = shard_of(ours)
    lines = [json.loads(line) for line in (ours / "index.jsonl").read_text().splitlines()]
    end = max(line["offset"] for line in lines if line["shard"] == path.name)
    path.write_bytes(path.read_bytes()[:end])
    values = [finding.value for finding in lint(ours).examples["manifest_disagrees"]]
    assert any("records" in value for value in values)


def test_our_set_with_a_foreign_record_of_the_same_framing(ours, example, lint):
    path = shard_of(ours)
    path.write_bytes(frame_record(example()))
    report = lint(ours)
    assert report.counts["sample_refused"] == 1
    assert report.counts["manifest_disagrees"] >= 1


def test_our_set_with_a_damaged_manifest_or_a_stray_file(ours, example, lint):
    (ours / "extra.tfrecord").write_bytes(frame_record(example()))
    assert "does not list" in lint(ours).examples["manifest_disagrees"][0].value
    (ours / "manifest.json").write_text("{")
    assert lint(ours).counts["manifest_damaged"] == 1


ROBOFLOW = """item {
    name: "cat",
    id: 1,
    display_name: "cat"
}
item {
    name: "dog",
    id: 2,
    display_name: "dog"
}
"""


def test_folders_called_like_splits_are_one_set(example, write, voc_set, lint):
    """Leaks between splits can be seen only together."""
    same = voc_set.encode(voc_set.draw())
    for split, images in (("train", (None, same)), ("valid", (None,)), ("test", (same,))):
        examples = (example(image=image, sha256=None) for image in images)
        root = write(*examples, name=f"{split}/things.tfrecord").parents[1]
        (root / split / "things_label_map.pbtxt").write_text(ROBOFLOW)
    report = lint(root)
    assert {name: split.images for name, split in report.splits.items()} == {
        "test": 1,
        "train": 2,
        "valid": 1,
    }
    assert list(report.label_map) == ["cat", "dog"]
    assert dict(report.counts) == {"image_in_two_splits": 1}
    (finding,) = report.examples["image_in_two_splits"]
    assert (finding.path, finding.record) == ("train/things.tfrecord", 1)
    assert "test/things.tfrecord: record 0" in finding.value

    (root / "test" / "things_label_map.pbtxt").write_text(ROBOFLOW.replace("id: 2", "id: 3"))
    report = lint(root)
    assert report.counts["label_maps_differ"] == 2
    assert report.examples["label_maps_differ"][0].to_line() == (
        "train/things_label_map.pbtxt: 'dog' has id 2, expected 3 as in the others"
    )


def test_the_number_of_processes_changes_nothing(example, write, lint):
    path = write(*(example(source_id=[b"x"]) for _ in range(40)))
    with open_workers(2) as workers:
        parallel = lint_records(path, workers, lambda what, done, total: None)
    assert parallel.to_json() == lint(path).to_json()


def test_errors_refuse_and_warnings_do_not(example, write):
    assert check_records(write(example(source_id=[b"x"])), 1).refusal is None
    refusal = check_records(write(example(xmin=[math.nan, 0.5])), 1).refusal
    assert isinstance(refusal, ArtifactError)
    assert "1 error in" in str(refusal)


def test_the_raccoon_record_of_the_shared_data(shared_data, lint):
    report = lint(shared_data("raccoon") / "data" / "test.record")
    assert report.num_images == 40
    assert dict(report.splits["test"].objects_per_class) == {"raccoon": 44}
    assert dict(report.counts) == {"source_id_not_numeric": 40}
    assert report.blocked["TF OD API"] == []
