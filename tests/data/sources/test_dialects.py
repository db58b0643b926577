"""The same scenes give the same records, whatever dialect they are written in."""

import json
import os
import shutil
import tempfile
from itertools import cycle
from pathlib import Path

import pytest

from detflow.data.judging.audit import AuditOptions
from detflow.data.judging.rulings import Orders
from detflow.data.making import RecordOptions, publish_records
from detflow.data.records.manifest import read_manifest
from detflow.data.records.reading import read_samples
from detflow.data.sources.detect import DIALECTS
from detflow.types import CornerFrame


def write_coco(drawn):
    drawn.draw_images("{split}2017")
    drawn.write_coco()


def write_roboflow_coco(drawn):
    drawn.draw_images("{split}")
    drawn.write_coco("{split}/_annotations.coco.json")


def write_yolo(drawn):
    drawn.draw_images()
    drawn.write_yolo()
    drawn.write("data.yaml", "train: ../train/images\nval: ../val/images\nnames: ['dog', 'cat']\n")


def write_ultralytics(drawn):
    drawn.draw_images("images/{split}")
    drawn.write_yolo("labels/{split}")
    drawn.write(
        "data.yaml",
        "path: ../datasets/x\ntrain: images/train\nval: images/val\nnames:\n  0: dog\n  1: cat\n",
    )


def write_darknet(drawn):
    drawn.draw_images("obj")
    drawn.write_yolo("obj")
    drawn.write("obj.names", "dog\ncat\n")
    for split in ("train", "val"):
        names = [name for held, name, *_ in drawn.scenes if held == split]
        drawn.write(f"{split}.txt", "".join(f"data/obj/{name}.jpg\n" for name in names))


def write_cvat(drawn):
    drawn.draw_images("images")
    drawn.write_cvat()


def write_roboflow_records(drawn):
    drawn.write_records()


def write_shards(drawn):
    drawn.write_records("things_{split}.record-00000-of-00001", "data/label_map.pbtxt")


WRITERS = [
    write_roboflow_records,
    write_shards,
    write_coco,
    write_roboflow_coco,
    write_yolo,
    write_ultralytics,
    write_darknet,
    write_cvat,
]


@pytest.mark.parametrize("write", WRITERS)
def test_the_same_scenes_give_the_same_records(drawn, write):
    write(drawn)
    made = drawn.make()
    assert made.splits == drawn.truth
    assert made.manifest["classes"] == list(drawn.classes)
    assert made.manifest["repairs"] == {}
    assert made.manifest["quarantined"] == {}
    assert {line["code"] for line in made.ledger} <= {"no_objects", "class_absent"}


@pytest.mark.parametrize(("write", "suffix"), list(zip(WRITERS, cycle(["zip", "gztar", "tar"]))))
def test_an_archive_gives_the_records_of_its_folder(drawn, write, suffix, tmp_path, monkeypatch):
    # A folder of its own: other processes come and go in the machine's.
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    write(drawn)
    archive = Path(shutil.make_archive(tmp_path / "packed" / "things", suffix, drawn.root))
    made = drawn.make(dataset=archive)
    assert made.splits == drawn.truth
    assert made.manifest["dataset"] == "things"
    unpacked = drawn.make()
    assert made.manifest["fingerprint"] == unpacked.manifest["fingerprint"]
    assert os.listdir(tmp_path / "temporary") == []


def test_commands_take_archives(drawn, tmp_path, command):
    write_yolo(drawn)
    archive = shutil.make_archive(tmp_path / "things", "zip", drawn.root)
    done = command("check", archive)
    assert done.returncode == 0, done.stderr
    assert "annotations   4 found = 4 usable" in done.stdout
    done = command("init", archive, "--no-probe", "--offline")
    assert done.returncode == 0, done.stderr
    assert 'records: "records/things"' in done.stdout
    done = command("make-records", archive, "--output", tmp_path / "out", "--max-unpacked", 999)
    assert done.returncode == 3
    assert "the archive unpacks to more than 999 bytes (--max-unpacked)" in done.stderr
    ray = ("--runner", "ray", "--output", tmp_path / "out")
    done = command("make-records", archive, *ray)
    assert done.returncode == 2
    assert "an archive is unpacked on this machine" in done.stderr
    (tmp_path / "things.7z").write_bytes(b"7z\xbc\xaf\x27\x1c")
    for name in ("check", "make-records"):
        output = ("--output", tmp_path / "out") if name == "make-records" else ()
        done = command(name, tmp_path / "things.7z", *output)
        assert done.returncode == 3
        assert "this is a 7z archive, not a folder; unpack it" in done.stderr
    assert not (tmp_path / "out").exists()


def test_rows_of_one_image_are_one_annotation(drawn):
    drawn.draw_images("images")
    drawn.write_csv()
    made = drawn.make()
    truth = drawn.truth
    # A table has no row for an image without objects: nobody says that it has none.
    del truth["val"]["d.jpg"]
    assert made.splits == truth
    assert made.manifest["annotations_found"] == 3
    assert made.manifest["images_unlabelled"] == 1
    assert made.manifest["classes"] == ["cat", "dog"]


def test_a_table_of_everything_beside_its_parts_is_named_and_passed_over(drawn):
    drawn.draw_images("images")
    drawn.write_csv()
    parts = [(drawn.root / f"data/{split}_labels.csv").read_text() for split in ("train", "val")]
    header, _, rest = parts[1].partition("\n")
    drawn.write("data/all_labels.csv", parts[0] + rest)
    drawn.write("data/copy_of_val.csv", parts[1].replace(header, header.upper()))
    made = drawn.make()
    assert {split: sorted(images) for split, images in made.splits.items()} == {
        "train": ["a.jpg", "b.jpg"],
        "val": ["c.jpg"],
    }
    repeats = [line for line in made.ledger if line["code"] == "file_repeats"]
    assert {line["path"]: line["related"] for line in repeats} == {
        "data/all_labels.csv": [
            "data/copy_of_val.csv",
            "data/train_labels.csv",
            "data/val_labels.csv",
        ],
        "data/val_labels.csv": ["data/copy_of_val.csv"],
    }


def test_raccoons_tables_have_the_boxes_of_its_xml(shared_data, tmp_path):
    boxes = {}
    for dialect in ("voc", "csv"):
        # The XML names LabelImg's habit, which a table cannot.
        orders = Orders(corners=CornerFrame.VOC)
        audit = AuditOptions(dialect=DIALECTS[dialect], orders=orders)
        out = tmp_path / dialect
        publish_records(shared_data("raccoon"), out, RecordOptions(audit=audit, report=False))
        manifest = read_manifest(out)
        boxes[dialect] = {
            sample.filename: sorted(
                (one.name, one.box.ymin, one.box.xmin, one.box.ymax, one.box.xmax)
                for one in sample.objects
            )
            for split in manifest.splits
            for sample in read_samples(out, manifest, split)
        }
        splits = {name: split.images for name, split in manifest.splits.items()}
    assert len(boxes["voc"]) == 200
    assert boxes["csv"] == boxes["voc"]
    assert splits == {"train": 160, "test": 40}


def test_a_crowd_stays_one_and_counts_for_nothing(drawn, tmp_path, command):
    drawn.draw_images()
    drawn.write_coco("{split}.json")
    content = json.loads((drawn.root / "train.json").read_text())
    content["annotations"][0]["iscrowd"] = 1
    drawn.write("train.json", json.dumps(content))
    made = drawn.make()
    assert made.splits == drawn.truth
    [note] = [line for line in made.ledger if line["code"] == "object_crowd"]
    assert note["value"] == "1 of 2 objects"
    manifest = read_manifest(made.path)
    samples = {sample.filename: sample for sample in read_samples(made.path, manifest, "train")}
    flags = [(one.crowd, one.difficult) for one in samples["train/images/a.jpg"].objects]
    assert flags == [(True, True), (False, False)]
    for number, source in enumerate((drawn.root, made.path)):
        out = tmp_path / str(number)
        done = command("convert", source, "--to", "coco", "--output", out, "--jobs", 1)
        assert done.returncode == 0, done.stderr
        written = json.loads(next(out.rglob("*train*.json")).read_text())
        assert sorted(one["iscrowd"] for one in written["annotations"]) == [0, 0, 1]
