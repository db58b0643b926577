import re
import socket
import sys

import pytest
from PIL import Image

from detflow.data.records.schema import to_record_box
from detflow.data.rules import Action
from detflow.data.sources.splits import SplitBy
from detflow.label_map import LabelMap
from detflow.types import Box, ImageSize

SIZE = ImageSize(64, 48)


def record_box(*corners, size=SIZE):
    return to_record_box(Box.from_voc(*corners, size))


def test_a_clean_set_has_no_findings(voc_set, audit):
    for index in range(3):
        voc_set.add(
            f"a{index}",
            voc_set.object("cat", (1, 1, 64, 48)),
            voc_set.object("dog", (2, 3, 4, 5)),
        )
    result = audit()
    assert audit.found(result) == []
    assert result.label_map == LabelMap(("cat", "dog"))
    assert (result.annotations_found, len(result.samples), dict(result.quarantined)) == (3, 3, {})
    assert audit.boxes(result, "annotations/a0.xml") == [
        record_box(1, 1, 64, 48),
        record_box(2, 3, 4, 5),
    ]


def test_hostile_files_refuse_the_run_and_nothing_outside_is_opened(
    voc_set, audit, tmp_path, monkeypatch
):
    def no_socket(*args, **kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", no_socket)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    voc_set.add("good")
    voc_set.write(
        "annotations/x.xml",
        '<!DOCTYPE a [<!ENTITY x SYSTEM "http://127.0.0.1:9/x">]>\n<annotation/>',
    )
    voc_set.write("annotations/y.xml", voc_set.xml(filename="../../secret.jpg"))
    voc_set.add("huge", image=voc_set.encode(Image.new("1", (8000, 8000)), "PNG"), suffix=".png")
    (voc_set.root / "images" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    opened = []

    def watch(original):
        def spy(file, *args, **kwargs):
            opened.append(str(file))
            return original(file, *args, **kwargs)

        return spy

    for name in ("builtins.open", "io.open", "os.open"):
        module, _, function = name.partition(".")
        monkeypatch.setattr(name, watch(getattr(sys.modules[module], function)))
    result = audit()
    assert sorted(audit.found(result, Action.REFUSED)) == [
        ("image_too_large", "annotations/huge.xml", None, None),
        ("link_outside", "images/link.jpg", None, None),
        ("path_unsafe", "annotations/y.xml", None, None),
        ("xml_doctype", "annotations/x.xml", 1, None),
    ]
    assert any(path.endswith("annotations/y.xml") for path in opened)
    assert any(path.endswith("images/good.jpg") for path in opened)
    assert not [path for path in opened if "secret" in path]
    assert audit(max_pixels=64_000_000).counts.get("image_too_large") is None


LAYOUTS = {
    "flat": ["a.jpg a.xml", "b.jpg b.xml"],
    "pairs": ["images/a.jpg annotations/a.xml", "images/b.JPG annotations/b.XML"],
    "VOC root": ["JPEGImages/a.jpg Annotations/a.xml", "JPEGImages/b.jpeg Annotations/b.xml"],
    "no extensions": [
        "Images/n1-Dog/n1_1.jpg Annotation/n1-Dog/n1_1",
        "Images/n2-Cat/n2_1.jpg Annotation/n2-Cat/n2_1",
    ],
    "nested": ["a/deep/er/1.jpg a/deep/er/xml/1.xml", "b/1.jpg b/xml/1.xml"],
    "one stem twice": ["images/cats/1.jpg xml/cats/1.xml", "images/dogs/1.jpg xml/dogs/1.xml"],
    "split folders": [
        "train/images/1.jpg train/labels/1.xml",
        "valid/images/1.jpg valid/labels/1.xml",
    ],
    "folders of splits": [
        "images/train/1.jpg annots/train/1.xml",
        "images/val/1.jpg annots/val/1.xml",
    ],
    "exported flat splits": [
        "train/a_jpg.rf.1.jpg train/a_jpg.rf.1.xml",
        "valid/a_jpg.rf.2.jpg valid/a_jpg.rf.2.xml",
    ],
    "images in split folders": ["train/1.jpg xml/1.xml", "val/2.jpg xml/2.xml"],
    "odd names": ["images/a b#1=2.jpg xml/a b#1=2.xml", "images/\u56fe 1.jpg xml/\u56fe 1.xml"],
}
SPLITS_OF = {
    "split folders": ["train", "valid"],
    "folders of splits": ["train", "val"],
    "exported flat splits": ["train", "valid"],
    "images in split folders": ["train", "val"],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_as_people_have_them(voc_set, audit, layout):
    expected = {}
    for seed, entry in enumerate(LAYOUTS[layout]):
        image, annotation = re.fullmatch(r"(.*\.\w+) (.*)", entry).groups()
        voc_set.write(image, voc_set.encode(voc_set.draw(seed=seed)))
        voc_set.write(annotation, voc_set.xml(voc_set.object(), filename=image.rpartition("/")[2]))
        expected[annotation] = image
    # What lies about in folders that people made.
    for name in ("Thumbs.db", "classes.txt", "desktop.ini", "._1.jpg", "._a.xml", ".DS_Store"):
        for folder in {path.rpartition("/")[0] for path in (*expected, *expected.values())}:
            voc_set.write(f"{folder}/{name}".lstrip("/"), b"\0\5\x16\7")
    result = audit(split_by=SplitBy.AUTO)
    assert {path: summary.image for path, summary in result.samples.items()} == expected
    assert audit.found(result, Action.QUARANTINED, Action.REFUSED, Action.REPAIRED) == []
    assert list(result.splits.members) == SPLITS_OF.get(layout, ["train"])


# What people have, and the image that each annotation belongs to: where an annotation says
# something else about its image, that stands behind it.
CONTRADICTIONS = {
    "renumbered": ([f"images/{k}.jpg annotations/{k}.xml {(k + 1) % 4}.jpg" for k in range(4)], 4),
    "across splits": (
        [
            f"{split}/{split}{k}.jpg {split}/{split}{k}.xml {other}{k}.jpg"
            for split, other in (("train", "test"), ("test", "train"))
            for k in range(2)
        ],
        4,
    ),
    "one name in all": ([f"images/{k}.jpg annotations/{k}.xml 0.jpg" for k in range(4)], 3),
    "one name that is no image's": ([f"images/{k}.jpg ann/{k}.xml x.jpg" for k in range(3)], 3),
    "crossed names and cases": (
        ["images/a.jpg ann/a.xml B.JPG", "images/b.jpg ann/b.xml A.JPG"],
        2,
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_what_contradicts_the_own_name_is_decided_by_the_set_and_never_silent(voc_set, audit, case):
    entries, contradictions = CONTRADICTIONS[case]
    expected = {}
    for seed, entry in enumerate(entries):
        image, annotation, filename = entry.split(" ")
        voc_set.write(image, voc_set.encode(voc_set.draw(seed=seed)))
        box = (1 + seed, 2, 30 + seed, 40)
        voc_set.write(annotation, voc_set.xml(voc_set.object(box=box), filename=filename))
        expected[annotation] = image, record_box(*box)
    result = audit()
    found = {
        annotation: (summary.image, audit.boxes(result, annotation)[0])
        for annotation, summary in result.samples.items()
    }
    assert found == expected
    assert len(audit.found(result, Action.REPAIRED)) == contradictions
    assert audit.found(result, Action.QUARANTINED, Action.REFUSED, Action.NOTED) == []


def test_pictures_of_masks_and_camera_files_do_not_compete(voc_set, audit):
    for name in "ab":
        voc_set.add(name, images="JPEGImages", annotations="Annotations", filename=name)
        voc_set.write(f"AnnotationsVisualization/{name}.jpg", voc_set.encode(voc_set.draw()))
        picture = voc_set.encode(voc_set.draw(seed=9))
        voc_set.write(f"JPEGImages/{name}.jpg_original", picture)
        voc_set.write(f"JPEGImages/{name}.CR2", picture)
    result = audit()
    assert [summary.image for summary in result.samples.values()] == [
        "JPEGImages/a.jpg",
        "JPEGImages/b.jpg",
    ]
    assert {code for code, *_ in audit.found(result)} == {"paired_by_extension"}


def test_paths_and_folders_tell_namesakes_apart(voc_set, audit):
    for folder in "ab":
        for name in ("000", "001"):
            voc_set.add(
                name,
                images=f"images/{folder}",
                annotations=f"lot {ord(folder)}",
                path=f"C:\\data\\images\\{folder}\\{name}.jpg",
                extra=f"<folder>{folder}</folder>",
            )
    result = audit()
    assert audit.found(result) == []
    assert {path: summary.image for path, summary in result.samples.items()} == {
        f"lot {ord(folder)}/{name}.xml": f"images/{folder}/{name}.jpg"
        for folder in "ab"
        for name in ("000", "001")
    }


@pytest.mark.parametrize(("size", "image"), [((48, 64), "two/a.jpg"), ((64, 48), None)])
def test_a_turned_image_has_both_sizes(voc_set, audit, size, image):
    exif = Image.Exif()
    exif[0x0112] = 6
    voc_set.write("one/a.jpg", voc_set.encode(voc_set.draw()))
    voc_set.write("two/a.jpg", voc_set.encode(voc_set.draw(seed=1), exif=exif))
    voc_set.write("three/a.xml", voc_set.xml(voc_set.object(), size=size))
    result = audit()
    assert [summary.image for summary in result.samples.values()] == ([image] if image else [])
    code = "paired_by_size" if image else "image_ambiguous"
    assert result.counts[code] == 1


def test_an_image_elsewhere_of_another_size_is_no_partner(voc_set, audit):
    for name in "abc":
        voc_set.add(name, images="photos", annotations="marks")
    voc_set.write("stock/x.jpg", voc_set.encode(voc_set.draw(width=32)))
    voc_set.write("marks/x.xml", voc_set.xml(voc_set.object(), filename="x.jpg"))
    result = audit()
    [finding] = result.findings()
    assert (finding.code, finding.path, finding.related) == (
        "image_missing",
        "marks/x.xml",
        ("stock/x.jpg",),
    )
    assert finding.value == "x.jpg, stock/x.jpg has 32x48"
    assert len(result.samples) == 3


def test_a_backup_is_written_once_and_counted_once(voc_set, audit):
    for name in "ab":
        xml = voc_set.add(name).read_bytes()
        voc_set.write(f"annotations_backup/{name}.xml", xml)
        voc_set.write(f"annotations/{name} - Copy.xml", xml)
    for split, name in (("train", "a"), ("val", "b")):
        voc_set.write(f"{split}.txt", name)
    result = audit(split_by=SplitBy.AUTO)
    assert list(result.samples) == ["annotations/a.xml", "annotations/b.xml"]
    assert result.annotations_found == 2
    assert result.splits.members == {
        "train": ("annotations/a.xml",),
        "val": ("annotations/b.xml",),
    }
    assert result.counts == {"annotation_copy": 4}


def test_the_same_key_twice(voc_set, audit):
    voc_set.add("a")
    voc_set.add("b")
    voc_set.write("annotations/a.XML", voc_set.xml(filename="a.jpg"))
    result = audit()
    assert result.quarantined == {
        "annotations/a.xml": "key_twice",
        "annotations/a.XML": "key_twice",
    }
    assert result.annotations_found == 3
    assert {finding.path: finding.related for finding in result.findings(Action.QUARANTINED)} == {
        "annotations/a.xml": ("annotations/a.XML",),
        "annotations/a.XML": ("annotations/a.xml",),
    }


def test_other_xml_is_counted_nowhere(voc_set, audit):
    voc_set.add("a")
    voc_set.write("export.xml", "<annotations/>")
    result = audit()
    assert result.annotations_found == 1
    assert audit.found(result) == [("xml_not_voc", "export.xml", 1, None)]


def test_negatives_stay_and_unlabelled_images_are_listed(voc_set, audit):
    voc_set.add("a")
    voc_set.write("annotations/b.xml", voc_set.xml(filename="b.jpg"))
    voc_set.write("images/b.jpg", voc_set.encode(voc_set.draw(seed=7)))
    voc_set.write("images/c.jpg", voc_set.encode(voc_set.draw(seed=8)))
    result = audit()
    assert ("no_objects", "annotations/b.xml", None, None) in audit.found(result)
    assert ("image_unlabelled", "images/c.jpg", None, None) in audit.found(result)
    assert result.read_sample("annotations/b.xml").objects == ()


def test_an_image_of_an_unreadable_annotation_is_not_unlabelled(voc_set, audit):
    voc_set.add("a")
    voc_set.write("annotations/b.xml", "<annotation")
    for name in "bc":
        voc_set.write(f"images/{name}.jpg", voc_set.encode(voc_set.draw(seed=ord(name))))
    assert audit.found(audit(), Action.NOTED) == [("image_unlabelled", "images/c.jpg", None, None)]


def test_samples_that_are_in_no_split_are_not_read(voc_set, audit):
    for name in "abc":
        voc_set.add(name)
    voc_set.write("train.txt", "a\n")
    voc_set.write("val.txt", "b\n")
    result = audit(split_by=SplitBy.LISTS)
    assert [sample.key for sample in result.read_samples()] == ["annotations/a", "annotations/b"]
    assert result.read_sample("annotations/c.xml") is None
