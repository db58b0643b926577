"""A detector in two halves for TFLite: the network, which may be quantised, and what follows it.

The outputs are those of the operation TFLite_Detection_PostProcess, which mobile libraries expect.
The operation itself is not in the file: with T threads its class-wise suppression loses class T
(github.com/tensorflow/tensorflow/issues/56058; seen with LiteRT 2.3 for every T from 2 on).
Built-in operations stand in its place.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias

import tensorflow as tf
import tf_keras

from detflow.config.schema import EvaluateConfig
from detflow.inference.formats.tflite import INPUT, OUTPUTS
from detflow.models import preprocess
from detflow.models.base import DenseModel
from detflow.process.quiet import native_stderr_closed

# Number of pairs of anchor and class that may become detections, those with the highest scores.
# Model Garden takes as many.
_MAX_CANDIDATES: Final = 5000
# Classes are suppressed apart because their boxes are moved apart, on a grid of this spacing. Boxes
# leave the canvas by less.
_CLASS_SPACING: Final = 4.0

_Function: TypeAlias = tf.types.experimental.ConcreteFunction


@dataclass(frozen=True)
class Halves:
    """A detector in two functions.

    Attributes:
        network: From a canvas to tensors; the half that is quantised.
        tail: From these tensors to the outputs.
    """

    network: _Function
    tail: _Function

    @cached_property
    def converted_network(self) -> bytes:
        """The network as a TFLite file in floats."""
        return convert(build_converter(self.network, self.network.variables))

    @cached_property
    def converted_tail(self) -> bytes:
        """The tail as a TFLite file, the same for every precision of the network."""
        return convert(build_converter(self.tail, self.tail.variables))


Split: TypeAlias = Callable[[DenseModel, EvaluateConfig], Halves]
"""A way to cut a model into halves."""


def split_after_head(model: DenseModel, config: EvaluateConfig) -> Halves:
    """Puts the whole network into the first half."""
    return _split(model, config, model.network, lambda outputs: outputs)


def split_before_head(model: DenseModel, config: EvaluateConfig) -> Halves:
    """Puts the network into the first half, but the head into the second."""
    features = model.parts["head"].input
    body, head = (
        tf_keras.Model(model.network.input, features),
        tf_keras.Model(features, model.network.output),
    )
    return _split(model, config, body, lambda levels: head(levels, training=False))


def suppress(boxes: tf.Tensor, scores: tf.Tensor, config: EvaluateConfig) -> dict[str, tf.Tensor]:
    """Suppresses duplicates as `DetectionModel.detect` does, in operations that TFLite has.

    Args:
        boxes: [N, 4] float32, [ymin, xmin, ymax, xmax], normalised by the canvas.
        scores: [N, C] float32.
        config: Thresholds and number of detections K.

    Returns:
        boxes [1, K, 4], classes [1, K] counted from 0, scores [1, K] and count [1], all float32.
    """
    num_boxes, num_classes = (int(side) for side in scores.shape)
    scores, pairs = tf.math.top_k(
        tf.reshape(scores, [-1]), min(_MAX_CANDIDATES, num_boxes * num_classes)
    )
    boxes, classes = tf.gather(boxes, pairs // num_classes), pairs % num_classes
    columns = math.ceil(math.sqrt(num_classes))
    shift = (
        tf.cast(tf.stack([classes // columns, classes % columns] * 2, 1), tf.float32)
        * _CLASS_SPACING
    )
    kept, count = tf.raw_ops.NonMaxSuppressionV4(
        boxes=boxes + shift,
        scores=scores,
        max_output_size=config.max_detections,
        iou_threshold=config.nms_iou,
        score_threshold=config.score_threshold,
        pad_to_max_output_size=True,
    )
    valid = tf.cast(tf.range(config.max_detections) < count, tf.float32)
    values = (
        tf.clip_by_value(tf.gather(boxes, kept), 0.0, 1.0) * valid[:, tf.newaxis],
        tf.cast(tf.gather(classes, kept), tf.float32) * valid,
        tf.gather(scores, kept) * valid,
        tf.cast(count, tf.float32),
    )
    return {name: value[tf.newaxis] for name, value in zip(OUTPUTS, values, strict=True)}


def build_converter(function: _Function, variables: Sequence[tf.Variable]) -> Any:
    """Returns TensorFlow's converter for a function that uses these variables."""
    # Only variables are tracked: the network itself would bring Keras' own traces of every layer
    # with it, which takes ten times as long.
    owner = tf.Module()
    owner.weights = variables
    return tf.lite.TFLiteConverter.from_concrete_functions([function], owner)


def convert(converter: Any) -> bytes:
    """Runs a converter in silence.

    Its notes on itself are of no use to users of a command, and its faults are exceptions.
    """
    with native_stderr_closed(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content: bytes = converter.convert()
    return content


def _split(
    model: DenseModel,
    config: EvaluateConfig,
    first: tf_keras.Model,
    rest: Callable[[Any], Any],
) -> Halves:
    """Splits a model behind `first`; `rest` leads from its outputs to those of the network."""
    joints = [f"joint_{number}" for number in range(len(tf.nest.flatten(first.output)))]

    def run(image: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = first(preprocess.normalize(image), training=False)
        return dict(zip(joints, tf.nest.flatten(outputs), strict=True))

    def finish(*values: tf.Tensor) -> dict[str, tf.Tensor]:
        boxes, scores = model.decode(
            rest(tf.nest.pack_sequence_as(first.output, values)), model.input_size
        )
        return suppress(boxes[0], scores[0], config)

    network = _trace(run, tf.TensorSpec([1, *model.input_size, 3], tf.uint8, name=INPUT))
    # Only the traced function knows the shapes of a network for several canvases.
    outputs = network.structured_outputs
    specs = [tf.TensorSpec(outputs[name].shape, outputs[name].dtype, name=name) for name in joints]
    return Halves(network, _trace(finish, *specs))


def _trace(function: Callable[..., Any], *signature: tf.TensorSpec) -> _Function:
    return tf.function(function, autograph=False, input_signature=signature).get_concrete_function()
