import json
import tarfile

import pytest

from detflow.data.sources.seen import describe_unread, require_folder
from detflow.data.sources.voc.source import VOC
from detflow.data.sources.yolo.source import YOLO
from detflow.errors import DataError
from detflow.storage.folders import LocalFolder

JPEG = b"\xff\xd8\xff\xe0 no more is read of it"
CVAT = (
    '<?xml version="1.0"?>\n<!-- a\ncomment -->\n<annotations><version>1.1</version></annotations>'
)
COCO = {"info": {}, "images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}
LABELME = {"version": "5", "shapes": [], "imagePath": "a.jpg", "imageData": None}

# What lies there; what the message says of it; what it tells to do.
FOLDERS = {
    "nothing": ({}, "annotation was found: the folder is empty", "name the folder"),
    "hidden files": ({".DS_Store": b"", "__MACOSX/a.xml": b"<a/>"}, "the folder is empty", "name"),
    "CVAT": (
        {"annotations.xml": CVAT, "images/a.jpg": JPEG, "images/b.jpg": JPEG},
        "only 1 XML file with the root <annotations> (CVAT for images) (annotations.xml) "
        "and 2 images (images/a.jpg, …)",
        "pass --dialect cvat",
    ),
    "HRSC2016": (
        {"a.xml": "<HRSC_Image><Img_ID>1</Img_ID></HRSC_Image>", "a.bmp": b"BM"},
        "1 XML file that is no VOC annotation (a.xml, with the root <HRSC_Image>)",
        "export the annotations as Pascal VOC",
    ),
    "YOLO": (
        {"labels/a.txt": "0 0.5 0.5 0.25 0.25\n", "labels/b.txt": "", "classes.txt": "cat\n"},
        "1 file that looks like YOLO labels (labels/a.txt)",
        "pass --dialect yolo",
    ),
    "data.yaml": (
        {"data.yaml": "train: a\nnc: 1\nnames: [cat]\n"},
        "YOLO labels",
        "--dialect yolo",
    ),
    "COCO": ({"a.json": json.dumps(COCO)}, "1 file that looks like COCO's JSON", "--dialect coco"),
    "LabelMe": (
        {"a.json": json.dumps(LABELME), "b.json": json.dumps(LABELME), "a.jpg": JPEG},
        "2 files that look like LabelMe's JSON (a.json, …)",
        "labelme2voc",
    ),
    "VIA": ({"via.json": '{"_via_img_metadata": {}}'}, "VGG Image Annotator's", "Pascal VOC"),
    "CreateML": (
        {"a.json": '[{"image": "a", "annotations": [{"label": "x", "coordinates": {"x": 1}}]}]'},
        "CreateML's JSON",
        "Pascal VOC",
    ),
    "KITTI": (
        {"a.txt": "Car 0.00 0 -1.57 599 156 629 189 2.85 2.63 12.34 0.47 1.49 69.4 -1.56\n"},
        "KITTI labels",
        "Pascal VOC",
    ),
    "DOTA": (
        {"a.txt": "imagesource:GoogleEarth\ngsd:0.1\n1 1 9 1 9 9 1 9 small-vehicle 0\n"},
        "DOTA labels",
        "Pascal VOC",
    ),
    "CSV": (
        {"a.csv": "filename,width,height,class,xmin,ymin,xmax,ymax\n"},
        "a CSV table of boxes",
        "--dialect csv",
    ),
    "images": (
        {f"{number}.jpg": JPEG for number in range(120)},
        "only 120 images (0.jpg, …)",
        "label them with a tool that writes Pascal VOC",
    ),
    "a RAR archive": ({"d.rar": b"Rar!\x1a\x07\x01\x00", "a.jpg": JPEG}, "1 archive", "unpack it"),
    "records": ({"train.tfrecord": b"\x01"}, "1 TFRecord file (train.tf", "--dialect tfrecord"),
    "a video": ({"a.MP4": b""}, "1 video (a.MP4)", "extract frames"),
    "code": ({"a.py": "import os", "LICENSE": "MIT"}, "only 2 other files", "name the folder"),
    "hostile text": (
        {"a.xml": "<!--" * 20_000, "b.json": b"\xff" * 70_000, "c.txt": "1 " * 40_000},
        "1 XML file that is no VOC annotation (a.xml)",
        "Pascal VOC",
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_what_lies_there_is_named_with_a_remedy(tmp_path, name):
    files, cause, remedy = FOLDERS[name]
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content.encode() if isinstance(content, str) else content)
    found = describe_unread(LocalFolder.of(tmp_path), VOC)
    assert found[0].startswith("no VOC annotation was found")
    assert cause in found[0]
    assert remedy in found[1]


def test_a_long_list_is_cut_and_many_files_are_not_read(tmp_path, monkeypatch):
    for number in range(80):
        (tmp_path / f"{number}.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    for name in ("a.csv", "a.jpg", "a.mp4", "a.py", "a.parquet"):
        (tmp_path / name).write_bytes(b"PAR1" if name.endswith("t") else b"")
    reads = []
    read = LocalFolder.read
    monkeypatch.setattr(
        LocalFolder, "read", lambda self, path, limit: reads.append(path) or read(self, path, limit)
    )
    cause, _ = describe_unread(LocalFolder.of(tmp_path), VOC)
    assert cause == (
        "no VOC annotation was found, only 80 files that look like YOLO labels (0.txt, …), "
        "1 Parquet file (a.parquet), 1 video (a.mp4), 1 image (a.jpg) and 2 other files"
    )
    assert len(reads) < 60


def write_tar(path):
    (path.parent / "a.xml").write_text("<annotation/>")
    with tarfile.open(path, "w:bz2") as archive:
        archive.add(path.parent / "a.xml", "a.xml")


@pytest.mark.parametrize(
    ("name", "content", "cause", "remedy"),
    [
        ("d.tbz2", write_tar, "a tar archive packed by bzip2", "unpack it"),
        ("d.7z", b"7z\xbc\xaf\x27\x1c\x00", "a 7z archive", "unpack it"),
        ("misnamed.bin", b"Rar!\x1a\x07\x00", "a RAR archive", "unpack it"),
        ("a.jpg", JPEG, "expected a folder, this is one image", "name the folder that holds"),
        ("a.xml", b"<annotation/>", "this is one XML file", "name the folder"),
        ("a.json", json.dumps(COCO).encode(), "one file that looks like COCO's JSON", "name the"),
        ("empty", b"", "expected a folder, this is one file", "name the folder"),
    ],
)
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path, command, name, content, cause, remedy):
    path = tmp_path / name
    content(path) if callable(content) else path.write_bytes(content)
    with pytest.raises(DataError, match="this is"):
        require_folder(path)
    for words in (("check",), ("make-records", "--output", tmp_path / "out")):
        done = command(*words, path)
        assert (done.returncode, done.stdout) == (3, "")
        assert cause in done.stderr
        assert remedy in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_dialect_that_lies_there_is_offered(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(COCO))
    folder = LocalFolder.of(tmp_path)
    cause, remedy = describe_unread(folder, YOLO)
    assert cause == (
        "no YOLO annotation was found, only 1 file that looks like COCO's JSON (a.json)"
    )
    assert remedy == "pass --dialect coco"
    cause, remedy = describe_unread(folder, None)
    assert cause.startswith("no VOC annotation was found, nor one of COCO, YOLO")
    assert remedy == "name the folder that holds images and annotations"
