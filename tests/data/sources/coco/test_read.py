"""COCO's JSON is hostile: every fault has a place, and nothing else is lost."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from detflow.data.sources.coco.outlines import box_outline
from detflow.data.sources.coco.read import read_annotations, read_categories
from detflow.data.sources.coco.stream import JsonStream, MalformedJson
from detflow.types import CornerFrame

IMAGE = {"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}
OBJECT = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 30, 20.5]}
CAT = {"id": 3, "name": "cat"}


def read(*objects, images=(IMAGE,), categories=(CAT,), **more):
    content = {"images": images, "annotations": objects, "categories": categories, **more}
    return read_annotations(json.dumps(content, indent=1).encode(), "x/a.json")


def codes(content):
    """The faults of the file and of its annotations, with what they are about."""
    found = [*content.findings, *(one for raw in content.annotations for one in raw.findings)]
    return [(one.code, one.entry, one.object_index) for one in found]


def test_an_object_is_read_with_its_line_and_pixel_edges():
    content = read(OBJECT, {**OBJECT, "id": 2, "bbox": [0, 0, 64, 48]})
    [raw] = content.annotations
    assert (raw.path, raw.entry, raw.names.filename, raw.size) == (
        "x/a.json",
        "1",
        "a.jpg",
        (64, 48),
    )
    assert raw.frame is CornerFrame.ZERO_BASED
    assert [one.corners for one in raw.objects] == [(1, 2, 31, 22.5), (0, 0, 64, 48)]
    assert [(one.number, one.name) for one in raw.objects] == [(1, "cat"), (2, "cat")]
    assert [one.line for one in raw.objects] == [11, 22]
    assert codes(content) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"bbox": [1, 2, "3", 4]}, "box_not_a_number"),
        ({"bbox": [1, 2, 3]}, "box_not_a_number"),
        ({"bbox": "1 2 3 4"}, "box_not_a_number"),
        ({"bbox": [1, 2, True, 4]}, "box_not_a_number"),
        ({"bbox": [1, 2, 10**400, 4]}, "box_not_a_number"),
        ({"bbox": [1, 2, float("nan"), 4]}, "box_not_a_number"),
        ({"bbox": [1, 2, float("inf"), 4]}, "box_not_a_number"),
        ({"bbox": None}, "box_missing"),
        ({"bbox": [], "segmentation": [[1, 2]]}, "box_missing"),
        ({"category_id": 4}, "class_id_unknown"),
        ({"category_id": "cat"}, "entry_malformed"),
        ({"category_id": None}, "entry_malformed"),
        ({"category_id": 3.5}, "entry_malformed"),
    ],
)
def test_one_unreadable_object_sets_its_image_aside_and_no_other(change, code):
    other = {**IMAGE, "id": 2, "file_name": "b.jpg"}
    content = read(
        {**OBJECT, "id": 5, "image_id": 2},
        OBJECT,
        {**OBJECT, "id": 2, **change},
        images=[IMAGE, other],
    )
    assert codes(content) == [(code, "1", 2)]
    bad, good = content.annotations
    assert bad.objects is None
    assert bad.names.filename == "a.jpg"
    assert len(good.objects) == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"", 1),
        (b"[]", 1),
        (b'{"images": [\n{"id": 1}\n', 3),
        (b'{"images": [\n{"id": 1},\n{"id": x}]}', 3),
        (b'{"images": [], "images": []}', 1),
        (b'{"images": [{"id": 1, "id": 2}]}', 1),
        (b'{"images": []} more', 1),
        (b'{"images": [' + b"[" * 100_000, 1),
        (b'{"images": [{"id": ' + b"9" * 5_000 + b"}]}", 1),
        (b'{"a": "\xff"}', 1),
        (b"{\n\n'images': []}", 3),
    ],
)
def test_what_is_no_json_is_one_finding_with_its_line(text, line):
    content = read_annotations(text, "a.json")
    assert content.annotations == ()
    assert [(one.code, one.line) for one in content.findings] == [("file_malformed", line)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_in_any_of_its_encodings(encoding):
    content = {
        "images": [{**IMAGE, "file_name": "日本.jpg"}],
        "annotations": [],
        "categories": [CAT],
    }
    data = json.dumps(content, ensure_ascii=False).encode(encoding)
    [raw] = read_annotations(data, "a.json").annotations
    assert raw.names.filename == "日本.jpg"
    assert [one.name for one in read_categories(data)] == ["cat"]


def test_ids_that_stand_twice():
    again = {**IMAGE, "file_name": "b.jpg"}
    content = read(OBJECT, OBJECT, images=[IMAGE, dict(IMAGE), again, again])
    assert content.annotations == ()
    assert codes(content) == [
        ("id_twice", "", None),
        ("id_twice", "", None),
        ("entry_twice", "1", None),
    ]
    content = read(categories=[CAT, {"id": 3, "name": "dog"}])
    assert codes(content) == [("class_id_twice", "", None)]


def test_objects_of_images_that_are_not_listed_are_named_once_an_image():
    objects = [{**OBJECT, "id": number, "image_id": f"x/{number % 2}"} for number in range(4)]
    content = read(*objects)
    assert codes(content) == [
        ("entry_orphan", "?image_id x|0", None),
        ("entry_orphan", "?image_id x|1", None),
    ]
    assert content.findings[0].value == "image_id 'x/0', 2 objects"
    assert content.annotations[0].objects == ()


def test_elements_of_another_type_are_named():
    content = read(
        7, {"image_id": [1]}, images=[None, {"id": True}, IMAGE, {"id": 9}], categories=["cat"]
    )
    assert [code for code, *_ in codes(content)] == ["entry_malformed"] * 6
    assert len(content.annotations) == 2


def test_a_file_without_annotations_says_nothing_about_its_images():
    data = json.dumps({"images": [IMAGE], "categories": [CAT]}).encode()
    content = read_annotations(data, "a.json")
    assert content.annotations == ()
    assert [(one.code, one.value) for one in content.findings] == [
        ("file_passed_over", "it has no annotations")
    ]


def test_the_first_category_is_none_where_it_is_only_the_others_parent():
    categories = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "pets"},
    ]
    for object_class, names in ((1, ["cat"]), (0, ["pets", "cat"])):
        content = {"annotations": [{"category_id": object_class}], "categories": categories}
        assert [one.name for one in read_categories(json.dumps(content).encode())] == names


def test_values_are_whole_wherever_the_windows_end(monkeypatch):
    content = {"a": 12345, "b": [[1.5, 'x\\u00e9"', {"k": True}]] * 20, "c": "é" * 30, "d": None}
    data = json.dumps(content, ensure_ascii=False, indent=2).encode()
    for size in (1, 2, 3, 7, 64):
        monkeypatch.setattr("detflow.data.sources.coco.stream._WINDOW_BYTES", size)
        stream = JsonStream(data)
        assert {key: stream.read_value() for key in stream.read_members()} == content
        stream = JsonStream(data)
        lines = {}
        for key in stream.read_members():
            lines[key] = stream.line
            stream.skip_value()
        assert list(lines.values()) == [2, 3, 145, 146]


@given(st.binary(max_size=200))
def test_no_bytes_are_a_crash(data):
    for head in (b"", b'{"images": [', b'{"annotations": [{"image_id": 1, "bbox": ['):
        read_annotations(head + data, "a.json")
        read_categories(b'"categories"' + data)


masks = st.integers(1, 12).flatmap(
    lambda height: st.lists(
        st.lists(st.booleans(), min_size=height, max_size=height), min_size=1, max_size=9
    )
)


@given(masks)
def test_a_masks_box_is_that_of_its_pixels(columns):
    mask = np.array(columns, np.uint8).T
    packed = coco_mask.encode(np.asfortranarray(mask))
    flat, runs, last = mask.T.ravel(), [], 0
    count = 0
    for value in flat:
        if value != last:
            runs.append(count)
            count, last = 0, value
        count += 1
    runs.append(count)
    if mask.any():
        rows, places = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = (places[0], rows[0], places[-1] + 1, rows[-1] + 1)
    else:
        box = None
    size = list(mask.shape)
    assert box_outline({"size": size, "counts": packed["counts"].decode()}) == box
    assert box_outline({"size": size, "counts": list(map(int, runs))}) == box


@pytest.mark.parametrize(
    ("outline", "box"),
    [
        ([[1, 2, 9, 2, 5, 8.5]], (1, 2, 9, 8.5)),
        ([[1, 2, 9, 2, 5, 8], [0, 0, 1, 0, 1, 1]], (0, 0, 9, 8)),
        ([1, 2, 9, 2, 5, 8], (1, 2, 9, 8)),
        ([[1, 2, 9]], None),
        ([["a"] * 6], None),
        ([], None),
        ("outline", None),
        ({"size": [2, 2], "counts": [0, 9]}, None),
        ({"size": [2, 10**9], "counts": [0, 1]}, None),
        ({"size": [2, 2], "counts": [1, -1]}, None),
        ({"size": [2, 2], "counts": "\x00\xff"}, None),
        ({"size": [2, 2], "counts": "o" * 50}, None),
        ({"counts": [1]}, None),
    ],
)
def test_the_box_of_an_outline(outline, box):
    assert box_outline(outline) == box


def test_what_is_read_is_bounded(monkeypatch):
    monkeypatch.setattr("detflow.data.sources.coco.read.MAX_OBJECTS", 2)
    content = read(*[{**OBJECT, "id": number} for number in range(3)])
    assert codes(content) == [("too_many_objects", "1", None)]
    assert content.annotations[0].objects is None
    monkeypatch.setattr("detflow.data.sources.coco.read.MAX_ELEMENTS", 4)
    content = read(OBJECT, OBJECT, OBJECT)
    assert codes(content) == [("file_malformed", "", None)]
    assert content.findings[0].value == "more than 4 images and objects"
    monkeypatch.setattr("detflow.data.sources.coco.read.MAX_JSON_BYTES", 2)
    assert codes(read()) == [("file_too_large", "", None)]
    monkeypatch.setattr("detflow.data.sources.coco.stream._WINDOW_BYTES", 8)
    monkeypatch.setattr("detflow.data.sources.coco.stream._MAX_VALUE_CHARS", 50)
    with pytest.raises(MalformedJson, match="one value has more than 50 characters"):
        JsonStream(b'"' + b"x" * 500).read_value()
