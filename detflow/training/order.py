"""Which images a step sees: a pure function of (seed, step). Does not import TensorFlow.

There is no state of an iterator, so none has to be saved. The order of an epoch is a permutation
that follows from a hash of (seed, epoch, index). Where there are several canvases the images of
each are a bucket, with epochs of its own, and a batch is of one bucket. Images of rare classes may
be seen more often than others: then an epoch holds copies of them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

_Indices: TypeAlias = npt.NDArray[np.int64]
# No epoch has this number: what is hashed with it belongs to all epochs.
_ALL_EPOCHS = 2**47
# Copies are counted by multiples of 2^-20, which float64 adds to a number of epochs without
# rounding.
_GRAIN_BITS = 20


def repeat_factors(
    classes: Sequence[npt.NDArray[np.int32]], threshold: float
) -> npt.NDArray[np.float64]:
    """Returns how often each image is seen in an epoch, by LVIS's rule (arXiv:1908.03195).

    A class that a share f of the images have is repeated max(1, √(threshold / f)) times, and an
    image as often as the class in it that is repeated most.

    Args:
        classes: Classes of each image's objects, counted from 0.
        threshold: Share of the images from which on a class is not repeated; 0 repeats nothing.

    Returns:
        [images], at least 1 each.
    """
    present = [np.unique(labels) for labels in classes]
    counts = np.bincount(np.concatenate([np.zeros(0, np.int64), *present]).astype(np.int64))
    shares = np.maximum(counts, 1) / max(1, len(classes))
    by_class = np.maximum(1.0, np.sqrt(threshold / shares))
    return np.array([by_class[labels].max(initial=1.0) for labels in present], np.float64)


class ImageOrder:
    """The order in which a training sees its images.

    A cycle has a step for each image, repeated images counted as often as they are seen. A bucket
    has its share of these steps, and they walk through the bucket's epochs without a break.

    Args:
        buckets: Numbers of the images of each bucket.
        factors: [images], how often each image is seen in an epoch, at least 1.

    Attributes:
        bucket_steps: How many steps of a cycle each bucket has.
    """

    def __init__(self, buckets: Sequence[_Indices], factors: npt.NDArray[np.float64]) -> None:
        self._buckets = buckets
        self._factors = [factors[members] for members in buckets]
        self.bucket_steps = tuple(round(float(values.sum())) for values in self._factors)

    def find(self, seed: int, step: int, batch_size: int) -> tuple[int, _Indices]:
        """Returns the bucket of a step, counted from 0, and the numbers of its images [B]."""
        cycle, place = divmod(step, sum(self.bucket_steps))
        buckets = bucket_order(seed, cycle, self.bucket_steps)
        bucket = int(buckets[place])
        number = cycle * self.bucket_steps[bucket] + int(
            np.count_nonzero(buckets[:place] == bucket)
        )
        members, chosen = self._buckets[bucket], np.zeros(0, np.int64)
        position, end = number * batch_size, (number + 1) * batch_size
        epoch = self._find_epoch(seed, bucket, position)
        while position < end:
            start = self._count_before(seed, bucket, epoch)
            items = self._order_epoch(seed, bucket, epoch)
            chosen = np.concatenate([chosen, items[position - start : end - start]])
            position, epoch = start + len(items), epoch + 1
        return bucket, members[chosen]

    def _find_epoch(self, seed: int, bucket: int, position: int) -> int:
        """Returns the epoch of a bucket that a position of its walk lies in."""
        epoch = int(position / self._factors[bucket].sum())
        while self._count_before(seed, bucket, epoch) > position:
            epoch -= 1
        while self._count_before(seed, bucket, epoch + 1) <= position:
            epoch += 1
        return epoch

    def _count_before(self, seed: int, bucket: int, epoch: int) -> int:
        return int(self._copies_before(seed, bucket, epoch).sum())

    def _copies_before(self, seed: int, bucket: int, epoch: int) -> _Indices:
        """Returns how often each item of a bucket was seen before an epoch.

        An item with the factor 1.25 has a second copy in every fourth epoch; in which ones is left
        to its hash, so that copies are spread over the epochs.
        """
        factors = self._factors[bucket]
        first = hash_items(seed, _ALL_EPOCHS, len(factors), bucket) >> np.uint64(64 - _GRAIN_BITS)
        return np.floor(epoch * factors + first / 2.0**_GRAIN_BITS).astype(np.int64)

    def _order_epoch(self, seed: int, bucket: int, epoch: int) -> _Indices:
        copies = self._copies_before(seed, bucket, epoch + 1) - self._copies_before(
            seed, bucket, epoch
        )
        count, most = len(copies), int(copies.max())
        # The first copies are hashed as they are where nothing is repeated.
        hashes = hash_items(seed, epoch, count * most, bucket).reshape(most, count)
        copy, item = np.nonzero(np.arange(most)[:, np.newaxis] < copies)
        return item[np.argsort(hashes[copy, item], kind="stable")]


def epoch_order(seed: int, epoch: int, num_items: int, bucket: int = 0) -> _Indices:
    """Returns a permutation of range(num_items) that depends on nothing but its arguments.

    The items are sorted by their hash.
    """
    return np.argsort(hash_items(seed, epoch, num_items, bucket), kind="stable")


# A cycle has many batches, and each of them asks for it.
@functools.lru_cache(maxsize=2)
def bucket_order(seed: int, cycle: int, bucket_sizes: tuple[int, ...]) -> _Indices:
    """Returns the bucket of each step of a cycle; each bucket occurs as often as its size.

    The steps of a bucket of size n are spread over the cycle: one in each n-th part of it, at a
    random place there. So each part of a training sees the buckets in their proportion. The first
    steps of a run see every bucket once, since each of them compiles for its canvas.

    Returns:
        [sum(bucket_sizes)].
    """
    # No hash of an order of images has this bucket's number.
    noise = hash_items(seed, cycle, sum(bucket_sizes), len(bucket_sizes)) / 2.0**64
    buckets = np.repeat(np.arange(len(bucket_sizes)), bucket_sizes)
    part = np.concatenate([np.arange(size) for size in bucket_sizes])
    if cycle == 0:
        noise[part == 0] = 0.0
    return buckets[
        np.argsort((part + noise) / np.repeat(bucket_sizes, bucket_sizes), kind="stable")
    ]


def hash_items(seed: int, epoch: int, num_items: int, bucket: int) -> npt.NDArray[np.uint64]:
    """Returns a hash of each item's number: splitmix64.

    It is from "Fast splittable pseudorandom number generators" (Steele, Lea, Flood 2014). NumPy's
    own permutations and random numbers may change between its versions.
    """
    key = _splitmix64(
        _splitmix64(np.array([seed], np.uint64))
        ^ np.uint64(epoch)
        ^ (np.uint64(bucket) << np.uint64(48))
    )
    return _splitmix64(key ^ np.arange(num_items, dtype=np.uint64))


def _splitmix64(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    state = values + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: npt.NDArray[np.uint64] = state ^ (state >> np.uint64(31))
    return result
