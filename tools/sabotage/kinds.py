"""The kinds of sabotage: each is what a slip in code or a mixed-up file does to a conversion."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias
from unittest import mock

import numpy as np
import tensorflow as tf

from detflow.exporting.formats import onnx as onnx_export
from detflow.exporting.formats import onnx_graph, tflite, tflite_network
from detflow.exporting.formats.base import Job
from detflow.geometry import MEAN_RGB
from detflow.inference import serving
from detflow.inference.formats.base import Format
from detflow.label_map import LabelMap
from detflow.models import preprocess
from detflow.runs.checkpoints import WeightAverage, restore_weights
from detflow.runs.states import CHECKPOINT_PREFIX

from .scene import Scene

_Apply: TypeAlias = Callable[[Scene], AbstractContextManager[Job]]


@dataclass(frozen=True)
class Sabotage:
    """A kind of sabotage.

    Attributes:
        name: Its name.
        meaning: What goes wrong, for a person.
        apply: Yields the sabotaged job; the files are written inside of it.
        is_inside: Whether a format's file holds what is sabotaged.
        is_rehearsed: Whether the network shows it that is not converted.
    """

    name: str
    meaning: str
    apply: _Apply
    is_inside: Callable[[Format], bool]
    is_rehearsed: bool


KINDS: Final[list[Sabotage]] = []
"""All kinds."""


def _kind(
    is_inside: Callable[[Format], bool] = lambda known: True,
) -> Callable[[Callable[[Scene], Iterator[Job]]], None]:
    """Adds a generator function to the kinds, under its name; its docstring says what it means."""

    def add(function: Callable[[Scene], Iterator[Job]]) -> None:
        meaning = (function.__doc__ or "").rstrip(".")
        rehearsed = is_inside is not _is_int8
        KINDS.append(
            Sabotage(function.__name__, meaning, contextmanager(function), is_inside, rehearsed)
        )

    return add


def _fits_inside(known: Format) -> bool:
    return known.canvas == "all"


def _is_int8(known: Format) -> bool:
    return known.name == "tflite_int8"


# --- Weights --------------------------------------------------------------------------------------


def _kernels(scene: Scene, part: str) -> list[tf.Variable]:
    """Returns the convolutions of a part of the model."""
    layer = scene.job.trained.serving.model.parts[part]
    return [v for v in layer.variables if "kernel" in v.name and v.shape.rank == 4]


def _add_noise(scene: Scene, part: str) -> None:
    kernels = _kernels(scene, part)
    kernel = kernels[int(scene.random.integers(len(kernels)))]
    kernel.assign(kernel * (1.0 + 0.05 * scene.random.normal(size=kernel.shape)))


@_kind()
def noise_in_backbone(scene: Scene) -> Iterator[Job]:
    """5 % noise in one layer of the backbone."""
    _add_noise(scene, "backbone")
    yield scene.job


@_kind()
def noise_in_head(scene: Scene) -> Iterator[Job]:
    """5 % noise in one layer of the head."""
    _add_noise(scene, "head")
    yield scene.job


@_kind()
def lost_channel(scene: Scene) -> Iterator[Job]:
    """One channel of one layer of the backbone is lost."""
    kernels = _kernels(scene, "backbone")
    kernel = kernels[int(scene.random.integers(len(kernels)))]
    values = kernel.numpy()
    values[..., int(scene.random.integers(values.shape[-1]))] = 0.0
    kernel.assign(values)
    yield scene.job


@_kind()
def average_missing(scene: Scene) -> Iterator[Job]:
    """The raw weights instead of their moving average."""
    trained = scene.job.trained
    checkpoint = tf.train.Checkpoint(network=trained.serving.model.network)
    checkpoint.restore(str(trained.checkpoint_path / CHECKPOINT_PREFIX)).expect_partial()
    yield scene.job


@_kind()
def other_checkpoint(scene: Scene) -> Iterator[Job]:
    """The weights of another checkpoint of the run."""
    network = scene.job.trained.serving.model.network
    restore_weights(scene.subject.other, network, WeightAverage(network, 0.9))
    yield scene.job


@_kind()
def statistics_off(scene: Scene) -> Iterator[Job]:
    """Variances of one batch normalisation are 10 % off."""
    found = [v for v in scene.variables if "moving_variance" in v.name]
    chosen = found[int(scene.random.integers(len(found)))]
    chosen.assign(chosen * 1.1)
    yield scene.job


@_kind()
def swapped_channels(scene: Scene) -> Iterator[Job]:
    """Blue and red are swapped."""
    stem = next(v for v in scene.variables if "kernel" in v.name and v.shape[2:3] == [3])
    stem.assign(stem.numpy()[:, :, ::-1])
    yield scene.job


# --- What stands around the network ---------------------------------------------------------------


@_kind()
def normalisation_off(scene: Scene) -> Iterator[Job]:
    """The mean of the normalisation is 2 grey levels off."""
    honest = preprocess.normalize
    mean = tuple(value + 2.0 for value in MEAN_RGB)
    with (
        mock.patch.object(
            preprocess, "normalize", lambda canvases: honest(tf.cast(canvases, tf.float32) - 2.0)
        ),
        mock.patch.object(onnx_graph, "MEAN_RGB", mean),
    ):
        yield scene.retrace()


class _BluntGraph(onnx_graph.Graph):
    """An ONNX graph whose resize does not filter: its triangle is never wider than a pixel."""

    def add(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        if op == "Max" and self._is_one(inputs[1]):
            return inputs[1]
        return super().add(op, *inputs, name=name, **attributes)

    def _is_one(self, name: str) -> bool:
        """Tells whether a tensor is the scalar 1: a reach is the larger of a step and that."""
        value = next((c for c in self.constants if c.name == name), None)
        return value is not None and not value.dims and onnx_value(value) == 1.0


def onnx_value(constant: Any) -> float:
    """Returns the value of a scalar constant of an ONNX graph."""
    return float(onnx_graph.numpy_helper.to_array(constant))


@_kind(_fits_inside)
def resize_without_filter(scene: Scene) -> Iterator[Job]:
    """The resize does not filter."""
    honest = tf.image.resize

    def resize(images: tf.Tensor, size: tf.Tensor, **options: Any) -> tf.Tensor:
        return honest(images, size, **{**options, "antialias": False})

    with (
        mock.patch.object(tf.image, "resize", resize),
        mock.patch.object(onnx_export, "Graph", _BluntGraph),
    ):
        yield scene.retrace()


def _decode(scene: Scene, change: Callable[[tf.Tensor, tf.Tensor], Any]) -> Any:
    """Patches what makes boxes and scores of the network's outputs."""
    model = scene.job.trained.serving.model
    honest = model.decode

    def decode(outputs: Any, canvas_size: Any) -> Any:
        return change(*honest(outputs, canvas_size))

    return mock.patch.object(model, "decode", decode, create=True)


@_kind()
def box_coder_off(scene: Scene) -> Iterator[Job]:
    """Each box lies half a pixel of the canvas too low."""
    shift = 0.5 / scene.job.trained.serving.model.input_size[0]
    offset = np.float32([shift, 0.0, shift, 0.0])
    with _decode(scene, lambda boxes, scores: (boxes + offset, scores)):
        yield scene.retrace()


@_kind()
def boxes_too_large(scene: Scene) -> Iterator[Job]:
    """Boxes are 3 % too large."""

    def grow(boxes: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        low, high = boxes[..., :2], boxes[..., 2:]
        return tf.concat([low - 0.015 * (high - low), high + 0.015 * (high - low)], -1), scores

    with _decode(scene, grow):
        yield scene.retrace()


@_kind()
def scores_off(scene: Scene) -> Iterator[Job]:
    """Scores are raised to the power 1.05."""
    with _decode(scene, lambda boxes, scores: (boxes, scores**1.05)):
        yield scene.retrace()


@_kind()
def class_offset(scene: Scene) -> Iterator[Job]:
    """Each class is taken for the next one."""
    with _decode(scene, lambda boxes, s: (boxes, tf.concat([s[..., -1:], s[..., :-1]], axis=-1))):
        yield scene.retrace()


@_kind()
def suppression_off(scene: Scene) -> Iterator[Job]:
    """Duplicates are suppressed from another overlap on, 0.1 lower."""
    yield scene.retrace(nms_iou=scene.job.trained.serving.config.nms_iou - 0.1)


@_kind()
def duplicates_left(scene: Scene) -> Iterator[Job]:
    """Duplicates are suppressed from another overlap on, 0.2 higher."""
    yield scene.retrace(nms_iou=scene.job.trained.serving.config.nms_iou + 0.2)


@_kind()
def threshold_off(scene: Scene) -> Iterator[Job]:
    """Detections need twice the score."""
    yield scene.retrace(score_threshold=2 * scene.job.trained.serving.config.score_threshold)


# --- What a file says of itself -------------------------------------------------------------------


@_kind()
def names_permuted(scene: Scene) -> Iterator[Job]:
    """The class names stand in another order."""
    names = scene.job.trained.label_map.names
    label_map = LabelMap((*names[1:], names[0]))
    scene.job.artifact.label_map_path.write_text(label_map.to_pbtxt(), encoding="utf-8")
    yield replace(scene.job, trained=replace(scene.job.trained, label_map=label_map))


def _swap(names: Sequence[str], one: int, other: int) -> tuple[str, ...]:
    swapped = list(names)
    swapped[one], swapped[other] = names[other], names[one]
    return tuple(swapped)


@_kind()
def outputs_permuted(scene: Scene) -> Iterator[Job]:
    """Scores and classes change places."""
    names = onnx_graph.OUTPUT_NAMES
    scores, classes = names.index("detection_scores"), names.index("detection_classes")
    honest = serving._name_outputs

    def name_outputs(outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return honest(
            dict(zip(_swap(names, scores, classes), map(outputs.get, names), strict=True))
        )

    with (
        mock.patch.object(serving, "_name_outputs", name_outputs),
        mock.patch.object(onnx_graph, "OUTPUT_NAMES", _swap(names, scores, classes)),
        mock.patch.object(tflite_network, "OUTPUTS", _swap(tflite_network.OUTPUTS, 1, 2)),
    ):
        yield scene.retrace()


# --- Quantisation ---------------------------------------------------------------------------------


def _calibrate(change: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Patches the canvases that ranges of activations are measured on."""
    honest = tflite._build_canvases

    def build(*arguments: Any) -> Iterator[np.ndarray]:
        yield from map(change, honest(*arguments))

    return mock.patch.object(tflite, "_build_canvases", build)


@_kind(_is_int8)
def ranges_of_nothing(scene: Scene) -> Iterator[Job]:
    """Ranges are measured on grey pictures."""
    with _calibrate(lambda canvas: np.full_like(canvas, 128)):
        yield scene.job


@_kind(_is_int8)
def ranges_of_the_dark(scene: Scene) -> Iterator[Job]:
    """Ranges are measured on pictures of half the brightness."""
    with _calibrate(lambda canvas: canvas // 2):
        yield scene.job


@_kind(_is_int8)
def ranges_of_noise(scene: Scene) -> Iterator[Job]:
    """Ranges are measured on noise."""
    draw = functools.partial(scene.random.integers, 0, 256, dtype=np.uint8)
    with _calibrate(lambda canvas: draw(size=canvas.shape)):
        yield scene.job
