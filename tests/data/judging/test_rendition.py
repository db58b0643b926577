"""Boxes that were drawn on another picture are set aside together, or scaled on demand."""

import pytest

from detflow.data.judging import testimony
from detflow.data.judging.rulings import Orders
from detflow.data.records.schema import to_record_box
from detflow.types import Box, CornerFrame

SCALE = Orders(scale_boxes=True)
# What was annotated, on a picture of 64x48.
TRUE = [(9, 9, 24, 20), (33, 25, 60, 40)]


def edges(left, top, right, bottom):
    return to_record_box(Box(top / 48, left / 64, bottom / 48, right / 64))


@pytest.fixture
def plant(voc_set):
    """Adds an annotation with boxes, and a picture with a size in pixels."""

    def add(name, boxes, size=(64, 48), pixels=(64, 48), **options):
        image = voc_set.encode(voc_set.draw(*pixels, seed=voc_set.count))
        objects = [voc_set.object(f"c{n}", box) for n, box in enumerate(boxes)]
        voc_set.add(name, *objects, image=image, size=size, **options)

    return add


def codes(result):
    return set(result.quarantined.values())


@pytest.mark.parametrize(
    ("size", "pixels"),
    [
        ((64, 48), (128, 96)),
        ((128, 96), (64, 48)),
        ((64, 48), (67, 50)),
        ((256, 192), (64, 48)),
        # On its side: at the same size, at another one.
        ((64, 96), (96, 64)),
        ((96, 128), (64, 48)),
    ],
)
def test_a_size_of_the_same_shape_is_another_rendition(plant, audit, size, pixels):
    for name in "abc":
        plant(name, TRUE, size, pixels)
    assert codes(audit()) == {"size_conflict"}


@pytest.mark.parametrize("factor", [2, 0.5])
def test_boxes_of_a_rendition_are_scaled_on_demand(plant, audit, factor):
    pixels = (int(64 * factor), int(48 * factor))
    plant("a", TRUE, (64, 48), pixels)
    result = audit(orders=SCALE)
    assert result.counts == {"boxes_scaled": 1}
    assert audit.boxes(result) == [
        edges(x - 1, y - 1, right, bottom) for x, y, right, bottom in TRUE
    ]


def test_a_rendition_on_its_side_is_not_scaled(plant, audit):
    plant("a", [(9, 9, 24, 20)], (96, 64), (64, 96))
    assert codes(audit(orders=SCALE)) == {"size_conflict"}


def test_an_image_without_boxes_cannot_be_labelled_wrong(voc_set, audit):
    voc_set.write("a.jpg", voc_set.encode(voc_set.draw()))
    voc_set.write("a.xml", voc_set.xml(size=(128, 96)))
    assert dict(audit().counts) == {"size_wrong": 1, "no_objects": 1}


def test_boxes_that_leave_the_size_prove_it_stale_for_others_with_the_same_two_sizes(plant, audit):
    plant("a", [(1, 1, 60, 40)], (32, 24))
    plant("b", [(1, 1, 20, 20)], (32, 24))
    plant("c", [(1, 1, 10, 10)], (16, 12))
    result = audit()
    assert result.quarantined == {"annotations/c.xml": "size_conflict"}
    assert result.counts["size_wrong"] == 2


def test_one_sloppy_box_does_not_prove_a_size_stale(plant, audit):
    plant("a", [(1, 1, 60, 40)], (32, 24))
    for name in "bcde":
        plant(name, [(1, 1, 20, 20)], (32, 24))
    assert len(audit().quarantined) == 4


def test_a_template_writes_one_size_for_all(plant, audit):
    for name, pixels in {"a": (64, 48), "b": (48, 64), "c": (128, 96), "d": (90, 90)}.items():
        plant(name, [(1, 1, 20, 20)], (32, 24), pixels)
    result = audit()
    assert dict(result.counts) == {"size_wrong": 4}


def test_pictures_that_were_resized_to_one_shape_keep_no_box(plant, audit):
    sizes = {"a": (64, 48), "b": (48, 64), "c": (80, 40)}
    for name, size in sizes.items():
        plant(name, [(9, 9, 25, 25)], size, (50, 50))
    assert codes(audit()) == {"size_conflict"}
    result = audit(orders=SCALE)
    assert dict(result.counts) == {"boxes_scaled": 3}
    [box] = audit.boxes(result)
    assert box == to_record_box(Box(8 / 48, 8 / 64, 25 / 48, 25 / 64))


def test_too_many_sizes_follow_no_pattern(plant, audit, monkeypatch):
    monkeypatch.setattr(testimony, "_MAX_SIZE_PAIRS", 2)
    for name, width in {"a": 90, "b": 94, "c": 98}.items():
        plant(name, TRUE, (width, 99))
    assert codes(audit()) == {"size_conflict"}


@pytest.mark.parametrize("size", [(64, 48), None, (0, 0)])
def test_boxes_far_outside_tell_that_all_are_of_a_larger_rendition(plant, audit, size):
    plant("a", [tuple(2 * corner for corner in box) for box in TRUE], size)
    result = audit()
    assert result.quarantined == {"annotations/a.xml": "boxes_far_outside"}


def test_where_a_quarter_of_the_set_lies_far_outside_all_of_it_does(plant, audit):
    for name in "abc":
        plant(name, [(1, 1, 20, 20), (1, 1, 30, 30), (1, 1, 90, 20)])
    plant("inside", [(1, 1, 20, 20)])
    result = audit()
    assert len(result.quarantined) == 4
    assert codes(result) == {"boxes_far_outside"}
    assert [row["pattern"] for row in result.decided["renditions"]] == ["far"]


def test_one_box_far_outside_among_sound_ones_is_left_out(plant, audit):
    for name in "abcdefghi":
        plant(name, TRUE)
    plant("x", [*TRUE, (100, 1, 120, 20)])
    result = audit()
    assert dict(result.counts) == {"box_outside": 1}


@pytest.mark.parametrize(
    "boxes",
    [
        [(0.125, 0.25, 0.5, 0.75)],
        [(0, 0, 1, 1)],
        [(0.125, 0.25, 0.5, 0.75), (0.5, 0.5, 1.02, 1.0), (-0.01, 0, 0.5, 0.5)],
    ],
)
def test_fractions_of_the_sides_are_no_specks(plant, audit, boxes):
    plant("a", boxes)
    assert codes(audit()) == {"boxes_fractions"}
    result = audit(orders=SCALE)
    assert codes(result) == set()
    box = audit.boxes(result)[0]
    assert (box.xmin, box.ymin, box.xmax, box.ymax) == tuple(map(float, boxes[0]))


@pytest.fixture
def percentages(plant):
    def add(*more, pixels=(320, 240)):
        for number, box in enumerate(((5, 10, 30, 40), (50, 20, 95, 98), (10, 60, 70, 80))):
            plant(f"a{number}", [box, (1, 2, 45, 50)], pixels, pixels)
        for number, box in enumerate(more):
            plant(f"b{number}", [box], pixels, pixels)

    return add


def test_percentages_of_the_sides_are_told_by_the_whole_set(percentages, audit):
    percentages()
    assert codes(audit()) == {"boxes_percent"}
    result = audit(orders=SCALE)
    assert dict(result.counts) == {"boxes_scaled": 3}
    expected = to_record_box(Box(0.2, 0.5, 0.98, 0.95))
    assert audit.boxes(result, "annotations/a1.xml")[0] == expected


def test_a_corner_over_100_a_small_picture_or_a_person_says_that_they_are_pixels(
    percentages, audit, voc_set
):
    percentages()
    assert codes(audit(orders=Orders(corners=CornerFrame.ZERO_BASED))) == set()
    percentages((10, 10, 150, 60))
    assert codes(audit()) == set()


def test_pictures_of_a_hundred_pixels_have_no_corner_over_100(percentages, audit):
    percentages(pixels=(110, 105))
    assert codes(audit()) == set()


@pytest.mark.parametrize("first", [1, 0])
def test_width_and_height_in_place_of_the_maxima_are_told_by_the_whole_set(plant, audit, first):
    boxes = [(0, 8, 24, 20), (32, 24, 60, 40)] if first == 0 else TRUE
    for number in range(3):
        plant(
            f"a{number}",
            [(x, y, right - x + first, bottom - y + first) for x, y, right, bottom in boxes],
        )
    assert codes(audit()) == {"boxes_widths"}
    result = audit(orders=SCALE)
    assert audit.boxes(result, "annotations/a0.xml") == [
        edges(x - first, y - first, right, bottom) for x, y, right, bottom in boxes
    ]


def test_corners_in_either_order_are_no_widths(plant, audit):
    for number in range(4):
        plant(f"a{number}", [(24, 20, 9, 9), (33, 25, 60, 40)])
    assert dict(audit().counts) == {"box_inverted": 4}
