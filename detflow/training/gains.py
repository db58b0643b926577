"""Whether an evaluation in a training is better than the best one before, or only looks so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from detflow.label_map import LabelMap
from detflow.metrics.intervals import (
    FEW_OBJECTS,
    LEVEL_TEXT,
    MIN_DRAWS,
    DrawnPrecision,
    Interval,
    draw_precision,
    find_differences,
    find_intervals,
)
from detflow.metrics.ranking import Ranking, count_objects
from detflow.tables import format_difference, format_interval
from detflow.text import count_noun


class Gains:
    """Compares the evaluations of a run on the same draws of its images.

    A resumed run knows nothing of the evaluations before.

    Args:
        label_map: The classes.
    """

    def __init__(self, label_map: LabelMap) -> None:
        self._label_map = label_map
        self._best: tuple[int, float, DrawnPrecision] | None = None
        self._latest: tuple[int, Mapping[str, Interval]] | None = None

    def judge(
        self, step: int, ap: float | None, rankings: Sequence[Ranking], best_step: int | None
    ) -> str:
        """Returns a few words about an evaluation, none where there is nothing to tell.

        They are the range of an AP of few objects, and what changed since the best one before.

        Args:
            step: Of the evaluation.
            ap: Its AP.
            rankings: The ranking of each class.
            best_step: The best step so far, this one included.
        """
        if ap is None or not rankings:
            return ""
        drawn, before = draw_precision(rankings, MIN_DRAWS), self._best
        found = find_intervals(drawn, self._label_map)
        known = {name: at for name in ("AP", "AP50") if (at := found[name]) is not None}
        self._latest = step, known
        words = _tell_range(rankings, found["AP"])
        if best_step == step or before is None:
            self._best = step, ap, drawn
        if before is not None:
            interval = find_differences(drawn, before[2], self._label_map)["AP"]
            difference = f"{format_difference(ap - before[1])} on step {before[0]:,}"
            words.append(f"{difference}, {_tell(interval)}")
        return "; ".join(words)

    def intervals(self, step: int) -> Mapping[str, Interval]:
        """Returns where AP and AP50 of a step lie that was judged last, as far as it is known."""
        return self._latest[1] if self._latest and self._latest[0] == step else {}


def _tell_range(rankings: Sequence[Ranking], interval: Interval | None) -> list[str]:
    """Returns how far an AP of few objects can be trusted; nothing where there are many."""
    objects = count_objects(rankings)
    if objects >= FEW_OBJECTS or interval is None:
        return []
    return [f"{format_interval(interval)} at {LEVEL_TEXT}, of only {count_noun(objects, 'object')}"]


def _tell(interval: Interval | None) -> str:
    if interval is None:
        return "too few images to tell"
    between = f"{format_interval(interval, signed=True)} at {LEVEL_TEXT}"
    if interval.low > 0:
        return f"a gain: {between}"
    return f"a loss: {between}" if interval.high < 0 else f"not clear: {between}"
