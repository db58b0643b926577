"""Gradient checkpointing: a block's activations are computed twice instead of kept.

The second time is in the backward pass. This is "Training Deep Nets with Sublinear Memory Cost"
(arXiv:1604.06174) with Model Garden's blocks as segments.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from detflow.errors import ConfigError


def recompute_blocks(parts: Mapping[str, tf_keras.layers.Layer]) -> int:
    """Makes the blocks of a network recompute their activations when they are differentiated.

    A block is a layer that is made of other layers and is called once inside a part: a residual or
    an inverted bottleneck block. What lies between blocks (a stem, a feature pyramid of plain
    layers, a head) keeps its activations. Gradients are the same, and so are the statistics of
    batch norms: the second pass leaves them alone.

    Args:
        parts: Of the network, by name; not yet traced.

    Returns:
        How many blocks there are.

    Raises:
        ConfigError: There are none.
    """
    blocks = [
        layer
        for part in parts.values()
        if isinstance(part, tf_keras.Model)
        for layer in part.layers
        if _is_block(layer)
    ]
    if not blocks:
        raise ConfigError(
            "runtime.recompute: this model's backbone has no blocks to compute again",
            remedy="set it to false",
        )
    for block in blocks:
        block.call = _recomputed(block)
    return len(blocks)


def _is_block(layer: tf_keras.layers.Layer) -> bool:
    inside = list(layer.submodules)
    return bool(layer.weights) and any(
        isinstance(module, tf_keras.layers.Layer) for module in inside
    )


def _recomputed(block: tf_keras.layers.Layer) -> Callable[..., Any]:
    call = block.call

    def call_recomputed(inputs: tf.Tensor, training: bool | None = None) -> Any:
        # Inference differentiates nothing, and its graph is exported.
        if not training:
            return call(inputs, training=training)
        passes = itertools.count()

        def run(inputs: tf.Tensor) -> Any:
            if next(passes) == 0:
                return call(inputs, training=True)
            # The second pass begins outside of the block: only calling it as a layer tells the
            # layers inside that this is training, and in which precision.
            with _kept_statistics(block), _called_by(block, call):
                return block(inputs, training=True)

        return tf.recompute_grad(run)(inputs)

    return call_recomputed


@contextlib.contextmanager
def _called_by(block: tf_keras.layers.Layer, call: Callable[..., Any]) -> Iterator[None]:
    own = block.call
    block.call = call
    try:
        yield
    finally:
        block.call = own


@contextlib.contextmanager
def _kept_statistics(block: tf_keras.layers.Layer) -> Iterator[None]:
    """Lets batch norms that are traced inside the block keep their moving statistics.

    They normalise by the batch, as always in training.
    """
    norms = [
        module
        for module in block.submodules
        if isinstance(module, tf_keras.layers.BatchNormalization)
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
