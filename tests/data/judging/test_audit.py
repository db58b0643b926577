import re
import socket
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detflow.data.images.transcode import Treatment
from detflow.data.judging.audit import AuditOptions, audit_dataset
from detflow.data.judging.dataset import find_near_misses
from detflow.data.judging.sample import AuditedSample
from detflow.data.records.schema import ObjectColumns, to_record_box
from detflow.data.rules import Action
from detflow.data.sources.splits import SplitBy
from detflow.data.workers.processes import ProcessMap
from detflow.storage.folders import LocalFolder
from detflow.types import Box, ImageSize, LabelMap, ObjectAnnotation

SIZE = ImageSize(64, 48)


@pytest.fixture
def audit(voc_set, tmp_path):
    def run(**options):
        work_dir = tmp_path / "work"
        work_dir.mkdir(exist_ok=True)
        options.setdefault("split_by", SplitBy.SEED)
        options.setdefault("fractions", {"train": 1.0})
        return audit_dataset(
            LocalFolder.of(voc_set.root),
            AuditOptions(**options),
            work_dir,
            ProcessMap(None, 1),
            lambda what, done, total: None,
        )

    return run


def found(result, *actions):
    return [
        (finding.code, finding.path, finding.line, finding.object_index)
        for finding in result.findings(*actions)
    ]


def sample_of(result, annotation):
    with open(result.samples_path, "rb") as file:
        file.seek(result.samples[annotation].offset)
        return AuditedSample.from_json(file.readline())


def boxes_of(result, annotation="annotations/a.xml"):
    return [entry.box for entry in sample_of(result, annotation).objects]


def record_box(*corners, size=SIZE):
    return to_record_box(Box.from_voc(*corners, size))


def test_a_clean_set_has_no_findings(voc_set, audit):
    for index in range(3):
        voc_set.add(
            f"a{index}",
            voc_set.object("cat", (1, 1, 64, 48)),
            voc_set.object("dog", (2, 3, 4.5, 5)),
        )
    result = audit()
    assert found(result) == []
    assert result.label_map == LabelMap(("cat", "dog"))
    assert (result.annotations_found, len(result.samples), dict(result.quarantined)) == (3, 3, {})
    assert boxes_of(result, "annotations/a0.xml") == [
        record_box(1, 1, 64, 48),
        record_box(2, 3, 4.5, 5),
    ]


@pytest.mark.parametrize(
    ("box", "code", "after"),
    [
        ((30, 5, 10, 8), "box_inverted", (10, 5, 30, 8)),
        ((30, 8, 10, 5), "box_inverted", (10, 5, 30, 8)),
        ((5, 5, 5, 8), "box_zero_area", None),
        ((5, 8, 9, 8), "box_zero_area", None),
        ((-3, 5, 10, 8), "box_clipped", (1, 5, 10, 8)),
        ((0, 0, 10, 8), "box_clipped", (1, 1, 10, 8)),
        ((50, 40, 65, 49), "box_clipped", (50, 40, 64, 48)),
        ((0.5, 5, 10, 8), "box_clipped", (1, 5, 10, 8)),
        ((-9, 5, 0, 8), "box_outside", None),
        ((65, 5, 90, 8), "box_outside", None),
        ((5, 49, 9, 60), "box_outside", None),
        ((1e300, 5, 1e301, 8), "box_outside", None),
        ((-1e300, -1e300, 1e300, 1e300), "box_clipped", (1, 1, 64, 48)),
        ((5, 5, 5.4, 30), "box_tiny", (5, 5, 5.4, 30)),
        ((5, 5, 5 + 1e-12, 30), "box_tiny", (5, 5, 5 + 1e-12, 30)),
    ],
)
def test_boxes_are_mended_by_rule_named_and_counted(voc_set, audit, box, code, after):
    voc_set.add("a", voc_set.object("dog", (1, 1, 9, 9)), voc_set.object("cat", box))
    result = audit()
    finding = next(one for one in result.findings() if one.code == code)
    assert (finding.path, finding.line, finding.object_index) == ("annotations/a.xml", 1, 2)
    assert finding.before == box
    assert finding.after == after
    assert finding.value.startswith("cat: xmin ")
    expected = [record_box(1, 1, 9, 9)] + ([record_box(*after)] if after else [])
    assert boxes_of(result) == expected
    assert result.counts[code] == 1


def test_an_inverted_box_outside_is_mended_twice(voc_set, audit):
    voc_set.add("a", voc_set.object("cat", (80, 5, 10, 8)))
    result = audit()
    assert [code for code, *_ in found(result)] == ["box_inverted", "box_clipped"]
    assert boxes_of(result) == [record_box(10, 5, 64, 8)]


@given(
    st.lists(
        st.floats(-1e6, 1e6) | st.floats(0.5, 65) | st.sampled_from([0.0, 1.0, 48.0, 64.0, 65.0]),
        min_size=4,
        max_size=4,
    )
)
@settings(max_examples=300)
def test_no_corners_make_a_wrong_box(corners):
    from detflow.data.judging.audit import _is_in_order, _mend_box
    from detflow.data.sources.voc import VocObject

    findings = []
    box = _mend_box(
        VocObject(1, 1, "cat", tuple(corners), False, False, ""), SIZE, "a.xml", "a.jpg", findings
    )
    xmin, ymin, xmax, ymax = corners
    if _is_in_order(tuple(corners), SIZE):
        assert (findings, box) == ([], record_box(*corners))
    if box is None:
        assert findings[-1].code in ("box_zero_area", "box_outside")
    elif not findings:
        assert 1 <= xmin < xmax <= 64
        assert 1 <= ymin < ymax <= 48
    if box is not None:
        assert to_record_box(box) == box


def test_what_is_no_number_sets_the_image_aside(voc_set, audit):
    voc_set.add("good")
    voc_set.add(
        "a", voc_set.object("cat", (1, 1, "nan", 9)), voc_set.object("cat", (1, 1, "1_000", 9))
    )
    result = audit()
    assert found(result, Action.QUARANTINED) == [
        ("box_not_a_number", "annotations/a.xml", 1, 1),
        ("box_not_a_number", "annotations/a.xml", 1, 2),
    ]
    assert result.quarantined == {"annotations/a.xml": "box_not_a_number"}
    assert list(result.samples) == ["annotations/good.xml"]


def test_the_same_object_twice_is_kept_once(voc_set, audit):
    voc_set.add("a", voc_set.object(), voc_set.object(), voc_set.object("dog"))
    result = audit()
    assert result.counts["object_duplicate"] == 1
    assert [entry.name for entry in sample_of(result, "annotations/a.xml").objects] == [
        "cat",
        "dog",
    ]


@pytest.mark.parametrize(
    ("size", "code"),
    [
        (None, "size_missing"),
        ((0, 0), "size_zero"),
        ((64, 0), "size_zero"),
        ((48, 64), "size_swapped"),
        ((99, 99), "size_wrong"),
    ],
)
def test_the_pixels_say_how_large_the_image_is(voc_set, audit, size, code):
    voc_set.add("a", voc_set.object("cat", (1, 1, 48, 48)), size=size)
    result = audit()
    assert found(result, Action.REPAIRED)[0][0] == code
    assert sample_of(result, "annotations/a.xml").size == SIZE
    assert boxes_of(result) == [record_box(1, 1, 48, 48)]


@pytest.mark.parametrize("box", [(1, 1, 128, 96), (1, 1, 66, 10)])
def test_boxes_that_were_drawn_on_another_rendition_are_set_aside(voc_set, audit, box):
    voc_set.add("good")
    voc_set.add("a", voc_set.object("cat", box), size=(128, 96))
    assert audit().quarantined == {"annotations/a.xml": "size_conflict"}


def test_an_edge_that_is_one_pixel_over_is_clipped_all_the_same(voc_set, audit):
    voc_set.add("a", voc_set.object("cat", (1, 1, 65, 48)), size=(65, 48))
    assert sorted(audit().counts) == ["box_clipped", "size_wrong"]


@pytest.mark.parametrize(
    ("orientation", "xml_size", "code", "turn", "size"),
    [
        (6, (48, 64), "exif_applied", 6, ImageSize(48, 64)),
        (8, (48, 64), "exif_applied", 8, ImageSize(48, 64)),
        (6, (64, 48), "exif_removed", 1, SIZE),
        (3, (64, 48), "exif_removed", 1, SIZE),
        (6, None, "exif_removed", 1, SIZE),
    ],
)
@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_the_annotations_size_decides_about_exif(
    voc_set, audit, image_format, orientation, xml_size, code, turn, size
):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = voc_set.encode(voc_set.draw(), image_format, exif=exif)
    voc_set.add(
        "a",
        voc_set.object("cat", (1, 1, 40, 40)),
        image=image,
        suffix=f".{image_format.lower()}",
        size=xml_size,
    )
    result = audit()
    assert result.counts[code] == 1
    sample = sample_of(result, "annotations/a.xml")
    assert sample.size == size
    transcode = turn != 1 or image_format != "JPEG"
    assert sample.treatment == Treatment(transcode=transcode, turn=turn, drop_exif=not transcode)


@pytest.mark.parametrize("orientation", [1, None])
def test_exif_without_a_turn_is_left_alone(voc_set, audit, orientation):
    exif = Image.Exif()
    exif[0x0112 if orientation else 0x010F] = orientation or "maker"
    voc_set.add("a", image=voc_set.encode(voc_set.draw(), exif=exif))
    assert found(audit()) == []


def test_formats_and_names(voc_set, audit):
    voc_set.add("a", image=voc_set.encode(voc_set.draw(), "PNG"))
    voc_set.add("b", image=voc_set.encode(voc_set.draw(seed=9)), suffix=".png")
    voc_set.add("c", image=voc_set.encode(voc_set.draw(seed=8, mode="CMYK")))
    result = audit()
    assert found(result, Action.REPAIRED, Action.NOTED) == [
        ("extension_wrong", "images/a.jpg", None, None),
        ("image_transcoded", "annotations/a.xml", None, None),
        ("extension_wrong", "images/b.png", None, None),
        ("image_transcoded", "annotations/c.xml", None, None),
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
    assert sorted(found(result, Action.REFUSED)) == [
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
    assert found(result, Action.QUARANTINED, Action.REFUSED, Action.REPAIRED) == []
    assert list(result.splits.members) == SPLITS_OF.get(layout, ["train"])


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


def test_other_xml_is_counted_nowhere(voc_set, audit):
    voc_set.add("a")
    voc_set.write("export.xml", "<annotations/>")
    result = audit()
    assert result.annotations_found == 1
    assert found(result) == [("xml_not_voc", "export.xml", 1, None)]


def test_an_image_in_two_splits_is_a_leak_unless_allowed(voc_set, audit):
    image = voc_set.encode(voc_set.draw(seed=5))
    near = voc_set.encode(voc_set.draw(seed=5), quality=60)
    voc_set.add("a", image=image, images="train/i", annotations="train/a")
    voc_set.add("b", image=image, images="val/i", annotations="val/a")
    voc_set.add("c", image=near, images="val/i", annotations="val/a")
    result = audit(split_by=SplitBy.AUTO)
    assert found(result, Action.REFUSED) == [("split_leak", "val/a/b.xml", None, None)]
    assert found(result, Action.NOTED) == [("split_near_leak", "val/a/c.xml", None, None)]
    leak = next(result.findings(Action.REFUSED))
    assert leak.related == ("train/a/a.xml", "train/i/a.jpg")
    allowed = audit(split_by=SplitBy.AUTO, allow_leaks=True)
    assert allowed.count(Action.REFUSED) == 0
    assert allowed.counts["image_duplicate"] == 1
    seeded = audit(fractions={"train": 0.5, "val": 0.5})
    assert seeded.count(Action.REFUSED) == 0
    assert {len(members) for members in seeded.splits.members.values()} == {0, 3}
    assert found(seeded, Action.NOTED)[-1][0] == "split_empty"


def test_unknown_classes_are_named_with_the_nearest(voc_set, audit):
    voc_set.add("a", voc_set.object("button"), voc_set.object("buton", (1, 1, 5, 5)))
    result = audit(classes=("button", "lever"))
    assert found(result, Action.REFUSED) == [("class_unknown", "annotations/a.xml", 1, 2)]
    assert next(result.findings(Action.REFUSED)).expected == "perhaps 'button'"


def test_a_rare_class_that_resembles_another_is_named(voc_set, audit):
    for index in range(10):
        voc_set.add(f"a{index}", voc_set.object("button"))
    voc_set.add("b", "\n" + voc_set.object("buton"))
    result = audit()
    (finding,) = (one for one in result.findings() if one.code == "class_near_miss")
    assert (finding.path, finding.line) == ("annotations/b.xml", 2)
    assert (finding.value, finding.expected) == (
        "'buton', 1 objects",
        "perhaps 'button', 10 objects",
    )
    assert "buton" in result.label_map.names


def test_a_class_that_a_split_lacks_is_named(voc_set, audit):
    voc_set.add("a", voc_set.object("cat"), images="train/i", annotations="train/a")
    voc_set.add("b", voc_set.object("dog"), images="val/i", annotations="val/a")
    result = audit(split_by=SplitBy.FOLDERS)
    assert [(one.code, one.path, one.value) for one in result.findings()] == [
        ("class_absent", "val/a/b.xml", "no 'dog' in train"),
        ("class_absent", "train/a/a.xml", "no 'cat' in val"),
    ]


@pytest.mark.parametrize(
    ("totals", "expected"),
    [
        ({"button": 100, "buton": 3}, [("buton", "button")]),
        ({"button": 100, "Button": 2}, [("Button", "button")]),
        ({"traffic light": 100, "traffic_light": 2}, [("traffic_light", "traffic light")]),
        ({"type1": 100, "type2": 2}, []),
        ({"cat": 100, "car": 2}, []),
        ({"button": 100, "buton": 60}, []),
        ({"left arrow": 100, "right arrow": 3}, []),
    ],
)
def test_near_misses(totals, expected):
    assert list(find_near_misses(totals)) == expected


def test_negatives_stay_and_unlabelled_images_are_listed(voc_set, audit):
    voc_set.add("a")
    voc_set.write("annotations/b.xml", voc_set.xml(filename="b.jpg"))
    voc_set.write("images/b.jpg", voc_set.encode(voc_set.draw(seed=7)))
    voc_set.write("images/c.jpg", voc_set.encode(voc_set.draw(seed=8)))
    result = audit()
    assert ("no_objects", "annotations/b.xml", None, None) in found(result)
    assert ("image_unlabelled", "images/c.jpg", None, None) in found(result)
    assert sample_of(result, "annotations/b.xml").objects == ()


def test_five_thousand_objects(voc_set, audit):
    objects = [
        voc_set.object("cat", (x, y, x + 1, y + 1)) for x in range(1, 64) for y in range(1, 48)
    ]
    objects += [
        voc_set.object("dog", (x, y, x + 1, y + 1)) for x in range(1, 64) for y in range(1, 33)
    ]
    voc_set.add("a", *objects[:5000])
    assert len(boxes_of(audit())) == len(objects[:5000])


def test_an_audited_sample_survives_the_round_trip():
    objects = (
        ObjectAnnotation("cät", Box(0.0, 0.25, 1.0, 0.5), difficult=True, pose="Left"),
        ObjectAnnotation("b", to_record_box(Box(0.1, 0.2, 0.3, 0.4))),
    )
    sample = AuditedSample(
        "a/b.xml",
        "i/\udce9.jpg",
        12,
        "ab" * 32,
        SIZE,
        Treatment(True, 6, False),
        ObjectColumns.of(objects),
    )
    assert AuditedSample.from_json(sample.to_json()) == sample
    assert sample.key == "a/b"
