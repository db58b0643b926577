import hashlib
import json
import math

import pytest

from detflow.data.check import check_records, is_record_set
from detflow.data.convert import ConversionOptions, convert_dataset
from detflow.data.records.example import encode_example
from detflow.data.records.lint import CHECKS
from detflow.data.records.lint.find import find_record_files
from detflow.data.records.lint.judge import lint_records
from detflow.data.records.tfrecord import frame_record
from detflow.data.rules import CONSUMERS, Severity
from detflow.data.workers.processes import ProcessMap, open_workers
from detflow.errors import ArtifactError, DataError


def lint(path):
    return lint_records(path, ProcessMap(None, 1), lambda what, done, total: None)


@pytest.fixture
def example(voc_set):
    """Makes a foreign record; fields are overridden by name, None leaves one out."""
    numbers = iter(range(1, 1000))

    def make(**changes):
        number = next(numbers)
        image = changes.pop("image", None) or voc_set.encode(voc_set.draw(64, 48, seed=number))
        features = {
            "image/encoded": (bytes, [image]),
            "image/format": (bytes, [b"jpeg"]),
            "image/filename": (bytes, [b"%d.jpg" % number]),
            "image/source_id": (bytes, [b"%d" % number]),
            "image/key/sha256": (bytes, [hashlib.sha256(image).hexdigest().encode()]),
            "image/height": (int, [48]),
            "image/width": (int, [64]),
            "image/object/bbox/ymin": (float, [0.1, 0.5]),
            "image/object/bbox/xmin": (float, [0.2, 0.5]),
            "image/object/bbox/ymax": (float, [0.3, 0.75]),
            "image/object/bbox/xmax": (float, [0.4, 0.75]),
            "image/object/class/label": (int, [1, 2]),
            "image/object/class/text": (bytes, [b"cat", b"dog"]),
        }
        for name, value in changes.items():
            field = name.replace("__", "/")
            field = next(known for known in features if known.endswith(field))
            if value is None:
                del features[field]
            else:
                features[field] = value if isinstance(value, tuple) else (features[field][0], value)
        return encode_example(features)

    return make


@pytest.fixture
def write(tmp_path):
    def write(*examples, name="train.record"):
        path = tmp_path / "records" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(map(frame_record, examples)))
        return path

    return write


@pytest.fixture
def ours(voc_set, tmp_path):
    for number in range(12):
        voc_set.add(f"image{number}", voc_set.object("cat"), voc_set.object("dog", (1, 1, 64, 48)))
    convert_dataset(voc_set.root, tmp_path / "records", ConversionOptions())
    return tmp_path / "records"


def test_a_sound_foreign_set_passes(example, write):
    report = lint(write(example(), example()))
    assert dict(report.counts) == {}
    assert report.num_images == 2
    assert dict(report.splits["train"].objects_per_class) == {"cat": 2, "dog": 2}
    assert report.blocked["Model Garden"] == report.blocked["TF OD API"] == []
    assert report.blocked["detflow"] == [
        "there is no manifest.json; detflow reads what make-records writes"
    ]


def test_our_own_set_passes(ours):
    report = lint(ours)
    assert dict(report.counts) == {}
    assert report.has_manifest
    assert report.blocked == {name: [] for name in CONSUMERS}
    assert sum(split.images for split in report.splits.values()) == 12


# The override, and the code that it must lead to.
FAULTS = {
    "text as label": ({"label": (bytes, [b"cat", b"dog"])}, "field_type"),
    "integer coordinates": ({"xmin": (int, [0, 0])}, "field_type"),
    "two widths": ({"width": [64, 64]}, "field_count"),
    "one box too few": ({"xmax": [0.4]}, "lengths_differ"),
    "no labels": ({"label": None}, "field_missing"),
    "no image": ({"encoded": None}, "field_missing"),
    "no class names": ({"text": None}, "field_recommended"),
    "no source id": ({"source_id": None}, "field_recommended"),
    "NaN": ({"xmin": [math.nan, 0.5]}, "box_not_finite"),
    "infinite": ({"ymax": [math.inf, 0.75]}, "box_not_finite"),
    "pixels": ({"xmax": [30.0, 40.0]}, "box_not_normalised"),
    "outside": ({"xmin": [-0.01, 0.5]}, "box_outside"),
    "inverted": ({"xmin": [0.5, 0.5]}, "box_inverted"),
    "no area": ({"xmin": [0.4, 0.5]}, "box_zero_area"),
    "background as class": ({"label": [0, 2]}, "class_id_not_positive"),
    "PNG declared as JPEG": ({"format": [b"png"]}, "format_field"),
    "swapped size": ({"width": [48], "height": [64]}, "size_wrong"),
    "wrong digest": ({"sha256": [b"0" * 64]}, "sha256_wrong"),
    "file name as id": ({"source_id": [b"cat.jpg"]}, "source_id_not_numeric"),
    "garbage as image": ({"image": b"\xff\xd8\xff garbage", "sha256": None}, "image_undecodable"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_is_named_and_nothing_else(example, write, fault):
    changes, code = FAULTS[fault]
    report = lint(write(example(), example(**changes)))
    assert set(report.counts) == {code}
    issue = report.examples[code][0]
    assert (issue.file, issue.record) == ("train.record", 1)
    assert issue.offset > 0
    for consumer in CHECKS[code].blocks:
        assert report.blocked[consumer]
    assert str(issue.record) in issue.where()


def test_formats_that_not_every_reader_decodes(example, write, voc_set):
    image = voc_set.encode(voc_set.draw(64, 48), "WEBP")
    report = lint(write(example(image=image, format=[b"webp"])))
    assert set(report.counts) == {"image_format"}
    assert report.blocked["Model Garden"]


def test_an_exif_turn_is_named(example, write, voc_set):
    exif = voc_set.draw().getexif()
    exif[0x0112] = 6
    report = lint(write(example(image=voc_set.encode(voc_set.draw(), exif=exif))))
    assert set(report.counts) == {"exif_orientation"}


def test_a_truncated_image_is_found(example, write, voc_set):
    image = voc_set.encode(voc_set.draw())
    report = lint(write(example(image=image[:-300])))
    assert set(report.counts) == {"image_undecodable"}
    assert report.count(Severity.ERROR) == 1


def test_images_without_objects_are_negatives_not_faults(example, write):
    bare = dict.fromkeys(("ymin", "xmin", "ymax", "xmax", "label", "text"))
    report = lint(write(example(**bare), example()))
    assert dict(report.counts) == {}
    assert report.splits["train"].negatives == 1
    assert dict(lint(write(example(**bare))).counts) == {"no_objects": 1}


@pytest.mark.parametrize("data", [b"", b"\xff\xff\xff", b"\x0a\x00"])
def test_what_is_no_example_is_named(example, write, data):
    report = lint(write(data, example()))
    assert dict(report.counts) == {"not_an_example": 1}
    assert report.num_images == 1


def test_a_damaged_payload_costs_one_record(example, write):
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
def test_a_cut_file_is_named(example, write, kept):
    path = write(example(), example())
    first = len(path.read_bytes()) // 2
    path.write_bytes(path.read_bytes()[: first + kept])
    assert lint(path).counts["framing_damaged"] == 1


def test_a_wrong_length_ends_the_file(example, write):
    path = write(example(), example())
    content = bytearray(path.read_bytes())
    content[3] ^= 0x40
    path.write_bytes(content)
    report = lint(path)
    assert dict(report.counts) == {"framing_damaged": 1}
    assert report.num_images == 0


def test_a_compressed_file_and_an_empty_one(example, write):
    import gzip

    path = write(example())
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert dict(lint(path).counts) == {"compressed": 1}
    path.write_bytes(b"")
    assert dict(lint(path).counts) == {"file_empty": 1}


def test_missing_shards_are_named(example, write):
    write(example(), name="train-00000-of-00003.tfrecord")
    path = write(example(), name="train-00002-of-00003.tfrecord")
    report = lint(path.parent)
    assert [issue.file for issue in report.examples["shard_missing"]] == [
        "train-00001-of-00003.tfrecord"
    ]
    assert report.splits["train"].files == 2


def test_a_name_cannot_promise_a_million_lines(example, write):
    path = write(example(), name="coco_val.record-00000-of-99999")
    report = lint(path.parent)
    assert report.counts["shard_missing"] <= 20
    assert list(report.splits) == ["coco_val"]


def test_doubles(example, write, voc_set):
    image = voc_set.encode(voc_set.draw())
    first, same = example(image=image, source_id=[b"7"]), example(image=image, source_id=[b"7"])
    report = lint(write(first, same))
    assert dict(report.counts) == {"source_id_twice": 1, "image_twice": 1}
    other = write(example(image=image), name="test.record")
    report = lint(other.parent)
    assert report.counts["image_in_two_splits"] == 2
    assert report.count(Severity.ERROR) == 2


def test_names_and_ids_must_agree_across_the_set(example, write):
    report = lint(write(example(), example(text=[b"dog", b"cat"])))
    assert dict(report.counts) == {"class_conflict": 2}
    report = lint(write(example(), example(label=[3, 2])))
    assert report.examples["class_conflict"][0].value == "id 3, name 'cat'"


def test_the_label_map_beside_the_files_counts(example, write):
    path = write(example())
    (path.parent / "classes.pbtxt").write_text("item { id: 1 name: 'cat' }")
    assert dict(lint(path).counts) == {"class_id_unknown": 1}
    (path.parent / "classes.pbtxt").write_text(
        "item { id: 1 name: 'dog' } item { id: 2 name: 'cat' }"
    )
    assert dict(lint(path).counts) == {"class_conflict": 2}
    (path.parent / "classes.pbtxt").write_text("nonsense")
    assert dict(lint(path).counts) == {"label_map_damaged": 1}


def shard_of(records):
    return max(records.glob("train-*.tfrecord"))


def test_our_set_with_a_shard_removed(ours):
    shard_of(ours).unlink()
    report = lint(ours)
    assert report.counts["manifest_disagrees"] >= 1
    assert report.blocked["detflow"]


def test_our_set_with_a_record_removed(ours):
    path = shard_of(ours)
    lines = [json.loads(line) for line in (ours / "index.jsonl").read_text().splitlines()]
    end = max(line["offset"] for line in lines if line["shard"] == path.name)
    path.write_bytes(path.read_bytes()[:end])
    values = [issue.value for issue in lint(ours).examples["manifest_disagrees"]]
    assert any("records" in value for value in values)


def test_our_set_with_a_foreign_record_of_the_same_framing(ours, example):
    path = shard_of(ours)
    path.write_bytes(frame_record(example()))
    report = lint(ours)
    assert report.counts["sample_refused"] == 1
    assert report.counts["manifest_disagrees"] >= 1


def test_our_set_with_a_damaged_manifest_or_a_stray_file(ours, example):
    (ours / "extra.tfrecord").write_bytes(frame_record(example()))
    assert "does not list" in lint(ours).examples["manifest_disagrees"][0].value
    (ours / "manifest.json").write_text("{")
    assert lint(ours).counts["manifest_damaged"] == 1


def test_the_number_of_processes_changes_nothing(example, write):
    path = write(*(example(source_id=[b"x"]) for _ in range(40)))
    with open_workers(2) as workers:
        parallel = lint_records(path, workers, lambda what, done, total: None)
    assert parallel.to_json() == lint(path).to_json()


def test_examples_are_capped_and_counts_are_not(example, write):
    path = write(*(example(source_id=[b"x%d" % i]) for i in range(30)))
    report = lint(path)
    assert report.counts["source_id_not_numeric"] == 30
    assert len(report.examples["source_id_not_numeric"]) == 20
    assert report.to_json()["issues"]["source_id_not_numeric"]["count"] == 30


def test_the_text_tells_the_same_in_one_line_each(example, write):
    text = lint(write(example(filename=[b"evil\nname\x1b[31m.jpg"], source_id=[b"a"]))).to_text()
    assert "evil\\nname\\x1b[31m.jpg" in text
    assert "\x1b" not in text
    assert "Model Garden  no: " in text
    assert "TF OD API     can read it" in text


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
    assert not is_record_set(tmp_path)


def test_errors_refuse_and_warnings_do_not(example, write):
    assert check_records(write(example(source_id=[b"x"])), 1).refusal is None
    refusal = check_records(write(example(xmin=[math.nan, 0.5])), 1).refusal
    assert isinstance(refusal, ArtifactError)
    assert "1 errors" in str(refusal)


def test_the_raccoon_record_of_the_shared_data(shared_data):
    report = lint(shared_data("raccoon") / "data" / "test.record")
    assert report.num_images == 40
    assert dict(report.splits["test"].objects_per_class) == {"raccoon": 44}
    assert dict(report.counts) == {"source_id_not_numeric": 40}
    assert report.blocked["TF OD API"] == []


@pytest.mark.tf
def test_model_garden_agrees(example, voc_set):
    """What `CHECKS` and `_FIELDS` say of Model Garden's decoder is what it does."""
    import tensorflow as tf
    from official.vision.dataloaders.tf_example_decoder import TfExampleDecoder

    decode = TfExampleDecoder().decode
    assert decode(example())["groundtruth_boxes"].shape == (2, 4)
    decode(example(text=None, height=None, width=None, filename=None))
    for changes in (
        {"source_id": None},
        {"encoded": None},
        {"label": (bytes, [b"cat", b"dog"])},
        {"width": [1, 2]},
    ):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(example(**changes))
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        decode(example(image=voc_set.encode(voc_set.draw(), "WEBP")))
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        decode(example(image=voc_set.encode(voc_set.draw(), "TIFF")))
