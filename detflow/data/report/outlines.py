"""Pictures with outlines over them, as SVG text that stands inside a page: no reference but to its own data."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from detflow.data.findings import Corners
from detflow.data.images.thumbnails import Thumbnail
from detflow.pages.document import escape
from detflow.pages.draw import Rgb
from detflow.pages.svg import px, to_hex

__all__ = ["Outline", "draw_key", "draw_picture"]


@dataclass(frozen=True, slots=True)
class Outline:
    """A box over a picture.

    Attributes:
        corners: (left, top, right, bottom) in continuous pixels of the image; any order, perhaps
            outside.
        kind: A class of the style sheet ("before", "after", "faint"), or a colour.
        title: Shown when the pointer rests on it.
    """

    corners: Corners
    kind: str | Rgb
    title: str = ""


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
        f'<svg class="picture" viewBox="{px(left)} {px(top)} {px(right - left)} {px(bottom - top)}" role="img" '
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
    stroke = (
        f'class="{outline.kind}"'
        if isinstance(outline.kind, str)
        else f'stroke="{to_hex(outline.kind)}"'
    )
    if min(right - left, bottom - top) < 0.008 * extent:
        # Too small to see: a ring around the place.
        radius = max(right - left, bottom - top) / 2 + 0.03 * extent
        ring = f'cx="{px((left + right) / 2)}" cy="{px((top + bottom) / 2)}" r="{px(radius)}"'
        return f'<circle class="under" {ring}/><circle {stroke} {ring}>{title}</circle>'
    box = f'x="{px(left)}" y="{px(top)}" width="{px(right - left)}" height="{px(bottom - top)}"'
    under = "" if outline.kind == "faint" else f'<rect class="under" {box}/>'
    return f"{under}<rect {stroke} {box}>{title}</rect>"


def _clamp(value: float, extent: float) -> float:
    return min(max(value, -3 * extent), 3 * extent)


def draw_key(kind: str) -> str:
    """Returns a short piece of the line that a kind of outline has."""
    return f'<svg viewBox="0 0 24 12" aria-hidden="true"><line class="{kind}" x1="0" y1="6" x2="24" y2="6"/></svg>'
