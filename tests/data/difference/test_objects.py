import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.data.difference.objects import Change, compare_objects
from detflow.data.sinks.sink import CarriedObject
from detflow.types import ImageSize

SIZE = ImageSize(100, 200)


def item(name, left, top, right, bottom, **flags):
    box = (top / SIZE.height, left / SIZE.width, bottom / SIZE.height, right / SIZE.width)
    return CarriedObject(name, tuple(float(np.float32(edge)) for edge in box), **flags)


def tell(old, new):
    return [
        (
            tuple(change.value for change in one.changes),
            one.old and one.old.name,
            one.new and one.new.name,
        )
        for one in compare_objects(old, new, SIZE)
    ]


CAT = item("cat", 10, 10, 40, 50)


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ([CAT], []),
        ([item("cat", 11, 10, 40, 51)], []),
        ([item("cat", 12, 10, 40, 50)], [(("moved",), "cat", "cat")]),
        ([item("dog", 10, 10, 40, 50)], [(("relabelled",), "cat", "dog")]),
        ([item("dog", 20, 20, 40, 50)], [(("relabelled", "moved"), "cat", "dog")]),
        ([item("cat", 10, 10, 40, 50, difficult=True)], [(("reflagged",), "cat", "cat")]),
        ([], [(("removed",), "cat", None)]),
        ([CAT, CAT], [(("added",), None, "cat")]),
        (
            [item("cat", 60, 100, 90, 150)],
            [(("removed",), "cat", None), (("added",), None, "cat")],
        ),
        # What stands in its place comes before what overlaps and has the right class.
        (
            [item("dog", 10, 10, 40, 50), item("cat", 15, 10, 45, 50)],
            [(("relabelled",), "cat", "dog"), (("added",), None, "cat")],
        ),
        # What has moved keeps its class where it can.
        (
            [item("dog", 12, 12, 42, 52), item("cat", 16, 10, 46, 50)],
            [(("moved",), "cat", "cat"), (("added",), None, "dog")],
        ),
    ],
)
def test_what_became_of_an_object(new, expected):
    assert tell([CAT], new) == expected


def test_a_thin_box_that_moved_by_a_pixel_is_in_its_place():
    assert tell([item("cat", 10, 10, 11, 11)], [item("cat", 11, 11, 12, 12)]) == []


def test_the_distance_is_in_pixels_of_the_image():
    [change] = compare_objects([CAT], [item("cat", 10, 10, 40, 56.5)], SIZE)
    assert change.pixels == pytest.approx(6.5, abs=1e-4)


boxes = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 6), st.integers(1, 6)).map(
    lambda b: (b[0] * 10, b[1] * 20, b[0] * 10 + b[2] * 6, b[1] * 20 + b[3] * 12)
)
objects = st.lists(st.builds(lambda n, b: item(n, *b), st.sampled_from("ab"), boxes), max_size=6)


@given(objects, objects)
def test_every_object_is_accounted_for_once(old, new):
    found = compare_objects(old, new, SIZE)
    added = sum(Change.ADDED in one.changes for one in found)
    removed = sum(Change.REMOVED in one.changes for one in found)
    assert len(old) - removed == len(new) - added
    assert (found == []) <= (len(old) == len(new))
    # The same in the other direction, with added and removed exchanged.
    back = compare_objects(new, old, SIZE)
    assert sum(Change.ADDED in one.changes for one in back) == removed
    assert compare_objects(old, old, SIZE) == []


def test_each_of_a_crowd_keeps_its_partner():
    places = [(x * 3, y * 6) for x in range(30) for y in range(30)]
    old = [item("cat", x, y, x + 2.5, y + 5) for x, y in places]
    new = [item("cat", x, y + 1.5, x + 2.5, y + 6.5) for x, y in places]
    found = compare_objects(old, new, SIZE)
    assert len(found) == 900
    assert {one.changes for one in found} == {(Change.MOVED,)}
    assert all(one.old.box[1] == one.new.box[1] for one in found)
