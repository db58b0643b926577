"""Judges one box: whether it is in order, or how it is mended."""

from __future__ import annotations

from detflow.data.findings import Corners
from detflow.data.judging.case import Case
from detflow.data.records.schema import to_record_box
from detflow.data.sources.source import RawObject
from detflow.types import Box, ImageSize

_TINY_PX = 2.0


def is_in_order(corners: Corners, size: ImageSize) -> bool:
    """Whether `mend_box` would note nothing, which is so for nearly every box.

    Args:
        corners: VOC pixel corners.
        size: The image's size.
    """
    xmin, ymin, xmax, ymax = corners
    is_inside = xmin >= 1.0 and ymin >= 1.0 and xmax <= size.width and ymax <= size.height
    return is_inside and xmax - xmin + 1.0 >= _TINY_PX and ymax - ymin + 1.0 >= _TINY_PX


def mend_box(case: Case, raw: RawObject, size: ImageSize) -> Box | None:
    """Returns an object's box, mended by rule; None where the object is to be left out.

    Args:
        case: Where each repair is noted.
        raw: The object.
        size: The image's size.
    """
    xmin, ymin, xmax, ymax = raw.corners
    if xmin == xmax or ymin == ymax:
        case.note_box("box_zero_area", raw)
        return None
    if xmin > xmax or ymin > ymax:
        xmin, xmax = min(xmin, xmax), max(xmin, xmax)
        ymin, ymax = min(ymin, ymax), max(ymin, ymax)
        case.note_box("box_inverted", raw, after=(xmin, ymin, xmax, ymax))
    # VOC's minima count from 1 (see Box.from_voc), so an image reaches from xmin = 1 to
    # xmax = width.
    if xmax <= 0.0 or ymax <= 0.0 or xmin >= size.width + 1.0 or ymin >= size.height + 1.0:
        case.note_box("box_outside", raw, expected=f"inside {size}")
        return None
    clipped = (
        max(xmin, 1.0),
        max(ymin, 1.0),
        min(xmax, float(size.width)),
        min(ymax, float(size.height)),
    )
    if clipped != (xmin, ymin, xmax, ymax):
        case.note_box("box_clipped", raw, after=clipped, expected=f"inside {size}")
    try:
        box = to_record_box(Box.from_voc(*clipped, size))
    except ValueError:
        # The box is thinner than float32 can tell.
        case.note_box("box_zero_area", raw)
        return None
    if clipped[2] - clipped[0] + 1.0 < _TINY_PX or clipped[3] - clipped[1] + 1.0 < _TINY_PX:
        case.note_box("box_tiny", raw, after=clipped)
    return box
