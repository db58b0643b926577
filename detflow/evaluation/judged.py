"""What becomes of every box as the score threshold moves, for a page whose reader moves it.

The threshold takes one of a hundred and a few values, its steps. A detection is kept up to some
step, an object found up to some step; a page that compares these whole numbers counts what
`Curve.at` and `find_errors` count at the threshold of the step.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from detflow.evaluation.analysis import Analysis
from detflow.evaluation.gallery import error_cost, object_weights, phrase_error
from detflow.metrics.coco import Floats, Ints
from detflow.metrics.errors import DetectionError, ErrorType, find_errors

MAX_CLASSES: Final = 200
"""Classes whose counts a page has; those of the others are summed up under the id 0."""

_NEVER = -1
_MENDABLE = (ErrorType.CLASSIFICATION, ErrorType.LOCALISATION)


@dataclass(frozen=True, slots=True)
class JudgedObject:
    """An object, and what becomes of it.

    Attributes:
        place: Its index in the image's objects.
        until: The last step at which it is found; -1 where nothing finds it.
        near: The last step at which it is found, or at which mending the class or the place of a
            detection would find it; beyond it, it is an error of the kind "missed".
        words: The error.
        cost: About how much AP missing it costs.
        class_id: Its class.
    """

    place: int
    until: int
    near: int
    words: str
    cost: float
    class_id: int


@dataclass(frozen=True, slots=True)
class JudgedDetection:
    """A detection, and what becomes of it.

    Attributes:
        place: Its index in the image's detections.
        until: The last step that keeps it.
        outcome: "right", "wrong", or "difficult" where it found an object that does not count.
        kind: The kind of error; empty where it is none.
        words: The error.
        truth: The index in the image's objects of the one that it found, or that the error is
            about; None where there is none.
        cost: About how much AP the error costs.
        class_ids: The classes that it is about.
    """

    place: int
    until: int
    outcome: str
    kind: str
    words: str
    truth: int | None
    cost: float
    class_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class JudgedImage:
    """An image's boxes; detections stand from the highest score to the lowest."""

    objects: Sequence[JudgedObject]
    detections: Sequence[JudgedDetection]


class Steps:
    """Everything that a page needs to move the threshold of an analysis.

    Args:
        analysis: What was measured.

    Attributes:
        thresholds: The score threshold of each step, ascending: 0, .01, … 1, and the analysis' own.
        at: The step of the analysis' own threshold.
    """

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        matches = analysis.matches
        own = analysis.score_threshold
        self.thresholds: Floats = np.unique(np.append(np.arange(101) / 100, own))
        self.at = int(np.searchsorted(self.thresholds, own))
        self._until: Ints = np.searchsorted(self.thresholds, matches.scores, side="right") - 1
        self._errors = {
            error.detection: error
            for error in find_errors(matches, analysis.images)
            if error.detection is not None
        }
        self._found = np.full(len(matches.truth_images), _NEVER, np.int64)
        finding = matches.objects >= 0
        first = np.searchsorted(matches.truth_images, matches.images[finding])
        np.maximum.at(self._found, first + matches.objects[finding], self._until[finding])
        self._near = self._found.copy()
        mending = {
            place: error.truth
            for place, error in self._errors.items()
            if error.type in _MENDABLE and error.truth is not None
        }
        places = np.array([*mending], np.int64)
        truths = np.array([*mending.values()], np.int64)
        np.maximum.at(self._near, truths, self._until[places])

    def describe_counts(self, splits: Sequence[str]) -> dict[str, Any]:
        """Returns the counts of every step, as JSON values.

        Args:
            splits: The split of each image.

        Returns:
            `thresholds` as text, `at`, `kinds` of errors, and `counts`: for each split and class
            their names, how many objects count, and one list for the right detections and one for
            each kind. A list holds pairs of a step and a number: so many detections are kept up to
            that step; for "missed", so many objects are covered up to that step.
        """
        matches, kinds = self._analysis.matches, list(ErrorType)
        counts: defaultdict[tuple[str, int], list[Counter[int]]] = defaultdict(
            lambda: [Counter() for _ in range(1 + len(kinds))]
        )
        objects: Counter[tuple[str, int]] = Counter()
        known = set(self._analysis.label_map.ids[:MAX_CLASSES])

        def key(image: int, class_id: int) -> tuple[str, int]:
            return splits[image], class_id if class_id in known else 0

        for place in np.flatnonzero(matches.hits).tolist():
            of_class = key(int(matches.images[place]), int(matches.class_ids[place]))
            counts[of_class][0][int(self._until[place])] += 1
        for place, error in self._errors.items():
            of_class = key(int(matches.images[place]), int(matches.class_ids[place]))
            counts[of_class][1 + kinds.index(error.type)][int(self._until[place])] += 1
        for truth in np.flatnonzero(~matches.difficult).tolist():
            of_class = key(int(matches.truth_images[truth]), int(matches.truth_class_ids[truth]))
            objects[of_class] += 1
            counts[of_class][1 + kinds.index(ErrorType.MISSED)][int(self._near[truth])] += 1
        return {
            "thresholds": [
                f"{threshold:.2f}" if round(threshold, 2) == threshold else f"{threshold:.4f}"
                for threshold in self.thresholds.tolist()
            ],
            "at": self.at,
            "kinds": [kind.value for kind in kinds],
            "counts": [
                [split, class_id, objects[split, class_id], *map(_list_pairs, of_class)]
                for (split, class_id), of_class in sorted(counts.items())
            ],
        }

    def judge_images(self, chosen: Sequence[int]) -> dict[int, JudgedImage]:
        """Returns the boxes of some images by the images' indices."""
        analysis, wanted = self._analysis, set(chosen)
        matches, weights = analysis.matches, object_weights(analysis)
        objects: dict[int, list[JudgedObject]] = {index: [] for index in chosen}
        for truth, index in enumerate(matches.truth_images.tolist()):
            if index in wanted:
                missed = DetectionError(ErrorType.MISSED, None, truth)
                objects[index].append(
                    JudgedObject(
                        int(matches.truth_places[truth]),
                        int(self._found[truth]),
                        int(self._near[truth]),
                        phrase_error(analysis, missed),
                        error_cost(analysis, missed, weights),
                        int(matches.truth_class_ids[truth]),
                    )
                )
        detections: dict[int, list[int]] = {index: [] for index in chosen}
        for place, index in enumerate(matches.images.tolist()):
            if index in wanted:
                detections[index].append(place)
        return {
            index: JudgedImage(
                objects[index],
                [
                    self._judge(place, self._errors.get(place), weights)
                    for place in sorted(detections[index], key=lambda p: -matches.scores[p])
                ],
            )
            for index in chosen
        }

    def _judge(
        self, place: int, error: DetectionError | None, weights: dict[int, float]
    ) -> JudgedDetection:
        analysis, matches = self._analysis, self._analysis.matches
        until, own = int(self._until[place]), int(matches.places[place])
        if error is None:
            outcome = "difficult" if matches.ignored[place] else "right"
            class_ids = (int(matches.class_ids[place]),)
            truth = int(matches.objects[place])
            return JudgedDetection(own, until, outcome, "", "", truth, 0.0, class_ids)
        return JudgedDetection(
            own,
            until,
            "wrong",
            error.type.value,
            phrase_error(analysis, error),
            None if error.truth is None else int(matches.truth_places[error.truth]),
            error_cost(analysis, error, weights),
            analysis.error_classes(error),
        )


def _list_pairs(counts: Counter[int]) -> list[int]:
    return list(_iterate_pairs(counts))


def _iterate_pairs(counts: Counter[int]) -> Iterator[int]:
    for step, number in sorted(counts.items()):
        yield from (step, number)
