"""Int8 arithmetic in float training: the forward pass rounds what a TFLite file will round.

"Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"
(arXiv:1712.05877), by TFLite's rules for int8: a kernel has a symmetric range for each output
channel, a convolution's input one range for all channels, zero within.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras

from detflow.models import preprocess

Rounding = Callable[[tf.Tensor], tf.Tensor]

# An input that is zero throughout still needs a range.
_LEAST_RANGE = 1e-6
# A kernel whose channel is all zeros has a range of zero.
_LEAST_KERNEL = 1e-12


def fake_quantized(
    network: tf_keras.Model, canvases: Iterable[npt.NDArray[np.uint8]]
) -> tf_keras.Model:
    """Makes a network whose convolutions compute with rounded kernels and rounded inputs.

    Kernels and inputs of every Conv2D, DepthwiseConv2D and SeparableConv2D have 8 bits, and so has
    what lies between the two halves of the last one. Ranges of kernels follow the kernels, those of
    inputs are measured here and stay. A batch norm behind a convolution scales whole channels, so
    that the kernel rounds as it will once the norm is folded into it. Gradients pass the rounding
    as if it were not there, but for inputs outside of their range, whose gradient is zero.

    Args:
        network: From normalised canvases [B, height, width, 3] float32. It is not changed.
        canvases: Each [1, height, width, 3], the same size for all, pixel values; what the
            converter measures its ranges on.

    Returns:
        A network with the same input, outputs and variables, none of its own: whatever trains it
        trains `network`.

    Raises:
        ValueError: There are no canvases.
    """
    return _FakeQuantized(network, _measure_ranges(network, canvases))


def round_kernels(network: tf_keras.Model) -> None:
    """Gives convolutions the rounded kernels that a `fake_quantized` network computes with.

    A small weight beside a large one is rounded to zero and learns nothing but noise from then on.
    In floats that noise would count: a converter that measures its ranges in floats would find
    ranges that int8 never has. Rounding once more changes nothing.
    """
    for layer in _list_convolutions(network):
        if isinstance(layer, tf_keras.layers.Conv2D):
            layer.kernel.assign(_round_kernel(layer.kernel))
        else:
            layer.depthwise_kernel.assign(_round_depthwise(layer.depthwise_kernel, _round_kernel))
            if isinstance(layer, tf_keras.layers.SeparableConv2D):
                layer.pointwise_kernel.assign(_round_kernel(layer.pointwise_kernel))


class _FakeQuantized(tf_keras.Model):  # type: ignore[misc]
    """The network that `fake_quantized` makes.

    Args:
        network: From normalised canvases [B, height, width, 3].
        ranges: [N, 2], the least and the largest input of each convolution, in the order in which
            the network computes them.
    """

    def __init__(self, network: tf_keras.Model, ranges: npt.NDArray[np.float32]) -> None:
        super().__init__(name=network.name)
        self._exact = network
        self._ranges = [(float(low), float(high)) for low, high in ranges]

    def call(self, canvases: tf.Tensor, training: bool | None = None) -> object:
        """Runs the network on normalised canvases [B, height, width, 3]."""
        ranges = iter(self._ranges)

        def round_inputs(values: tf.Tensor) -> tf.Tensor:
            low, high = next(ranges)
            return tf.quantization.fake_quant_with_min_max_args(values, low, high)

        with _convolutions(self._exact, round_inputs, _round_kernel):
            outputs = self._exact(canvases, training=training)
        if next(ranges, None) is not None:
            raise RuntimeError(
                "the network left out a convolution whose input has a measured range"
            )
        return outputs


def _measure_ranges(
    network: tf_keras.Model, canvases: Iterable[npt.NDArray[np.uint8]]
) -> npt.NDArray[np.float32]:
    """Returns the least and the largest input of each convolution, zero included.

    They are [N, 2], in the order in which the network computes the convolutions.
    """

    def run(canvas: tf.Tensor) -> tf.Tensor:
        seen: list[tf.Tensor] = []

        def watch(values: tf.Tensor) -> tf.Tensor:
            seen.append(tf.stack([tf.reduce_min(values), tf.reduce_max(values)]))
            return values

        with _convolutions(network, watch, lambda kernel: kernel):
            network(preprocess.normalize(canvas), training=False)
        return tf.stack(seen)

    measure = tf.function(run, autograph=False, reduce_retracing=True)
    found = np.stack([measure(canvas).numpy() for canvas in canvases])
    low, high = np.minimum(found[..., 0].min(0), 0.0), np.maximum(found[..., 1].max(0), 0.0)
    return np.stack([low, np.maximum(high, low + _LEAST_RANGE)], 1).astype(np.float32)


@contextlib.contextmanager
def _convolutions(
    network: tf_keras.Model, round_inputs: Rounding, round_kernel: Rounding
) -> Iterator[None]:
    """Replaces inputs and kernels of the network's convolutions inside the block.

    Args:
        network: The network.
        round_inputs: Makes the new inputs; it is called for one convolution after the other.
        round_kernel: Makes the new kernels.
    """
    layers = _list_convolutions(network)
    for layer in layers:
        layer.call = _rounded_call(layer, round_inputs, round_kernel)
    try:
        yield
    finally:
        for layer in layers:
            # Without the attribute the method of the class counts again.
            del layer.call


_CONVOLUTIONS = (
    tf_keras.layers.Conv2D,
    tf_keras.layers.DepthwiseConv2D,
    tf_keras.layers.SeparableConv2D,
)


def _list_convolutions(network: tf_keras.Model) -> list[tf_keras.layers.Layer]:
    """Returns the convolutions that a network computes.

    Model Garden's blocks that expand nothing hold a convolution that they never run, and which has
    no kernel.
    """
    return [
        layer for layer in network.submodules if isinstance(layer, _CONVOLUTIONS) and layer.built
    ]


def _rounded_call(
    layer: tf_keras.layers.Layer, round_inputs: Rounding, round_kernel: Rounding
) -> Rounding:
    def call(inputs: tf.Tensor) -> tf.Tensor:
        if isinstance(layer, tf_keras.layers.Conv2D):
            outputs = layer.convolution_op(round_inputs(inputs), round_kernel(layer.kernel))
        else:
            outputs = tf.nn.depthwise_conv2d(
                round_inputs(inputs),
                _round_depthwise(layer.depthwise_kernel, round_kernel),
                strides=(1, *layer.strides, 1),
                padding=layer.padding.upper(),
                dilations=layer.dilation_rate,
            )
        if isinstance(layer, tf_keras.layers.SeparableConv2D):
            outputs = tf.nn.conv2d(
                round_inputs(outputs),
                round_kernel(layer.pointwise_kernel),
                strides=1,
                padding="VALID",
            )
        if layer.use_bias:
            outputs = tf.nn.bias_add(outputs, layer.bias)
        return outputs if layer.activation is None else layer.activation(outputs)

    return call


def _round_depthwise(kernel: tf.Tensor, round_kernel: Rounding) -> tf.Tensor:
    """Each pair of input channel and multiplier is an output channel."""
    height, width, channels, multiplier = kernel.shape
    return tf.reshape(
        round_kernel(tf.reshape(kernel, [height, width, channels * multiplier])), kernel.shape
    )


def _round_kernel(kernel: tf.Tensor) -> tf.Tensor:
    """Rounds each channel of the last axis to 254 steps, up to the channel's largest value."""
    kernel = tf.convert_to_tensor(kernel)
    largest = tf.stop_gradient(
        tf.maximum(
            tf.reduce_max(tf.abs(kernel), axis=list(range(kernel.shape.rank - 1))), _LEAST_KERNEL
        )
    )
    rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
        kernel, -largest, largest, narrow_range=True
    )
    # The operation's own gradient is zero where its last step falls a rounding error short of the
    # largest value.
    return kernel + tf.stop_gradient(rounded - kernel)
