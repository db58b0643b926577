"""Precision, recall and F1 over the score threshold, at IoU .5."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detflow.label_map import LabelMap
from detflow.metrics.coco import Bools, Floats, Matches


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What remains of precision and recall when detections below a score are dropped.

    A value is None where there is nothing to divide by.
    """

    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class Curve:
    """All operating points that differ, from the highest threshold to the lowest.

    Attributes:
        thresholds: The scores that occur, each once.
        right: How many detections with at least that score are right.
        wrong: How many are false positives.
        num_truths: How many objects there are to find.
    """

    thresholds: Floats
    right: Floats
    wrong: Floats
    num_truths: int

    @property
    def precision(self) -> Floats:
        """Share of the detections that are right; every threshold keeps at least one."""
        return self.right / (self.right + self.wrong)

    @property
    def recall(self) -> Floats:
        """Share of the objects that are found; not a number where there are none."""
        return self.right / self.num_truths if self.num_truths else np.full(len(self.right), np.nan)

    @property
    def f1(self) -> Floats:
        """Harmonic mean of precision and recall: 2 · hits / (detections + objects)."""
        return 2 * self.right / (self.right + self.wrong + self.num_truths)

    @property
    def best(self) -> OperatingPoint | None:
        """The point with the highest F1; None where F1 is nowhere above 0.

        Of several such points it is the one with the highest threshold.
        """
        if not self.right.any():
            return None
        return self.at(float(self.thresholds[int(self.f1.argmax())]))

    def f1_at(self, thresholds: Floats) -> Floats:
        """Returns F1 at each of several thresholds; not a number where there are no objects."""
        right, wrong = self._counts_at(thresholds)
        return (
            2 * right / (right + wrong + self.num_truths)
            if self.num_truths
            else np.full(len(thresholds), np.nan)
        )

    def at(self, threshold: float) -> OperatingPoint:
        """Returns the point of a threshold."""
        (right,), (wrong,) = self._counts_at(np.array([threshold]))
        return OperatingPoint(
            threshold,
            precision=float(right / (right + wrong)) if right + wrong else None,
            recall=float(right / self.num_truths) if self.num_truths else None,
            f1=float(2 * right / (right + wrong + self.num_truths)) if self.num_truths else None,
        )

    def _counts_at(self, thresholds: Floats) -> tuple[Floats, Floats]:
        count = np.searchsorted(-self.thresholds, -thresholds, side="right")
        return np.insert(self.right, 0, 0.0)[count], np.insert(self.wrong, 0, 0.0)[count]


def class_curves(matches: Matches, label_map: LabelMap) -> dict[str, Curve]:
    """Returns the curve of each class by its name."""
    return {
        name: _curve(matches, matches.class_ids == class_id, matches.num_truths(class_id))
        for name, class_id in label_map.ids_by_name.items()
    }


def overall_curve(matches: Matches) -> Curve:
    """Returns the curve of all classes together: one threshold for all, and objects count alike."""
    return _curve(
        matches, np.ones(len(matches.scores), bool), int(np.count_nonzero(~matches.difficult))
    )


def _curve(matches: Matches, chosen: Bools, num_truths: int) -> Curve:
    chosen = chosen & (matches.hits | matches.misses)
    scores, hits = matches.scores[chosen], matches.hits[chosen]
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], hits[order]
    # A threshold takes all detections of a score or none: the point after the last one of each
    # score.
    last = (
        np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
        if len(scores)
        else np.zeros(0, np.int64)
    )
    right = np.cumsum(hits, dtype=np.float64)[last]
    return Curve(scores[last], right, last + 1.0 - right, num_truths)
