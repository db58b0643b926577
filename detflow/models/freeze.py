"""Keeping parts of a network as they are: weights, and the statistics of their batch norms."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence

import tensorflow as tf
import tf_keras

from detflow.errors import ConfigError
from detflow.models.held_norms import hold_statistics
from detflow.text import find_nearest

# A cell of the coarsest level there is, 7, has 128 pixels a side.
_PROBED_SIDE = 256
_KINDS = {
    "depthwise": tf_keras.layers.DepthwiseConv2D,
    "statistics": tf_keras.layers.BatchNormalization,
}
_STATISTICS = ".statistics"


def find_freezable(
    parts: Mapping[str, tf_keras.layers.Layer],
) -> dict[str, list[tf_keras.layers.Layer]]:
    """Returns the layers that each name stands for.

    Names are those of the parts, and `PART.levelL` for the layers of a part whose output has one
    cell for each 2^L pixels of the part's input, where the part is built of layers of which that
    can be told: `backbone.level1` is a ResNet's stem, `backbone.level2` its first group of blocks.
    `backbone.depthwise` are its depthwise convolutions, `backbone.statistics` its batch norms.
    """
    names: dict[str, list[tf_keras.layers.Layer]] = {}
    for name, part in parts.items():
        names[name] = [part]
        for level, layers in sorted(_levels(part).items()):
            names[f"{name}.level{level}"] = layers
    for kind, of_kind in _KINDS.items():
        backbone = parts.get("backbone")
        layers = (
            [layer for layer in backbone.submodules if isinstance(layer, of_kind)]
            if backbone
            else []
        )
        if layers:
            names[f"backbone.{kind}"] = layers
    return names


def freeze(parts: Mapping[str, tf_keras.layers.Layer], patterns: Sequence[str]) -> None:
    """Makes parts untrainable; their batch norms compute with the statistics that they have.

    What is frozen costs no backward pass, as far as nothing before it trains. Of
    `backbone.statistics` the statistics alone stay; factors and offsets train.

    Args:
        parts: Of the network, by name.
        patterns: As in `train.freeze`.

    Raises:
        ConfigError: A pattern stands for nothing, or nothing is left to train.
    """
    if not patterns:
        return
    names, held = find_freezable(parts), set[str]()
    for pattern in patterns:
        matching = fnmatch.filter(names, pattern)
        if not matching:
            nearest = find_nearest(pattern, names)
            hint = f"did you mean {nearest}? " if nearest else ""
            raise ConfigError(
                f"train.freeze: {pattern} is no part of this model",
                remedy=f"{hint}known here: {', '.join(names)}",
            )
        for name in matching:
            if name.endswith(_STATISTICS):
                held.add(name.removesuffix(_STATISTICS))
                continue
            for layer in names[name]:
                layer.trainable = False
    # Last, when it is known which kernels train.
    for name in sorted(held):
        hold_statistics(parts[name])
    if not any(part.trainable_variables for part in parts.values()):
        raise ConfigError("train.freeze leaves nothing to train", remedy="leave out a part")


def _levels(part: tf_keras.layers.Layer) -> dict[int, list[tf_keras.layers.Layer]]:
    """Returns a part's layers with weights by the level of their output.

    It is empty for a part that is not a graph on one image.
    """
    shape = getattr(part, "input_shape", None)
    if not isinstance(part, tf_keras.Model) or not isinstance(shape, tuple) or len(shape) != 4:
        return {}
    layers = [layer for layer in part.layers if layer.weights]
    side, shapes = shape[1], [layer.output_shape for layer in layers]
    if side is None:
        side, shapes = _PROBED_SIDE, _probe_shapes(part, layers)
    levels: dict[int, list[tf_keras.layers.Layer]] = {}
    for layer, output_shape in zip(layers, shapes, strict=True):
        heights = {output[1] for output in _shapes(output_shape)}
        if len(heights) == 1:
            levels.setdefault(round(math.log2(side / heights.pop())), []).append(layer)
    return levels


def _probe_shapes(part: tf_keras.Model, layers: Sequence[tf_keras.layers.Layer]) -> list[object]:
    """Returns the output shapes of layers for one image.

    A network for several canvases knows no shapes before it is called.
    """
    probe = tf.function(
        tf_keras.Model(part.input, [layer.output for layer in layers]), autograph=False
    )
    image = tf.TensorSpec([1, _PROBED_SIDE, _PROBED_SIDE, part.input_shape[3]], part.input.dtype)
    outputs = probe.get_concrete_function(image).structured_outputs
    return tf.nest.map_structure(lambda output: tuple(output.shape), outputs)  # type: ignore[no-any-return]


def _shapes(output_shape: object) -> Iterable[tuple[int, ...]]:
    """Returns the shapes of a layer's outputs, whatever they are collected in."""
    if isinstance(output_shape, dict):
        return [shape for value in output_shape.values() for shape in _shapes(value)]
    if isinstance(output_shape, list):
        return [shape for value in output_shape for shape in _shapes(value)]
    return [output_shape] if isinstance(output_shape, tuple) and len(output_shape) == 4 else []
