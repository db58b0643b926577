import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from detflow.models import preprocess

pytestmark = pytest.mark.tf


def picture(height, width, seed=0):
    noise = np.random.default_rng(seed).integers(
        0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8
    )
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def test_jpeg_pixels_are_pillows():
    file = io.BytesIO()
    Image.fromarray(picture(61, 83)).save(file, "JPEG", quality=85)
    expected = np.asarray(Image.open(io.BytesIO(file.getvalue())))
    np.testing.assert_array_equal(preprocess.decode_jpeg(tf.constant(file.getvalue())), expected)


@pytest.mark.parametrize(
    ("size", "ratio"),
    [
        ((48, 64), (1.0, 1.0)),
        ((96, 64), (1.0, 0.5)),
        ((48, 128), (0.5, 1.0)),
        ((1, 1), (1.0, 0.75)),
    ],
)
def test_images_keep_their_aspect(size, ratio):
    canvases, found = preprocess.fit_to_canvas(picture(*size)[np.newaxis], (48, 64))
    assert canvases.shape == (1, 48, 64, 3)
    np.testing.assert_allclose(found, ratio)
    padding = canvases[0].numpy()[round(48 * ratio[0]) :, round(64 * ratio[1]) :]
    np.testing.assert_allclose(preprocess.normalize(padding), 0.0, atol=1e-5)


def test_resizing_is_pillows_antialiased_bilinear():
    image = picture(300, 400)
    canvases, _ = preprocess.fit_to_canvas(image[np.newaxis], (96, 128))
    expected = np.asarray(
        Image.fromarray(image).resize((128, 96), Image.Resampling.BILINEAR), np.float32
    )
    assert np.abs(canvases[0].numpy() - expected).max() < 1.5


def test_a_canvas_that_the_image_chooses_is_filled_as_a_fixed_one():
    image, sizes = picture(60, 41)[np.newaxis], [(48, 64), (64, 48)]
    fit = tf.function(
        lambda images: preprocess.fit_to_canvas(images, preprocess.choose_canvas(images, sizes))
    )
    for found, expected in zip(fit(image), preprocess.fit_to_canvas(image, (64, 48)), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_canvas_can_be_far_thinner_than_its_image():
    canvases, ratio = preprocess.fit_to_canvas(picture(3, 2000)[np.newaxis], (32, 32))
    assert canvases.shape == (1, 32, 32, 3)
    np.testing.assert_allclose(ratio, (1 / 32, 1.0))


def test_boxes_go_to_the_canvas_and_back():
    boxes = tf.constant([[[0.1, 0.2, 0.5, 0.9]]])
    ratio = tf.constant([0.5, 1.0])
    on_canvas = preprocess.boxes_to_canvas(boxes, ratio)
    np.testing.assert_allclose(on_canvas, [[[0.05, 0.2, 0.25, 0.9]]], atol=1e-6)
    np.testing.assert_allclose(preprocess.boxes_to_image(on_canvas, ratio), boxes, atol=1e-6)


def test_what_lies_in_the_padding_is_clipped_to_the_image():
    clipped = preprocess.boxes_to_image(
        tf.constant([[0.4, 0.4, 0.9, 0.9]]), tf.constant([0.5, 1.0])
    )
    np.testing.assert_allclose(clipped, [[0.8, 0.4, 1.0, 0.9]], atol=1e-6)
