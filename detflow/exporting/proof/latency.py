"""How long a format takes for one image, once it has passed its gate."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from detflow.exporting.proof.process import Candidate, FreshProcess, ProofImage

TIMED_IMAGES: Final = 8
"""Images of the proof that a format is timed on."""

TIMED_RUNS: Final = 150
"""Runs that are timed; the median of so many is the same within a few per cent the next time."""


@dataclass(frozen=True)
class Timing:
    """How much is timed.

    Attributes:
        images: Images, which take turns.
        runs: Most runs.
        seconds: Time after which no further run is made, for a slow network.
    """

    images: int = TIMED_IMAGES
    runs: int = TIMED_RUNS
    seconds: float = 3.0


def measure_p50_ms(
    fresh: FreshProcess, candidate: Candidate, images: Iterable[ProofImage], timing: Timing
) -> float:
    """Returns the median of what one image takes in the fresh process, in milliseconds.

    The time is from pixels or files to detections. The first runs after loading, in which a runtime
    prepares itself, are the proof's and not timed.

    Raises:
        ArtifactError: It cannot run.
    """
    timed = list(itertools.islice(images, timing.images))
    seconds: list[float] = []
    for image in itertools.islice(itertools.cycle(timed), timing.runs):
        fresh.run(candidate, image)
        seconds.append(fresh.last_run_s)
        if sum(seconds) > timing.seconds:
            break
    return 1e3 * statistics.median(seconds)
