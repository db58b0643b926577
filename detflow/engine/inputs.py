"""From records to training batches. A batch is a pure function of (seed, step): no iterator state exists, so none is saved.

The order is a permutation of each epoch that a hash of (seed, epoch, index) gives; `augmentation` draws from stateless random
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

from detflow.engine import preprocess
from detflow.engine.anchors import best_anchor_iou
from detflow.engine.faults import decode_faults
from detflow.errors import environment_faults
from detflow.types import LabelMap, Sample

__all__ = ["Batch", "TrainingImages", "cache_size", "epoch_order"]

# Decoded images are kept a quarter larger than the canvas, so that zooming in still finds detail.
_CACHE_MARGIN = 1.25


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
            with decode_faults(sample.filename):
                canvas, ratio = decode(tf.constant(sample.encoded))
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

    def batch(self, seed: int, step: int, batch_size: int, rows: npt.NDArray[np.int64] | None = None) -> Batch:
        """Returns the batch of a step, counted from 0. Steps walk through the epochs without a break.

        Args:
            seed: The run's.
            step: Which.
            batch_size: Images of a step.
            rows: Returns these rows of the batch only, with as many slots as the whole has.
        """
        positions = np.arange(step * batch_size, (step + 1) * batch_size)
        orders = {epoch: epoch_order(seed, epoch, len(self)) for epoch in set((positions // len(self)).tolist())}
        indices = np.array([orders[position // len(self)][position % len(self)] for position in positions.tolist()])
        num_slots = max(1, *(len(self._classes[i]) for i in indices))
        if rows is not None:
            indices = indices[rows]
        boxes = np.zeros((len(indices), num_slots, 4), np.float32)
        classes = np.full((len(indices), num_slots), -1, np.int32)
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
