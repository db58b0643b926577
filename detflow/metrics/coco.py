"""COCO's metrics by pycocotools, with VOC's `difficult` objects left out of the count."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detflow.label_map import LabelMap
from detflow.metrics.ranking import Ranking
from detflow.types import Box, Detection, ImageSize, ObjectAnnotation

# COCO's summary: average precision at 100 detections an image, average recall at 1, 10 and 100.
_MAX_DETECTIONS = (1, 10, 100)
_AREAS = {"all": 0, "small": 1, "medium": 2, "large": 3}
_RECALL_POINTS = np.linspace(0.0, 1.0, 101)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class EvaluatedImage:
    """Truth and prediction of one image.

    Attributes:
        size: The image's size in pixels, in which COCO's classes of sizes are defined.
        objects: The truth.
        detections: The prediction.
    """

    size: ImageSize
    objects: Sequence[ObjectAnnotation]
    detections: Sequence[Detection]


@dataclass(frozen=True, slots=True)
class Matches:
    """Which detection found which object at IoU .5, as COCO matches them.

    An array has one entry for each detection, or one for each object. Detections stand class by
    class, and in a class from the highest score to the lowest, in COCO's order. The 100 best of
    each image and class are here; COCO counts no more.

    Attributes:
        images: Detections: index of the image.
        places: Detections: index in the image's detections.
        class_ids: Detections: 1-based class id.
        scores: Detections: score.
        objects: Detections: index in the image's objects of what was found; -1 for a false
            positive.
        ignored: Detections: whether what was found is difficult, so that it is neither hit nor
            miss.
        truth_images: Truth: index of the image.
        truth_places: Truth: index in the image's objects.
        truth_class_ids: Truth: 1-based class id.
        difficult: Truth: VOC's flag.
        found: Truth: whether a detection matches it.
    """

    images: Ints
    places: Ints
    class_ids: Ints
    scores: Floats
    objects: Ints
    ignored: Bools
    truth_images: Ints
    truth_places: Ints
    truth_class_ids: Ints
    difficult: Bools
    found: Bools

    @property
    def hits(self) -> Bools:
        """Detections that count as right."""
        return (self.objects >= 0) & ~self.ignored

    @property
    def misses(self) -> Bools:
        """Detections that count as wrong: false positives."""
        return self.objects < 0

    def num_truths(self, class_id: int) -> int:
        """How many objects of a class count."""
        return int(np.count_nonzero((self.truth_class_ids == class_id) & ~self.difficult))


class _DifficultIgnored(COCOeval):  # type: ignore[misc]
    """COCOeval with `ignore` taken from the flag `difficult`.

    COCOeval itself derives it from `iscrowd`, which also changes how IoU is computed.
    """

    def _prepare(self) -> None:
        super()._prepare()
        for truths in self._gts.values():
            for truth in truths:
                truth["ignore"] = truth["difficult"]


class CocoEvaluation:
    """A run of pycocotools over images.

    A detection that matches a difficult object is neither a hit nor a miss, and a difficult object
    that is not found is no miss (The PASCAL VOC Challenge, Everingham et al. 2010, section 4.2).

    Args:
        images: Truth and detections, one entry an image.
        label_map: The classes; ids of detections are its ids.
    """

    def __init__(self, images: Sequence[EvaluatedImage], label_map: LabelMap) -> None:
        self._label_map = label_map
        truth, results = COCO(), []
        self._truth_places: list[tuple[int, int]] = []
        self._result_places: list[tuple[int, int]] = []
        truth.dataset = self._dataset(images)
        for index, image in enumerate(images):
            for place, detection in enumerate(image.detections):
                left, top, width, height = detection.box.to_coco(image.size)
                results.append(
                    [index + 1, left, top, width, height, detection.score, detection.class_id]
                )
                self._result_places.append((index, place))
        with contextlib.redirect_stdout(io.StringIO()):
            truth.createIndex()
            predictions = (
                truth.loadRes(np.asarray(results, np.float64)) if results else _no_predictions()
            )
            evaluation = _DifficultIgnored(truth, predictions, iouType="bbox")
            evaluation.params.imgIds = list(range(1, len(images) + 1))
            evaluation.params.catIds = list(label_map.ids)
            evaluation.params.maxDets = list(_MAX_DETECTIONS)
            evaluation.evaluate()
            evaluation.accumulate()
        self._evaluation = evaluation
        thresholds = list(np.round(evaluation.params.iouThrs, 2))
        self._at50, self._at75 = thresholds.index(0.5), thresholds.index(0.75)

    def metrics(self) -> dict[str, float | None]:
        """Returns what `coco_metrics` does."""
        precision, recall = self._evaluation.eval["precision"], self._evaluation.eval["recall"]
        at50, at75, most = self._at50, self._at75, len(_MAX_DETECTIONS) - 1
        metrics = {
            "AP": _mean(precision[:, :, :, _AREAS["all"], most]),
            "AP50": _mean(precision[at50, :, :, _AREAS["all"], most]),
            "AP75": _mean(precision[at75, :, :, _AREAS["all"], most]),
            **{
                f"AP_{name}": _mean(precision[:, :, :, area, most])
                for name, area in _AREAS.items()
                if name != "all"
            },
            **{
                f"AR{count}": _mean(recall[:, :, _AREAS["all"], i])
                for i, count in enumerate(_MAX_DETECTIONS)
            },
        }
        for index, name in enumerate(self._label_map):
            metrics[f"AP/{name}"] = _mean(precision[:, :, index, _AREAS["all"], most])
            metrics[f"AP50/{name}"] = _mean(precision[at50, :, index, _AREAS["all"], most])
        return metrics

    def class_metrics(self) -> dict[str, dict[str, float | None]]:
        """Returns the metrics of each class by its name.

        They are AP, AP50, AP75, AP_small, AP_medium, AP_large and AR100; None as in `coco_metrics`.
        """
        precision, recall = self._evaluation.eval["precision"], self._evaluation.eval["recall"]
        most = len(_MAX_DETECTIONS) - 1
        return {
            name: {
                "AP": _mean(precision[:, :, index, _AREAS["all"], most]),
                "AP50": _mean(precision[self._at50, :, index, _AREAS["all"], most]),
                "AP75": _mean(precision[self._at75, :, index, _AREAS["all"], most]),
                **{
                    f"AP_{size}": _mean(precision[:, :, index, area, most])
                    for size, area in _AREAS.items()
                    if size != "all"
                },
                "AR100": _mean(recall[:, index, _AREAS["all"], most]),
            }
            for index, name in enumerate(self._label_map)
        }

    def rankings(self) -> list[Ranking]:
        """Returns the ranking of each class over objects of all sizes, for other weights."""
        return [self._rank(index) for index in range(len(self._label_map))]

    def _rank(self, class_index: int) -> Ranking:
        num_truths = np.zeros(len(self._evaluation.params.imgIds), np.int64)
        scores, images = [np.zeros(0)], [np.zeros(0, np.int64)]
        nothing = np.zeros((len(self._evaluation.params.iouThrs), 0), bool)
        matched, ignored = [nothing], [nothing]
        for index, one in enumerate(self._of_class(class_index)):
            if one:
                num_truths[index] = len(one["gtIgnore"]) - np.count_nonzero(one["gtIgnore"])
                scores.append(np.asarray(one["dtScores"], np.float64))
                images.append(np.full(len(one["dtScores"]), index))
                matched.append(np.asarray(one["dtMatches"]) > 0)
                ignored.append(np.asarray(one["dtIgnore"], bool))
        # The sort by which COCO accumulates.
        order = np.argsort(-np.concatenate(scores), kind="mergesort")
        is_ignored = np.concatenate(ignored, axis=1)[:, order]
        hits = np.concatenate(matched, axis=1)[:, order] & ~is_ignored
        return Ranking(np.concatenate(images)[order], hits, is_ignored, num_truths)

    def _of_class(self, class_index: int) -> list[Any]:
        """Returns what COCOeval found of a class in each image, over objects of all sizes."""
        num_images = len(self._evaluation.params.imgIds)
        start = (class_index * len(_AREAS) + _AREAS["all"]) * num_images
        return list(self._evaluation.evalImgs[start : start + num_images])

    def matches(self) -> Matches:
        """Returns the matching at IoU .5 over objects of all sizes."""
        truths = np.array(self._truth_places, np.int64).reshape(-1, 2)
        results = np.array(self._result_places, np.int64).reshape(-1, 2)
        # Columns: result id, class id, score, truth id or 0, whether it is ignored.
        rows: list[Floats] = []
        for class_index in range(len(self._label_map)):
            of_class = [_match_rows(one, self._at50) for one in self._of_class(class_index) if one]
            joined = np.concatenate(of_class) if of_class else np.zeros((0, 5))
            # The sort by which COCO accumulates.
            rows.append(joined[np.argsort(-joined[:, 2], kind="mergesort")])
        table = np.concatenate(rows) if rows else np.zeros((0, 5))
        own = results[table[:, 0].astype(np.int64) - 1]
        truth_ids = table[:, 3].astype(np.int64)
        annotations = self._evaluation.cocoGt.dataset["annotations"]
        found = np.zeros(len(annotations), bool)
        found[truth_ids[truth_ids > 0] - 1] = True
        places = np.full(len(table), -1, np.int64)
        places[truth_ids > 0] = truths[truth_ids[truth_ids > 0] - 1, 1]
        return Matches(
            images=own[:, 0],
            places=own[:, 1],
            class_ids=table[:, 1].astype(np.int64),
            scores=table[:, 2],
            objects=places,
            ignored=table[:, 4].astype(bool),
            truth_images=truths[:, 0],
            truth_places=truths[:, 1],
            truth_class_ids=np.array([one["category_id"] for one in annotations], np.int64),
            difficult=np.array([one["difficult"] for one in annotations], bool),
            found=found,
        )

    def _dataset(self, images: Sequence[EvaluatedImage]) -> dict[str, Any]:
        ids = self._label_map.ids_by_name
        annotations: list[dict[str, Any]] = []
        for index, image in enumerate(images):
            for place, item in enumerate(image.objects):
                left, top, width, height = item.box.to_coco(image.size)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": index + 1,
                        "category_id": ids[item.name],
                        "bbox": [left, top, width, height],
                        "area": width * height,
                        "iscrowd": 0,
                        "difficult": int(item.difficult),
                    }
                )
                self._truth_places.append((index, place))
        return {
            "info": {},
            "images": [
                {"id": i, "width": image.size.width, "height": image.size.height}
                for i, image in enumerate(images, start=1)
            ],
            "categories": [{"id": class_id, "name": name} for name, class_id in ids.items()],
            "annotations": annotations,
        }


def coco_metrics(
    images: Sequence[EvaluatedImage], label_map: LabelMap
) -> Mapping[str, float | None]:
    """Computes COCO's bounding box metrics; difficult objects as in `CocoEvaluation`.

    Args:
        images: Truth and detections, one entry an image.
        label_map: The classes.

    Returns:
        AP, AP50, AP75, AP_small, AP_medium, AP_large, AR1, AR10, AR100, then `AP/NAME` and
        `AP50/NAME` of each class; None where no object exists to measure with.
    """
    return CocoEvaluation(images, label_map).metrics()


def metric_names(label_map: LabelMap) -> list[str]:
    """Returns the names that `coco_metrics` gives, in its order."""
    return list(coco_metrics([], label_map))


def average_precision(hits: Bools, num_truths: int) -> float | None:
    """Returns COCO's average precision.

    It is the mean, over the recalls 0, .01, … 1, of the best precision at that recall or beyond.

    Args:
        hits: Whether a detection is right, from the highest score to the lowest.
        num_truths: How many objects there are to find; 0 cannot be measured and gives None.
    """
    if not num_truths:
        return None
    if not len(hits):
        return 0.0
    right = np.cumsum(hits)
    precision = np.maximum.accumulate((right / np.arange(1, len(hits) + 1))[::-1])[::-1]
    first = np.searchsorted(right / num_truths, _RECALL_POINTS, side="left")
    return float(np.append(precision, 0.0)[first].mean())


def overlaps(boxes: Sequence[Box], others: Sequence[Box], size: ImageSize) -> Floats:
    """Returns the IoU of each box with each other one, [boxes, others], as COCO computes it."""
    if not boxes or not others:
        return np.zeros((len(boxes), len(others)))
    first, second = ([box.to_coco(size) for box in some] for some in (boxes, others))
    return np.asarray(mask.iou(np.array(first), np.array(second), [0] * len(others)), np.float64)


def _match_rows(evaluated: Mapping[str, Any], threshold: int) -> Floats:
    """Returns what COCOeval found in one image for one class.

    The columns are those that `CocoEvaluation.matches` names.
    """
    columns = (
        evaluated["dtIds"],
        evaluated["dtScores"],
        evaluated["dtMatches"][threshold],
        evaluated["dtIgnore"][threshold],
    )
    ids, scores, matched, ignored = (np.asarray(column, np.float64) for column in columns)
    return np.stack(
        [ids, np.full(len(ids), float(evaluated["category_id"])), scores, matched, ignored], axis=1
    )


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
