"""From records to training batches, each a pure function of (seed, step).

`order` says which images a step sees; `augment` draws from stateless random operations that are
keyed by (seed, step). Where there are several canvases the images of each are a bucket.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from detflow.errors import environment_faults
from detflow.geometry import choose_canvas
from detflow.label_map import LabelMap
from detflow.models import preprocess
from detflow.process.platform import reserve_space
from detflow.process.tensorflow_faults import decode_faults
from detflow.training.order import ImageOrder, repeat_factors
from detflow.types import Sample

# Decoded images are kept a quarter larger than the canvas, so that zooming in still finds detail.
_CACHE_MARGIN = 1.25


class Batch(NamedTuple):
    """One step's images.

    Attributes:
        images: [B, cache height, cache width, 3] uint8; see `cache_size`.
        boxes: [B, M, 4] float32, normalised by the canvas, zeros in an empty slot; M >= 1.
        classes: [B, M] int32 counted from 0, -1 in an empty slot.
        indices: [B] int64: numbers of the images in the set.
    """

    images: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int32]
    indices: npt.NDArray[np.int64]


class TrainingImages:
    """Decoded training images with their boxes.

    Args:
        samples: The images; they are read once, in order.
        num_samples: Number of the samples.
        label_map: The classes.
        canvas_sizes: (height, width) of each canvas in pixels; the images that are trained on one
            of them are a bucket.
        max_boxes: Largest number of boxes of an image; of more, the largest boxes are taken.
        max_bytes: Largest size of decoded images in memory; larger sets go to an unnamed file.
        scratch_dir: Folder of that file.
        repeat_threshold: As `data.repeat_threshold`.

    Attributes:
        names: File name of each image.
        repeat_factors: [images], how often each image is seen in an epoch.
        bucket_sizes: Number of images of each bucket, in the order of the canvases.
        num_boxes_left_out: Number of boxes above `max_boxes`.
        num_bytes: Size of all decoded images.
        in_memory: Whether they are in memory, or in the file.
    """

    def __init__(
        self,
        samples: Iterable[Sample],
        num_samples: int,
        label_map: LabelMap,
        canvas_sizes: Sequence[tuple[int, int]],
        *,
        max_boxes: int,
        max_bytes: int,
        scratch_dir: Path,
        repeat_threshold: float = 0.0,
    ) -> None:
        self._canvas_sizes = canvas_sizes
        self._shapes = [(*cache_size(size), 3) for size in canvas_sizes]
        decoders = [_cache_decoder(cache_size(size)) for size in canvas_sizes]
        # Each image has a row. Canvases are about equally large, and what a smaller one leaves of
        # its row is never touched.
        self._images = _allocate(
            (num_samples, max(map(math.prod, self._shapes))), max_bytes, scratch_dir
        )
        self.num_bytes = self._images.nbytes
        self.in_memory = not isinstance(self._images, np.memmap)
        self._boxes: list[npt.NDArray[np.float32]] = []
        self._classes: list[npt.NDArray[np.int32]] = []
        self.names: list[str] = []
        buckets: list[int] = []
        self.num_boxes_left_out = 0
        for index, sample in enumerate(samples):
            bucket = int(choose_canvas([sample.size.height, sample.size.width], canvas_sizes))
            buckets.append(bucket)
            with decode_faults(sample.filename):
                canvas, ratio = decoders[bucket](tf.constant(sample.encoded))
            pixels = canvas.numpy().reshape(-1)
            self._images[index, : len(pixels)] = pixels
            # A crowd's box is no example of one object.
            objects = [item for item in sample.objects if not item.crowd]
            kept = sorted(objects, key=lambda item: -item.box.area)[:max_boxes]
            self.num_boxes_left_out += len(objects) - len(kept)
            boxes = np.array(
                [[o.box.ymin, o.box.xmin, o.box.ymax, o.box.xmax] for o in kept], np.float32
            ).reshape(-1, 4)
            self._boxes.append(preprocess.boxes_to_canvas(boxes, ratio).numpy())
            self._classes.append(np.array([label_map.id_of(o.name) - 1 for o in kept], np.int32))
            self.names.append(sample.filename)
        self._members = [
            np.flatnonzero(np.array(buckets) == bucket) for bucket in range(len(canvas_sizes))
        ]
        self.repeat_factors = repeat_factors(self._classes, repeat_threshold)
        self._order = ImageOrder(self._members, self.repeat_factors)
        self.bucket_sizes = tuple(len(members) for members in self._members)

    def __len__(self) -> int:
        return len(self.names)

    def box_sides_px(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
        """Returns height and width of each box in pixels of its canvas, [N, 2], and its class.

        Classes are counted from 0.
        """
        sides, classes = [np.zeros((0, 2))], [np.zeros(0, np.int32)]
        for canvas_size, members in zip(self._canvas_sizes, self._members, strict=True):
            for index in members:
                boxes = self._boxes[index].astype(np.float64)
                sides.append((boxes[:, 2:] - boxes[:, :2]) * canvas_size)
                classes.append(self._classes[index])
        return np.concatenate(sides), np.concatenate(classes)

    def batch(
        self, seed: int, step: int, batch_size: int, rows: npt.NDArray[np.int64] | None = None
    ) -> Batch:
        """Returns the batch of a step, counted from 0; `ImageOrder` says which images it has.

        Args:
            seed: The run's seed.
            step: Number of the step.
            batch_size: Number of images of a step.
            rows: Rows of the batch to return, with as many slots as the whole has; None for all.
        """
        bucket, indices = self._order.find(seed, step, batch_size)
        num_slots = max(1, *(len(self._classes[i]) for i in indices))
        if rows is not None:
            indices = indices[rows]
        boxes = np.zeros((len(indices), num_slots, 4), np.float32)
        classes = np.full((len(indices), num_slots), -1, np.int32)
        for row, index in enumerate(indices):
            boxes[row, : len(self._boxes[index])] = self._boxes[index]
            classes[row, : len(self._classes[index])] = self._classes[index]
        shape = self._shapes[bucket]
        pixels = self._images[indices, : math.prod(shape)].reshape(len(indices), *shape)
        return Batch(pixels, boxes, classes, indices)


def cache_size(canvas_size: Sequence[int]) -> tuple[int, int]:
    """Returns the (height, width) of decoded images for a canvas.

    No two canvases have the same.
    """
    height, width = (round(side * _CACHE_MARGIN) for side in canvas_size)
    return height, width


def _cache_decoder(size: tuple[int, int]) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    def decode(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        canvases, ratio = preprocess.fit_to_canvas(
            preprocess.decode_jpeg(encoded)[tf.newaxis], size
        )
        return tf.cast(tf.round(canvases[0]), tf.uint8), ratio

    return tf.function(decode, autograph=False, input_signature=[tf.TensorSpec([], tf.string)])  # type: ignore[no-any-return]


def _allocate(shape: tuple[int, ...], max_bytes: int, scratch_dir: Path) -> npt.NDArray[np.uint8]:
    num_bytes = int(np.prod(shape))
    if num_bytes <= max_bytes:
        return np.empty(shape, np.uint8)
    remedy = f"{num_bytes:,} bytes are needed; free some space or raise data.cache_megabytes"
    # A file without a name leaves nothing behind, however the process ends. Its space is reserved
    # at once: a full disk must not show as a crash in the middle of training.
    with environment_faults(scratch_dir, remedy), tempfile.TemporaryFile(dir=scratch_dir) as file:
        reserve_space(file.fileno(), num_bytes)
        return np.memmap(file, np.uint8, "r+", shape=shape)
