import os

from detflow.data.sources.layout import find_files
from detflow.data.sources.voc.source import VOC
from detflow.storage.folders import LocalFolder


def test_files_are_found_at_any_depth_and_what_is_no_part_is_passed_over(voc_set):
    jpeg = voc_set.encode(voc_set.draw())
    for path in (
        "a/b/c/x.XML",
        "a/y.xml",
        ".hidden/z.xml",
        "__MACOSX/w.xml",
        "a/._y.xml",
        ".git/v.xml",
    ):
        voc_set.write(path, "<annotation/>")
    for path in (
        "img/x.JPG",
        "img/noext",
        "img/odd.dat",
        "SegmentationClass/x.png",
        "SegmentationObjectPNG/x.png",
        "VOC/SegmentationClassVisualization/x.jpg",
        "img/@eaDir/x.jpg/SYNOPHOTO_THUMB_M.jpg",
        "img/._x.jpg",
    ):
        voc_set.write(path, jpeg)
    voc_set.write("img/text", "hello")
    voc_set.write("ann/n02085620_7", "\ufeff\n<annotation/>")
    voc_set.write("ann/v1.5", "<annotation>")
    voc_set.write("img/Thumbs.db", b"\xd0\xcf\x11\xe0")
    voc_set.write("a/classes.txt", "cat")
    voc_set.write("a/coco.json", "{}")
    voc_set.write("VOC/ImageSets/Main/anything.txt", "x")
    voc_set.write("VOC/ImageSets/Segmentation/train.txt", "x")
    voc_set.write("train.txt", "x")
    voc_set.write("notes.txt", "x")
    files = find_files(LocalFolder.of(voc_set.root), VOC)
    assert files.annotations == ("a/b/c/x.XML", "a/y.xml", "ann/n02085620_7", "ann/v1.5")
    assert files.images == ("img/noext", "img/odd.dat", "img/x.JPG")
    assert files.split_lists == (
        "VOC/ImageSets/Main/anything.txt",
        "VOC/ImageSets/Segmentation/train.txt",
        "train.txt",
    )
    assert files.findings == ()


def test_links_out_of_the_dataset_are_named_and_not_followed(voc_set, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.jpg").write_bytes(b"secret")
    (voc_set.root / "img").mkdir(parents=True)
    voc_set.write("real/b.jpg", voc_set.encode(voc_set.draw()))
    os.symlink(outside / "a.jpg", voc_set.root / "img" / "a.jpg")
    os.symlink(outside, voc_set.root / "more")
    os.symlink("../real/b.jpg", voc_set.root / "img" / "b.jpg")
    os.symlink("real", voc_set.root / "again")
    os.symlink("nowhere", voc_set.root / "img" / "broken.jpg")
    os.symlink(outside / "a.jpg", voc_set.root / "img" / "noext")
    os.mkfifo(voc_set.root / "img" / "fifo.jpg")
    files = find_files(LocalFolder.of(voc_set.root), VOC)
    # What a link that leads nowhere stands for is missed when it is read.
    assert files.images == ("img/b.jpg", "img/broken.jpg", "real/b.jpg")
    assert [(finding.code, finding.path) for finding in files.findings] == [
        ("link_outside", "img/a.jpg"),
        ("link_outside", "more"),
    ]


def test_texts_that_are_named_like_an_image_are_no_lists(voc_set):
    jpeg = voc_set.encode(voc_set.draw())
    for name in ("train_7", "test1", "val"):
        voc_set.write(f"images/{name}.jpg", jpeg)
        voc_set.write(f"labels/{name}.txt", "0 0.5 0.5 0.1 0.1")
    for name in ("train_list.TXT", "train_000012.txt", "Test.lst", "ImageSets/Main/test1.txt"):
        voc_set.write(name, "a")
    voc_set.write("ImageSets/Main/fold", "a")
    voc_set.write("ImageSets/classes.txt", "cat")
    files = find_files(LocalFolder.of(voc_set.root), VOC)
    assert files.split_lists == (
        "ImageSets/Main/fold",
        "ImageSets/Main/test1.txt",
        "Test.lst",
        "labels/val.txt",
        "train_list.TXT",
    )
