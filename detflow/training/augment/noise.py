"""Random numbers as a function of seed, step, augmentation, draw and the image's row."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import tensorflow as tf


class Noise:
    """The random numbers of one step.

    Args:
        key: [2] int64, from which they follow.
        num_rows: Number of images of the whole step.
        rows: [B] int, numbers of the images at hand among them; None for all of them.
    """

    def __init__(
        self, key: tf.Tensor, num_rows: int | tf.Tensor, rows: tf.Tensor | None = None
    ) -> None:
        self._key = key
        self._num_rows = num_rows
        self._rows = rows

    def of(self, name: str) -> Noise:
        """Returns the random numbers of an augmentation, whatever others there are."""
        return Noise(_fold_in(self._key, name), self._num_rows, self._rows)

    def uniform(self, name: str, shape: Sequence[int | tf.Tensor]) -> tf.Tensor:
        """Draws from [0, 1) for each image.

        Args:
            name: Name of this draw among those of the augmentation.
            shape: Shape of the numbers of one image.

        Returns:
            [B, *shape] float32: the rows that the whole step's numbers have for these images.
        """
        numbers = tf.random.stateless_uniform([self._num_rows, *shape], _fold_in(self._key, name))
        return numbers if self._rows is None else tf.gather(numbers, self._rows)


def _fold_in(key: tf.Tensor, name: str) -> tf.Tensor:
    return tf.random.fold_in(key, tf.constant(zlib.crc32(name.encode()), tf.int64))
