"""How good detections are: COCO's metrics by pycocotools, with VOC's `difficult` objects left out of the count."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detflow.types import Detection, ImageSize, LabelMap, ObjectAnnotation

__all__ = ["EvaluatedImage", "coco_metrics", "metric_names"]

# COCO's summary: average precision at 100 detections an image, average recall at 1, 10 and 100.
_MAX_DETECTIONS = (1, 10, 100)
_AREAS = {"all": 0, "small": 1, "medium": 2, "large": 3}


@dataclass(frozen=True, slots=True)
class EvaluatedImage:
    """Truth and prediction of one image; `size` is the image's, in pixels, since COCO's size classes are."""

    size: ImageSize
    objects: Sequence[ObjectAnnotation]
    detections: Sequence[Detection]


class _DifficultIgnored(COCOeval):  # type: ignore[misc]
    """COCOeval derives `ignore` from `iscrowd`, which changes how IoU is computed; here it stays the flag that was given."""

    def _prepare(self) -> None:
        super()._prepare()
        for truths in self._gts.values():
            for truth in truths:
                truth["ignore"] = truth["difficult"]


def coco_metrics(images: Sequence[EvaluatedImage], label_map: LabelMap) -> Mapping[str, float | None]:
    """Computes COCO's bounding box metrics.

    A detection that matches a difficult object is neither a hit nor a miss, and a difficult object that is not found is no miss
    (The PASCAL VOC Challenge, Everingham et al. 2010, section 4.2).

    Args:
        images: Truth and detections, one entry an image.
        label_map: The classes.

    Returns:
        AP, AP50, AP75, AP_small, AP_medium, AP_large, AR1, AR10, AR100, then `AP/NAME` and `AP50/NAME` of each class; None where
        no object exists to measure with.
    """
    truth, results = COCO(), []
    truth.dataset = _coco_dataset(images, label_map)
    for image_id, image in enumerate(images, start=1):
        for detection in image.detections:
            left, top, right, bottom = detection.box.to_pixels(image.size)
            results.append([image_id, left, top, right - left, bottom - top, detection.score, detection.class_id])
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        predictions = truth.loadRes(np.asarray(results, np.float64)) if results else _no_predictions()
        evaluation = _DifficultIgnored(truth, predictions, iouType="bbox")
        evaluation.params.imgIds = list(range(1, len(images) + 1))
        evaluation.params.catIds = list(range(1, len(label_map) + 1))
        evaluation.params.maxDets = list(_MAX_DETECTIONS)
        evaluation.evaluate()
        evaluation.accumulate()

    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    thresholds = list(np.round(evaluation.params.iouThrs, 2))
    at50, at75, most = thresholds.index(0.5), thresholds.index(0.75), len(_MAX_DETECTIONS) - 1
    metrics = {
        "AP": _mean(precision[:, :, :, _AREAS["all"], most]),
        "AP50": _mean(precision[at50, :, :, _AREAS["all"], most]),
        "AP75": _mean(precision[at75, :, :, _AREAS["all"], most]),
        **{f"AP_{name}": _mean(precision[:, :, :, area, most]) for name, area in _AREAS.items() if name != "all"},
        **{f"AR{count}": _mean(recall[:, :, _AREAS["all"], i]) for i, count in enumerate(_MAX_DETECTIONS)},
    }
    for index, name in enumerate(label_map):
        metrics[f"AP/{name}"] = _mean(precision[:, :, index, _AREAS["all"], most])
        metrics[f"AP50/{name}"] = _mean(precision[at50, :, index, _AREAS["all"], most])
    return metrics


def metric_names(label_map: LabelMap) -> list[str]:
    """Returns the names that `coco_metrics` gives, in its order."""
    return list(coco_metrics([], label_map))


def _coco_dataset(images: Sequence[EvaluatedImage], label_map: LabelMap) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(images, start=1):
        for item in image.objects:
            left, top, right, bottom = item.box.to_pixels(image.size)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": label_map.id_of(item.name),
                    "bbox": [left, top, right - left, bottom - top],
                    "area": (right - left) * (bottom - top),
                    "iscrowd": 0,
                    "difficult": int(item.difficult),
                }
            )
    return {
        "info": {},
        "images": [{"id": i, "width": image.size.width, "height": image.size.height} for i, image in enumerate(images, start=1)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(label_map, start=1)],
        "annotations": annotations,
    }


def _no_predictions() -> COCO:
    """What `loadRes` cannot make of an empty list."""
    predictions = COCO()
    predictions.dataset = {"images": [], "categories": [], "annotations": []}
    predictions.createIndex()
    return predictions


def _mean(values: Any) -> float | None:
    """Averages what pycocotools could measure; it marks the rest with -1."""
    measured = values[values > -1]
    return float(measured.mean()) if measured.size else None
