"""Images that are the same, or nearly: exact by the file's SHA-256, near by the distance of perceptual hashes.

Over BCCD, plates16 and raccoon, pairs that a person calls the same are 0 to 38 bits of 256 apart, all others 75 or more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_DISTANCE", "Duplicates", "find_duplicates"]

MAX_DISTANCE = 40
"""Hashes that differ in at most this many of 256 bits belong together."""

_Hashes = npt.NDArray[np.uint64]
_Indices = npt.NDArray[np.int64]

# All pairs are compared up to this many images. Above it, only those that share 16 adjacent bits of the hash: of pairs 24 bits
# apart 98 % do, of pairs 12 bits apart all.
_ALL_PAIRS = 16_384
_BLOCK = 256
# Of a fixed camera's images all are near one another. A group above this share is divided at half the distance, and again.
_MAX_SHARE = 0.1
_MIN_DIVIDED = 8


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Who belongs together.

    Attributes:
        groups: By annotation, the name of its group: the least SHA-256 of its members. An image that is alone is a group too.
        exact: By annotation, the first annotation whose image has the same bytes.
        near: By annotation, the nearest earlier annotation with another file, and the distance in bits.
    """

    groups: Mapping[str, bytes]
    exact: Mapping[str, str]
    near: Mapping[str, tuple[str, int]]


def find_duplicates(digests: Mapping[str, tuple[bytes, bytes]]) -> Duplicates:
    """Finds groups of images.

    Args:
        digests: SHA-256 and perceptual hash (32 bytes each) of every annotation's image.
    """
    first_of: dict[bytes, str] = {}
    exact = {}
    for annotation, (sha256, _) in digests.items():
        first = first_of.setdefault(sha256, annotation)
        if first != annotation:
            exact[annotation] = first
    distinct = list(first_of.values())
    hashes = (
        np.frombuffer(b"".join(digests[annotation][1] for annotation in distinct), dtype=">u8").reshape(-1, 4).astype(np.uint64)
    )
    labels = np.arange(len(distinct))
    near: dict[int, tuple[int, int]] = {}
    _link(hashes, np.arange(len(distinct)), MAX_DISTANCE, labels, near)
    _divide(hashes, labels)
    names: dict[int, bytes] = {}
    for label, annotation in zip(labels.tolist(), distinct, strict=True):
        name = digests[annotation][0]
        names[label] = min(names.get(label, name), name)
    groups = {annotation: names[label] for label, annotation in zip(labels.tolist(), distinct, strict=True)}
    groups.update({annotation: groups[first] for annotation, first in exact.items()})
    return Duplicates(
        groups=groups,
        exact=exact,
        near={distinct[one]: (distinct[other], distance) for one, (other, distance) in sorted(near.items())},
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
            labels[members] = members
            if distance:
                _link(hashes, members, distance, labels, {})
        if not distance:
            return
        distance //= 2


def _link(hashes: _Hashes, members: _Indices, limit: int, labels: _Indices, near: dict[int, tuple[int, int]]) -> None:
    """Gives members within `limit` bits, directly or over others, one label; notes the nearest earlier neighbour of each."""
    for bucket in _buckets(hashes, members):
        for start in range(0, len(bucket), _BLOCK):
            rows = bucket[start : start + _BLOCK]
            distances = _distances(hashes[rows], hashes[bucket[: start + len(rows)]])
            # Each row is compared with those before it.
            distances[np.arange(len(bucket[: start + len(rows)])) >= start + np.arange(len(rows))[:, None]] = 257
            for row in np.flatnonzero((distances <= limit).any(axis=1)):
                neighbours = bucket[np.flatnonzero(distances[row] <= limit)]
                _join(labels, rows[row], neighbours)
                closest = int(distances[row].argmin())
                found = (int(bucket[closest]), int(distances[row, closest]))
                known = near.get(int(rows[row]))
                if known is None or found[1] < known[1]:
                    near[int(rows[row])] = found


def _join(labels: _Indices, one: np.int64, others: _Indices) -> None:
    first, *rest = sorted({int(labels[one]), *labels[others].tolist()})
    for label in rest:
        labels[labels == label] = first


def _buckets(hashes: _Hashes, members: _Indices) -> Iterator[_Indices]:
    """Yields sets of members, sorted, within which all pairs are compared."""
    if len(members) <= _ALL_PAIRS:
        yield members
        return
    bands = hashes[members].view(np.uint16)
    for band in range(bands.shape[1]):
        order = np.argsort(bands[:, band], kind="stable")
        values = bands[order, band]
        bounds = np.flatnonzero(np.diff(values)) + 1
        for run in np.split(order, bounds):
            for start in range(0, len(run), _ALL_PAIRS):
                if len(run) - start > 1:
                    yield members[run[start : start + _ALL_PAIRS]]


def _distances(rows: _Hashes, columns: _Hashes) -> npt.NDArray[np.int16]:
    total = np.zeros((len(rows), len(columns)), np.int16)
    for word in range(rows.shape[1]):
        total += np.bitwise_count(rows[:, word, None] ^ columns[None, :, word])
    return total
