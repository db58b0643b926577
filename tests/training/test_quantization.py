"""fake_quantized rounds as the converter does, and trains the network that it was given."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter

from detflow.models import preprocess
from detflow.process.quiet import native_stderr_closed
from detflow.training.quantization import fake_quantized, round_kernels

pytestmark = pytest.mark.tf

SIZE = (32, 32)


def build_network():
    """Every kind of convolution, one used twice, with a batch norm that the converter folds."""
    layers = tf_keras.layers
    images = tf_keras.Input((*SIZE, 3))
    values = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="first")(images)
    values = layers.ReLU()(layers.BatchNormalization(name="norm")(values))
    values = layers.DepthwiseConv2D(
        3, depth_multiplier=2, padding="same", activation="relu", name="depthwise"
    )(values)
    values = layers.SeparableConv2D(16, 3, padding="same", activation="relu", name="separable")(
        values
    )
    shared = layers.Conv2D(16, 1, name="shared")
    network = tf_keras.Model(images, shared(tf_keras.activations.relu(shared(values))))
    # As in Model Garden's blocks that expand nothing: it is never run and has no kernel.
    network.spare = layers.Conv2D(4, 1)
    return network


@pytest.fixture(scope="module")
def network():
    tf_keras.utils.set_random_seed(2)
    network = build_network()
    random = np.random.default_rng(4)
    norm = network.get_layer("norm")
    # A negative factor turns a channel of the folded kernel round.
    norm.set_weights(
        [
            random.choice([-1.5, 0.2, 1.0, 3.0], 8),
            random.normal(0, 1, 8),
            random.normal(0, 0.3, 8),
            np.ones(8),
        ]
    )
    return network


@pytest.fixture(scope="module")
def canvases():
    random = np.random.default_rng(3)
    coarse = random.integers(0, 256, (12, 1, 8, 8, 3), np.uint8)
    return list(np.kron(coarse, np.ones((1, 1, 4, 4, 1), np.uint8)))


@pytest.fixture(scope="module")
def rounded(network, canvases):
    return fake_quantized(network, canvases)


def convert(network, canvases):
    """Returns a function from a canvas to int8 outputs, and the size of a step of these."""
    run = tf.function(lambda image: network(image, training=False), autograph=False)
    function = run.get_concrete_function(tf.TensorSpec([1, *SIZE, 3], tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], network)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        [preprocess.normalize(canvas)] for canvas in canvases
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_output_type = tf.int8
    with native_stderr_closed():
        interpreter = Interpreter(model_content=converter.convert())
    interpreter.allocate_tensors()
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    step, zero = output["quantization"]

    def detect(canvas):
        interpreter.set_tensor(image["index"], preprocess.normalize(canvas).numpy())
        interpreter.invoke()
        return (interpreter.get_tensor(output["index"]).astype(np.float32) - zero) * step

    return detect, step


def outputs(run, canvases):
    return np.concatenate([run(canvas) for canvas in canvases])


def test_it_computes_what_the_converted_file_computes(network, rounded, canvases):
    detect, step = convert(network, canvases)
    actual = outputs(detect, canvases)
    found = outputs(
        lambda canvas: rounded(preprocess.normalize(canvas), training=False).numpy(), canvases
    )
    in_floats = outputs(
        lambda canvas: network(preprocess.normalize(canvas), training=False).numpy(), canvases
    )
    # The file's outputs are rounded, and that is all: sums that end halfway between two steps may
    # go either way on their way there.
    assert np.quantile(np.abs(found - actual), 0.99) < 0.51 * step
    assert np.abs(found - actual).max() < 2 * step
    assert np.quantile(np.abs(in_floats - actual), 0.99) > step


def test_its_variables_are_those_of_the_network(network, rounded):
    assert {id(variable) for variable in rounded.variables} == {
        id(variable) for variable in network.variables
    }
    assert [id(one) for one in rounded.trainable_variables] == [
        id(one) for one in network.trainable_variables
    ]


def test_the_network_itself_stays_as_it_is(network, canvases):
    image = preprocess.normalize(canvases[0])
    before = network(image, training=False).numpy()
    fake_quantized(network, canvases)(image, training=False)
    np.testing.assert_array_equal(network(image, training=False), before)


def test_gradients_pass_as_if_nothing_was_rounded(network, rounded, canvases):
    images = preprocess.normalize(np.concatenate(canvases))

    def differentiate(run):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(run(images, training=False)))
        return tape.gradient(loss, network.trainable_variables)

    for variable, one, other in zip(
        network.trainable_variables, differentiate(network), differentiate(rounded), strict=True
    ):
        one, other = one.numpy().ravel(), other.numpy().ravel()
        assert one @ other > 0.98 * np.linalg.norm(one) * np.linalg.norm(other) > 0, variable.name


def test_ranges_are_those_of_the_canvases(network, rounded, canvases):
    images = preprocess.normalize(np.concatenate(canvases))
    low, high = float(tf.reduce_min(images)), float(tf.reduce_max(images))
    far = tf.Variable(3.0 * images)
    with tf.GradientTape() as tape:
        values = rounded(far, training=False)
    np.testing.assert_allclose(
        values, rounded(tf.clip_by_value(far, low, high), training=False), atol=1e-5
    )
    gradient = tape.gradient(values, far).numpy()
    inside = (far.numpy() > low + 0.1) & (far.numpy() < high - 0.1)
    outside = (far.numpy() < low - 0.1) | (far.numpy() > high + 0.1)
    assert not gradient[outside].any()
    assert (gradient[inside] != 0).mean() > 0.9


def test_without_canvases_there_are_no_ranges(network):
    with pytest.raises(ValueError, match="at least one"):
        fake_quantized(network, [])


def test_a_channel_of_zeros_stays_zero(canvases):
    convolution = tf_keras.layers.Conv2D(2, 1, use_bias=False)
    network = tf_keras.Sequential([tf_keras.Input((*SIZE, 3)), convolution])
    convolution.kernel.assign(convolution.kernel * [0.0, 1.0])
    values = fake_quantized(network, canvases)(preprocess.normalize(canvases[0])).numpy()
    assert np.isfinite(values).all()
    assert not values[..., 0].any()
    assert values[..., 1].any()


def test_rounded_kernels_are_those_that_it_computes_with(canvases):
    tf_keras.utils.set_random_seed(5)
    network = build_network()
    rounded, image = fake_quantized(network, canvases), preprocess.normalize(canvases[0])
    before = rounded(image, training=False).numpy()
    weights = [variable.numpy() for variable in network.variables]
    round_kernels(network)
    np.testing.assert_allclose(rounded(image, training=False), before, atol=1e-6)
    for variable, value in zip(network.variables, weights, strict=True):
        is_kernel = "kernel" in variable.name
        assert (variable.numpy() != value).any() == is_kernel, variable.name
        if is_kernel:
            channels = variable.numpy().reshape(
                -1, np.prod(value.shape[2:] if "depthwise" in variable.name else value.shape[3:])
            )
            steps = channels / (np.abs(channels).max(0) / 127)
            np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
