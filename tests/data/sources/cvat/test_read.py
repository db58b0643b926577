import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.data.sources.cvat.read import read_description, read_images


def read(*shapes, image='name="a.jpg" width="64" height="48"', head=""):
    text = (
        f"<annotations>{head}\n<image id='0' {image}>\n"
        + "\n".join(shapes)
        + "</image></annotations>"
    )
    return read_images(text.encode(), "x.xml")


def codes(content):
    found = [*content.findings, *(one for raw in content.annotations for one in raw.findings)]
    return [(one.code, one.entry, one.line, one.object_index) for one in found]


BOX = '<box label="cat" xtl="1.5" ytl="2" xbr="30" ybr="20"><attribute name="x">1</attribute></box>'


def test_a_box_is_read_with_its_line():
    content = read(BOX, head="<version>1.1</version>")
    [raw] = content.annotations
    assert (raw.entry, raw.names.filename, raw.size, raw.size_line) == (
        "a.jpg",
        "a.jpg",
        (64, 48),
        2,
    )
    assert [(one.line, one.name, one.corners) for one in raw.objects] == [
        (3, "cat", (1.5, 2, 30, 20))
    ]
    assert codes(content) == []


@pytest.mark.parametrize(
    ("shape", "corners"),
    [
        ('<polygon label="cat" points="1,2;9,2.5;5,8"/>', (1, 2, 9, 8)),
        ('<ellipse label="cat" cx="10" cy="20" rx="4" ry="2"/>', (6, 18, 14, 22)),
        ('<ellipse label="cat" cx="10" cy="20" rx="4" ry="2" rotation="90"/>', (8, 16, 12, 24)),
        ('<box label="cat" xtl="0" ytl="0" xbr="4" ybr="2" rotation="90"/>', (1, -1, 3, 3)),
        ('<mask label="cat" rle="1" left="3" top="4" width="5" height="6"/>', (3, 4, 8, 10)),
        (
            '<cuboid label="cat" xtl1="1" ytl1="2" xbl1="1" ybl1="9" xtr1="5" ytr1="1" '
            'xbr1="5" ybr1="9" xtl2="6" ytl2="3" xbl2="6" ybl2="8"/>',
            (1, 1, 6, 9),
        ),
    ],
)
def test_other_shapes_are_boxed_with_a_finding(shape, corners):
    content = read(BOX, shape)
    [raw] = content.annotations
    assert raw.objects[1].corners == pytest.approx(corners)
    assert codes(content) == [("outline_boxed", "a.jpg", 4, None)]


def test_a_turned_box_is_boxed():
    content = read('<box label="cat" xtl="0" ytl="0" xbr="2" ybr="2" rotation="45"/>')
    side = math.sqrt(2)
    assert content.annotations[0].objects[0].corners == pytest.approx(
        (1 - side, 1 - side, 1 + side, 1 + side)
    )


@pytest.mark.parametrize(
    ("shape", "code"),
    [
        ('<box label="cat" xtl="1" ytl="2" xbr="30"/>', "box_missing"),
        ('<box label="cat" xtl="1" ytl="2" xbr="30" ybr="nan"/>', "box_not_a_number"),
        ('<box label="cat" xtl="1" ytl="2" xbr="30" ybr="1e999"/>', "box_not_a_number"),
        ('<box label=" " xtl="1" ytl="2" xbr="30" ybr="4"/>', "name_missing"),
        ('<polygon label="cat" points="1,2;3"/>', "box_not_a_number"),
        ('<polygon label="cat" points=""/>', "box_not_a_number"),
        ('<cuboid label="cat"/>', "box_missing"),
    ],
)
def test_an_unreadable_shape_sets_its_image_aside(shape, code):
    content = read(BOX, shape)
    assert codes(content) == [(code, "a.jpg", 4, 2)]
    assert content.annotations[0].objects is None


def test_lines_and_points_are_named_and_left_out():
    content = read(
        BOX, '<points label="cat" points="1,2"/>', '<skeleton label="cat"><points/></skeleton>'
    )
    assert codes(content) == [("shape_left_out", "a.jpg", 4, None)]
    assert len(content.annotations[0].objects) == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("<annotations><image name='a'></annotations>", "file_malformed"),
        ("", "file_malformed"),
        ("<annotation/>", "file_passed_over"),
        (
            "<annotations><track id='0' label='cat'><box frame='0'/></track></annotations>",
            "video_unsupported",
        ),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><annotations/>", "xml_doctype"),
    ],
)
def test_what_is_no_such_file_is_one_finding(text, code):
    content = read_images(text.encode(), "x.xml")
    assert content.annotations == ()
    assert [one.code for one in content.findings] == [code]
    assert read_description(text.encode()) == ((), {})


def test_an_image_without_a_name_is_set_aside():
    assert codes(read(BOX, image="width='1'")) == [("entry_malformed", "_", 2, None)]


def test_labels_and_subsets():
    text = """<annotations><meta><task><labels><label><name>cat</name><type>rectangle</type>
    <attributes><attribute><name>age</name></attribute></attributes></label>
    <label><name>nose</name><type>points</type></label><label><name>big  dog</name></label>
    </labels></task></meta>
    <image name="x/a.jpg" subset="Train"/><image name="y/a.jpg"/></annotations>"""
    described = read_description(text.encode())
    assert described.labels == ("cat", "big dog")
    assert described.subsets == {"x|a.jpg": "Train", "y|a.jpg": ""}
    assert [raw.entry for raw in read_images(text.encode(), "x.xml").annotations] == [
        "x|a.jpg",
        "y|a.jpg",
    ]


@given(st.binary(max_size=200))
def test_no_bytes_are_a_crash(data):
    read_images(data, "x.xml")
    read_images(b"<annotations><image name='a'>" + data, "x.xml")


def test_what_is_read_is_bounded(monkeypatch):
    monkeypatch.setattr("detflow.data.sources.cvat.read.MAX_OBJECTS", 1)
    assert codes(read(BOX, BOX)) == [("too_many_objects", "a.jpg", 2, None)]
    monkeypatch.setattr("detflow.data.sources.cvat.read.MAX_SHAPES", 2)
    assert [one.code for one in read(BOX, BOX).findings] == ["file_too_large"]
    monkeypatch.setattr("detflow.data.sources.cvat.read.MAX_XML_BYTES", 3)
    assert [one.code for one in read(BOX).findings] == ["file_too_large"]
