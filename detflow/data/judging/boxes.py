"""Judges one box: whether it is in order, or how it is mended."""

from __future__ import annotations

from detflow.data.findings import Corners
from detflow.data.judging.case import Case
from detflow.data.records.schema import to_record_box
from detflow.data.sources.source import RawObject
from detflow.types import Box, CornerFrame, ImageSize

_TINY_PX = 2.0
# What a tool loses when it rounds fractions to some decimals, or when it adds x and width, is no
# fault of the box: it is cut without a word.
_ROUNDING_PX = 0.1


def place_box(corners: Corners, size: ImageSize, frame: CornerFrame) -> Corners | None:
    """Returns a box as ymin, xmin, ymax, xmax in shares; None where `mend_box` has to look at it.

    Nearly every box is in order: it lies inside and has at least 2 pixels a side.

    Args:
        corners: The corners as written.
        size: The image's size.
        frame: What they count.
    """
    left, top, right, bottom = edges = Box.to_edges(corners, size, frame)
    is_inside = left >= 0.0 and top >= 0.0 and right <= size.width and bottom <= size.height
    if not (is_inside and right - left >= _TINY_PX and bottom - top >= _TINY_PX):
        return None
    if frame is CornerFrame.FRACTIONS:
        return Box.normalise(corners, size, frame)
    return Box.normalise(edges, size, CornerFrame.ZERO_BASED)


def mend_box(case: Case, raw: RawObject, size: ImageSize, frame: CornerFrame) -> Box | None:
    """Returns an object's box, mended by rule; None where the object is to be left out.

    Args:
        case: Where each repair is noted.
        raw: The object.
        size: The image's size.
        frame: What its corners count.
    """
    raw, frame = to_pixels(raw, size, frame)
    first = frame.first
    xmin, ymin, xmax, ymax = raw.corners
    if xmin == xmax or ymin == ymax:
        case.note_box("box_zero_area", raw, frame)
        return None
    if xmin > xmax or ymin > ymax:
        xmin, xmax = min(xmin, xmax), max(xmin, xmax)
        ymin, ymax = min(ymin, ymax), max(ymin, ymax)
        case.note_box("box_inverted", raw, frame, after=(xmin, ymin, xmax, ymax))
    # The image reaches from the first minimum to xmax = width (see `CornerFrame`).
    if xmax <= 0.0 or ymax <= 0.0 or xmin >= size.width + first or ymin >= size.height + first:
        case.note_box("box_outside", raw, frame, expected=f"inside {size}")
        return None
    clipped = (
        max(xmin, first),
        max(ymin, first),
        min(xmax, float(size.width)),
        min(ymax, float(size.height)),
    )
    moved = zip(clipped, (xmin, ymin, xmax, ymax), strict=True)
    if any(abs(edge - written) >= _ROUNDING_PX for edge, written in moved):
        case.note_box("box_clipped", raw, frame, after=clipped, expected=f"inside {size}")
    try:
        box = to_record_box(Box(*Box.normalise(clipped, size, frame)))
    except ValueError:
        # The box is thinner than float32 can tell.
        case.note_box("box_zero_area", raw, frame)
        return None
    left, top, right, bottom = Box.to_edges(clipped, size, frame)
    if right - left < _TINY_PX or bottom - top < _TINY_PX:
        case.note_box("box_tiny", raw, frame, after=clipped)
    return box


def is_tiny(box: Corners, size: ImageSize) -> bool:
    """Whether a normalised box, [ymin, xmin, ymax, xmax], is less than 2 pixels high or wide."""
    ymin, xmin, ymax, xmax = box
    return (ymax - ymin) * size.height < _TINY_PX or (xmax - xmin) * size.width < _TINY_PX


def to_pixels(raw: RawObject, size: ImageSize, frame: CornerFrame) -> tuple[RawObject, CornerFrame]:
    """Returns an object with corners in pixels, and what those count."""
    if frame is not CornerFrame.FRACTIONS:
        return raw, frame
    return raw._replace(corners=Box.to_edges(raw.corners, size, frame)), CornerFrame.ZERO_BASED
