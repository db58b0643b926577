"""The report's charts about boxes, and its table of image sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detflow.data.report.measure import (
    ASPECT_BINS_PER_OCTAVE,
    CENTRE_BINS,
    FIRST_ASPECT_OCTAVE,
    FIRST_SHARE_OCTAVE,
    SHARE_BINS_PER_OCTAVE,
    SIDE_BINS_PER_OCTAVE,
    Measured,
)
from detflow.pages.charts import Chart, build_heatmap, build_histogram, build_stack

_MAX_SIZES = 6
_OBJECTS_TICKS = ("0", "1", "2", "3–4", "5–8", "9–16", "17–32", "33–64", "65–128", "129+")
# COCO calls an object small below the one and large above the other.
_COCO_SIDES_PX = (32, 96)


def build_box_charts(measured: Measured) -> dict[str, Chart]:
    """Returns the charts about boxes and objects, by what they show."""
    shares, share_ticks = _trim_shares(measured.shares)
    sides, first_side = _trim(measured.sides, SIDE_BINS_PER_OCTAVE)
    aspects, first_aspect = _trim(measured.aspects, ASPECT_BINS_PER_OCTAVE)
    per_image, first_objects = _trim(measured.objects, 1)
    marks = [
        ((math.log2(side) - first_side) * SIDE_BINS_PER_OCTAVE, f"{side}")
        for side in _COCO_SIDES_PX
    ]
    side_ticks = [
        (place, f"{2**octave:,}")
        for place, octave in _number_octaves(sides, SIDE_BINS_PER_OCTAVE, first_side)
    ]
    aspect_ticks = [
        (place, _format_ratio(octave + FIRST_ASPECT_OCTAVE))
        for place, octave in _number_octaves(aspects, ASPECT_BINS_PER_OCTAVE, first_aspect)
    ]
    object_ticks = [
        (place + 0.43, _OBJECTS_TICKS[place + first_objects]) for place in range(len(per_image))
    ]
    end = float(CENTRE_BINS)
    return {
        "shares": build_heatmap(shares, share_ticks, share_ticks, "box width and height"),
        "sides": build_histogram(
            sides,
            side_ticks,
            "box sizes",
            [(place, text) for place, text in marks if 0 <= place <= len(sides)],
        ),
        "aspects": build_histogram(aspects, aspect_ticks, "box aspects"),
        "centres": build_heatmap(
            measured.centres,
            [(0.0, "left"), (end, "right")],
            [(0.0, "bottom"), (end, "top")],
            "box centres",
        ),
        "objects": build_histogram(per_image, object_ticks, "objects per image"),
    }


def _trim(counts: NDArray[np.int64], bins_per_octave: int) -> tuple[NDArray[np.int64], int]:
    """Cuts empty octaves off both ends; returns the rest and the number of its first octave."""
    used = np.flatnonzero(counts)
    if not len(used):
        return counts[:bins_per_octave], 0
    first, last = int(used[0]) // bins_per_octave, int(used[-1]) // bins_per_octave
    return counts[first * bins_per_octave : (last + 1) * bins_per_octave], first


def _number_octaves(
    counts: NDArray[np.int64], bins_per_octave: int, first: int
) -> list[tuple[float, int]]:
    """Returns (place in bins, number of the octave) of each octave's edge."""
    octaves = range(len(counts) // bins_per_octave + 1)
    return [(float(octave * bins_per_octave), octave + first) for octave in octaves]


def _trim_shares(shares: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[tuple[float, str]]]:
    """Cuts the octaves that are empty on both axes off the lower end; returns ticks beside it."""
    per_octave = SHARE_BINS_PER_OCTAVE
    _, first = _trim(shares.sum(axis=0) + shares.sum(axis=1), per_octave)
    rest = shares[first * per_octave :, first * per_octave :]
    # Beside more than four octaves there is room for every second tick only.
    step = 2 if len(rest) > 4 * per_octave else 1
    octaves = range(len(rest) // per_octave, -1, -step)
    return rest, [
        (float(octave * per_octave), _format_share(2.0 ** (octave + first + FIRST_SHARE_OCTAVE)))
        for octave in octaves
    ]


def _format_ratio(octave: int) -> str:
    return f"{2**octave}:1" if octave >= 0 else f"1:{2**-octave}"


def _format_share(share: float) -> str:
    """Returns a power of two with the digits that it needs: "0.39 %", "6.2 %", "25 %"."""
    digits = 2 if share < 0.005 else 1 if share < 0.1 else 0
    return f"{100 * share:.{digits}f} %"


@dataclass(frozen=True, slots=True)
class SizeRow:
    """How many images have a size in pixels."""

    width: int
    height: int
    images: int
    chart: Chart


@dataclass(frozen=True, slots=True)
class Sizes:
    """The most frequent sizes of images, and how many others there are."""

    rows: Sequence[SizeRow]
    num_others: int


def build_sizes(measured: Measured) -> Sizes:
    """Returns how many images have each of the most frequent sizes."""
    total = sum(measured.sizes.values())
    rows = [
        SizeRow(width, height, images, build_stack([(images, "accent")], f"{images:,}", total))
        for (width, height), images in measured.sizes.most_common(_MAX_SIZES)
    ]
    return Sizes(rows, len(measured.sizes) - len(rows))
