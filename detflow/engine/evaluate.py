"""Samples × detector → metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from detflow.engine import preprocess
from detflow.engine.detector import Detector
from detflow.errors import ConfigError
from detflow.metrics import EvaluatedImage, coco_metrics
from detflow.types import LabelMap, Sample

__all__ = ["Evaluation", "evaluate_detector"]


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        metrics: As from `metrics.coco_metrics`.
        num_images: Images judged.
        num_objects: Objects by class name.
    """

    metrics: Mapping[str, float | None]
    num_images: int
    num_objects: Mapping[str, int]


def evaluate_detector(detector: Detector, samples: Iterable[Sample], label_map: LabelMap) -> Evaluation:
    """Judges a detector on samples that are read once.

    Args:
        detector: What is judged.
        samples: The truth.
        label_map: Of the samples.

    Raises:
        ConfigError: The detector was trained on other classes than the samples have.
    """
    if detector.label_map != label_map:
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
            yield preprocess.decode_jpeg(tf.constant(sample.encoded)).numpy()

    detections = list(detector.detect(pixels()))
    images = [EvaluatedImage(sample.size, sample.objects, found) for sample, found in zip(judged, detections, strict=True)]
    counts = dict.fromkeys(label_map, 0)
    for sample in judged:
        for item in sample.objects:
            counts[item.name] += 1
    return Evaluation(coco_metrics(images, label_map), len(images), counts)
