"""Pictures with outlines over them, as plain shapes; the macro `picture` turns them into SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from detflow.pages.colours import Rgb
from detflow.types import ImageSize

# A box goes on beyond the image by at most this share of the image's extent.
_MAX_WIDENING = 0.2
_MARGIN = 0.02
# A box whose shorter side is below this share of the view cannot be seen: it gets a ring.
_TINY = 0.008
_RING_MARGIN = 0.03
# Browsers do not draw what is too far away.
_FARTHEST = 3


@dataclass(frozen=True, slots=True)
class Outline:
    """A box over a picture.

    Attributes:
        corners: (left, top, right, bottom) in continuous pixels of the image. The sides may be
            swapped, and they may lie outside of the image.
        kind: A class of the style sheet ("before", "after", "faint"), or a colour.
        title: Shown where the pointer rests on the outline.
        data: What a script reads of it, by name.
    """

    corners: tuple[float, float, float, float]
    kind: str | Rgb
    title: str = ""
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Frame:
    """An outline as a rectangle, in pixels of the image; under it lies a dark one of more width."""

    x: float
    y: float
    width: float
    height: float
    kind: str | Rgb
    title: str
    is_bold: bool
    data: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Ring:
    """A circle around the place of a box that is too small to be seen."""

    x: float
    y: float
    radius: float
    kind: str | Rgb
    title: str
    data: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image with outlines, in the image's own pixels.

    Attributes:
        jpeg: A JPEG file's bytes; it may have another size than the image that it stands for.
        size: Of the image.
        label: For readers that cannot see it.
        view: (left, top, width, height) of what is shown: the image, and a little more of it
            where a box leaves the image.
        shapes: From the lowest to the topmost.
    """

    jpeg: bytes
    size: ImageSize
    label: str
    view: tuple[float, float, float, float]
    shapes: Sequence[Frame | Ring]
    note: str = ""


def build_picture(
    jpeg: bytes, size: ImageSize, outlines: Sequence[Outline], label: str, note: str = ""
) -> Picture:
    """Returns a picture with outlines.

    Args:
        jpeg: A JPEG file's bytes, of any size.
        size: Of the image that it stands for, in whose pixels the outlines are.
        outlines: The last one is drawn on top.
        label: The image's name: readers that cannot see it get it, and so does who enlarges it.
        note: What the picture does not show of the image.
    """
    left, right = _widen([x for outline in outlines for x in outline.corners[::2]], size.width)
    top, bottom = _widen([y for outline in outlines for y in outline.corners[1::2]], size.height)
    width, height = right - left, bottom - top
    shapes = [_build_shape(outline, max(width, height)) for outline in outlines]
    return Picture(jpeg, size, label, (left, top, width, height), shapes, note)


def _widen(places: Sequence[float], extent: int) -> tuple[float, float]:
    """Returns the range to show: the image, and a little more where a box leaves it."""
    low = max(min(places, default=0.0), -_MAX_WIDENING * extent)
    high = min(max(places, default=0.0), (1 + _MAX_WIDENING) * extent)
    margin = _MARGIN * extent
    return (low - margin if low < 0 else 0.0), (high + margin if high > extent else float(extent))


def _build_shape(outline: Outline, extent: float) -> Frame | Ring:
    x0, y0, x1, y1 = (min(max(v, -_FARTHEST * extent), _FARTHEST * extent) for v in outline.corners)
    left, right, top, bottom = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
    width, height = right - left, bottom - top
    if min(width, height) < _TINY * extent:
        radius = max(width, height) / 2 + _RING_MARGIN * extent
        x, y = (left + right) / 2, (top + bottom) / 2
        return Ring(x, y, radius, outline.kind, outline.title, outline.data)
    is_bold = outline.kind != "faint"
    return Frame(left, top, width, height, outline.kind, outline.title, is_bold, outline.data)
