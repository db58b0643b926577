import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.geometry import (
    boxes_to_image,
    choose_canvas,
    fit_to_canvas,
    fitted_size,
    pairwise_iou,
)
from detflow.types import Box

SIZES = [
    (1, 1),
    (1, 400),
    (37, 20),
    (48, 64),
    (64, 48),
    (300, 500),
    (1000, 37),
    (481, 640),
    (40, 9000),
    (3000, 1),
]


@pytest.mark.tf
@pytest.mark.parametrize("canvas_size", [(48, 64), (96, 96)])
@pytest.mark.parametrize("size", SIZES)
def test_the_canvas_is_the_engine_s(size, canvas_size):
    from detflow.models import preprocess

    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    canvases, ratio = fit_to_canvas(images, canvas_size)
    expected, expected_ratio = preprocess.fit_to_canvas(images, canvas_size)
    assert (canvases.shape, canvases.dtype) == ((2, *canvas_size, 3), np.float32)
    np.testing.assert_allclose(canvases, expected, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(ratio, expected_ratio)
    boxes = np.random.default_rng(1).uniform(-0.2, 1.2, (5, 4)).astype(np.float32)
    np.testing.assert_array_equal(
        boxes_to_image(boxes, ratio), preprocess.boxes_to_image(boxes, ratio)
    )


@pytest.mark.parametrize(
    ("size", "chosen"),
    [
        ((480, 640), 0),
        ((640, 480), 1),
        ((100, 100), 2),
        ((1, 4000), 3),
        ((4000, 1), 1),
        ((3, 4), 0),
    ],
)
def test_an_image_takes_the_canvas_in_which_it_is_largest(size, chosen):
    assert choose_canvas(size, [(192, 256), (256, 192), (224, 224), (160, 320)]) == chosen
    assert choose_canvas(
        [size, (480, 640)], [(192, 256), (256, 192), (224, 224), (160, 320)]
    ).tolist() == [chosen, 0]


def test_of_canvases_that_show_an_image_equally_large_it_takes_the_first():
    assert choose_canvas((50, 50), [(192, 256), (256, 192)]) == 0
    assert choose_canvas((50, 50), [(256, 192), (192, 256)]) == 0


Size = st.tuples(st.integers(1, 20_000), st.integers(1, 20_000))


@pytest.mark.tf
@given(
    Size,
    st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=2, max_size=4, unique=True),
)
def test_the_engine_chooses_the_same_canvas(size, cells):
    import tensorflow as tf

    from detflow.models import preprocess

    canvas_sizes = [(32 * height, 32 * width) for height, width in cells]
    found = preprocess.choose_canvas(tf.zeros([0, *size, 3]), canvas_sizes)
    assert tuple(found.numpy()) == canvas_sizes[choose_canvas(size, canvas_sizes)]


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((10, 10), (48, 48)),
        ((100, 50), (48, 24)),
        ((50, 400), (8, 64)),
        ((1, 4000), (1, 64)),
        ((48, 64), (48, 64)),
    ],
)
def test_the_aspect_is_kept(size, fitted):
    assert fitted_size(size, (48, 64)) == fitted


def test_an_image_of_the_canvas_size_is_passed_on_as_it_is():
    images = np.random.default_rng(0).integers(0, 256, (1, 48, 64, 3), np.uint8)
    canvases, ratio = fit_to_canvas(images, (48, 64))
    np.testing.assert_array_equal(canvases, images)
    assert ratio.tolist() == [1.0, 1.0]


Corners = st.tuples(*[st.integers(0, 6)] * 4)
Boxes = st.lists(Corners, max_size=4)


@given(Boxes, Boxes)
def test_the_overlap_of_each_pair_is_that_of_the_two_boxes_and_0_without_area(boxes, others):
    overlaps = pairwise_iou(boxes, others)
    assert (overlaps.shape, overlaps.dtype) == ((len(boxes), len(others)), np.float64)
    for row, box in zip(overlaps, boxes, strict=True):
        for overlap, other in zip(row, others, strict=True):
            if all(top < bottom and left < right for top, left, bottom, right in (box, other)):
                first, second = (Box(*(edge / 6 for edge in corners)) for corners in (box, other))
                assert overlap == pytest.approx(first.iou(second))
            else:
                assert overlap == 0.0
