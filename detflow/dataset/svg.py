"""Pictures and charts as SVG text that stands inside a page: no script, no style attribute, no reference but to its own data."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detflow.dataset.findings import Corners
from detflow.dataset.thumbnails import Thumbnail
from detflow.draw import Rgb

__all__ = [
    "Outline",
    "draw_heatmap",
    "draw_histogram",
    "draw_key",
    "draw_picture",
    "draw_sparkline",
    "draw_stack",
    "draw_swatch",
    "escape",
]

Ticks = Sequence[tuple[float, str]]
"""Places in bins, from 0, and what to write there."""

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 320, 190, 44, 18, 16, 22


@dataclass(frozen=True, slots=True)
class Outline:
    """A box over a picture.

    Attributes:
        corners: (left, top, right, bottom) in continuous pixels of the image; any order, perhaps outside.
        kind: A class of the style sheet ("before", "after", "faint"), or a colour.
        title: Shown when the pointer rests on it.
    """

    corners: Corners
    kind: str | Rgb
    title: str = ""


def escape(text: str) -> str:
    """Returns text for a page: markup is inert, and what cannot be seen is shown as its escape."""
    visible = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return html.escape(visible, quote=True)


def draw_picture(thumbnail: Thumbnail, outlines: Iterable[Outline], label: str) -> str:
    """Returns a picture with boxes, in the image's own pixels; boxes that leave the image widen the view a little."""
    outlines = list(outlines)
    width, height = thumbnail.size.width, thumbnail.size.height
    xs = [x for one in outlines for x in (one.corners[0], one.corners[2])]
    ys = [y for one in outlines for y in (one.corners[1], one.corners[3])]
    left, right = _widen(xs, width)
    top, bottom = _widen(ys, height)
    data = base64.b64encode(thumbnail.jpeg).decode("ascii")
    parts = [
        f'<svg class="picture" viewBox="{_n(left)} {_n(top)} {_n(right - left)} {_n(bottom - top)}" role="img" '
        f'aria-label="{escape(label)}"><image href="data:image/jpeg;base64,{data}" width="{width}" height="{height}"/>'
    ]
    parts += [_draw_outline(one, max(right - left, bottom - top)) for one in outlines]
    return "".join(parts) + "</svg>"


def _widen(values: Sequence[float], extent: int) -> tuple[float, float]:
    """The range to show: the image, and up to a fifth of it more on each side where a box goes there."""
    low = max(min(values, default=0.0), -0.2 * extent)
    high = min(max(values, default=0.0), 1.2 * extent)
    margin = 0.02 * extent
    return (low - margin if low < 0 else 0.0), (high + margin if high > extent else float(extent))


def _draw_outline(outline: Outline, extent: float) -> str:
    x0, y0, x1, y1 = outline.corners
    left, right = sorted((_clamp(x0, extent), _clamp(x1, extent)))
    top, bottom = sorted((_clamp(y0, extent), _clamp(y1, extent)))
    title = f"<title>{escape(outline.title)}</title>" if outline.title else ""
    stroke = f'class="{outline.kind}"' if isinstance(outline.kind, str) else f'stroke="{_hex(outline.kind)}"'
    if min(right - left, bottom - top) < 0.008 * extent:
        # Too small to see: a ring around the place.
        radius = max(right - left, bottom - top) / 2 + 0.03 * extent
        ring = f'cx="{_n((left + right) / 2)}" cy="{_n((top + bottom) / 2)}" r="{_n(radius)}"'
        return f'<circle class="under" {ring}/><circle {stroke} {ring}>{title}</circle>'
    box = f'x="{_n(left)}" y="{_n(top)}" width="{_n(right - left)}" height="{_n(bottom - top)}"'
    under = "" if outline.kind == "faint" else f'<rect class="under" {box}/>'
    return f"{under}<rect {stroke} {box}>{title}</rect>"


def _clamp(value: float, extent: float) -> float:
    return min(max(value, -3 * extent), 3 * extent)


def draw_swatch(fill: Rgb | str) -> str:
    """Returns a small square of a class's colour, or of one that the style sheet names."""
    return f'<svg class="swatch" viewBox="0 0 1 1" aria-hidden="true"><rect width="1" height="1" {_paint(fill)}/></svg>'


def draw_key(kind: str) -> str:
    """Returns a short piece of the line that a kind of outline has."""
    return f'<svg viewBox="0 0 24 12" aria-hidden="true"><line class="{kind}" x1="0" y1="6" x2="24" y2="6"/></svg>'


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
            pieces.append(f'<rect x="{_n(min(start, 1000 - width))}" width="{_n(width)}" height="10" {_paint(fill)}/>')
        start += 1000 * number / whole
    return f'<svg viewBox="0 0 1000 10" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">{"".join(pieces)}</svg>'


def draw_sparkline(counts: NDArray[np.int64], colour: Rgb, label: str) -> str:
    """Returns a histogram of the size of a word."""
    peak = max(1, int(counts.max(initial=0)))
    step = 120 / max(1, len(counts))
    bars = "".join(
        f'<rect x="{_n(i * step)}" y="{_n(25 - 24 * count / peak)}" width="{_n(step * 0.8)}" height="{_n(24 * count / peak)}" '
        f'fill="{_hex(colour)}"/>'
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
            bar = f'x="{_n(_LEFT + i * step)}" y="{_n(top)}" width="{_n(step * 0.86)}" height="{_n(height)}"'
            parts.append(f'<rect class="fill-accent" {bar}><title>{count:,}</title></rect>')
    for place, text in marks:
        x = _n(_LEFT + place * step)
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
    parts = [f'<rect class="fill-void" x="{_LEFT}" y="{_TOP}" width="{plot_width}" height="{plot_height}"/>']
    for row, column in np.argwhere(counts).tolist():
        count = int(counts[row, column])
        x, y = _LEFT + column * step_x, _TOP + plot_height - (row + 1) * step_y
        parts.append(
            f'<rect class="fill-accent" x="{_n(x)}" y="{_n(y)}" width="{_n(step_x)}" height="{_n(step_y)}" '
            f'fill-opacity="{0.12 + 0.88 * math.sqrt(count / peak):.2f}"/>'
        )
    for place, text in y_ticks:
        parts.append(
            f'<text x="{_LEFT - 5}" y="{_n(_TOP + plot_height - place * step_y + 4)}" text-anchor="end">{escape(text)}</text>'
        )
    return _frame(parts, x_ticks, step_x, label)


def _frame(parts: list[str], ticks: Ticks, step: float, label: str) -> str:
    base = _HEIGHT - _BOTTOM
    parts.append(f'<line class="axis" x1="{_LEFT}" y1="{base + 0.5}" x2="{_WIDTH - _RIGHT}" y2="{base + 0.5}"/>')
    for place, text in ticks:
        parts.append(f'<text x="{_n(_LEFT + place * step)}" y="{base + 15}" text-anchor="middle">{escape(text)}</text>')
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def _short(number: int) -> str:
    if number >= 1_000_000:
        return f"{number / 1e6:.3g}M"
    return f"{number / 1e3:.3g}k" if number >= 10_000 else f"{number:,}"


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _paint(fill: Rgb | str) -> str:
    return f'class="fill-{fill}"' if isinstance(fill, str) else f'fill="{_hex(fill)}"'


def _hex(colour: Rgb) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
