"""How many steps fit into a time budget. Does not import TensorFlow."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

# The first steps compile kernels and fill caches; those behind them tell what a step costs. With
# the default warm-up all of them lie in it, where the learning rate does not depend on the number
# of steps to come.
FIRST_TIMED_STEP = 8
LAST_TIMED_STEP = 40


@dataclass(frozen=True)
class Costs:
    """Seconds that a step, an evaluation and a checkpoint take."""

    step: float
    evaluation: float
    checkpoint: float


@dataclass(frozen=True)
class Intervals:
    """After how many steps a run evaluates and saves; it does both after its last step in any case.

    Attributes:
        evaluation: None where nothing is evaluated.
        checkpoint: Each evaluation saves too.
    """

    evaluation: int | None
    checkpoint: int

    def seconds(self, step: int, total: int, costs: Costs) -> float:
        """Returns how long a run goes on.

        Args:
            step: Steps taken; what is due after them is not done yet.
            total: Steps at which the run ends.
            costs: What each thing costs.
        """
        saves = _multiples(self.checkpoint, step, total)
        evaluations, is_saved = 0, total % self.checkpoint == 0
        if self.evaluation is not None:
            evaluations = _multiples(self.evaluation, step, total)
            both = _multiples(math.lcm(self.evaluation, self.checkpoint), step, total)
            saves += evaluations - both
            is_saved = is_saved or total % self.evaluation == 0
            evaluations += total % self.evaluation != 0
        saves += not is_saved
        return (
            (total - step) * costs.step + evaluations * costs.evaluation + saves * costs.checkpoint
        )

    def fit(self, step: int, seconds: float, costs: Costs) -> int:
        """Returns the largest total whose run ends in so many seconds; `step` where none does."""
        low, high = step, step + 1 + int(max(0.0, seconds) / costs.step)
        # `seconds` never falls as the total rises.
        while low < high:
            middle = (low + high + 1) // 2
            if self.seconds(step, middle, costs) <= seconds:
                low = middle
            else:
                high = middle - 1
        return low


class Stopwatch:
    """Adds up what evaluations and checkpoints take, so that steps can be told from them.

    Args:
        clock: Returns seconds from any origin.

    Attributes:
        began: When the budget began.
    """

    def __init__(
        self, began: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self.began = clock() if began is None else began
        self._aside = 0.0
        self._latest: dict[str, tuple[int, float]] = {}

    def now(self) -> float:
        """Returns the seconds since the budget began."""
        return self._clock() - self.began

    def stepping(self) -> float:
        """Returns the seconds since the budget began without evaluations and checkpoints."""
        return self.now() - self._aside

    @contextmanager
    def measure(self, what: Literal["evaluation", "checkpoint"]) -> Iterator[None]:
        """Counts the block as an evaluation or a checkpoint."""
        began = self._clock()
        try:
            yield
        finally:
            seconds = self._clock() - began
            self._aside += seconds
            number, _ = self._latest.get(what, (0, 0.0))
            self._latest[what] = (number + 1, seconds)

    def latest(self, what: Literal["evaluation", "checkpoint"]) -> tuple[int, float]:
        """Returns how many there were and how many seconds the latest took; (0, 0.0) before the first."""
        return self._latest.get(what, (0, 0.0))


def _multiples(every: int, first: int, last: int) -> int:
    """Returns how many multiples of a number, 0 left out, lie from one number to another."""
    return last // every - max(0, first - 1) // every
