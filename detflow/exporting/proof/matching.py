"""Compares a format with its checkpoint detection by detection, within a tolerance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from detflow.artifact import OUTPUT_NAMES
from detflow.errors import ArtifactError
from detflow.exporting.proof.compare import (
    Agreement,
    OutputComparison,
    Row,
    Tolerance,
    read_rows,
)
from detflow.geometry import pairwise_iou
from detflow.inference.detector import Outputs
from detflow.text import count_noun

# Detections that may lie on a threshold, however few there are in all.
_FEW: Final = 2


class _Matches(NamedTuple):
    """One image: detections that had to have a counterpart, and those of them that have none.

    Attributes:
        image_name: The image.
        num_wanted: Detections of the checkpoint.
        lost: Those that the format does not have.
        num_given: Detections of the format.
        added: Those that the checkpoint does not have.
        counts: All detections of the checkpoint and of the format, whatever their scores.
    """

    image_name: str
    num_wanted: int
    lost: list[str]
    num_given: int
    added: list[str]
    counts: tuple[int, int]


class MatchedComparison(OutputComparison):
    """Compares detection by detection, within a tolerance, in both directions.

    A file that finds everything again and adds what is not there is as wrong as one that loses it.
    """

    def __init__(self, name: str, reference_name: str, tolerance: Tolerance) -> None:
        super().__init__(name, reference_name)
        self._tolerance = tolerance
        self._matches: list[_Matches] = []

    @override
    def add(self, image_name: str, expected: Outputs, actual: Outputs) -> None:
        for output in OUTPUT_NAMES:
            if not _is_like(actual.get(output), expected[output]):
                raise ArtifactError(
                    f"{output} is not as {self._reference_name} gives it on image {image_name}: "
                    "it is missing, not finite or of another type",
                    path=self._name,
                )
        checkpoint, given = read_rows(expected), read_rows(actual)
        wanted, claimed = (self._choose(rows) for rows in (checkpoint, given))
        self._matches.append(
            _Matches(
                image_name,
                len(wanted),
                _find_unmatched(wanted, given, self._tolerance),
                len(claimed),
                _find_unmatched(claimed, checkpoint, self._tolerance),
                (len(checkpoint), len(given)),
            )
        )

    def _choose(self, rows: Sequence[Row]) -> list[Row]:
        """Returns the detections that must have a counterpart.

        A box outside of the image has no area after clipping: nothing overlaps it, and there is
        nothing to show of it.
        """
        return [
            row
            for row in rows
            if row.score >= self._tolerance.score_threshold and (row.box[2:] > row.box[:2]).all()
        ]

    @property
    @override
    def worst_image(self) -> str:
        return max(self._matches, key=lambda one: len(one.lost) + len(one.added)).image_name

    @override
    def conclude(self) -> Agreement:
        num_wanted = sum(one.num_wanted for one in self._matches)
        num_given = sum(one.num_given for one in self._matches)
        found = self._require_share(
            f"{self._reference_name}'s {count_noun(num_wanted, 'detection')}",
            "found again",
            num_wanted,
            [(one.image_name, one.lost, one.num_wanted) for one in self._matches],
        )
        known = self._require_share(
            f"its own {count_noun(num_given, 'detection')}",
            f"{self._reference_name}'s too",
            num_given,
            [(one.image_name, one.added, one.num_given) for one in self._matches],
        )
        change = self._require_count()
        return Agreement(len(self._matches), num_wanted, {}, found, known, change)

    def _require_count(self) -> float | None:
        """Returns how many more detections the format has; raises ArtifactError for too many.

        What has a score too low to be found again still shows whether the threshold of the file is
        the checkpoint's.
        """
        before, after = (sum(one.counts[side] for one in self._matches) for side in (0, 1))
        limit = self._tolerance.max_count_change
        if limit is not None and abs(after - before) > max(limit * before, _FEW):
            worst = max(self._matches, key=lambda one: abs(one.counts[1] - one.counts[0]))
            raise ArtifactError(
                f"it has {count_noun(after, 'detection')} of any score, and {self._reference_name} "
                f"has {before:,}: more than {limit:.0%} apart; worst is image {worst.image_name}: "
                f"{worst.counts[1]:,} and {worst.counts[0]:,}",
                path=self._name,
            )
        return (after - before) / before if before else None

    def _require_share(
        self, what: str, are: str, total: int, unmatched: Sequence[tuple[str, list[str], int]]
    ) -> float | None:
        """Returns the share that has counterparts; raises ArtifactError where it is too small.

        Args:
            what: The detections, for the message.
            are: What those with a counterpart are.
            total: How many they are.
            unmatched: Of each image its name, those without a counterpart, and how many it has.
        """
        limits = self._tolerance
        share = 1.0 - sum(len(rows) for _, rows, _ in unmatched) / max(total, 1)
        if share < limits.min_share:
            name, rows, count = max(unmatched, key=lambda image: len(image[1]))
            raise ArtifactError(
                f"{share:.1%} of {what} with a score of {limits.score_threshold:g} and more are "
                f"{are} (IoU {limits.min_iou:g}, score within {limits.max_score_difference:g}), "
                f"asked are {limits.min_share:.1%}; worst is image {name}: {len(rows)} of {count} "
                f"{'is' if len(rows) == 1 else 'are'} not, such as {rows[0]}",
                path=self._name,
            )
        return share if total else None


def _is_like(actual: npt.NDArray[np.float32] | None, expected: npt.NDArray[np.float32]) -> bool:
    return (
        actual is not None
        and actual.dtype == expected.dtype
        and actual.ndim == expected.ndim
        and bool(np.isfinite(actual).all())
    )


def _find_unmatched(wanted: Sequence[Row], found: Sequence[Row], tolerance: Tolerance) -> list[str]:
    """Describes the wanted detections that have no counterpart among the found ones.

    From the highest score on, each takes the free counterpart with the largest IoU.
    """
    if not wanted or not found:
        return [str(row) for row in wanted]
    overlaps = pairwise_iou([row.box for row in wanted], [row.box for row in found])
    is_free = np.ones(len(found), np.bool_)
    classes, scores = (
        np.array(column)
        for column in ([row.class_id for row in found], [row.score for row in found])
    )
    unmatched = []
    for row, ious in zip(wanted, overlaps, strict=True):
        fits = (
            is_free
            & (classes == row.class_id)
            & (np.abs(scores - row.score) <= tolerance.max_score_difference)
            & (ious >= tolerance.min_iou)
            & (ious > 0.0)
        )
        if fits.any():
            is_free[np.argmax(np.where(fits, ious, -1.0))] = False
        else:
            unmatched.append(str(row))
    return unmatched
