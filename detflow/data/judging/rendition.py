"""Decides whether boxes were drawn on the picture that lies beside them, or on another rendition.

Repairing such boxes one by one would write wrong labels: all boxes of the annotation are set aside,
or scaled where the user asks for it and the scale is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from detflow.data.images.decode import ImageFacts
from detflow.data.judging.case import Case
from detflow.data.judging.rulings import Pattern, Ruling
from detflow.data.judging.testimony import (
    Sides,
    are_fractions,
    count_far_outside,
    fit,
    is_proven_stale,
    is_size,
)
from detflow.data.sources.source import RawObject
from detflow.types import Box, CornerFrame, ImageSize

# A picture whose sides differ from <size> by so little is no other rendition.
_SAME_PX = 2
_PERCENT = 100.0


class Drawn(NamedTuple):
    """An annotation's objects as they lie on the picture beside it.

    Attributes:
        objects: The objects.
        frame: What their corners count.
    """

    objects: Sequence[RawObject]
    frame: CornerFrame


def find_drawn(
    case: Case, facts: ImageFacts, size: ImageSize, frame: CornerFrame, ruling: Ruling
) -> Drawn | None:
    """Returns the objects as they lie on the picture; None where they were drawn on another one.

    Args:
        case: Where it is noted.
        facts: What the image holds.
        size: Its size in the record, turned or not.
        frame: What the corners count.
        ruling: What the set has decided.
    """
    objects = case.annotation.objects or ()
    if frame is CornerFrame.FRACTIONS:
        # No size is needed for them.
        return Drawn(objects, frame)
    if (unlike_corners := _find_unlike_corners(objects, size, frame, ruling)) is not None:
        code, drawn = unlike_corners
        return _scale_or_set_aside(case, code, drawn, size, ruling)
    written = case.annotation.size
    if written is None or 0 in written:
        _note_size(case, "size_missing" if written is None else "size_zero", facts)
    elif not any(is_size(written, one) for one in (size, facts.size, facts.turned_size)):
        if _is_of_other_size(objects, written, facts, size, ruling):
            scaled = _scale(objects, frame, written, facts, size, ruling)
            return _scale_or_set_aside(case, "size_conflict", scaled, size, ruling)
        sides = (facts.size.height, facts.size.width)
        _note_size(case, "size_swapped" if written == sides else "size_wrong", facts)
    far = count_far_outside(objects, size.width, size.height)
    if objects and (far * 2 >= len(objects) or ruling.pattern is Pattern.FAR):
        others = "" if far * 2 >= len(objects) else ", and so it is in the rest of the set"
        value = f"{far} of {len(objects)} far outside of {size}{others}"
        case.note("boxes_far_outside", value=value)
        return None
    return Drawn(objects, frame)


def _find_unlike_corners(
    objects: Sequence[RawObject], size: ImageSize, frame: CornerFrame, ruling: Ruling
) -> tuple[str, Drawn] | None:
    """Returns a code where the four numbers are no pixel corners, and the corners they mean."""
    if not objects:
        return None
    if ruling.pattern is Pattern.PERCENT:
        hundredths = [raw._replace(corners=_divide(raw, _PERCENT, _PERCENT)) for raw in objects]
        return "boxes_percent", Drawn(hundredths, CornerFrame.FRACTIONS)
    if ruling.pattern is Pattern.WIDTHS:
        return "boxes_widths", Drawn([_add_sides(raw, frame) for raw in objects], frame)
    if are_fractions(objects, size):
        return "boxes_fractions", Drawn(objects, CornerFrame.FRACTIONS)
    return None


def _scale_or_set_aside(
    case: Case, code: str, drawn: Drawn | None, size: ImageSize, ruling: Ruling
) -> Drawn | None:
    """Notes what was found; returns the scaled objects where that is possible and wanted."""
    annotation = case.annotation
    written = "none" if annotation.size is None else "{}x{}".format(*annotation.size)
    value = f"<size> {written}, image {size}"
    if drawn is None or not ruling.scales:
        case.note(code, line=annotation.size_line, value=value)
        return None
    case.note("boxes_scaled", line=annotation.size_line, value=f"{value}; {code}")
    return drawn


def _note_size(case: Case, code: str, facts: ImageFacts) -> None:
    written = case.annotation.size
    value = "" if written is None else "{}x{}".format(*written)
    case.note(code, line=case.annotation.size_line, value=value, expected=str(facts.size))


def _is_of_other_size(
    objects: Sequence[RawObject],
    written: Sides,
    facts: ImageFacts,
    size: ImageSize,
    ruling: Ruling,
) -> bool:
    """Whether boxes belong to the `<size>` that is written, and not to the picture.

    The boxes themselves tell where they fit one of the two only. Else a size of the same shape, or
    of that shape on its side, is another rendition's; and so is one of another shape where pictures
    were resized.
    """
    if not objects:
        return False
    if not fit(objects, size, 0.01) and fit(objects, ImageSize(*written), 0.0):
        return True
    stored = (facts.size.width, facts.size.height)
    if is_proven_stale(objects, written, size) or (written, stored) in ruling.stale_sizes:
        return False
    if abs(written[0] - size.width) <= _SAME_PX and abs(written[1] - size.height) <= _SAME_PX:
        return False
    is_turned = _is_scaled((written[1], written[0]), size)
    return _is_scaled(written, size) or is_turned or ruling.is_resized(stored)


def _is_scaled(written: Sides, size: ImageSize) -> bool:
    """Whether a size has an image's shape, but for what rounding to whole pixels can do."""
    ranges = [
        ((side - 1) / pixels, (side + 1) / pixels)
        for side, pixels in zip(written, (size.width, size.height), strict=True)
    ]
    return max(low for low, _ in ranges) <= min(high for _, high in ranges)


def _scale(
    objects: Sequence[RawObject],
    frame: CornerFrame,
    written: Sides,
    facts: ImageFacts,
    size: ImageSize,
    ruling: Ruling,
) -> Drawn | None:
    """Returns objects as fractions of the picture that they were drawn on.

    It returns None where the picture beside them may be another part of that one, or lie on its
    side.
    """
    stored = (facts.size.width, facts.size.height)
    if not (_is_scaled(written, size) or ruling.is_resized(stored)):
        return None
    drawn_on = ImageSize(*written)
    if not fit(objects, drawn_on, 0.01):
        return None
    edges = [raw._replace(corners=Box.to_edges(raw.corners, drawn_on, frame)) for raw in objects]
    fractions = [raw._replace(corners=_divide(raw, *written)) for raw in edges]
    return Drawn(fractions, CornerFrame.FRACTIONS)


def _divide(raw: RawObject, width: float, height: float) -> tuple[float, float, float, float]:
    xmin, ymin, xmax, ymax = raw.corners
    return xmin / width, ymin / height, xmax / width, ymax / height


def _add_sides(raw: RawObject, frame: CornerFrame) -> RawObject:
    """Returns an object whose maxima were its width and height with corners."""
    xmin, ymin, width, height = raw.corners
    corners = (xmin, ymin, xmin + width - frame.first, ymin + height - frame.first)
    return raw._replace(corners=corners)
