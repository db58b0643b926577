"""Charts as plain shapes, which the macro `chart` of the templates turns into SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from detflow.pages.colours import Rgb

Fill: TypeAlias = Rgb | str
"""A colour, or a name of the style sheet: "accent" is its class `fill-accent`."""

Ticks: TypeAlias = Sequence[tuple[float, str]]
"""Places on an axis, counted in bins from 0, and what is written there."""

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 320, 190, 44, 18, 16, 22
_PLOT_WIDTH, _PLOT_HEIGHT = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _BOTTOM - _TOP
_BASE = _TOP + _PLOT_HEIGHT
_STACK_WIDTH, _STACK_HEIGHT = 1000, 10
_SPARK_WIDTH, _SPARK_HEIGHT = 120, 26


@dataclass(frozen=True, slots=True)
class Bar:
    """A filled rectangle; `title` is shown where the pointer rests on it."""

    x: float
    y: float
    width: float
    height: float
    fill: Fill
    opacity: float = 1.0
    title: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line from (x1, y1) to (x2, y2); `kind` is a class of the style sheet: "axis" or "mark"."""

    kind: str
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True)
class Label:
    """Text at a place; `anchor` is SVG's: "middle" or "end"."""

    x: float
    y: float
    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Shapes in a view of `width` × `height` units, drawn in this order.

    Attributes:
        width: Of the view.
        height: Of the view.
        label: What the chart shows, for readers that cannot see it.
        bars: First.
        lines: Over the bars.
        labels: Over both.
        is_stretched: Whether the chart fills its place in both directions, whatever its shape.
    """

    width: int
    height: int
    label: str
    bars: Sequence[Bar]
    lines: Sequence[Line] = ()
    labels: Sequence[Label] = ()
    is_stretched: bool = False


def build_stack(parts: Sequence[tuple[int, Fill]], label: str, total: int | None = None) -> Chart:
    """Returns one horizontal bar of several parts.

    Args:
        parts: (number, fill) of each part, from left to right.
        label: For readers that cannot see it.
        total: What the whole width stands for; None takes the sum of the parts.
    """
    whole = max(1, sum(number for number, _ in parts) if total is None else total)
    start = 0.0
    bars = []
    for number, fill in parts:
        share = _STACK_WIDTH * number / whole
        if number:
            # A part that is there stays visible, however small.
            width = max(4.0, share)
            left = min(start, _STACK_WIDTH - width)
            bars.append(Bar(left, 0, width, _STACK_HEIGHT, fill))
        start += share
    return Chart(_STACK_WIDTH, _STACK_HEIGHT, label, bars, is_stretched=True)


def build_sparkline(counts: NDArray[np.int64], fill: Fill, label: str) -> Chart:
    """Returns a histogram of the size of a word."""
    peak = max(1, int(counts.max(initial=0)))
    step = _SPARK_WIDTH / max(1, len(counts))
    base = _SPARK_HEIGHT - 1
    heights = [(base - 1) * count / peak for count in counts.tolist()]
    bars = [
        Bar(i * step, base - height, step * 0.8, height, fill)
        for i, height in enumerate(heights)
        if height
    ]
    axis = Line("axis", 0, base + 0.5, _SPARK_WIDTH, base + 0.5)
    return Chart(_SPARK_WIDTH, _SPARK_HEIGHT, label, bars, [axis])


def build_histogram(
    counts: NDArray[np.int64], ticks: Ticks, label: str, marks: Ticks = ()
) -> Chart:
    """Returns a histogram: the peak's count on its axis, ticks below it, dashed lines at marks."""
    peak = max(1, int(counts.max(initial=0)))
    step = _PLOT_WIDTH / len(counts)
    bars = []
    for i, count in enumerate(counts.tolist()):
        if count:
            height = max(1.0, _PLOT_HEIGHT * count / peak)
            place = _LEFT + i * step
            bars.append(
                Bar(place, _BASE - height, step * 0.86, height, "accent", title=f"{count:,}")
            )
    places = [(_LEFT + place * step, text) for place, text in marks]
    lines = [Line("mark", x, 14, x, _BASE) for x, _ in places]
    labels = [Label(x, 9, "middle", text) for x, text in places]
    labels.append(Label(_LEFT - 5, 24, "end", _shorten_count(peak)))
    return _build_plot(bars, [*lines, _AXIS], [*labels, *_label_x_axis(ticks, step)], label)


def build_heatmap(counts: NDArray[np.int64], x_ticks: Ticks, y_ticks: Ticks, label: str) -> Chart:
    """Returns a map of counts.

    Args:
        counts: [rows, columns]; row 0 is at the bottom. A cell is as strong as the square root of
            its count.
        x_ticks: Below the map.
        y_ticks: Beside the map.
        label: For readers that cannot see it.
    """
    rows, columns = counts.shape
    peak = max(1, int(counts.max(initial=0)))
    width, height = _PLOT_WIDTH / columns, _PLOT_HEIGHT / rows
    bars = [Bar(_LEFT, _TOP, _PLOT_WIDTH, _PLOT_HEIGHT, "void")]
    for row, column in np.argwhere(counts).tolist():
        opacity = 0.12 + 0.88 * math.sqrt(int(counts[row, column]) / peak)
        left, top = _LEFT + column * width, _BASE - (row + 1) * height
        bars.append(Bar(left, top, width, height, "accent", opacity=opacity))
    labels = [Label(_LEFT - 5, _BASE - place * height + 4, "end", text) for place, text in y_ticks]
    return _build_plot(bars, [_AXIS], [*labels, *_label_x_axis(x_ticks, width)], label)


_AXIS = Line("axis", _LEFT, _BASE + 0.5, _WIDTH - _RIGHT, _BASE + 0.5)


def _label_x_axis(ticks: Ticks, step: float) -> list[Label]:
    return [Label(_LEFT + place * step, _BASE + 15, "middle", text) for place, text in ticks]


def _build_plot(
    bars: Sequence[Bar], lines: Sequence[Line], labels: Sequence[Label], label: str
) -> Chart:
    return Chart(_WIDTH, _HEIGHT, label, bars, lines, labels)


def _shorten_count(count: int) -> str:
    if count >= 1_000_000:
        return f"{count / 1e6:.3g}M"
    return f"{count / 1e3:.3g}k" if count >= 10_000 else f"{count:,}"


def format_px(length: float) -> str:
    """Returns a length or a place for SVG, with two decimals at most."""
    # Adding zero turns minus zero into zero.
    return f"{round(length, 2) + 0.0:.2f}".rstrip("0").rstrip(".")
