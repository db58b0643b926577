"""COCO's average precision from one ranking of detections, for many weightings of the images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_RECALL_POINTS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, slots=True)
class Ranking:
    """One class's detections over all images, from the highest score to the lowest.

    Attributes:
        images: [detections], index of the image.
        hits: [IoU thresholds, detections], whether a detection is right.
        ignored: [IoU thresholds, detections], whether it is neither right nor wrong.
        num_truths: [images], how many objects of an image count.
    """

    images: npt.NDArray[np.int64]
    hits: npt.NDArray[np.bool_]
    ignored: npt.NDArray[np.bool_]
    num_truths: npt.NDArray[np.int64]


Weights = npt.NDArray[np.int32]
"""[draws, images]: how often each image counts."""


def count_objects(rankings: Iterable[Ranking]) -> int:
    """Returns how many objects count, of all classes together."""
    return sum(int(ranking.num_truths.sum()) for ranking in rankings)


def average_precisions(ranking: Ranking, weights: Weights) -> npt.NDArray[np.float64]:
    """Returns COCO's average precision at each IoU threshold, with images that count many times.

    What matches what does not change with the weights. Copies of an image stand side by side in the
    ranking, where a run of hits only raises the precision and a run of false positives only lowers
    it: so AP with weights is AP with copies. Only several detections of one image and class with
    the same score could tell the two apart.

    Args:
        ranking: A class's detections.
        weights: How often each image counts; ones give what pycocotools computes.

    Returns:
        [draws, IoU thresholds]; not a number where no object counts.
    """
    truths = (weights @ ranking.num_truths).astype(np.float64)
    counted = weights[:, ranking.images]
    seen = np.cumsum(counted, axis=1, dtype=np.int32)
    columns = [
        _precision_of(counted, seen, hits, ignored, truths)
        for hits, ignored in zip(ranking.hits, ranking.ignored, strict=True)
    ]
    return np.where(truths[:, np.newaxis] > 0, np.stack(columns, axis=1), np.nan)


def _precision_of(
    counted: Weights,
    seen: Weights,
    hits: npt.NDArray[np.bool_],
    ignored: npt.NDArray[np.bool_],
    truths: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Returns the average precision of each draw at one IoU threshold.

    Precision is looked up where recall rises, which is at hits alone: what counts of the other
    detections is how many come before.
    """
    places = np.flatnonzero(hits)
    if not len(places):
        return np.zeros(len(counted))
    right = np.cumsum(counted[:, places], axis=1, dtype=np.int32)
    ranked = seen[:, places]
    if ignored.any():
        ranked = ranked - np.cumsum(counted * ignored, axis=1, dtype=np.int32)[:, places]
    # The small number is pycocotools' way to divide by nothing.
    precision = right / (ranked + np.spacing(1.0))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = right / np.maximum(truths, 1.0)[:, np.newaxis]
    reached = np.searchsorted(_RECALL_POINTS, recall, side="right")
    gained = np.diff(reached, axis=1, prepend=0)
    return np.asarray((best * gained).sum(axis=1) / len(_RECALL_POINTS), np.float64)
