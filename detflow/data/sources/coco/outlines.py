"""The bounding boxes of COCO's outlines: polygons, and masks as run lengths."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeGuard

from detflow.data.findings import Corners

_MAX_SIDE = 1 << 20


def box_outline(segmentation: Any) -> Corners | None:
    """Returns the box around an object's outline in pixel edges; None where there is none.

    Args:
        segmentation: A list of polygons [x, y, x, y, …], or a mask {"counts": …, "size": [height,
            width]} as COCO's mask API has it: runs of background and object by turns, column after
            column, as a list or packed into a string.
    """
    if isinstance(segmentation, list):
        return _box_polygons(segmentation)
    if isinstance(segmentation, dict):
        return _box_mask(segmentation)
    return None


def box_points(points: Sequence[float]) -> Corners:
    """Returns the box around points x, y, x, y, …, of which there is at least one."""
    xs, ys = points[0::2], points[1::2]
    return float(min(xs)), float(min(ys)), float(max(xs)), float(max(ys))


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value of JSON is a finite number that float64 can hold."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and abs(value) < 1e300
        and math.isfinite(value)
    )


def _box_polygons(polygons: list[Any]) -> Corners | None:
    # Some tools leave the outer list out.
    rings = [polygons] if polygons and is_number(polygons[0]) else polygons
    points: list[float] = []
    for ring in rings:
        if not isinstance(ring, list) or len(ring) < 6 or len(ring) % 2:
            return None
        if not all(map(is_number, ring)):
            return None
        points += ring
    return box_points(points) if points else None


def _box_mask(mask: dict[str, Any]) -> Corners | None:
    size, counts = mask.get("size"), mask.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(map(_is_side, size)):
        return None
    height, width = size
    if isinstance(counts, str):
        runs: Iterable[int] = _unpack(counts)
    elif isinstance(counts, list) and all(map(_is_count, counts)):
        runs = counts
    else:
        return None
    try:
        return _box_runs(runs, height, width)
    except ValueError:
        return None


def _box_runs(runs: Iterable[int], height: int, width: int) -> Corners | None:
    left, top, right, bottom = width, height, 0, 0
    place = 0
    for number, run in enumerate(runs):
        if run < 0 or place + run > height * width:
            raise ValueError("the runs leave the mask")
        if number % 2 and run:
            first, last = place, place + run - 1
            left, right = min(left, first // height), max(right, last // height + 1)
            if first // height == last // height:
                top, bottom = min(top, first % height), max(bottom, last % height + 1)
            else:
                top, bottom = 0, height
        place += run
    return (float(left), float(top), float(right), float(bottom)) if right else None


def _unpack(text: str) -> Iterator[int]:
    """Yields the runs of COCO's packed form: `rleFrString` in cocoapi's `common/maskApi.c`.

    Numbers are written in groups of five bits, the lowest first, as characters from "0"; from the
    fourth on they are differences to the last but one.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64 or shift > 40:
            raise ValueError("not a packed mask")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        if len(runs) > 2:
            value += runs[-2]
        runs.append(value)
        yield value
        value = shift = 0


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MAX_SIDE


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
