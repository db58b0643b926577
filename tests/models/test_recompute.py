import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detflow.models.build import build_model
from detflow.models.precision import network_precision
from detflow.models.recompute import recompute_blocks

pytestmark = [pytest.mark.tf, pytest.mark.whole_network]


def differentiate(config, precision, *, recompute):
    """Returns the gradients, and all variables after the pass."""
    tf_keras.utils.set_random_seed(1)
    with network_precision(precision):
        model = build_model(config, 2)
    if recompute:
        assert recompute_blocks(model.parts) == 4
    variables = model.network.trainable_variables
    canvases = tf.random.stateless_normal([4, *config.input_size, 3], [1, 2])
    boxes, classes = tf.tile([[[0.1, 0.2, 0.6, 0.8]]], [4, 1, 1]), tf.constant([[0], [1], [0], [1]])

    @tf.function(autograph=False)
    def run():
        with tf.GradientTape() as tape:
            total = model.losses(canvases, boxes, classes, tf.constant([1, 0], tf.int64)).total
        return tape.gradient(total, variables, unconnected_gradients="zero")

    return run(), model.network.variables


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.soak)])
def test_gradients_and_statistics_are_those_of_the_plain_pass(tiny_config, precision):
    config = tiny_config().model
    gradients, variables = differentiate(config, precision, recompute=False)
    recomputed, variables_after = differentiate(config, precision, recompute=True)
    for expected, gradient in zip(gradients, recomputed, strict=True):
        difference = np.linalg.norm(gradient - expected)
        # bfloat16 rounds sums, whose order the compiler chooses.
        assert difference <= (1e-5 if precision == "float32" else 0.05) * np.linalg.norm(expected)
    for expected, value in zip(variables, variables_after, strict=True):
        np.testing.assert_array_equal(value, expected, err_msg=value.name)
