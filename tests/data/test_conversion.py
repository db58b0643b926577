import csv
import json
import os

import pytest
import yaml
from lxml import etree
from PIL import Image

import detflow
from detflow.data.images.decode import decode_rgb
from detflow.data.images.transcode import Treatment, encode_record_jpeg
from detflow.digests import digest_files

DIALECTS = ("voc", "coco", "yolo", "csv")
CLASSES = ("Ringe & Ösen", "a, b", "it's: 1")


@pytest.fixture
def mixed(voc_set):
    """Two splits with every kind of image, flag and name."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = voc_set.encode(voc_set.draw(seed=92), exif=exif)
    for split in ("train", "val"):
        folders = {"images": f"{split}/images", "annotations": f"{split}/annots"}
        number = 10 * (split == "val")
        names = [name.replace("&", "&amp;") for name in CLASSES]
        voc_set.add(
            "same",
            voc_set.object(names[0], (1, 1, 64, 48), "<difficult>1</difficult>"),
            voc_set.object(names[1], (3, 7, 20 + number, 30), "<truncated>1</truncated>"),
            voc_set.object(names[2], (9, 9, 11, 11), "<pose>Left</pose>"),
            **folders,
        )
        voc_set.add(f"empty{number}", voc_set.object("x", (5, 5, 5, 9)), **folders)
        png = voc_set.encode(voc_set.draw(seed=80 + number), "PNG")
        voc_set.add(f"p{number}", voc_set.object(names[0]), image=png, suffix=".png", **folders)
    voc_set.add(
        "turned",
        voc_set.object(names[1], (2, 3, 40, 60)),
        image=turned,
        size=(48, 64),
        **folders,
    )
    return voc_set.root


def read_voc(folder):
    for path in sorted((folder / "ImageSets/Main").glob("*.txt")):
        for line in path.read_text().splitlines():
            root = etree.parse(folder / "Annotations" / f"{line}.xml").getroot()
            boxes = []
            for item in root.iter("object"):
                corners = [float(item.findtext(f"bndbox/{tag}")) for tag in CORNERS]
                boxes.append(
                    (item.findtext("name"), (corners[0] - 1, corners[1] - 1, *corners[2:]))
                )
            yield path.stem, folder / "JPEGImages" / root.findtext("filename"), boxes


CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_coco(folder):
    for path in sorted((folder / "annotations").iterdir()):
        content = json.loads(path.read_text())
        split = path.stem.removeprefix("instances_")
        names = {one["id"]: one["name"] for one in content["categories"]}
        for image in content["images"]:
            boxes = [
                (names[one["category_id"]], (x, y, x + width, y + height))
                for one in content["annotations"]
                for x, y, width, height in [one["bbox"]]
                if one["image_id"] == image["id"]
            ]
            yield split, folder / "images" / split / image["file_name"], boxes


def read_yolo(folder):
    content = yaml.safe_load((folder / "data.yaml").read_text())
    for split in ("train", "val"):
        for path in sorted((folder / content[split]).iterdir()):
            height, width = decode_rgb(path.read_bytes()).shape[:2]
            boxes = []
            for line in (folder / "labels" / split / f"{path.stem}.txt").read_text().splitlines():
                number, x, y, w, h = map(float, line.split())
                box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
                scaled = [a * b for a, b in zip(box, (width, height) * 2, strict=True)]
                boxes.append((content["names"][int(number)], tuple(scaled)))
            yield split, path, boxes


def read_csv(folder):
    for path in sorted(folder.glob("*.csv")):
        split = path.stem.removesuffix("_labels")
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for image in sorted((folder / "images" / split).iterdir()):
            boxes = [
                (row["class"], (corners[0] - 1, corners[1] - 1, *corners[2:]))
                for row in rows
                if row["filename"] == image.name
                for corners in [[float(row[tag]) for tag in CORNERS]]
            ]
            yield split, image, boxes


READERS = {"voc": read_voc, "coco": read_coco, "yolo": read_yolo, "csv": read_csv}


def describe(images):
    """Returns each image's split, pixels, and boxes in pixels to a thousandth, without names.

    A picture without loss counts as the JPEG that a record has of it.
    """
    return sorted(
        (
            split,
            decode_rgb(
                encode_record_jpeg(path.read_bytes(), Treatment(path.suffix == ".png"))
            ).tobytes(),
            sorted((name, tuple(round(edge, 3) for edge in box)) for name, box in boxes),
        )
        for split, path, boxes in images
    )


def read_records(folder):
    for split in ("train", "val"):
        for sample in detflow.read_samples(folder, split):
            boxes = [(item.name, item.box.to_pixels(sample.size)) for item in sample.objects]
            path = folder / "image"
            path.write_bytes(sample.encoded)
            yield split, path, boxes


@pytest.mark.parametrize("dialect", DIALECTS)
def test_boxes_classes_splits_and_pixels_arrive(mixed, tmp_path, dialect):
    """They are read back by other code than detflow's."""
    before = digest_files(mixed)
    done = detflow.convert(mixed, tmp_path / "out", to=dialect, jobs=1)
    assert digest_files(mixed) == before
    found = describe(READERS[dialect](tmp_path / "out"))
    names = [sorted({name for name, _ in boxes}) for _, _, boxes in found]
    assert sorted({name for some in names for name in some}) == sorted(CLASSES)
    assert {split: numbers["images"] for split, numbers in done["splits"].items()} == {
        "train": 3,
        "val": 4,
    }
    # The pictures without loss are still the same, to the bit.
    kept = {path.read_bytes() for path in (tmp_path / "out").rglob("*.png")}
    assert kept == {path.read_bytes() for path in mixed.rglob("*.png")}
    assert done["images_encoded_anew"] == 1
    detflow.make_records(mixed, tmp_path / "records", jobs=1, report=False)
    assert found == describe(read_records(tmp_path / "records"))
    detflow.convert(tmp_path / "records", tmp_path / "again", to=dialect)
    assert found == describe(READERS[dialect](tmp_path / "again"))


def test_what_a_dialect_cannot_hold_is_counted(mixed, tmp_path, command):
    expected = {
        "voc": {},
        "coco": {},
        "yolo": {"difficult": 2, "truncated": 2, "pose": 2},
        "csv": {"difficult": 2, "truncated": 2, "pose": 2, "negative": 2},
    }
    for dialect, lost in expected.items():
        out = tmp_path / dialect
        done = command("convert", mixed, "--to", dialect, "--output", out, "--jobs", 1, "--json")
        assert json.loads(done.stdout)["lost"] == lost
    out = tmp_path / "text"
    done = command("convert", mixed, "--to", "csv", "--output", out, "--jobs", 1)
    assert done.returncode == 0
    [line] = [line for line in done.stdout.splitlines() if line.startswith("lost")]
    assert line == (
        "lost          2 flags difficult, 2 flags truncated, 2 poses, 2 images without objects: "
        "CSV has no place for them"
    )


def test_flags_arrive_where_there_is_a_place(mixed, tmp_path):
    detflow.convert(mixed, tmp_path / "coco", to="coco", jobs=1)
    content = json.loads((tmp_path / "coco/annotations/instances_val.json").read_text())
    flags = [
        (one.get("difficult", 0), one.get("truncated", 0), one.get("pose", ""), one["iscrowd"])
        for one in content["annotations"]
    ]
    assert sorted(flags) == sorted(
        [(1, 0, "", 0), (0, 1, "", 0), (0, 0, "Left", 0), (0, 0, "", 0), (0, 0, "", 0)]
    )
    detflow.convert(mixed, tmp_path / "voc", to="voc", jobs=1)
    detflow.make_records(tmp_path / "voc", tmp_path / "records", jobs=1, report=False)
    objects = [
        item for one in detflow.read_samples(tmp_path / "records", "val") for item in one.objects
    ]
    assert sorted((item.difficult, item.truncated, item.pose) for item in objects) == sorted(
        [
            (True, False, "Unspecified"),
            (False, True, "Unspecified"),
            (False, False, "Left"),
            (False, False, "Unspecified"),
            (False, False, "Unspecified"),
        ]
    )


def test_images_of_one_name_are_told_apart_and_named(mixed, tmp_path, command):
    done = command("convert", mixed, "--to", "voc", "--output", tmp_path / "out", "--jobs", 1)
    assert (
        "renamed       train/images/same.jpg is train_images_same: another image has the same name"
        in done.stdout
    )
    assert (tmp_path / "out/JPEGImages/val_images_same.jpg").is_file()


def test_processes_do_not_matter(mixed, tmp_path):
    for jobs in (1, 2):
        detflow.convert(mixed, tmp_path / f"out{jobs}", to="coco", jobs=jobs)
    assert digest_files(tmp_path / "out1") == digest_files(tmp_path / "out2")


def test_a_dataset_without_splits_is_not_divided(voc_set, tmp_path):
    for name in "abcdefgh":
        voc_set.add(name)
    whole = detflow.convert(voc_set.root, tmp_path / "whole", to="yolo", jobs=1)
    assert {name: split["images"] for name, split in whole["splits"].items()} == {"train": 8}
    split = "train=0.5,val=0.5"
    divided = detflow.convert(voc_set.root, tmp_path / "parts", to="yolo", jobs=1, split=split)
    assert sorted(divided["splits"]) == ["train", "val"]


def test_it_is_written_to_a_new_folder_only(mixed, tmp_path, command):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "a.txt").write_text("mine")
    os.symlink(tmp_path / "elsewhere", tmp_path / "link")
    for target in (mine, mine / "a.txt", mixed, mixed / "new", tmp_path / "link"):
        done = command("convert", mixed, "--to", "voc", "--output", target, "--jobs", 1)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), target
    assert (mine / "a.txt").read_text() == "mine"
    assert not (mixed / "new").exists()


def test_nothing_is_published_where_an_image_changes_meanwhile(mixed, tmp_path, monkeypatch):
    from detflow.data import conversion

    write = conversion.write_set

    def spoil(*arguments):
        for path in mixed.rglob("same.jpg"):
            path.write_bytes(path.read_bytes() + b"\0")
        return write(*arguments)

    monkeypatch.setattr(conversion, "write_set", spoil)
    with pytest.raises(detflow.DataError, match="changed while"):
        detflow.convert(mixed, tmp_path / "out", to="voc", jobs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_class_name_that_a_dialect_cannot_hold_is_refused(tmp_path, voc_set):
    from detflow.data.sinks.dialects import SINKS

    hostile = ["a\x01b", "two  blanks", " edge", "lone \udcff", "line\nbreak", "ok"]
    faults = {sink.name: [name for name in hostile if sink.find_fault(name)] for sink in SINKS}
    assert faults == {
        "voc": hostile[:-1],
        "coco": [],
        "yolo": [],
        "csv": ["lone \udcff"],
    }


def test_an_unknown_dialect_is_refused(mixed, tmp_path):
    with pytest.raises(detflow.ConfigError, match="choose from voc, coco, yolo, csv"):
        detflow.convert(mixed, tmp_path / "out", to="xml")


def test_problems_of_a_dataset_are_told(voc_set, tmp_path):
    voc_set.add("a", filename="../a.jpg")
    with pytest.raises(detflow.DataError) as caught:
        detflow.convert(voc_set.root, tmp_path / "out", to="coco", jobs=1)
    assert "leaves the dataset" in caught.value.__notes__[0]


def test_boxes_that_a_dialect_has_to_change_are_counted(voc_set, tmp_path):
    for name in "ab":
        voc_set.add(name)
    for path in voc_set.root.rglob("*.xml"):
        path.unlink()
    labels = {"a": "0 0.5 0.5 0.5 0.001\n0 0.5 0.5 0.5 0.5\n", "b": "0 0.5 0.5 0.33 0.33\n"}
    for name, text in labels.items():
        voc_set.write(f"images/{name}.txt", text)
    voc_set.write("data.yaml", "names: [cat]\n")
    lost = {
        to: detflow.convert(voc_set.root, tmp_path / to, to=to, jobs=1)["lost"] for to in DIALECTS
    }
    assert lost == {
        "voc": {"thin": 1},
        "coco": {},
        "yolo": {},
        "csv": {"thin": 1, "fraction": 1},
    }


def test_crowds_come_through_every_dialect_that_has_a_place_for_them(voc_set, tmp_path):
    voc_set.add("a")
    [path] = voc_set.root.rglob("*.xml")
    path.unlink()
    content = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 64, "height": 48}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 30, 40], "iscrowd": 1},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [5, 5, 9, 9], "difficult": 1},
        ],
        "categories": [{"id": 3, "name": "cat"}],
    }
    voc_set.write("train.json", json.dumps(content))
    source = voc_set.root
    for to in ("voc", "coco", "voc", "coco"):
        target = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        assert detflow.convert(source, target, to=to, jobs=1)["lost"] == {}
        source = target
    detflow.make_records(source, tmp_path / "records", split="train=1", jobs=1, report=False)
    detflow.convert(tmp_path / "records", tmp_path / "last", to="coco")
    [path] = (tmp_path / "last/annotations").iterdir()
    found = json.loads(path.read_text())["annotations"]
    assert [(one["bbox"], one["iscrowd"], one.get("difficult", 0)) for one in found] == [
        ([1, 2, 30, 40], 1, 0),
        ([5, 5, 9, 9], 0, 1),
    ]
    lost = detflow.convert(source, tmp_path / "yolo", to="yolo", jobs=1)["lost"]
    assert lost == {"difficult": 1, "crowd": 1}
