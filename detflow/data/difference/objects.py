"""Which objects of an image in one set are those of the same image in another set.

Every object has at most one partner, and the same two lists always give the same pairs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detflow.data.sinks.sink import CarriedObject
from detflow.types import ImageSize

MOST_PIXELS = 1.0
"""A box whose edges have moved by no more than this is in its place."""

# A box that was shifted by half its side has an IoU of 1/3 with what it was, and one that was
# doubled in both directions of 1/4: it is still the same object.
_LEAST_IOU = 0.25
# How many of the best partners of a box are looked at: enough for any crowd, and never all of many
# thousands that lie upon each other.
_MOST_PARTNERS = 64

Floats = npt.NDArray[np.float64]


class Change(StrEnum):
    """What became of an object."""

    ADDED = "added"
    REMOVED = "removed"
    RELABELLED = "relabelled"
    MOVED = "moved"
    REFLAGGED = "reflagged"
    """Its flags difficult, truncated or crowd differ."""


class ObjectChange(NamedTuple):
    """An object that differs.

    Attributes:
        changes: What became of it: one thing, or several of relabelled, moved and reflagged.
        old: The object as it was; None where it was added.
        new: The object as it is; None where it was removed.
        pixels: The most that an edge has moved, in pixels of the new image.
    """

    changes: tuple[Change, ...]
    old: CarriedObject | None
    new: CarriedObject | None
    pixels: float = 0.0


def compare_objects(
    old: Sequence[CarriedObject], new: Sequence[CarriedObject], size: ImageSize
) -> list[ObjectChange]:
    """Returns what differs between the objects of an image.

    Args:
        old: The objects as they were.
        new: The objects as they are.
        size: The new image's size, in whose pixels a box moves.
    """
    rest_old, rest_new = _drop_equal(old, new)
    pairs, lone_old, lone_new = _pair(
        [old[place] for place in rest_old], [new[place] for place in rest_new], size
    )
    changes = []
    for i, j, pixels in pairs:
        before, after = old[rest_old[i]], new[rest_new[j]]
        kinds = _judge_pair(before, after, pixels)
        if kinds:
            changes.append(ObjectChange(kinds, before, after, pixels))
    changes += [ObjectChange((Change.REMOVED,), old[rest_old[i]], None) for i in lone_old]
    changes += [ObjectChange((Change.ADDED,), None, new[rest_new[j]]) for j in lone_new]
    return changes


def _drop_equal(
    old: Sequence[CarriedObject], new: Sequence[CarriedObject]
) -> tuple[list[int], list[int]]:
    """Returns the places of the objects that have no twin in the other list."""
    twins: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
    for place in range(len(new) - 1, -1, -1):
        twins[_identify(new[place])].append(place)
    rest_old, taken = [], set()
    for place, item in enumerate(old):
        same = twins.get(_identify(item))
        if same:
            taken.add(same.pop())
        else:
            rest_old.append(place)
    return rest_old, [place for place in range(len(new)) if place not in taken]


def _identify(item: CarriedObject) -> tuple[object, ...]:
    return item.name, item.box, item.difficult, item.truncated, item.crowd


def _pair(
    old: Sequence[CarriedObject], new: Sequence[CarriedObject], size: ImageSize
) -> tuple[list[tuple[int, int, float]], list[int], list[int]]:
    """Returns pairs with the pixels that an edge has moved, and what has no partner.

    A partner in the same place comes before one that has moved, one of the same class before
    another, and then the one with the greater IoU.
    """
    candidates = []
    old_edges, new_edges = _to_edges(old, size), _to_edges(new, size)
    for i, edges in enumerate(old_edges if len(new) else ()):
        moved = np.abs(new_edges - edges).max(axis=1)
        iou = _measure_iou(edges, new_edges)
        near = np.flatnonzero((iou >= _LEAST_IOU) | (moved <= MOST_PIXELS))
        best = near[np.lexsort((near, -iou[near]))][:_MOST_PARTNERS]
        for j in best.tolist():
            in_place, same_class = moved[j] <= MOST_PIXELS, old[i].name == new[j].name
            rank = (not in_place, not same_class, -iou[j], i, j)
            candidates.append((rank, float(moved[j])))
    pairs: list[tuple[int, int, float]] = []
    lone_old, lone_new = dict.fromkeys(range(len(old))), dict.fromkeys(range(len(new)))
    for (*_, i, j), pixels in sorted(candidates):
        if i in lone_old and j in lone_new:
            del lone_old[i], lone_new[j]
            pairs.append((i, j, pixels))
    return sorted(pairs), list(lone_old), list(lone_new)


def _to_edges(objects: Sequence[CarriedObject], size: ImageSize) -> Floats:
    """Returns boxes [N, 4] in pixels: top, left, bottom, right."""
    scale = np.array([size.height, size.width] * 2, np.float64)
    return np.array([item.box for item in objects], np.float64).reshape(-1, 4) * scale


def _measure_iou(edges: Floats, others: Floats) -> Floats:
    """Returns the IoU [N] of a box with each of others [N, 4]."""
    low = np.maximum(others[:, :2], edges[:2])
    high = np.minimum(others[:, 2:], edges[2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=1)
    area = np.prod(edges[2:] - edges[:2])
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    return np.asarray(shared / (area + areas - shared))


def _judge_pair(old: CarriedObject, new: CarriedObject, pixels: float) -> tuple[Change, ...]:
    flags = (old.difficult, old.truncated, old.crowd) != (new.difficult, new.truncated, new.crowd)
    found = (
        (Change.RELABELLED, old.name != new.name),
        (Change.MOVED, pixels > MOST_PIXELS),
        (Change.REFLAGGED, flags),
    )
    return tuple(change for change, is_so in found if is_so)
