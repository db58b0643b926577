"""A detector judged on samples: truth beside detections, and COCO's metrics of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from detflow.data.images.decode import decode_pixels
from detflow.data.images.header import ImageFault
from detflow.data.images.pictures import Picture
from detflow.errors import ConfigError, DataError
from detflow.inference.detector import Detector
from detflow.label_map import LabelMap
from detflow.metrics.coco import CocoEvaluation, EvaluatedImage
from detflow.metrics.ranking import Ranking
from detflow.types import Sample


@dataclass(frozen=True)
class Evaluation:
    """The detections on a set of samples, and how good they are.

    Attributes:
        images: Truth and detections of each image.
        metrics: Values by name, as `metrics.coco_metrics` returns them.
        rankings: The ranking of each class, for intervals; the images count in the order of their
            ids.
    """

    images: Sequence[EvaluatedImage]
    metrics: Mapping[str, float | None]
    rankings: Sequence[Ranking] = ()


def evaluate_detector(
    detector: Detector, samples: Iterable[Sample], label_map: LabelMap
) -> Evaluation:
    """Judges a detector on samples; arguments and errors are those of `detect_samples`.

    Returns:
        The images in the order of the samples, and the metrics, which `detflow evaluate` gives too.
    """
    pairs = _detect(detector, samples, label_map)
    images = [image for _, image in pairs]
    by_id = [image for _, image in sorted(pairs, key=_id_of)]
    coco = CocoEvaluation(by_id, label_map)
    return Evaluation(images, coco.metrics(), coco.rankings())


def detect_samples(
    detector: Detector, samples: Iterable[Sample], label_map: LabelMap
) -> tuple[list[Sample], list[EvaluatedImage]]:
    """Runs a detector on samples that are read once.

    Args:
        detector: The detector to judge.
        samples: Images with their truth.
        label_map: The samples' classes.

    Returns:
        The samples in the order of their ids, without their pictures; and the truth and detections
        of each. Detections of the same score count in the order of their images, and whoever judges
        the published files with COCO's own program takes images in the order of their ids. Classes
        are matched by name: the ids of the detections become those of `label_map`.

    Raises:
        ConfigError: The detector was trained on other classes than the samples have.
        DataError: An image cannot be decoded.
    """
    pairs = sorted(_detect(detector, samples, label_map), key=_id_of)
    return [sample for sample, _ in pairs], [image for _, image in pairs]


def decode_sample(sample: Sample, canvas_sizes: Sequence[tuple[int, int]]) -> Picture:
    """Decodes a sample for a detector, as small as its canvases allow.

    Every evaluation, the proof of an export included, sees these pixels, and `detflow predict` sees
    the same.

    Args:
        sample: The sample, with its picture in the orientation in which it is stored.
        canvas_sizes: (height, width) of each canvas; none keeps the picture as it is.

    Raises:
        DataError: It cannot be decoded.
    """
    try:
        decoded = decode_pixels(
            sample.encoded, sample.size.num_pixels, upright=False, canvas_sizes=canvas_sizes
        )
    except ImageFault as fault:
        raise DataError(f"the image cannot be decoded: {fault}", path=sample.filename) from None
    return Picture(decoded.pixels, 1, decoded.reduction, decoded.size)


def _id_of(pair: tuple[Sample, EvaluatedImage]) -> int:
    return pair[0].source_id


def _detect(
    detector: Detector, samples: Iterable[Sample], label_map: LabelMap
) -> list[tuple[Sample, EvaluatedImage]]:
    """Does the work of `detect_samples`; the pairs are in the order of the samples."""
    if set(detector.label_map) != set(label_map):
        raise ConfigError(
            f"the model knows the classes {', '.join(detector.label_map)}; "
            f"the records have {', '.join(label_map)}",
            path=detector.source,
            remedy="evaluate on records of the classes it was trained on",
        )
    judged: list[Sample] = []

    def pictures() -> Iterator[Picture]:
        for sample in samples:
            # Without its encoded image a sample is small enough to be kept.
            judged.append(dataclasses.replace(sample, encoded=b""))
            yield decode_sample(sample, detector.canvas_sizes)

    detections = [
        [
            dataclasses.replace(detection, class_id=label_map.id_of(detection.name))
            for detection in of_image
        ]
        for of_image in detector.detect_pictures(pictures())
    ]
    return [
        (sample, EvaluatedImage(sample.size, sample.objects, of_image))
        for sample, of_image in zip(judged, detections, strict=True)
    ]
