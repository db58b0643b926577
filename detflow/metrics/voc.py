"""VOC's average precision, as the development kit of the PASCAL VOC challenges computes it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detflow.label_map import LabelMap
from detflow.metrics.coco import EvaluatedImage, overlaps

_MIN_IOU = 0.5
Counts: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class VocAveragePrecision:
    """Average precision of one class, or the mean over those classes that can be measured.

    A value is None where there is no object to measure with.

    Attributes:
        eleven_point: VOC 2007: the mean, over the recalls 0, .1, … 1, of the best precision at that
            recall or beyond.
        area: VOC 2010 and later: the area below the curve of the best precision at each recall or
            beyond.
    """

    eleven_point: float | None
    area: float | None


def voc_metrics(
    images: Sequence[EvaluatedImage], label_map: LabelMap
) -> tuple[VocAveragePrecision, dict[str, VocAveragePrecision]]:
    """Computes VOC's mean average precision at IoU .5.

    The rules (VOCevaldet.m of the 2007 to 2012 development kits; The PASCAL VOC Challenge,
    Everingham et al. 2010, section 4.2):
    from the highest score to the lowest, a detection goes to the object of its class that it
    overlaps most. Below .5 it is wrong; where the object is difficult it does not count; where the
    object was found before it is wrong. COCO, in contrast, gives such a detection the next best
    object that is still free.

    Returns:
        The mean over the classes that have an object which is not difficult, and each class by its
        name.
    """
    found: defaultdict[str, list[tuple[float, bool]]] = defaultdict(list)
    num_truths = dict.fromkeys(label_map, 0)
    for image in images:
        _judge_image(image, found, num_truths)
    classes = {}
    for name, count in num_truths.items():
        # Stable, so that equal scores keep the order of the images.
        ranked = sorted(found[name], key=lambda one: -one[0])
        right = np.cumsum([hit for _, hit in ranked], dtype=np.int64)
        classes[name] = (
            VocAveragePrecision(_eleven_point(right, count), _area(right, count))
            if count
            else _NOT_MEASURED
        )
    return VocAveragePrecision(
        _mean(one.eleven_point for one in classes.values()),
        _mean(one.area for one in classes.values()),
    ), classes


_NOT_MEASURED = VocAveragePrecision(None, None)


def _judge_image(
    image: EvaluatedImage, found: Mapping[str, list[tuple[float, bool]]], num_truths: dict[str, int]
) -> None:
    """Adds an image's objects, and its detections that count with whether they are right.

    An object goes to the detection with the highest score among those of this image, so images can
    be judged one by one.
    """
    objects: defaultdict[str, list[int]] = defaultdict(list)
    for place, item in enumerate(image.objects):
        objects[item.name].append(place)
        num_truths[item.name] += not item.difficult
    iou = overlaps(
        [one.box for one in image.detections], [one.box for one in image.objects], image.size
    )
    taken: set[int] = set()
    for place in sorted(range(len(image.detections)), key=lambda i: -image.detections[i].score):
        detection = image.detections[place]
        candidates = objects.get(detection.name)
        best = candidates[int(iou[place, candidates].argmax())] if candidates else None
        if best is None or iou[place, best] < _MIN_IOU:
            found[detection.name].append((detection.score, False))
        elif not image.objects[best].difficult:
            found[detection.name].append((detection.score, best not in taken))
            taken.add(best)


def _eleven_point(right: Counts, num_truths: int) -> float:
    precision = right / np.arange(1, len(right) + 1)
    # Whole numbers are compared, because the float 3 / 10 need not reach the float .3.
    best = [precision[10 * right >= tenths * num_truths].max(initial=0.0) for tenths in range(11)]
    return float(np.mean(best))


def _area(right: Counts, num_truths: int) -> float:
    precision = right / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(right, prepend=0)
    return float((best * steps).sum() / num_truths)


def _mean(values: Iterable[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return float(np.mean(measured)) if measured else None
