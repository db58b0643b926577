"""How far an average precision can be trusted: the bootstrap over images.

A split is a sample of the pictures that a model will meet. Its images are drawn again, with
replacement, as many as there are, and AP is computed for each draw: the middle 90 % of these values
are the interval. AP takes the best precision at each recall or beyond, and draws with copies lie
above the value itself, so the middle is taken around the value and not around the draws' own median
(bias-corrected percentiles; Efron and Tibshirani, "An Introduction to the Bootstrap", 1993,
sections 13.3 and 14.3).
Two models are compared on the same draws, so that what is hard about an image cancels out.
Images are matched once, by pycocotools, and a draw only says how often each image counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from detflow.label_map import LabelMap
from detflow.metrics.ranking import Ranking, Weights, average_precisions, count_objects

LEVEL: Final = 0.9
"""The share of the draws that an interval holds."""

LEVEL_TEXT: Final = f"{100 * LEVEL:.0f} %"
"""The same for people."""

MAX_DRAWS: Final = 1000
"""How often the images are drawn, unless there is very much to compute."""

MIN_DRAWS: Final = 200
"""The fewest that tell where AP lies: a range for a few words in passing, which costs milliseconds
with hundreds of images, and the least of a very large split."""

SEED: Final = 20
"""The draws are a pure function of it, of the number of images, and of their own number."""

FEW_OBJECTS: Final = 50
"""An AP of fewer objects is not shown without its interval."""

MIN_IMAGES: Final = 5
"""A class in fewer images has no interval: these few drawn again can show no others."""

# Steps of work beyond which draws are saved: about eight seconds of one core. At an IoU threshold a
# hit costs about ten times what a detection does.
_MAX_WORK, _WORK_OF_HIT = 1_200_000_000, 10
# So many draws share a generator, whose numbers must not depend on how many are computed at once.
_BLOCK = 25
# Numbers of an array that is computed at once.
_MAX_NUMBERS = 2_000_000

Floats = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """What holds the middle `LEVEL` of the draws."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class DrawnPrecision:
    """Average precision in each draw; not a number where a draw has no object to measure with.

    Attributes:
        ap: [classes, draws], mean over the IoU thresholds; the first draw is the images themselves.
        ap50: [classes, draws], at IoU .5; likewise.
        num_images: [classes], in how many images there are objects of the class.
        num_any: In how many images there is any object.
    """

    ap: Floats
    ap50: Floats
    num_images: npt.NDArray[np.int64]
    num_any: int

    @property
    def num_draws(self) -> int:
        """How many draws there are beside the images themselves."""
        return int(self.ap.shape[1]) - 1

    def by_name(self, label_map: LabelMap) -> Iterator[tuple[str, Floats, int]]:
        """Yields the metrics' names, as `coco_metrics` has them, with their values in the draws.

        The last entry is the number of images that the interval rests on.
        """
        for name, values in (("AP", self.ap), ("AP50", self.ap50)):
            yield name, _mean_of_measured(values), self.num_any
            for index, of in enumerate(label_map):
                yield f"{name}/{of}", values[index], int(self.num_images[index])


def draw_precision(rankings: Sequence[Ranking], max_draws: int = MAX_DRAWS) -> DrawnPrecision:
    """Computes the average precision of each class in each draw.

    Args:
        rankings: A ranking for each class; all are of the same images.
        max_draws: How many draws; a very large split takes fewer, so that it costs seconds.
    """
    num_images = len(rankings[0].num_truths) if rankings else 0
    draws = _choose_draws(rankings, max_draws)
    ap, ap50 = (np.full((len(rankings), draws + 1), np.nan) for _ in range(2))
    at_once = max([1, num_images, *(len(ranking.images) for ranking in rankings)]) * _BLOCK
    for start, weights in _draw_images(num_images, draws, max(1, _MAX_NUMBERS // at_once)):
        chosen = slice(start, start + len(weights))
        for index, ranking in enumerate(rankings):
            values = average_precisions(ranking, weights)
            ap[index, chosen], ap50[index, chosen] = values.mean(axis=1), values[:, 0]
    has_objects = np.array([ranking.num_truths > 0 for ranking in rankings], bool)
    has_objects = has_objects.reshape(len(rankings), num_images)
    num_any = int(np.count_nonzero(has_objects.any(axis=0)))
    return DrawnPrecision(ap, ap50, has_objects.sum(axis=1), num_any)


def find_intervals(drawn: DrawnPrecision, label_map: LabelMap) -> dict[str, Interval | None]:
    """Returns the interval of AP and AP50, and of both for each class, by the metrics' names.

    It is None where a class is in fewer images than `MIN_IMAGES`.
    """
    return {
        name: _interval(values, num_images) for name, values, num_images in drawn.by_name(label_map)
    }


def find_range(
    rankings: Sequence[Ranking], label_map: LabelMap, max_draws: int = MAX_DRAWS
) -> tuple[int, Interval | None]:
    """Returns on how many objects AP is measured, and where it lies.

    Args:
        rankings: The ranking of each class.
        label_map: The classes.
        max_draws: As of `draw_precision`.
    """
    drawn = draw_precision(rankings, max_draws)
    return count_objects(rankings), find_intervals(drawn, label_map)["AP"]


def find_differences(
    first: DrawnPrecision, other: DrawnPrecision, label_map: LabelMap
) -> dict[str, Interval | None]:
    """Returns the interval of what the first of two models has more than the other, by name.

    Args:
        first: The first model in each draw.
        other: The other one on the same images.
        label_map: The classes.
    """
    draws = min(first.num_draws, other.num_draws)
    pairs = zip(first.by_name(label_map), other.by_name(label_map), strict=True)
    return {
        name: _interval(values[: draws + 1] - others[: draws + 1], num_images)
        for (name, values, num_images), (_, others, _) in pairs
    }


def _interval(values: Floats, num_images: int) -> Interval | None:
    """Returns the middle of the draws around the first value, which is that of the images."""
    value, draws = values[0], values[1:]
    draws = draws[~np.isnan(draws)]
    if num_images < MIN_IMAGES or not len(draws):
        return None
    below = np.count_nonzero(draws < value) + np.count_nonzero(draws == value) / 2
    # A value beyond all draws is taken as if half a draw lay beyond it.
    share = min(max(below, 0.5), len(draws) - 0.5) / len(draws)
    normal = NormalDist()
    bias, reach = normal.inv_cdf(share), normal.inv_cdf((1 + LEVEL) / 2)
    low, high = np.quantile(draws, [normal.cdf(2 * bias - reach), normal.cdf(2 * bias + reach)])
    return Interval(float(low), float(high))


def _choose_draws(rankings: Sequence[Ranking], max_draws: int) -> int:
    work = sum(
        len(ranking.images) + _WORK_OF_HIT * int(np.count_nonzero(ranking.hits))
        for ranking in rankings
    )
    return min(max_draws, max(MIN_DRAWS, _MAX_WORK // max(1, work)))


def _draw_images(num_images: int, draws: int, blocks: int) -> Iterator[tuple[int, Weights]]:
    """Yields the images themselves, then draws; and the number of the first one of each block.

    A draw is the same however many there are.

    Args:
        num_images: How many images are drawn, each time.
        draws: How many draws.
        blocks: How many blocks of draws are yielded together.
    """
    if num_images:
        yield 0, np.ones((1, num_images), np.int32)
    last = -(-draws // _BLOCK) if num_images else 0
    for first in range(0, last, blocks):
        together = range(first, min(first + blocks, last))
        start = first * _BLOCK
        drawn = np.concatenate([_draw_block(num_images, block) for block in together])
        yield start + 1, drawn[: draws - start]


def _draw_block(num_images: int, block: int) -> Weights:
    drawn = np.random.default_rng([SEED, block]).integers(num_images, size=(_BLOCK, num_images))
    drawn += np.arange(_BLOCK)[:, np.newaxis] * num_images
    counts = np.bincount(drawn.ravel(), minlength=_BLOCK * num_images)
    return counts.reshape(_BLOCK, num_images).astype(np.int32)


def _mean_of_measured(values: Floats) -> Floats:
    """Averages over the classes, leaving out those without an object in a draw."""
    is_measured = ~np.isnan(values)
    count = is_measured.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, np.where(is_measured, values, 0.0).sum(axis=0) / count, np.nan)


def describe_method(drawn: DrawnPrecision) -> Mapping[str, float | int | str]:
    """Returns how intervals were found, as JSON values."""
    return {
        "level": LEVEL,
        "draws": drawn.num_draws,
        "seed": SEED,
        "method": "bias-corrected percentiles of a bootstrap over images",
        "min_images": MIN_IMAGES,
    }
