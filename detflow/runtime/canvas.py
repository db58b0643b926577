"""`engine.preprocess` without TensorFlow, for models that take a canvas of one size: the same numbers within a rounding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from detflow.runtime.detector import Images

__all__ = ["MEAN_RGB", "STDDEV_RGB", "boxes_to_image", "choose_canvas", "fit_to_canvas", "fitted_size", "triangle_weights"]

Floats = npt.NDArray[np.float32]

MEAN_RGB: Final = (123.675, 116.28, 103.53)
"""Mean of ImageNet's RGB values on the scale 0–255: the field's usual normalisation, and the fill of a canvas."""

STDDEV_RGB: Final = (58.395, 57.12, 57.375)
"""Deviation of ImageNet's RGB values."""

_PIECE_FLOATS = 1 << 18


def choose_canvas(sizes: npt.ArrayLike, canvas_sizes: Sequence[tuple[int, int]]) -> npt.NDArray[np.intp]:
    """Chooses the canvas that takes an image: the one in which it is largest, of equal ones the first.

    Args:
        sizes: [..., 2] integers, (height, width) of images in pixels.
        canvas_sizes: (height, width) of each canvas.

    Returns:
        [...]: indices of canvases.
    """
    # The scale is min(H / h, W / w); times h · w it is an integer, which all runtimes compare alike.
    products = np.array(canvas_sizes, np.int64) * np.array(sizes, np.int64)[..., np.newaxis, ::-1]
    chosen: npt.NDArray[np.intp] = products.min(-1).argmax(-1)
    return chosen


def fitted_size(size: tuple[int, int], canvas_size: tuple[int, int]) -> tuple[int, int]:
    """Returns the (rows, columns) of the canvas that an image of `size` (height, width) covers, its aspect kept."""
    sides, canvas = np.array(size, np.float32), np.array(canvas_size, np.float32)
    rows, columns = np.clip(np.round(sides * np.min(canvas / sides)), 1.0, canvas)
    return int(rows), int(columns)


def fit_to_canvas(images: Images, canvas_size: tuple[int, int]) -> tuple[Floats, Floats]:
    """Scales images to fit the canvas and fills the rest; see `engine.preprocess.fit_to_canvas`, whose twin this is.

    Args:
        images: [batch, height, width, 3], uint8 on the scale 0–255, all of one size.
        canvas_size: (height, width) in pixels.

    Returns:
        The canvases [batch, *canvas_size, 3] float32 on the scale 0–255, and ratio [2] float32 = (rows, columns) that an image
        covers as a share of the canvas.
    """
    batch, height, width, channels = images.shape
    rows, columns = fitted_size((height, width), canvas_size)
    squeezed = _resize_rows(images.reshape(batch, height, width * channels), rows)
    # [batch, width, rows · channels]: the other axis comes first and is done in the same way.
    turned = squeezed.reshape(batch, rows, width, channels).transpose(0, 2, 1, 3).reshape(batch, width, rows * channels)
    canvases = np.empty((batch, *canvas_size, channels), np.float32)
    canvases[...] = MEAN_RGB
    canvases[:, :rows, :columns] = _resize_rows(turned, columns).reshape(batch, columns, rows, channels).transpose(0, 2, 1, 3)
    return canvases, np.array([rows / canvas_size[0], columns / canvas_size[1]], np.float32)


def boxes_to_image(boxes: Floats, ratio: Floats) -> Floats:
    """Takes boxes [..., 4] from the canvas to the image and clips them there; ratio is [2] as from `fit_to_canvas`."""
    clipped: Floats = np.clip(boxes / np.concatenate([ratio, ratio]), np.float32(0.0), np.float32(1.0))
    return clipped


def triangle_weights(side: int, fitted: int) -> Floats:
    """Returns the antialiased triangle filter along one axis as a matrix [fitted, side] float32 whose rows sum to 1.

    It is TensorFlow's `ScaleAndTranslate` kernel (and what Pillow calls BILINEAR): the triangle is as wide as the reduction.
    """
    step = np.float32(1.0) / (np.float32(fitted) / np.float32(side))
    centres = (np.arange(fitted, dtype=np.float32) + np.float32(0.5)) * step
    distances = np.abs(np.arange(side, dtype=np.float32) + np.float32(0.5) - centres[:, np.newaxis])
    weights: Floats = np.maximum(np.float32(1.0) - distances / np.maximum(step, np.float32(1.0)), np.float32(0.0))
    weights /= weights.sum(1, keepdims=True)
    return weights


def _resize_rows(values: Images | Floats, fitted: int) -> Floats:
    """Resizes [batch, side, width] along its second axis: a weighted sum of the few rows that an output row takes.

    A matrix product would be shorter, but its threads wait for each other many times longer than so small a product takes.
    """
    rows, weights = _taps(values.shape[1], fitted)
    total = np.empty((len(values), fitted, values.shape[2]), np.float32)
    # In pieces that stay in the processor's cache.
    piece = max(1, _PIECE_FLOATS // (rows.shape[1] * values.shape[2] * len(values)))
    for begin in range(0, fitted, piece):
        part = slice(begin, begin + piece)
        np.einsum("rk,brkw->brw", weights[part], values[:, rows[part]].astype(np.float32), out=total[:, part])
    return total


# The pictures of a folder, and all frames of a video, have a few sizes.
@lru_cache(maxsize=64)
def _taps(side: int, fitted: int) -> tuple[npt.NDArray[np.intp], Floats]:
    """Returns which rows an output row takes, and their weights, both [fitted, taps]."""
    weights = triangle_weights(side, fitted)
    num_taps = int(np.count_nonzero(weights, 1).max())
    first = np.minimum((weights > 0.0).argmax(1), side - num_taps)
    rows = first[:, np.newaxis] + np.arange(num_taps)
    return rows, np.take_along_axis(weights, rows, 1)
