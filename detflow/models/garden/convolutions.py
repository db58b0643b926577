"""The convolutions of a mobile backbone in the order of the computation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf
import tf_keras


class ConvolutionLayers(NamedTuple):
    """A convolution and the batch norm behind it.

    Attributes:
        convolution: Conv2D or DepthwiseConv2D, without a bias.
        norm: BatchNormalization.
    """

    convolution: tf_keras.layers.Layer
    norm: tf_keras.layers.BatchNormalization

    @property
    def kernel(self) -> tf.Variable:
        """[height, width, in, out], or [height, width, channels, 1] where each is by itself."""
        if isinstance(self.convolution, tf_keras.layers.DepthwiseConv2D):
            return self.convolution.depthwise_kernel
        return self.convolution.kernel


def list_convolutions(backbone: tf_keras.Model) -> list[ConvolutionLayers]:
    """Returns the convolutions of a MobileNet or an EfficientNet, from the stem to the last one."""
    return list(_walk(backbone))


def _walk(backbone: tf_keras.Model) -> Iterator[ConvolutionLayers]:
    waiting: tf_keras.layers.Layer | None = None
    for layer in backbone.layers:
        if isinstance(layer, tf_keras.layers.Conv2D):
            waiting = layer
        elif isinstance(layer, tf_keras.layers.BatchNormalization) and waiting is not None:
            yield ConvolutionLayers(waiting, layer)
        else:
            # A block of Model Garden's that does not widen its input has its first convolution all
            # the same, but never builds it.
            for number in range(3):
                convolution = getattr(layer, f"_conv{number}", None)
                if convolution is not None and convolution.built:
                    yield ConvolutionLayers(convolution, getattr(layer, f"_norm{number}"))
