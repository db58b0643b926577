"""Images of several sizes and aspects, on the canvases of one model."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from detflow.artifact import OUTPUT_NAMES
from detflow.inference.serving import ServingModel
from detflow.models.build import build_model

pytestmark = pytest.mark.tf

# Landscape, portrait, square, and what is thinner than any canvas.
SIZES = [(72, 96), (90, 60), (50, 50), (1, 300)]


@pytest.fixture(scope="module")
def trained(trained_canvases):
    return trained_canvases


@pytest.fixture(scope="module")
def of_canvas(trained):
    """Returns the model of one canvas alone, with the same weights."""

    @functools.cache
    def build(canvas):
        config = trained.config.model.model_copy(
            update={"input_size": canvas, "more_input_sizes": ()}
        )
        alone = build_model(config, len(trained.label_map))
        alone.network.set_weights(trained.serving.model.network.get_weights())
        return ServingModel(alone, trained.serving.config)

    return build


def draw(height, width, seed=1):
    coarse = np.random.default_rng(seed).integers(
        0, 256, (height // 9 + 1, width // 9 + 1, 3), np.uint8
    )
    return np.repeat(np.repeat(coarse, 9, 0), 9, 1)[:height, :width]


@pytest.mark.parametrize(
    ("size", "canvas"), list(zip(SIZES, [(64, 96), (96, 64), (64, 96), (64, 96)], strict=True))
)
def test_an_image_is_detected_on_as_by_a_model_of_its_canvas_alone(
    trained, of_canvas, size, canvas
):
    images = np.stack([draw(*size), draw(*size, seed=2)])
    expected = of_canvas(canvas).detect_traced(images)
    found = trained.serving.detect_traced(images)
    assert (expected["num_detections"].numpy().max() > 0) == (min(size) > 1)
    for name in OUTPUT_NAMES:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-5, err_msg=name)


def test_files_of_all_canvases_go_together_and_none_minds_the_others(trained):
    pictures = [draw(*size) for size in SIZES]
    files = [tf.io.encode_png(picture).numpy() for picture in pictures]
    together = trained.serving.detect_encoded_traced(files)
    for row, picture in enumerate(pictures):
        alone = trained.serving.detect_traced(picture[np.newaxis])
        for name in OUTPUT_NAMES:
            np.testing.assert_allclose(
                # A batch's sums are added in another order: the last bits differ.
                together[name][row],
                alone[name][0],
                rtol=0,
                atol=1e-5,
                err_msg=name,
            )
    nothing = trained.serving.detect_encoded_traced(tf.constant([], tf.string))
    limit = trained.serving.config.max_detections
    assert [nothing[name].shape for name in OUTPUT_NAMES] == [
        (0, limit, 4),
        (0, limit),
        (0, limit),
        (0,),
    ]
