"""What augmentations turn into what: labelled images, and labelled canvases."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class Originals(NamedTuple):
    """The images of a batch before any change: B images with M box slots.

    Attributes:
        pixels: Normalised [B, height, width, 3] float32, of the size that `inputs` keeps them at.
        boxes: [B, M, 4] float32, normalised by the image, zeros in an empty slot; M >= 1.
        classes: [B, M] int32 counted from 0, -1 in an empty slot.
    """

    pixels: tf.Tensor
    boxes: tf.Tensor
    classes: tf.Tensor


class Canvases(NamedTuple):
    """What the network trains on: B canvases with M box slots.

    Attributes:
        pixels: Normalised [B, height, width, 3] float32.
        boxes: [B, M, 4] float32, normalised by the canvas, zeros in an empty slot; M >= 1.
        classes: [B, M] int32 counted from 0, -1 in an empty slot.
    """

    pixels: tf.Tensor
    boxes: tf.Tensor
    classes: tf.Tensor


def count_rows(values: tf.Tensor) -> int | tf.Tensor:
    """Returns the number of images.

    Where it is known when the graph is built it is no tensor: with a number of views that is not
    known, TensorFlow's optimiser of graphs writes warnings to stderr.
    """
    known = values.shape[0]
    return tf.shape(values)[0] if known is None else known


def compact(boxes: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Moves empty slots to the end and leaves out those that no row needs.

    Args:
        boxes: [B, M, 4].
        classes: [B, M], -1 in an empty slot.

    Returns:
        Both with as many slots as the fullest row has, at least 1.
    """
    order = tf.argsort(tf.cast(classes < 0, tf.int32), stable=True)
    fullest = tf.reduce_max(tf.reduce_sum(tf.cast(classes >= 0, tf.int32), 1))
    order = order[:, : tf.maximum(fullest, 1)]
    return tf.gather(boxes, order, batch_dims=1), tf.gather(classes, order, batch_dims=1)
