"""Fits images into a canvas, takes boxes back and measures their overlap, in NumPy alone.

The canvas is `models.preprocess` without TensorFlow, for models that take a canvas of one size: the
same numbers within a rounding.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Images: TypeAlias = npt.NDArray[np.uint8]
"""[N, height, width, 3], RGB; a single image is [height, width, 3]."""

Floats = npt.NDArray[np.float32]

MEAN_RGB: Final = (123.675, 116.28, 103.53)
"""Mean of ImageNet's RGB values on the scale 0–255: the field's usual normalisation, and the fill
of a canvas."""

STDDEV_RGB: Final = (58.395, 57.12, 57.375)
"""Deviation of ImageNet's RGB values."""

# A JPEG is decoded at an eighth for half of what all of it costs; docs/decisions/0010 says what
# becomes of the detections.
_REDUCTIONS = (8, 4, 2)
_KEPT_DETAIL = 1.5
# Output rows, or columns, that one matrix product makes: they share most of their input.
_BAND = 4
# OpenBLAS gives a product to several threads above so many multiplications (SMP_THRESHOLD_MIN times
# GEMM_MULTITHREAD_THRESHOLD in its interface/gemm.c). They then wait for each other, and for the
# network's threads, many times longer than the product takes.
_MAX_MULTIPLICATIONS = 1 << 18
# Floats that are kept between the two passes, unless one band needs more. Each thread keeps its
# own: memory that the system hands out anew costs half as much time as the resize.
_WORK_FLOATS = 1 << 19
_work = threading.local()


def choose_canvas(
    sizes: npt.ArrayLike, canvas_sizes: Sequence[tuple[int, int]]
) -> npt.NDArray[np.intp]:
    """Chooses the canvas that keeps an image largest; of equal ones, the first.

    Args:
        sizes: [..., 2] integers, (height, width) of images in pixels.
        canvas_sizes: (height, width) of each canvas.

    Returns:
        [...]: indices of canvases.
    """
    # The scale is min(H / h, W / w); times h · w it is an integer, which all runtimes compare
    # alike.
    products = np.array(canvas_sizes, np.int64) * np.array(sizes, np.int64)[..., np.newaxis, ::-1]
    chosen: npt.NDArray[np.intp] = products.min(-1).argmax(-1)
    return chosen


def fitted_size(size: tuple[int, int], canvas_size: tuple[int, int]) -> tuple[int, int]:
    """Returns the (rows, columns) of a canvas that an image covers when its aspect is kept.

    Args:
        size: (height, width) of the image.
        canvas_size: (height, width) of the canvas.
    """
    sides, canvas = np.array(size, np.float32), np.array(canvas_size, np.float32)
    rows, columns = np.clip(np.round(sides * np.min(canvas / sides)), 1.0, canvas)
    return int(rows), int(columns)


def choose_reduction(size: tuple[int, int], canvas_sizes: Sequence[tuple[int, int]]) -> int:
    """Returns by how much a picture may be made smaller before it is fitted into a canvas.

    What is reduced keeps `_KEPT_DETAIL` times as many rows and columns as the largest canvas takes
    of it, so that the resize that follows still decides what the network sees.

    Args:
        size: (height, width) of the upright picture.
        canvas_sizes: (height, width) of each canvas; where there is none, nothing is reduced.

    Returns:
        1, 2, 4 or 8: the sides of the blocks of pixels of which each becomes one.
    """
    if not canvas_sizes:
        return 1
    rows, columns = np.max([fitted_size(size, canvas) for canvas in canvas_sizes], 0) * _KEPT_DETAIL
    return next(
        (
            factor
            for factor in _REDUCTIONS
            if -(-size[0] // factor) >= rows and -(-size[1] // factor) >= columns
        ),
        1,
    )


def fit_to_canvas(images: Images, canvas_size: tuple[int, int]) -> tuple[Floats, Floats]:
    """Scales images to fit the canvas and fills the rest.

    `models.preprocess.fit_to_canvas` is its twin in TensorFlow.

    Args:
        images: [batch, height, width, 3], uint8 on the scale 0–255, all of one size.
        canvas_size: (height, width) in pixels.

    Returns:
        The canvases [batch, *canvas_size, 3] float32 on the scale 0–255, and ratio [2] float32 =
        (rows, columns) that an image covers as a share of the canvas.
    """
    batch, height, width, channels = images.shape
    rows, columns = fitted_size((height, width), canvas_size)
    canvases = np.empty((batch, *canvas_size, channels), np.float32)
    canvases[:, rows:] = MEAN_RGB
    canvases[:, :rows, columns:] = MEAN_RGB
    row_bands, column_bands = _row_bands(height, rows), _column_bands(width, columns, channels)
    # Rows hold their pixels' channels side by side.
    for image, canvas in zip(
        images.reshape(batch, height, -1), canvases.reshape(batch, canvas_size[0], -1), strict=True
    ):
        together = max(1, _WORK_FLOATS // (_BAND * image.shape[1]))
        for begin in range(0, len(row_bands), together):
            bands = row_bands[begin : begin + together]
            squeezed = _resize_rows(image, bands)
            _resize_columns(
                squeezed, canvas[bands[0].outputs.start : bands[-1].outputs.stop], column_bands
            )
    return canvases, np.array([rows / canvas_size[0], columns / canvas_size[1]], np.float32)


def boxes_to_image(boxes: Floats, ratio: Floats) -> Floats:
    """Takes boxes from the canvas to the image and clips them there.

    Args:
        boxes: [..., 4], normalised by the canvas.
        ratio: [2], as from `fit_to_canvas`.

    Returns:
        [..., 4], normalised by the image.
    """
    clipped: Floats = np.clip(
        boxes / np.concatenate([ratio, ratio]), np.float32(0.0), np.float32(1.0)
    )
    return clipped


def pairwise_iou(boxes_yxyx: npt.ArrayLike, others_yxyx: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns intersection over union of each box with each other one.

    Args:
        boxes_yxyx: [N, 4], corners (ymin, xmin, ymax, xmax) in any unit.
        others_yxyx: [M, 4], in the same unit.

    Returns:
        [N, M] in [0, 1]; 0 where neither of two boxes has area.
    """
    boxes = np.asarray(boxes_yxyx, np.float64).reshape(-1, 1, 4)
    others = np.asarray(others_yxyx, np.float64).reshape(1, -1, 4)
    sides = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(
        boxes[..., :2], others[..., :2]
    )
    intersection = np.maximum(sides, 0.0).prod(-1)
    areas = [
        np.maximum(corners[..., 2:] - corners[..., :2], 0.0).prod(-1) for corners in (boxes, others)
    ]
    union = areas[0] + areas[1] - intersection
    iou: npt.NDArray[np.float64] = intersection / np.where(union > 0.0, union, 1.0)
    return iou


def triangle_weights(side: int, fitted: int, outputs: slice = slice(None)) -> Floats:
    """Returns the antialiased triangle filter along one axis.

    It is TensorFlow's `ScaleAndTranslate` kernel (and what Pillow calls BILINEAR): the triangle is
    as wide as the reduction.

    Args:
        side: Pixels of the image.
        fitted: Pixels of the result.
        outputs: Which of these.

    Returns:
        [outputs, side] float32; each row sums to 1.
    """
    step = np.float32(1.0) / (np.float32(fitted) / np.float32(side))
    centres = (np.arange(fitted, dtype=np.float32)[outputs] + np.float32(0.5)) * step
    distances = np.abs(np.arange(side, dtype=np.float32) + np.float32(0.5) - centres[:, np.newaxis])
    weights: Floats = np.maximum(
        np.float32(1.0) - distances / np.maximum(step, np.float32(1.0)), np.float32(0.0)
    )
    weights /= weights.sum(1, keepdims=True)
    return weights


class _Band(NamedTuple):
    """Neighbouring output rows, the input rows that they take, and weights [outputs, inputs]."""

    outputs: slice
    inputs: slice
    weights: Floats


def _resize_rows(image: Images, bands: Sequence[_Band]) -> Floats:
    """Returns the rows that the bands make of an image [height, width].

    They stand in memory that the next call of this thread uses again.
    """
    first, width = bands[0].outputs.start, image.shape[1]
    resized = _borrow(bands[-1].outputs.stop - first, width)
    for outputs, inputs, weights in bands:
        # Pieces this small stay in the processor's cache as floats.
        piece = max(1, _MAX_MULTIPLICATIONS // weights.size)
        rows = resized[outputs.start - first : outputs.stop - first]
        for begin in range(0, width, piece):
            part = slice(begin, begin + piece)
            np.matmul(weights, image[inputs, part].astype(np.float32), out=rows[:, part])
    return resized


def _resize_columns(image: Floats, resized: Floats, bands: Sequence[_Band]) -> None:
    """Writes the columns that the bands make of an image [height, width] into `resized`."""
    for outputs, inputs, weights in bands:
        piece = max(1, _MAX_MULTIPLICATIONS // weights.size)
        for begin in range(0, len(image), piece):
            part = slice(begin, begin + piece)
            np.matmul(image[part, inputs], weights, out=resized[part, outputs])


def _borrow(height: int, width: int) -> Floats:
    size = height * width
    memory: Floats | None = getattr(_work, "memory", None)
    if memory is None or memory.size < size:
        memory = _work.memory = np.empty(max(size, _WORK_FLOATS), np.float32)
    return memory[:size].reshape(height, width)


# The pictures of a folder, and all frames of a video, have a few sizes.
@lru_cache(maxsize=32)
def _row_bands(side: int, fitted: int) -> tuple[_Band, ...]:
    bands = []
    for begin in range(0, fitted, _BAND):
        outputs = slice(begin, min(begin + _BAND, fitted))
        # Those of all bands together would take more memory than a long picture.
        weights = triangle_weights(side, fitted, outputs)
        taken = np.flatnonzero(weights.any(0))
        inputs = slice(int(taken[0]), int(taken[-1]) + 1)
        bands.append(_Band(outputs, inputs, weights[:, inputs].copy()))
    return tuple(bands)


@lru_cache(maxsize=32)
def _column_bands(side: int, fitted: int, channels: int) -> tuple[_Band, ...]:
    """Returns bands of columns that keep the channels apart.

    Their weights are [inputs · channels, outputs · channels].
    """
    apart = np.eye(channels, dtype=np.float32)
    return tuple(
        _Band(
            slice(band.outputs.start * channels, band.outputs.stop * channels),
            slice(band.inputs.start * channels, band.inputs.stop * channels),
            np.kron(band.weights.T, apart),
        )
        for band in _row_bands(side, fitted)
    )
