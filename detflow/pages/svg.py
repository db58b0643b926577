"""Charts as SVG text that stands inside a page: no script, no style attribute, no reference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detflow.pages.document import escape
from detflow.pages.draw import Rgb

__all__ = [
    "draw_heatmap",
    "draw_histogram",
    "draw_sparkline",
    "draw_stack",
    "draw_swatch",
    "px",
    "to_hex",
]

Ticks = Sequence[tuple[float, str]]
"""Places in bins, from 0, and what to write there."""

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 320, 190, 44, 18, 16, 22


def draw_swatch(fill: Rgb | str) -> str:
    """Returns a small square of a class's colour, or of one that the style sheet names."""
    return f'<svg class="swatch" viewBox="0 0 1 1" aria-hidden="true"><rect width="1" height="1" {_paint(fill)}/></svg>'


def draw_stack(parts: Sequence[tuple[int, Rgb | str]], label: str, total: int | None = None) -> str:
    """Returns a bar of several parts.

    Args:
        parts: (number, its colour or a name of the style sheet).
        label: For readers that cannot see it.
        total: What the whole width stands for; None takes the sum.
    """
    whole = max(1, sum(number for number, _ in parts) if total is None else total)
    start = 0.0
    pieces = []
    for number, fill in parts:
        # A part that is there stays visible, however small.
        width = max(4.0, 1000 * number / whole) if number else 0.0
        if width:
            pieces.append(
                f'<rect x="{px(min(start, 1000 - width))}" width="{px(width)}" height="10" {_paint(fill)}/>'
            )
        start += 1000 * number / whole
    return f'<svg viewBox="0 0 1000 10" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">{"".join(pieces)}</svg>'


def draw_sparkline(counts: NDArray[np.int64], colour: Rgb, label: str) -> str:
    """Returns a histogram of the size of a word."""
    peak = max(1, int(counts.max(initial=0)))
    step = 120 / max(1, len(counts))
    bars = "".join(
        f'<rect x="{px(i * step)}" y="{px(25 - 24 * count / peak)}" width="{px(step * 0.8)}" height="{px(24 * count / peak)}" '
        f'fill="{to_hex(colour)}"/>'
        for i, count in enumerate(counts.tolist())
        if count
    )
    return (
        f'<svg viewBox="0 0 120 26" role="img" aria-label="{escape(label)}">'
        f'<line class="axis" x1="0" y1="25.5" x2="120" y2="25.5"/>{bars}</svg>'
    )


def draw_histogram(counts: NDArray[np.int64], ticks: Ticks, label: str, marks: Ticks = ()) -> str:
    """Returns a histogram with the peak's number on its axis, ticks below, and dashed lines at the marks."""
    peak = max(1, int(counts.max(initial=0)))
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _BOTTOM - _TOP
    step = plot_width / len(counts)
    parts = []
    for i, count in enumerate(counts.tolist()):
        if count:
            height = max(1.0, plot_height * count / peak)
            top = _TOP + plot_height - height
            bar = f'x="{px(_LEFT + i * step)}" y="{px(top)}" width="{px(step * 0.86)}" height="{px(height)}"'
            parts.append(f'<rect class="fill-accent" {bar}><title>{count:,}</title></rect>')
    for place, text in marks:
        x = px(_LEFT + place * step)
        parts.append(f'<line class="mark" x1="{x}" y1="14" x2="{x}" y2="{_TOP + plot_height}"/>')
        parts.append(f'<text x="{x}" y="9" text-anchor="middle">{escape(text)}</text>')
    parts.append(f'<text x="{_LEFT - 5}" y="24" text-anchor="end">{_short(peak)}</text>')
    return _frame(parts, ticks, step, label)


def draw_heatmap(counts: NDArray[np.int64], x_ticks: Ticks, y_ticks: Ticks, label: str) -> str:
    """Returns a map of counts [rows, columns], row 0 at the bottom; the square root of a count is its strength."""
    rows, columns = counts.shape
    peak = max(1, int(counts.max(initial=0)))
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _BOTTOM - _TOP
    step_x, step_y = plot_width / columns, plot_height / rows
    parts = [
        f'<rect class="fill-void" x="{_LEFT}" y="{_TOP}" width="{plot_width}" height="{plot_height}"/>'
    ]
    for row, column in np.argwhere(counts).tolist():
        count = int(counts[row, column])
        x, y = _LEFT + column * step_x, _TOP + plot_height - (row + 1) * step_y
        parts.append(
            f'<rect class="fill-accent" x="{px(x)}" y="{px(y)}" width="{px(step_x)}" height="{px(step_y)}" '
            f'fill-opacity="{0.12 + 0.88 * math.sqrt(count / peak):.2f}"/>'
        )
    for place, text in y_ticks:
        parts.append(
            f'<text x="{_LEFT - 5}" y="{px(_TOP + plot_height - place * step_y + 4)}" text-anchor="end">{escape(text)}</text>'
        )
    return _frame(parts, x_ticks, step_x, label)


def _frame(parts: list[str], ticks: Ticks, step: float, label: str) -> str:
    base = _HEIGHT - _BOTTOM
    parts.append(
        f'<line class="axis" x1="{_LEFT}" y1="{base + 0.5}" x2="{_WIDTH - _RIGHT}" y2="{base + 0.5}"/>'
    )
    for place, text in ticks:
        parts.append(
            f'<text x="{px(_LEFT + place * step)}" y="{base + 15}" text-anchor="middle">{escape(text)}</text>'
        )
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def _short(number: int) -> str:
    if number >= 1_000_000:
        return f"{number / 1e6:.3g}M"
    return f"{number / 1e3:.3g}k" if number >= 10_000 else f"{number:,}"


def px(value: float) -> str:
    """Returns a length or a place for SVG, with two digits at most."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _paint(fill: Rgb | str) -> str:
    return f'class="fill-{fill}"' if isinstance(fill, str) else f'fill="{to_hex(fill)}"'


def to_hex(colour: Rgb) -> str:
    """Returns a colour as SVG and CSS write it."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
