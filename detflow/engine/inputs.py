"""From records to training batches. A batch is a pure function of (seed, step): no iterator state exists, so none is saved.

The order is a permutation of each epoch that a hash of (seed, epoch, index) gives; augmentation draws from stateless random
operations keyed by (seed, step).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from detflow.config import AugmentConfig
from detflow.engine import preprocess
from detflow.engine.anchors import best_anchor_iou
from detflow.errors import DataError, environment_faults
from detflow.types import LabelMap, Sample

__all__ = ["Batch", "TrainingImages", "augment", "cache_size", "epoch_order"]

# Decoded images are kept a quarter larger than the canvas, so that zooming in still finds detail.
_CACHE_MARGIN = 1.25
# A box thinner than this share of the canvas after augmentation carries no signal.
_MIN_SIDE = 1e-3


class Batch(NamedTuple):
    """One step's images.

    Attributes:
        images: [B, cache height, cache width, 3] uint8.
        boxes: [B, M, 4] float32, normalised by the canvas, zeros in an empty slot; M >= 1.
        classes: [B, M] int32 counted from 0, -1 in an empty slot.
        indices: [B] int64: which images.
    """

    images: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int32]
    indices: npt.NDArray[np.int64]


class TrainingImages:
    """Decoded training images with their boxes.

    Args:
        samples: Read once, in order.
        num_samples: How many there are.
        label_map: The classes.
        input_size: The canvas: (height, width) in pixels.
        max_boxes: Of an image with more boxes the largest are taken.
        max_bytes: Above this size the images live in an unnamed file instead of memory.
        scratch_dir: Where that file goes.

    Attributes:
        names: File name of each image.
        num_boxes_left_out: Boxes above `max_boxes`.
        num_bytes: Of all decoded images.
        in_memory: Whether they live there, or in the file.
    """

    def __init__(
        self,
        samples: Iterable[Sample],
        num_samples: int,
        label_map: LabelMap,
        input_size: tuple[int, int],
        *,
        max_boxes: int,
        max_bytes: int,
        scratch_dir: Path,
    ) -> None:
        height, width = cache_size(input_size)
        decode = _cache_decoder((height, width))
        self._images = _allocate((num_samples, height, width, 3), max_bytes, scratch_dir)
        self.num_bytes = self._images.nbytes
        self.in_memory = not isinstance(self._images, np.memmap)
        self._boxes: list[npt.NDArray[np.float32]] = []
        self._classes: list[npt.NDArray[np.int32]] = []
        self.names: list[str] = []
        self.num_boxes_left_out = 0
        for index, sample in enumerate(samples):
            try:
                canvas, ratio = decode(tf.constant(sample.encoded))
            except tf.errors.InvalidArgumentError as error:
                raise DataError(f"the image cannot be decoded: {error.message.splitlines()[0]}", path=sample.filename) from None
            self._images[index] = canvas.numpy()
            kept = sorted(sample.objects, key=lambda item: -item.box.area)[:max_boxes]
            self.num_boxes_left_out += len(sample.objects) - len(kept)
            boxes = np.array([[o.box.ymin, o.box.xmin, o.box.ymax, o.box.xmax] for o in kept], np.float32).reshape(-1, 4)
            self._boxes.append(preprocess.boxes_to_canvas(boxes, ratio).numpy())
            self._classes.append(np.array([label_map.id_of(o.name) - 1 for o in kept], np.int32))
            self.names.append(sample.filename)

    def __len__(self) -> int:
        return len(self.names)

    def anchor_recall(self, anchors: npt.NDArray[np.float32], label_map: LabelMap) -> dict[str, float]:
        """Returns, for each class that occurs, the share of its boxes that an anchor overlaps by IoU .5 or more."""
        best = best_anchor_iou(np.concatenate(self._boxes).astype(np.float64), anchors)
        classes = np.concatenate(self._classes)
        return {name: float(np.mean(best[classes == i] >= 0.5)) for i, name in enumerate(label_map) if (classes == i).any()}

    def batch(self, seed: int, step: int, batch_size: int) -> Batch:
        """Returns the batch of a step, counted from 0. Steps walk through the epochs without a break."""
        positions = np.arange(step * batch_size, (step + 1) * batch_size)
        orders = {epoch: epoch_order(seed, epoch, len(self)) for epoch in set((positions // len(self)).tolist())}
        indices = np.array([orders[position // len(self)][position % len(self)] for position in positions.tolist()])
        num_slots = max(1, *(len(self._classes[i]) for i in indices))
        boxes = np.zeros((batch_size, num_slots, 4), np.float32)
        classes = np.full((batch_size, num_slots), -1, np.int32)
        for row, index in enumerate(indices):
            boxes[row, : len(self._boxes[index])] = self._boxes[index]
            classes[row, : len(self._classes[index])] = self._classes[index]
        return Batch(self._images[indices], boxes, classes, indices)


def cache_size(input_size: Sequence[int]) -> tuple[int, int]:
    """Returns the (height, width) that decoded images are kept at for a canvas."""
    height, width = (round(side * _CACHE_MARGIN) for side in input_size)
    return height, width


def epoch_order(seed: int, epoch: int, num_items: int) -> npt.NDArray[np.int64]:
    """Returns a permutation of range(num_items) that depends on nothing but its arguments.

    Items are sorted by splitmix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators") of their number;
    NumPy's own permutations may change between its versions.
    """
    key = _splitmix64(_splitmix64(np.array([seed], np.uint64)) ^ np.uint64(epoch))
    return np.argsort(_splitmix64(key ^ np.arange(num_items, dtype=np.uint64)), kind="stable")


def augment(
    images: tf.Tensor,
    boxes: tf.Tensor,
    classes: tf.Tensor,
    *,
    seed: int,
    step: tf.Tensor,
    input_size: tuple[int, int],
    config: AugmentConfig,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Turns a batch into the network's input: one crop-and-resize carries zoom, stretch, shift and flips; then colour.

    Args:
        images: As `Batch.images`.
        boxes: As `Batch.boxes`.
        classes: As `Batch.classes`.
        seed: The run's.
        step: Scalar int64.
        input_size: The canvas: (height, width) in pixels.
        config: The ranges.

    Returns:
        Normalised canvases [B, *input_size, 3] float32, and boxes and classes of the same shapes as before; a box that left the
        view has become an empty slot.
    """
    batch_size = tf.shape(images)[0]
    noise = tf.random.stateless_uniform([batch_size, 12], seed=tf.stack([tf.constant(seed, tf.int64), step]))
    origin, extent, flip = _views(noise[:, :6], config)
    canvases = tf.image.crop_and_resize(
        preprocess.normalize(images),
        _sample_corners(origin, extent, flip, tf.shape(images)[1:3], input_size),
        tf.range(batch_size),
        input_size,
    )
    boxes, classes = _boxes_in_view(boxes, classes, origin, extent, flip, config)
    if config.enabled:
        signed = noise[:, tf.newaxis, tf.newaxis, 6:11] * 2.0 - 1.0
        gain = (1.0 + config.gain * signed[..., :1]) * (1.0 + config.channel_gain * signed[..., 1:4])
        # Normalised values deviate by about 1 over 57 grey levels.
        canvases = canvases * gain + config.offset * (255.0 / 57.0) * signed[..., 4:]
    return canvases, boxes, classes


def _views(noise: tf.Tensor, config: AugmentConfig) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Draws which rectangle of the image becomes the canvas: origin, extent and flip, each [B, 2] as (y, x)."""
    if not config.enabled:
        zeros = tf.zeros([tf.shape(noise)[0], 2])
        return zeros, zeros + 1.0, zeros > 0.0
    low, high = (tf.math.log(float(bound)) for bound in config.scale)
    zoom = tf.exp(low + (high - low) * noise[:, 0])
    stretch = tf.exp(tf.math.log(float(config.aspect)) * (noise[:, 1] - 0.5))
    extent = tf.stack([stretch / zoom, 1.0 / (stretch * zoom)], 1)
    # A view smaller than the image lies anywhere inside it; of a larger one the image lies anywhere inside.
    origin = noise[:, 2:4] * (1.0 - extent)
    flip = (noise[:, 4:6] < 0.5) & tf.constant([config.vertical_flip, config.horizontal_flip])
    return origin, extent, flip


def _sample_corners(
    origin: tf.Tensor, extent: tf.Tensor, flip: tf.Tensor, image_size: tf.Tensor, canvas_size: tuple[int, int]
) -> tf.Tensor:
    """Returns crop_and_resize's boxes [B, 4] for views.

    The operation places its outermost samples on the box' edges, counted from pixel centre to pixel centre; here they belong on
    the centres of the canvas' outermost pixels.
    """
    size = tf.cast(image_size, tf.float32)
    half_pixel = extent * 0.5 / tf.constant(canvas_size, tf.float32)
    first = ((origin + half_pixel) * size - 0.5) / (size - 1.0)
    last = ((origin + extent - half_pixel) * size - 0.5) / (size - 1.0)
    return tf.concat([tf.where(flip, last, first), tf.where(flip, first, last)], 1)


def _boxes_in_view(
    boxes: tf.Tensor, classes: tf.Tensor, origin: tf.Tensor, extent: tf.Tensor, flip: tf.Tensor, config: AugmentConfig
) -> tuple[tf.Tensor, tf.Tensor]:
    low = (boxes[..., :2] - origin[:, tf.newaxis]) / extent[:, tf.newaxis]
    high = (boxes[..., 2:] - origin[:, tf.newaxis]) / extent[:, tf.newaxis]
    flip = flip[:, tf.newaxis]
    low, high = tf.where(flip, 1.0 - high, low), tf.where(flip, 1.0 - low, high)
    whole = tf.reduce_prod(high - low, -1)
    low, high = tf.clip_by_value(low, 0.0, 1.0), tf.clip_by_value(high, 0.0, 1.0)
    side = high - low
    kept = (classes >= 0) & (tf.reduce_min(side, -1) > _MIN_SIDE) & (tf.reduce_prod(side, -1) >= config.min_visible * whole)
    return tf.where(kept[..., tf.newaxis], tf.concat([low, high], -1), 0.0), tf.where(kept, classes, -1)


def _cache_decoder(size: tuple[int, int]) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    def decode(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        canvases, ratio = preprocess.fit_to_canvas(preprocess.decode_jpeg(encoded)[tf.newaxis], size)
        return tf.cast(tf.round(canvases[0]), tf.uint8), ratio

    return tf.function(decode, autograph=False, input_signature=[tf.TensorSpec([], tf.string)])  # type: ignore[no-any-return]


def _allocate(shape: tuple[int, ...], max_bytes: int, scratch_dir: Path) -> npt.NDArray[np.uint8]:
    num_bytes = int(np.prod(shape))
    if num_bytes <= max_bytes:
        return np.empty(shape, np.uint8)
    remedy = f"{num_bytes:,} bytes are needed; free some space or raise data.cache_megabytes"
    # A file without a name leaves nothing behind, however the process ends. Its space is reserved at once: a full disk must not
    # show as a crash in the middle of training.
    with environment_faults(scratch_dir, remedy), tempfile.TemporaryFile(dir=scratch_dir) as file:
        os.posix_fallocate(file.fileno(), 0, num_bytes)
        return np.memmap(file, np.uint8, "r+", shape=shape)


def _splitmix64(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    state = values + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: npt.NDArray[np.uint64] = state ^ (state >> np.uint64(31))
    return result
