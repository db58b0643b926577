import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.data.judging.boxes import mend_box, place_box
from detflow.data.judging.case import Case
from detflow.data.judging.rulings import Orders
from detflow.data.records.schema import to_record_box
from detflow.data.sources.source import ImageNames, RawAnnotation, RawObject
from detflow.types import Box, CornerFrame, ImageSize

SIZE = ImageSize(64, 48)


def record_box(*corners, size=SIZE):
    return to_record_box(Box.from_voc(*corners, size))


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
        ((-9, 5, 1, 8), "box_clipped", (1, 5, 1, 8)),
        ((5, -9, 9, 1), "box_clipped", (5, 1, 9, 1)),
        ((64.5, 5, 90, 8), "box_clipped", (64.5, 5, 64, 8)),
        ((5, 48.5, 9, 60), "box_clipped", (5, 48.5, 9, 48)),
        ((-9, 5, 0, 8), "box_outside", None),
        ((5, -9, 9, 0), "box_outside", None),
        ((65, 5, 90, 8), "box_outside", None),
        ((5, 49, 9, 60), "box_outside", None),
        ((1e300, 5, 1e301, 8), "box_outside", None),
        ((-1e300, -1e300, 1e300, 1e300), "box_clipped", (1, 1, 64, 48)),
        ((5, 5, 5.4, 30), "box_tiny", (5, 5, 5.4, 30)),
        ((5, 5, 30, 5.9), "box_tiny", (5, 5, 30, 5.9)),
        ((5, 5, 5 + 1e-12, 30), "box_tiny", (5, 5, 5 + 1e-12, 30)),
    ],
)
def test_boxes_are_mended_by_rule_named_and_counted(voc_set, audit, box, code, after):
    # Three sound boxes: where half of them lie outside, all are of another picture.
    sound = [(1, 1, 9, 9), (2, 2, 9, 9), (3, 3, 9, 9)]
    dogs = [voc_set.object("dog", corners) for corners in sound]
    voc_set.add("a", dogs[0], voc_set.object("cat", box), *dogs[1:])
    result = audit(orders=Orders(corners=CornerFrame.VOC))
    finding = next(one for one in result.findings() if one.code == code)
    assert (finding.path, finding.line, finding.object_index) == ("annotations/a.xml", 1, 2)
    assert finding.before == box
    assert finding.after == after
    assert finding.value.startswith("cat: xmin ")
    expected = [record_box(*corners) for corners in sound]
    assert (
        audit.boxes(result) == expected[:1] + ([record_box(*after)] if after else []) + expected[1:]
    )
    assert result.counts[code] == 1


@pytest.mark.parametrize("box", [(5, 5, 6, 30), (5, 5, 30, 6), (1, 1, 64, 48)])
def test_a_box_of_two_pixels_or_of_the_whole_image_is_in_order(voc_set, audit, box):
    voc_set.add("a", voc_set.object("cat", box))
    result = audit()
    assert audit.found(result) == []
    assert audit.boxes(result) == [record_box(*box)]


def test_an_inverted_box_outside_is_mended_twice(voc_set, audit):
    voc_set.add("a", voc_set.object("cat", (70, 5, 10, 8)))
    result = audit()
    assert [code for code, *_ in audit.found(result)] == ["box_inverted", "box_clipped"]
    assert audit.boxes(result) == [record_box(10, 5, 64, 8)]


def mend(corners, frame, size=SIZE):
    """Returns the box and the findings as (code, before, after, frame)."""
    entry = RawObject(1, 1, "cat", corners, False, False, "")
    annotation = RawAnnotation("a.txt", "", ImageNames("a.jpg", None), None, None, (entry,))
    case = Case(annotation, "a.jpg")
    box = mend_box(case, entry, size, frame)
    placed = place_box(corners, size, frame)
    if placed is not None:
        assert (to_record_box(Box(*placed)), case.findings) == (box, [])
    return box, [(one.code, one.before, one.after, one.frame) for one in case.findings]


@pytest.mark.parametrize(
    ("corners", "code", "after"),
    [
        ((0, 0, 64, 48), None, None),
        ((0, 0, 2, 2), None, None),
        ((62, 46, 64, 48), None, None),
        ((0, 5, 64.05, 48), None, None),
        ((-1, 0, 10, 10), "box_clipped", (0, 0, 10, 10)),
        ((5, 5, 65, 10), "box_clipped", (5, 5, 64, 10)),
        ((0, 0, 1, 10), "box_tiny", (0, 0, 1, 10)),
        ((64, 0, 70, 10), "box_outside", None),
        ((-5, 0, 0, 10), "box_outside", None),
        ((30, 5, 10, 8), "box_inverted", (10, 5, 30, 8)),
    ],
)
def test_zero_based_corners_are_edges_from_0_to_the_side(corners, code, after):
    box, found = mend(corners, CornerFrame.ZERO_BASED)
    expected = [] if code is None else [(code, corners, after, CornerFrame.ZERO_BASED)]
    assert found == expected
    if code is None or after is not None:
        xmin, ymin, xmax, ymax = after or corners
        shares = (ymin / 48, xmin / 64, min(ymax / 48, 1), min(xmax / 64, 1))
        assert box == to_record_box(Box(*shares))


def test_fractions_are_judged_in_pixels_and_named_in_zero_based_ones():
    assert mend((0.0, 0.25, 0.5, 1.0), CornerFrame.FRACTIONS) == (Box(0.25, 0.0, 1.0, 0.5), [])
    # YOLO's centre and width, each rounded to six decimals, leave the image by a millionth.
    assert mend((-5e-7, 0.0, 1 + 5e-7, 1.0), CornerFrame.FRACTIONS) == (Box(0, 0, 1, 1), [])
    box, found = mend((-0.25, 0.5, 0.5, 1.0), CornerFrame.FRACTIONS)
    before, after = (-16.0, 24.0, 32.0, 48.0), (0.0, 24.0, 32.0, 48.0)
    assert found == [("box_clipped", before, after, CornerFrame.ZERO_BASED)]
    assert box == Box(0.5, 0.0, 1.0, 0.5)
    _, [(code, *_)] = mend((0.5, 0.5, 0.51, 1.0), CornerFrame.FRACTIONS)
    assert code == "box_tiny"


@given(
    st.lists(
        st.floats(-1e6, 1e6) | st.floats(0.5, 65) | st.sampled_from([0.0, 1.0, 48.0, 64.0, 65.0]),
        min_size=4,
        max_size=4,
    )
)
def test_no_corners_make_a_wrong_box(corners):
    entry = RawObject(1, 1, "cat", tuple(corners), False, False, "")
    annotation = RawAnnotation("a.xml", "", ImageNames("a.jpg", None), None, None, (entry,))
    case = Case(annotation, "a.jpg")
    box = mend_box(case, entry, SIZE, CornerFrame.VOC)
    xmin, ymin, xmax, ymax = corners
    if place_box(tuple(corners), SIZE, CornerFrame.VOC) is not None:
        assert (case.findings, box) == ([], record_box(*corners))
    if box is None:
        assert case.findings[-1].code in ("box_zero_area", "box_outside")
    elif not case.findings:
        assert 0.9 <= xmin < xmax <= 64.1
        assert 0.9 <= ymin < ymax <= 48.1
    if box is not None:
        assert to_record_box(box) == box
