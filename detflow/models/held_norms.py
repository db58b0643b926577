"""Batch norms that keep the statistics they have, computed inside the convolutions before them.

A batch norm whose statistics stay is a factor and an offset of each channel. The factor goes into
the convolution's kernel, which is small beside the images, and the offset is added with the bias:
TensorFlow then computes convolution, offset and activation as one operation, and the backward pass
has no norm to pass. Factor and offset still train, and a network computes what it computed before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

from detflow.models.garden.convolutions import ConvolutionLayers, list_convolutions


def hold_statistics(part: tf_keras.Model) -> int:
    """Makes the batch norms of a part compute with the statistics that they have, from now on.

    Where a kernel does not train, the factor of the norm behind it does not either: its gradient
    would cost as much as the kernel's.

    Args:
        part: Of a network, not yet traced. What does not train in it is known.

    Returns:
        How many batch norms there are.
    """
    norms = [
        layer
        for layer in part.submodules
        if isinstance(layer, tf_keras.layers.BatchNormalization) and layer.built
    ]
    folded = {id(pair.norm): pair for pair in list_convolutions(part) if _can_fold(pair)}
    for norm in norms:
        pair = folded.get(id(norm))
        if pair is None:
            norm.call = _with_held_statistics(norm)
        else:
            pair.convolution.call = _folded_convolution(pair)
            norm.call = _identity
    return len(norms)


def _can_fold(pair: ConvolutionLayers) -> bool:
    convolution = pair.convolution
    return (
        isinstance(pair.norm, tf_keras.layers.BatchNormalization)
        and not convolution.use_bias
        and convolution.activation is tf_keras.activations.linear
        and convolution.data_format == "channels_last"
        and convolution.groups == 1
        and set(convolution.dilation_rate) == {1}
    )


def _folded_convolution(pair: ConvolutionLayers) -> Callable[[tf.Tensor], tf.Tensor]:
    convolution, norm = pair
    is_depthwise = isinstance(convolution, tf_keras.layers.DepthwiseConv2D)
    padding = convolution.padding.upper()

    def compute(images: tf.Tensor) -> tf.Tensor:
        factor = norm.gamma * tf.math.rsqrt(norm.moving_variance + norm.epsilon)
        if not convolution.trainable:
            factor = tf.stop_gradient(factor)
        folded = tf.cast(pair.kernel, factor.dtype) * (
            factor[:, tf.newaxis] if is_depthwise else factor
        )
        offset = norm.beta - norm.moving_mean * factor
        folded, offset = (tf.cast(value, images.dtype) for value in (folded, offset))
        if is_depthwise:
            strides = (1, *convolution.strides, 1)
            maps = tf.nn.depthwise_conv2d(images, folded, strides, padding)
        elif convolution.groups == 1 and {*convolution.kernel_size, *convolution.strides} == {1}:
            return _multiply(images, folded[0, 0], offset)
        else:
            maps = tf.nn.conv2d(images, folded, convolution.strides, padding)
        return tf.nn.bias_add(maps, offset)

    return compute


def _multiply(images: tf.Tensor, matrix: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """Computes a convolution of single pixels as the product of two matrices.

    It is the same, and the gradient of a matrix takes three quarters of the time of a kernel's: a
    step with the weights of a mobile network is an eighth faster.
    """
    rows = (tf.unstack(tf.shape(images)) if None in images.shape[1:] else images.shape)[:-1]
    maps = tf.matmul(tf.reshape(images, [-1, matrix.shape[0]]), matrix)
    size = [-1, *rows[1:], matrix.shape[1]]
    return tf.reshape(tf.nn.bias_add(maps, offset), size)


def _with_held_statistics(norm: tf_keras.layers.BatchNormalization) -> Callable[..., Any]:
    compute = norm.call

    def call(inputs: tf.Tensor, training: bool | None = None) -> Any:
        return compute(inputs, training=False)

    return call


def _identity(inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
    return inputs
