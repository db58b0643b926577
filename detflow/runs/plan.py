"""How many steps a run takes, as it was known from each step on. Does not import TensorFlow.

A run of fixed length knows it from the start. A time budget fits the number of steps to the clock
again and again. Each fit is written down, and the learning rate of a step depends on what is
written down and on nothing else: so a resumed run repeats the run that was interrupted.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

MAX_FITS = 30
"""A plan has at most this many fits: the schedule of the learning rate holds a table of them."""

# Stands for the number of steps until the first fit: so large that a schedule stays at its start.
_OPEN_END = 10**9


class Fit(NamedTuple):
    """From step `step` on (that many steps are taken) the run was to have `total` steps."""

    step: int
    total: int


class Piece(NamedTuple):
    """A straight piece of a progress that rises from 0 to 1.

    From step `start` (counted from 0) to the start of the next piece, the progress at step s is
    `base` + (1 - `base`) · (s - `origin`) / `length`, bounded by 0 and 1.
    """

    start: int
    origin: int
    base: float
    length: int

    def at(self, step: int) -> float:
        """Returns the progress at a step of the piece."""
        share = (step - self.origin) / max(1, self.length)
        return min(1.0, max(0.0, self.base + (1.0 - self.base) * share))


@dataclass(frozen=True)
class Plan:
    """The fits of a run in their order; none where a time budget has not been fitted yet."""

    fits: tuple[Fit, ...] = ()

    @classmethod
    def fixed(cls, steps: int) -> Plan:
        """Returns the plan of a run whose number of steps is known from the start."""
        return cls((Fit(0, steps),))

    @classmethod
    def from_numbers(cls, numbers: Sequence[Sequence[int]]) -> Plan:
        """Returns the plan of pairs (step, total), as they are written down."""
        return cls(tuple(Fit(*pair) for pair in numbers))

    @property
    def total(self) -> int | None:
        """Steps of the whole run as of the last fit; None before the first one."""
        return self.fits[-1].total if self.fits else None

    @property
    def is_full(self) -> bool:
        """Whether there is no room for a fit that the schedule is to follow."""
        return len(self.fits) >= MAX_FITS

    def refit(self, step: int, total: int) -> Plan:
        """Returns the plan with one more fit: after `step` steps the run is to have `total`."""
        return Plan((*self.fits, Fit(step, total)))

    def pieces(self, begin: int) -> list[Piece]:
        """Returns the progress of what begins at step `begin` and ends with the run.

        The first fit counts as if it had been known from the start. Each later one goes on from the
        progress that was reached, so that nothing jumps, and changes how fast the rest passes.
        """
        pieces = []
        if not self.fits or self.fits[0].step > 0:
            pieces.append(Piece(0, begin, 0.0, _OPEN_END - begin))
        if self.fits:
            pieces.append(Piece(self.fits[0].step, begin, 0.0, self.fits[0].total - begin))
        for _, (step, total) in itertools.pairwise(self.fits):
            origin = max(step, begin)
            pieces.append(Piece(step, origin, pieces[-1].at(origin), total - origin))
        return pieces
