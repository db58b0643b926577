import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.errors import DataError
from detflow.label_map import LabelMap
from detflow.types import Box, ImageSize

sides = st.integers(1, 20_000)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@pytest.mark.parametrize(
    "corners",
    [
        (9.0, 0.0, 3.0, 5.0),
        (0.2, 0.2, 0.2, 0.4),
        (-0.1, 0.0, 0.5, 0.5),
        (0.0, 0.0, 1.1, 1.0),
        (math.nan, 0.0, 0.5, 0.5),
        (0.0, 0.0, math.inf, 0.5),
    ],
)
def test_a_box_that_makes_no_sense_cannot_exist(corners):
    with pytest.raises(ValueError, match="expected 0 <= min < max <= 1"):
        Box(*corners)


def test_voc_corners_are_one_based_and_inclusive():
    size = ImageSize(640, 480)
    assert Box.from_voc(1, 1, 640, 480, size) == Box(0.0, 0.0, 1.0, 1.0)
    assert Box.from_voc(385, 98, 523, 198, size) == Box(97 / 480, 384 / 640, 198 / 480, 523 / 640)


@given(st.data(), sides, sides)
def test_voc_corners_survive_the_round_trip(data, width, height):
    size = ImageSize(width, height)
    xmin = data.draw(st.integers(1, width))
    ymin = data.draw(st.integers(1, height))
    xmax = data.draw(st.integers(xmin, width))
    ymax = data.draw(st.integers(ymin, height))
    assert Box.from_voc(xmin, ymin, xmax, ymax, size).to_voc(size) == pytest.approx(
        (xmin, ymin, xmax, ymax), abs=1e-6
    )


def test_iou():
    box = Box(0.0, 0.0, 0.5, 0.5)
    assert box.iou(box) == 1.0
    assert box.iou(Box(0.5, 0.5, 1.0, 1.0)) == 0.0
    assert box.iou(Box(0.0, 0.25, 0.5, 0.75)) == pytest.approx(1 / 3)


def test_label_map_ids_start_at_one():
    label_map = LabelMap(("cat", "dog"))
    assert label_map.id_of("dog") == 2
    assert label_map.name_of(1) == "cat"
    with pytest.raises(KeyError):
        label_map.name_of(0)
    with pytest.raises(KeyError):
        label_map.id_of("bird")


def test_label_map_text_is_the_conventional_form():
    assert (
        LabelMap(("cat", "it's")).to_pbtxt()
        == "item {\n  id: 1\n  name: 'cat'\n}\nitem {\n  id: 2\n  name: 'it\\'s'\n}\n"
    )


@given(st.lists(names, max_size=5, unique=True))
def test_label_map_survives_the_round_trip(class_names):
    label_map = LabelMap(tuple(class_names))
    assert LabelMap.from_pbtxt(label_map.to_pbtxt()) == label_map


def test_foreign_label_maps_are_read():
    text = '# ours\nitem { name: "a }" id: 2 display_name: "A" }\nitem: {\n id: 1, name: \'b\'\n}\n'
    assert LabelMap.from_pbtxt(text) == LabelMap(("b", "a }"))


@pytest.mark.parametrize(
    "text",
    [
        "item { id: 1 }",
        "item { name: 'a' }",
        "item { id: x name: 'a' }",
        "item { id: 2 name: 'a' }",
        "item { id: 1 name: 'a' } item { id: 1 name: 'b' }",
        "item { id: 1 name: 'a' } item { id: 2 name: 'a' }",
        "item { id: 1 name: 'a' } rubbish",
        "item { id: 1 name: 'a'",
        "item { id: 1 name: '' }",
    ],
)
def test_a_broken_label_map_is_refused_with_its_path(text):
    with pytest.raises(DataError, match=r"^map\.pbtxt"):
        LabelMap.from_pbtxt(text, "map.pbtxt")
