"""Samples × detector → truth beside detections, and COCO's metrics of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from detflow.errors import ConfigError
from detflow.inference.detector import Detector
from detflow.label_map import LabelMap
from detflow.metrics import EvaluatedImage, coco_metrics
from detflow.models import preprocess
from detflow.process.tensorflow_faults import decode_faults
from detflow.types import Sample

__all__ = ["Evaluation", "detect_samples", "evaluate_detector"]


@dataclass(frozen=True)
class Evaluation:
    """What was detected, and how good it is.

    Attributes:
        images: Truth and detections.
        metrics: As from `metrics.coco_metrics`.
    """

    images: Sequence[EvaluatedImage]
    metrics: Mapping[str, float | None]


def evaluate_detector(
    detector: Detector, samples: Iterable[Sample], label_map: LabelMap
) -> Evaluation:
    """Judges a detector on samples that are read once; arguments and errors are those of `detect_samples`."""
    _, images = detect_samples(detector, samples, label_map)
    return Evaluation(images, coco_metrics(images, label_map))


def detect_samples(
    detector: Detector, samples: Iterable[Sample], label_map: LabelMap
) -> tuple[list[Sample], list[EvaluatedImage]]:
    """Runs a detector on samples that are read once.

    Args:
        detector: What is judged.
        samples: The truth.
        label_map: Of the samples.

    Returns:
        The samples in order without their pictures, and of each its truth and detections. Classes
        are told apart by name: the ids of the detections become those of `label_map`.

    Raises:
        ConfigError: The detector was trained on other classes than the samples have.
        DataError: An image cannot be decoded.
    """
    if set(detector.label_map) != set(label_map):
        raise ConfigError(
            f"the model knows the classes {', '.join(detector.label_map)}; the records have {', '.join(label_map)}",
            path=detector.source,
            remedy="evaluate on records of the classes it was trained on",
        )
    judged: list[Sample] = []

    def pixels() -> Iterator[npt.NDArray[np.uint8]]:
        for sample in samples:
            # Without the encoded image a truth is small enough to be kept.
            judged.append(dataclasses.replace(sample, encoded=b""))
            with decode_faults(sample.filename):
                picture = preprocess.decode_jpeg(tf.constant(sample.encoded)).numpy()
            yield picture

    detections = [
        [dataclasses.replace(one, class_id=label_map.id_of(one.name)) for one in found]
        for found in detector.detect(pixels())
    ]
    images = [
        EvaluatedImage(sample.size, sample.objects, found)
        for sample, found in zip(judged, detections, strict=True)
    ]
    return judged, images
