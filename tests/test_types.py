import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.types import Box, CornerFrame, ImageSize

sides = st.integers(1, 20_000)


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


@pytest.mark.parametrize(
    ("frame", "whole", "part"),
    [
        (CornerFrame.VOC, (1, 1, 640, 480), (161, 241, 320, 480)),
        (CornerFrame.ZERO_BASED, (0, 0, 640, 480), (160, 240, 320, 480)),
        (CornerFrame.FRACTIONS, (0.0, 0.0, 1.0, 1.0), (0.25, 0.5, 0.5, 1.0)),
    ],
)
def test_each_frame_has_the_same_boxes(frame, whole, part):
    size = ImageSize(640, 480)
    assert Box.normalise(whole, size, frame) == (0.0, 0.0, 1.0, 1.0)
    assert Box.normalise(part, size, frame) == (0.5, 0.25, 1.0, 0.5)
    assert Box.to_edges(whole, size, frame) == (0.0, 0.0, 640.0, 480.0)
    assert Box.to_edges(part, size, frame) == (160.0, 240.0, 320.0, 480.0)


def test_iou():
    box = Box(0.0, 0.0, 0.5, 0.5)
    assert box.iou(box) == 1.0
    assert box.iou(Box(0.5, 0.5, 1.0, 1.0)) == 0.0
    assert box.iou(Box(0.0, 0.25, 0.5, 0.75)) == pytest.approx(1 / 3)
