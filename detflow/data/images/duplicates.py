"""Images that are the same by their files' SHA-256, or nearly, by their perceptual hashes.

Over BCCD, plates16 and raccoon, pairs that a person calls the same are 0 to 38 bits of 256 apart,
all others 75 or more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MAX_DISTANCE = 40
"""Hashes that differ in at most this many of 256 bits belong together."""

_Hashes = npt.NDArray[np.uint64]
_Indices = npt.NDArray[np.int64]

# All pairs are compared up to this many images. Above it, only those that share 16 adjacent bits of
# the hash (of pairs 24 bits apart 98 % do, of pairs 12 bits apart all) and are near one another in
# the order of the bits that follow.
_ALL_PAIRS = 16_384
_BLOCK = 64
_WINDOW = 64
# All images of a fixed camera are near one another. A group that holds more than this share of the
# images is divided at half the distance, and again.
_MAX_SHARE = 0.1
_MIN_DIVIDED = 8


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Which images belong together.

    Attributes:
        groups: The group of each annotation's image: the least SHA-256 of the group's members. An
            image that is alone is a group too.
        exact: For an annotation whose image has the same bytes as an earlier one's, the first such.
        near: For an annotation whose image is near to an earlier one with another file, the nearest
            such annotation and the distance in bits.
    """

    groups: Mapping[str, bytes]
    exact: Mapping[str, str]
    near: Mapping[str, tuple[str, int]]


def find_duplicates(digests: Mapping[str, tuple[bytes, bytes]]) -> Duplicates:
    """Finds groups of images.

    Args:
        digests: The SHA-256 and the perceptual hash (32 bytes each) of every annotation's image, by
            the annotation's name.
    """
    first_of: dict[bytes, str] = {}
    exact = {}
    for annotation, (sha256, _) in digests.items():
        first = first_of.setdefault(sha256, annotation)
        if first != annotation:
            exact[annotation] = first
    distinct = list(first_of.values())
    hashes = (
        np.frombuffer(b"".join(digests[annotation][1] for annotation in distinct), dtype=">u8")
        .reshape(-1, 4)
        .astype(np.uint64)
    )
    labels = np.arange(len(distinct))
    nearest = np.full(len(distinct), _NONE)
    _link(hashes, np.arange(len(distinct)), MAX_DISTANCE, labels, nearest)
    _divide(hashes, labels)
    names: dict[int, bytes] = {}
    for label, annotation in zip(labels.tolist(), distinct, strict=True):
        name = digests[annotation][0]
        names[label] = min(names.get(label, name), name)
    groups = {
        annotation: names[label]
        for label, annotation in zip(labels.tolist(), distinct, strict=True)
    }
    groups.update({annotation: groups[first] for annotation, first in exact.items()})
    return Duplicates(
        groups=groups,
        exact=exact,
        near={
            distinct[index]: (distinct[nearest[index] % _STRIDE], int(nearest[index] // _STRIDE))
            for index in np.flatnonzero(nearest < _NONE).tolist()
        },
    )


def _divide(hashes: _Hashes, labels: _Indices) -> None:
    """Divides groups that are too large, as far as that goes."""
    limit = max(_MIN_DIVIDED, int(_MAX_SHARE * len(labels)))
    distance = MAX_DISTANCE // 2
    while True:
        present, counts = np.unique(labels, return_counts=True)
        large = present[counts > limit]
        if not large.size:
            return
        for label in large:
            members = np.flatnonzero(labels == label)
            if distance:
                _link(hashes, members, distance, labels, np.full(len(labels), _NONE))
            else:
                labels[members] = members
        if not distance:
            return
        distance //= 2


def _link(
    hashes: _Hashes, members: _Indices, limit: int, labels: _Indices, nearest: _Indices
) -> None:
    """Gives members within `limit` bits of one another, directly or through others, one label.

    It also notes each member's nearest earlier neighbour.
    """
    if not members.size:
        return
    # Several files with one hash are as near as can be: the first stands for all.
    _, firsts, places = np.unique(hashes[members], axis=0, return_index=True, return_inverse=True)
    pictures = members[firsts][places.reshape(-1)]
    labels[members] = pictures
    is_copy = pictures != members
    nearest[members[is_copy]] = pictures[is_copy]
    for earlier, later, distances in _close_pairs(hashes, members[~is_copy], limit):
        _join(labels, earlier, later)
        np.minimum.at(nearest, later, distances * _STRIDE + earlier)
    labels[members] = _find_roots(labels, members)


# A neighbour and its distance in one number, so that the nearer one is the smaller.
_STRIDE = 2**40
_NONE = 257 * _STRIDE


def _join(labels: _Indices, ones: _Indices, others: _Indices) -> None:
    """Joins pairs into groups.

    A label is the index of another member of the group; following labels ends at the group's root,
    which is its own label.
    """
    while True:
        one_roots, other_roots = _find_roots(labels, ones), _find_roots(labels, others)
        apart = one_roots != other_roots
        if not apart.any():
            return
        ones, others, one_roots, other_roots = (
            ones[apart],
            others[apart],
            one_roots[apart],
            other_roots[apart],
        )
        np.minimum.at(
            labels, np.maximum(one_roots, other_roots), np.minimum(one_roots, other_roots)
        )


def _find_roots(labels: _Indices, members: _Indices) -> _Indices:
    roots = labels[members]
    while not np.array_equal(further := labels[roots], roots):
        roots = further
    return roots


def _close_pairs(
    hashes: _Hashes, members: _Indices, limit: int
) -> Iterator[tuple[_Indices, _Indices, _Indices]]:
    """Yields pairs of members within `limit` bits: earlier ones, later ones, distances.

    A pair may come twice.
    """
    if len(members) <= _ALL_PAIRS:
        for start in range(0, len(members), _BLOCK):
            rows, columns = members[start : start + _BLOCK], members[: start + _BLOCK]
            distances = _distances(hashes[rows, None], hashes[None, columns])
            later, earlier = np.nonzero(distances <= limit)
            proper = earlier < later + start
            later, earlier = later[proper], earlier[proper]
            yield columns[earlier], rows[later], distances[later, earlier].astype(np.int64)
        return
    bands = hashes[members].view(np.uint16)
    for band in range(bands.shape[1]):
        turned = np.roll(bands, -band, axis=1)
        order = np.lexsort(turned.T[::-1])
        values = turned[order, 0]
        for shift in range(1, _WINDOW + 1):
            same = np.flatnonzero(values[shift:] == values[:-shift])
            if not same.size:
                break
            ones, others = members[order[same]], members[order[same + shift]]
            distances = _distances(hashes[ones], hashes[others])
            close = distances <= limit
            ones, others = ones[close], others[close]
            yield (
                np.minimum(ones, others),
                np.maximum(ones, others),
                distances[close].astype(np.int64),
            )


def _distances(ones: _Hashes, others: _Hashes) -> npt.NDArray[np.int16]:
    """Returns how many bits differ; the last axis of both arrays is the hash's four words."""
    total: npt.NDArray[np.int16] = np.bitwise_count(ones[..., 0] ^ others[..., 0]).astype(np.int16)
    for word in range(1, ones.shape[-1]):
        total += np.bitwise_count(ones[..., word] ^ others[..., word])
    return total
