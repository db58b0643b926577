"""Where corners count from is decided over the set, for each tool, and the evidence is named."""

import pytest

from detflow.data.judging.deciding import decide_frame
from detflow.data.judging.rulings import Orders
from detflow.data.judging.testimony import Tally
from detflow.data.records.schema import to_record_box
from detflow.data.sinks.voc import write_annotation
from detflow.types import Box, CornerFrame, ImageSize, ObjectAnnotation

SIZE = ImageSize(64, 48)
VOC, ZERO, LABELIMG = CornerFrame.VOC, CornerFrame.ZERO_BASED, CornerFrame.LABELIMG


def edges(left, top, right, bottom):
    return to_record_box(Box(top / 48, left / 64, bottom / 48, right / 64))


@pytest.fixture
def plant(voc_set):
    """Adds an annotation with boxes, written by a tool."""

    def add(name, *boxes, tool="", **options):
        extra = f"<source><database>{tool}</database></source>" if tool else ""
        objects = [voc_set.object("cat", box) for box in boxes]
        voc_set.add(name, *objects, extra=extra, **options)

    return add


def decided(result):
    return [(row["tool"], row["frame"], row["by"]) for row in result.decided["corners"]]


def test_one_minimum_of_0_decides_for_all_that_the_tool_wrote(plant, audit):
    for name in "bcd":
        plant(name, (30, 30, 40, 40), (50, 35, 64, 48))
    plant("z", (0, 30.0, 10.0, 40.0))
    result = audit()
    assert decided(result) == [("", "zero-based", "1 minimum in [0, 1)")]
    assert audit.found(result) == []
    assert audit.boxes(result, "annotations/b.xml") == [
        edges(30, 30, 40, 40),
        edges(50, 35, 64, 48),
    ]
    assert audit.boxes(result, "annotations/z.xml") == [edges(0, 30, 10, 40)]


def test_fractions_of_pixels_decide(plant, audit):
    plant("a", (30.25, 30, 40, 40))
    plant("b", (30, 30, 40, 40))
    result = audit()
    assert decided(result) == [("", "zero-based", "1 of 2 boxes have fractions of pixels")]
    assert audit.boxes(result, "annotations/b.xml") == [edges(30, 30, 40, 40)]


def test_nothing_tells_and_voc_counts_from_1(plant, audit):
    plant("a", (1, 30, 40, 48))
    result = audit()
    assert decided(result) == [("", "voc", "nothing tells")]
    assert audit.boxes(result) == [edges(0, 29, 40, 48)]


def test_what_one_tool_proves_says_nothing_about_another(plant, audit):
    plant("a", (30, 30, 40, 40), tool="The VOC2007 Database")
    plant("b", (0, 30, 40, 40), tool="mine")
    result = audit()
    assert [row[:2] for row in decided(result)] == [
        ("The VOC2007 Database", "voc"),
        ("mine", "zero-based"),
    ]
    assert audit.boxes(result) == [edges(29, 29, 40, 40)]


def test_labelimg_is_known_by_name_and_its_1_is_the_edge(plant, audit):
    plant("a", (1, 30, 40, 48), (2, 1, 64, 20), tool="Unknown")
    result = audit()
    assert decided(result) == [("Unknown", "labelimg", "the tool named in <source>")]
    assert audit.boxes(result) == [edges(0, 30, 40, 48), edges(2, 0, 64, 20)]
    assert audit.found(result) == []


@pytest.mark.parametrize(
    ("tool", "tally", "frame"),
    [
        ("", Tally(undecided=100), VOC),
        ("", Tally(undecided=100, begin_at_0=1), ZERO),
        ("", Tally(undecided=9_000, begin_at_0=3, begin_at_1=300), ZERO),
        # A few zeros beside hundreds of ones, or boxes that leave the picture on all sides.
        ("", Tally(undecided=9_000, begin_at_0=3, begin_at_1=301), VOC),
        ("", Tally(undecided=100, begin_at_0=3, beyond=3), VOC),
        ("Unknown", Tally(undecided=9_000, begin_at_0=3, begin_at_1=301), LABELIMG),
        ("Unknown", Tally(undecided=9_000, begin_at_0=300), ZERO),
        # VOC2012 has a handful of fractions among its 40,000 boxes.
        ("The VOC2012 Database", Tally(undecided=40_000, fractional=20, begin_at_1=900), VOC),
        ("", Tally(undecided=100, fractional=10), ZERO),
        ("roboflow.com", Tally(undecided=100), LABELIMG),
        ("MyDatabase / COCO2017", Tally(undecided=100), LABELIMG),
        ("Unknowns of mine", Tally(undecided=100), VOC),
    ],
)
def test_the_sums_of_a_tool_decide(tool, tally, frame):
    assert decide_frame(tool, tally)[0] is frame


@pytest.mark.parametrize(
    ("order", "box"),
    [(VOC, (29, 29, 40, 40)), (ZERO, (30, 30, 40, 40)), (LABELIMG, (30, 30, 40, 40))],
)
def test_a_person_comes_before_the_evidence(plant, audit, order, box):
    plant("a", (30, 30, 40, 40))
    plant("b", (0, 30, 40.5, 40))
    result = audit(orders=Orders(corners=order))
    assert decided(result) == [("", order.value, "--corners")]
    assert audit.boxes(result) == [edges(*box)]


def test_corners_that_are_fractions_of_the_sides_prove_nothing_about_pixels(plant, audit):
    plant("a", (30, 30, 40, 40))
    plant("b", (0.0, 0.25, 0.5, 0.75))
    result = audit()
    assert decided(result) == [("", "voc", "nothing tells")]
    assert result.quarantined == {"annotations/b.xml": "boxes_fractions"}


def test_detflows_own_files_are_vocs_whatever_stands_beside_them(voc_set, plant, audit):
    box = to_record_box(Box(0.123, 0.0, 0.456, 0.789))
    own = write_annotation("a.jpg", SIZE, [ObjectAnnotation("cat", box)])
    voc_set.add("a")
    voc_set.write("annotations/a.xml", own)
    plant("b", (0, 30, 40.5, 40))
    result = audit()
    assert audit.boxes(result) == [box]
    assert decided(result) == [("", "zero-based", "1 minimum in [0, 1)")]
