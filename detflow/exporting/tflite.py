"""TFLite files: a canvas of bytes in, boxes, classes, scores and their count out; normalisation and suppression inside.

The outputs are those of the operation TFLite_Detection_PostProcess, which mobile libraries expect.
The operation itself is not in the file: with T threads its class-wise suppression loses class T
(github.com/tensorflow/tensorflow/issues/56058; seen with LiteRT 2.3 for every T from 2 on). What
stands for it is made of built-in operations.

Network and post-processing are converted apart and joined afterwards, so that quantisation never
touches boxes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras

from detflow.artifact import FORMATS
from detflow.config.schema import EvaluateConfig
from detflow.errors import DataError
from detflow.exporting.formats import Job, Notes
from detflow.exporting.tflite_file import join_models, pack_file
from detflow.exporting.tflite_metadata import METADATA_NAME, build_metadata
from detflow.geometry import fit_to_canvas
from detflow.inference.labels import LABELS_NAME
from detflow.inference.tflite import INPUT, OUTPUTS, to_uint8
from detflow.models import preprocess
from detflow.models.base import DenseModel, DetectionModel
from detflow.process.quiet import native_stderr_closed
from detflow.training.fine_tuning import fine_tune
from detflow.training.step import images_per_step
from detflow.types import Sample

__all__ = ["write_float", "write_int8"]

Precision = Literal["float32", "float16", "dynamic"]
Canvas = npt.NDArray[np.uint8]

# Names of the file's tensors, as in the detectors that TFLite_Detection_PostProcess was made for:
# some readers go by them.
_TENSOR_NAMES: Final = {
    INPUT: "normalized_input_image_tensor",
    **{
        name: f"TFLite_Detection_PostProcess{suffix}"
        for name, suffix in zip(OUTPUTS, ("", ":1", ":2", ":3"), strict=True)
    },
}
# Of all pairs of anchor and class, so many with the highest scores may become detections. Model
# Garden takes 5,000.
_MAX_CANDIDATES = 5000
# Classes are suppressed apart because their boxes are moved apart, on a grid of this spacing; boxes
# leave the canvas by less.
_CLASS_SPACING = 4.0
# Of the draws from the training images.
_SEED = 1
# Images that ranges of activations are measured on, on the first rung and after it.
_CALIBRATION_IMAGES = 100
_MORE_CALIBRATION_IMAGES = 500
# Of the fine-tuning.
_NUM_STEPS = 300

Function: TypeAlias = tf.types.experimental.ConcreteFunction


class _Halves(NamedTuple):
    """A detector in two functions, of which the first is quantised: from a canvas to tensors, and from them to the outputs."""

    network: Function
    tail: Function


_Split: TypeAlias = Callable[[DenseModel, EvaluateConfig], _Halves]


def write_float(
    job: Job, name: str, precision: Literal["float32", "float16", "dynamic"]
) -> Iterator[Notes]:
    """Writes the network in floats, in float16 weights, or in int8 weights and float activations ("dynamic").

    Args:
        job: What to write.
        name: Of the format.
        precision: Which.
    """
    model = _dense(job.trained.serving.model)
    halves = _split_after_head(model, job.trained.serving.config)
    converter = _converter(halves.network, model.network.variables)
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    yield _write(job, name, halves, converter)


def write_int8(job: Job, name: str) -> Iterator[Notes]:
    """Writes the network in int8 weights and activations, and climbs a ladder as long as the gate refuses.

    The rungs: ranges measured on a hundred training images; on five hundred; the head in floats;
    weights that were fine-tuned with int8's rounding, nothing in floats.

    Args:
        job: What to write.
        name: Of the format.

    Raises:
        DataError: There are no training images to measure ranges on, or one cannot be decoded.
        ArtifactError: The fine-tuning's loss is no longer finite.
    """
    model = _dense(job.trained.serving.model)
    drawn = [sample.encoded for sample in _draw_training_samples(job, _MORE_CALIBRATION_IMAGES)]

    def write(rung: str, model: DenseModel, split: _Split, num_images: int) -> dict[str, Any]:
        used, halves = drawn[:num_images], split(model, job.trained.serving.config)
        converter = _converter(halves.network, model.network.variables)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            [canvas] for canvas in _calibration_canvases(used, model.input_size)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        calibration = {
            "images": len(used),
            "split": job.trained.config.data.train_split,
            "seed": _SEED,
        }
        return {**_write(job, name, halves, converter), "rung": rung, "calibration": calibration}

    yield write("calibrated", model, _split_after_head, _CALIBRATION_IMAGES)
    yield write("more calibration", model, _split_after_head, _MORE_CALIBRATION_IMAGES)
    yield write("float heads", model, _split_before_head, _MORE_CALIBRATION_IMAGES)

    samples = _draw_training_samples(job, _NUM_STEPS * images_per_step(job.trained.config))
    tuned = fine_tune(
        job.trained, samples, _calibration_canvases(drawn, model.input_size), _NUM_STEPS
    )
    notes = write(
        "quantisation-aware fine-tuning",
        _dense(tuned.model),
        _split_after_head,
        _MORE_CALIBRATION_IMAGES,
    )
    fine_tuning = {
        "steps": tuned.steps,
        "learning_rate": tuned.learning_rate,
        "images": tuned.images,
        "seconds": round(tuned.seconds, 1),
    }
    yield {**notes, "fine_tuning": fine_tuning}


def _dense(model: DetectionModel) -> DenseModel:
    if not isinstance(model, DenseModel):
        raise TypeError(f"{type(model).__name__} has no TFLite form; see formats.choose_formats")
    return model


def _write(job: Job, name: str, halves: _Halves, converter: Any) -> dict[str, Any]:
    """Converts both halves, joins them, writes the file, and describes it."""
    trained, canvas_size = job.trained, job.trained.serving.model.input_size
    joined = join_models(
        _convert(converter),
        _convert(_converter(halves.tail, halves.tail.variables)),
        _TENSOR_NAMES,
        {
            METADATA_NAME: build_metadata(
                f"{trained.run.path.name} {trained.checkpoint_path.name}", canvas_size
            )
        },
    )
    labels = "".join(f"{label}\n" for label in trained.label_map)
    (job.artifact.path / FORMATS[name].paths[0]).write_bytes(pack_file(joined, LABELS_NAME, labels))
    return {
        "input": {
            "name": INPUT,
            "tensor": _TENSOR_NAMES[INPUT],
            "dtype": "uint8",
            "shape": [1, *canvas_size, 3],
        },
        "outputs": [
            {"name": output, "tensor": _TENSOR_NAMES[output], "dtype": "float32", "shape": shape}
            for output, shape in zip(
                OUTPUTS, _output_shapes(trained.serving.config.max_detections), strict=True
            )
        ],
    }


def _output_shapes(count: int) -> tuple[list[int], ...]:
    return [1, count, 4], [1, count], [1, count], [1]


def _split_after_head(model: DenseModel, config: EvaluateConfig) -> _Halves:
    """The network apart from what is done to its outputs."""
    return _split(model, config, model.network, lambda outputs: outputs)


def _split_before_head(model: DenseModel, config: EvaluateConfig) -> _Halves:
    """Backbone and what joins its levels apart from the head."""
    features = model.parts["head"].input
    body, head = (
        tf_keras.Model(model.network.input, features),
        tf_keras.Model(features, model.network.output),
    )
    return _split(model, config, body, lambda levels: head(levels, training=False))


def _split(
    model: DenseModel, config: EvaluateConfig, first: tf_keras.Model, rest: Callable[[Any], Any]
) -> _Halves:
    """`rest` leads from the outputs of `first` to those of the network."""
    joints = [f"joint_{number}" for number in range(len(tf.nest.flatten(first.output)))]

    def run(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(
            zip(
                joints,
                tf.nest.flatten(first(preprocess.normalize(image), training=False)),
                strict=True,
            )
        )

    def finish(*values: tf.Tensor) -> dict[str, tf.Tensor]:
        boxes, scores = model.decode(
            rest(tf.nest.pack_sequence_as(first.output, values)), model.input_size
        )
        return _suppress(boxes[0], scores[0], config)

    network = _trace(run, tf.TensorSpec([1, *model.input_size, 3], tf.uint8, name=INPUT))
    # Of a network for several canvases only this function knows the shapes.
    outputs = network.structured_outputs
    specs = [tf.TensorSpec(outputs[name].shape, outputs[name].dtype, name=name) for name in joints]
    return _Halves(network, _trace(finish, *specs))


def _suppress(boxes: tf.Tensor, scores: tf.Tensor, config: EvaluateConfig) -> dict[str, tf.Tensor]:
    """Does to boxes [N, 4] and scores [N, C] what `DetectionModel.detect` does."""
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
    found = (
        tf.clip_by_value(tf.gather(boxes, kept), 0.0, 1.0) * valid[:, tf.newaxis],
        tf.cast(tf.gather(classes, kept), tf.float32) * valid,
        tf.gather(scores, kept) * valid,
        tf.cast(count, tf.float32),
    )
    return {name: value[tf.newaxis] for name, value in zip(OUTPUTS, found, strict=True)}


def _trace(function: Callable[..., Any], *signature: tf.TensorSpec) -> Function:
    return tf.function(function, autograph=False, input_signature=signature).get_concrete_function()


def _converter(function: Function, variables: Sequence[tf.Variable]) -> Any:
    # Only variables are tracked; the network itself would drag Keras' own traces of every layer in,
    # which takes ten times as long.
    owner = tf.Module()
    owner.weights = variables
    return tf.lite.TFLiteConverter.from_concrete_functions([function], owner)


def _convert(converter: Any) -> bytes:
    """Converts in silence: what the converter tells of itself is not for users of a command, and its faults are exceptions."""
    with native_stderr_closed(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content: bytes = converter.convert()
    return content


def _draw_training_samples(job: Job, limit: int) -> list[Sample]:
    """Draws at most so many samples of the training, in random order; the draw depends on the records alone."""
    random = np.random.default_rng(_SEED)
    drawn: list[Sample] = []
    # Each sample has the same chance to be among the drawn ones, and no others are held (Vitter
    # 1985, algorithm R).
    for number, sample in enumerate(job.training_samples()):
        place = number if number < limit else int(random.integers(0, number + 1))
        if place == len(drawn):
            drawn.append(sample)
        elif place < limit:
            drawn[place] = sample
    if not drawn:
        raise DataError("there are no training images to measure the ranges of activations on")
    return [drawn[place] for place in random.permutation(len(drawn))]


def _calibration_canvases(
    files: Iterable[bytes], canvas_size: tuple[int, int]
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yields canvases [1, height, width, 3] as a caller of the file makes them."""
    for file in files:
        pixels = preprocess.decode_jpeg(tf.constant(file)).numpy()
        yield to_uint8(fit_to_canvas(pixels[np.newaxis], canvas_size)[0])
