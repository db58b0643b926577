import pytest

from detflow.pages.outlines import Frame, Outline, Ring, build_picture
from detflow.types import ImageSize

SIZE = ImageSize(100, 50)


def shapes_of(*corners, kind="before"):
    return build_picture(b"", SIZE, [Outline(box, kind) for box in corners], "").shapes


def test_a_box_is_a_frame_whatever_the_order_of_its_corners():
    frame, swapped = shapes_of((10, 20, 40, 30), (40, 30, 10, 20))
    assert (frame.x, frame.y, frame.width, frame.height) == (10, 20, 30, 10)
    assert swapped == frame


@pytest.mark.parametrize(
    ("kind", "is_bold"), [("faint", False), ("after", True), ((1, 2, 3), True)]
)
def test_all_but_faint_outlines_are_bold(kind, is_bold):
    [frame] = shapes_of((10, 20, 40, 30), kind=kind)
    assert (frame.kind, frame.is_bold) == (kind, is_bold)


def test_a_box_that_cannot_be_seen_gets_a_ring_around_it():
    ring, frame = shapes_of((9, 9, 9, 9), (20, 20, 22, 22))
    assert isinstance(ring, Ring)
    assert (ring.x, ring.y) == (9, 9)
    assert ring.radius > 2
    assert isinstance(frame, Frame)


@pytest.mark.parametrize(
    ("corners", "view"),
    [
        ((10, 10, 40, 40), (0, 0, 100, 50)),
        # A margin of 2 % beyond the box.
        ((90, 10, 110, 40), (0, 0, 112, 50)),
        ((-10, -5, 40, 40), (-12, -6, 112, 56)),
        # No more than a fifth of the image on each side.
        ((90, 10, 9_000, 40), (0, 0, 122, 50)),
    ],
)
def test_the_view_goes_on_a_little_where_a_box_leaves_the_image(corners, view):
    picture = build_picture(b"", SIZE, [Outline(corners, "before")], "")
    assert picture.view == pytest.approx(view)


def test_what_is_too_far_away_to_be_drawn_comes_nearer():
    [frame] = shapes_of((-1e12, 10, 1e12, 40))
    assert frame.width < 1_000
