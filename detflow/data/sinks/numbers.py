"""Decimals as short as they can be while a box is read back as exactly the float32 that it was."""

from __future__ import annotations

import struct
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal

from detflow.types import ImageSize

# Enough for a float32 of an edge that is a millionth of the side.
_MOST_DIGITS = 24


def format_edge(edge: float, side: int, first: int = 0) -> str:
    """Returns the shortest decimal, in pixels, that gives a box's edge as a float32 again.

    Args:
        edge: As a share of the side, rounded to float32.
        side: The image's side in pixels.
        first: What the dialect counts the first pixel as: 1 for a minimum of VOC's, else 0 (see
            `Box.from_voc`).
    """
    exact = edge * side + first
    for digits in range(18):
        text = f"{exact:.{digits}f}"
        if _to_float32((float(text) - first) / side) == _to_float32(edge):
            return text
    return repr(exact)


def format_corners(low: float, high: float, side: int) -> tuple[str, str]:
    """Returns the two corners of a box on one axis as VOC counts them.

    A box of one pixel has the same number twice, which readers take for a box without area; its
    maximum is then greater by less than a float32 can tell. One that is thinner would have its
    corners in the wrong order: it is made one pixel thick.

    Args:
        low: The lower edge as a share of the side, rounded to float32.
        high: The higher edge, likewise.
        side: The image's side in pixels.
    """
    first, last = format_edge(low, side, first=1), format_edge(high, side)
    if float(first) > float(last):
        # Two short decimals may cross although the edges do not.
        first, last = repr(low * side + 1), repr(high * side)
    if float(first) > float(last):
        start = min(max((low + high) / 2 * side - 0.5, 0.0), side - 1.0)
        first = last = format_edge(_round_to_float32(start / side), side, first=1)
    if float(first) < float(last):
        return first, last
    last_edge = _to_float32(float(last) / side)
    for digits in range(1, _MOST_DIGITS):
        text = f"{Decimal(last) + Decimal(1).scaleb(-digits):f}"
        if _to_float32(float(text) / side) == last_edge:
            return first, text
    return first, last


def format_origin_and_length(low: float, high: float, side: int) -> tuple[str, str]:
    """Returns an edge and a length in pixels, as COCO has them, that give both edges again.

    Args:
        low: The lower edge as a share of the side, rounded to float32.
        high: The higher edge, likewise.
        side: The image's side in pixels.
    """
    wanted = _to_float32(low), _to_float32(high)

    def fits(first: Decimal, last: Decimal) -> bool:
        start, length = float(first), float(last - first)
        return (_to_float32(start / side), _to_float32((start + length) / side)) == wanted

    first, last = _shorten(Decimal(low) * side, Decimal(high) * side, 0, fits)
    return _format(first), _format(last - first)


def format_centre_and_length(low: float, high: float) -> tuple[str, str]:
    """Returns a centre and a length as shares of the side, as YOLO has them.

    Args:
        low: The lower edge as a share of the side, rounded to float32.
        high: The higher edge, likewise.
    """
    wanted = _to_float32(low), _to_float32(high)

    def fits(first: Decimal, last: Decimal) -> bool:
        centre, length = float((first + last) / 2), float(last - first)
        return (_to_float32(centre - length / 2), _to_float32(centre + length / 2)) == wanted

    first, last = _shorten(Decimal(low), Decimal(high), 6, fits)
    return _format((first + last) / 2), _format(last - first)


def is_thin(box: tuple[float, float, float, float], size: ImageSize) -> bool:
    """Whether a box is thinner than a pixel, by more than the rounding to float32."""
    ymin, xmin, ymax, xmax = box
    return any(
        (high - low) * side < 1.0 - side * 2.0**-23
        for low, high, side in ((xmin, xmax, size.width), (ymin, ymax, size.height))
    )


def is_whole(box: tuple[float, float, float, float], size: ImageSize) -> bool:
    """Whether a box's corners are whole pixels, but for the rounding to float32."""
    return all(
        _to_float32(round(edge * side) / side) == _to_float32(edge)
        for edge, side in zip(box, (size.height, size.width, size.height, size.width), strict=True)
    )


def _shorten(
    low: Decimal, high: Decimal, least: int, fits: Callable[[Decimal, Decimal], bool]
) -> tuple[Decimal, Decimal]:
    """Rounds two edges to the fewest decimals, from `least` on, with which they fit."""
    for digits in range(least, _MOST_DIGITS):
        quantum = Decimal(1).scaleb(-digits)
        first = low.quantize(quantum, ROUND_HALF_EVEN)
        last = high.quantize(quantum, ROUND_HALF_EVEN)
        if fits(first, last):
            return first, last
    return low, high


def _format(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _round_to_float32(number: float) -> float:
    rounded: float = struct.unpack("<f", _to_float32(number))[0]
    return rounded


def _to_float32(number: float) -> bytes:
    return struct.pack("<f", number)
