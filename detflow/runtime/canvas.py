"""`engine.preprocess` without TensorFlow, for models that take a canvas of one size: the same numbers within a rounding."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from detflow.runtime.detector import Images

__all__ = ["MEAN_RGB", "STDDEV_RGB", "boxes_to_image", "fit_to_canvas", "fitted_size", "triangle_weights"]

Floats = npt.NDArray[np.float32]

MEAN_RGB: Final = (123.675, 116.28, 103.53)
"""Mean of ImageNet's RGB values on the scale 0–255: the field's usual normalisation, and the fill of a canvas."""

STDDEV_RGB: Final = (58.395, 57.12, 57.375)
"""Deviation of ImageNet's RGB values."""

# Output rows, or columns, that one matrix product makes: they share most of the input that they take.
_BAND = 4
# OpenBLAS gives a product to several threads above so many multiplications (SMP_THRESHOLD_MIN times GEMM_MULTITHREAD_THRESHOLD in
# its interface/gemm.c). They then wait for each other, and for the network's threads, many times longer than the product takes.
_MAX_MULTIPLICATIONS = 1 << 18


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
    canvases = np.empty((batch, *canvas_size, channels), np.float32)
    canvases[:, rows:] = MEAN_RGB
    canvases[:, :rows, columns:] = MEAN_RGB
    squeezed = np.empty((rows, width * channels), np.float32)
    for image, canvas in zip(images, canvases, strict=True):
        _resize_rows(image.reshape(height, width * channels), squeezed)
        # A row of the canvas holds its pixels' channels side by side.
        _resize_columns(squeezed, canvas.reshape(canvas_size[0], -1)[:rows, : columns * channels], channels)
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


class _Band(NamedTuple):
    """Output rows that stand side by side, the input rows that they take, and their weights [outputs, inputs]."""

    outputs: slice
    inputs: slice
    weights: Floats


def _resize_rows(image: Images, resized: Floats) -> None:
    """Writes the rows of `resized` [rows, width] from those of the image [height, width]."""
    width = image.shape[1]
    for outputs, inputs, weights in _row_bands(image.shape[0], resized.shape[0]):
        # Pieces this small stay in the processor's cache as floats.
        piece = max(1, _MAX_MULTIPLICATIONS // weights.size)
        for begin in range(0, width, piece):
            part = slice(begin, begin + piece)
            np.matmul(weights, image[inputs, part].astype(np.float32), out=resized[outputs, part])


def _resize_columns(image: Floats, resized: Floats, channels: int) -> None:
    """Writes the columns of `resized` [height, columns · channels] from those of the image [height, width · channels]."""
    height = image.shape[0]
    for outputs, inputs, weights in _column_bands(image.shape[1] // channels, resized.shape[1] // channels, channels):
        piece = max(1, _MAX_MULTIPLICATIONS // weights.size)
        for begin in range(0, height, piece):
            part = slice(begin, begin + piece)
            np.matmul(image[part, inputs], weights, out=resized[part, outputs])


# The pictures of a folder, and all frames of a video, have a few sizes.
@lru_cache(maxsize=32)
def _row_bands(side: int, fitted: int) -> tuple[_Band, ...]:
    weights = triangle_weights(side, fitted)
    bands = []
    for begin in range(0, fitted, _BAND):
        outputs = slice(begin, min(begin + _BAND, fitted))
        taken = np.flatnonzero(weights[outputs].any(0))
        inputs = slice(int(taken[0]), int(taken[-1]) + 1)
        bands.append(_Band(outputs, inputs, np.ascontiguousarray(weights[outputs, inputs])))
    return tuple(bands)


@lru_cache(maxsize=32)
def _column_bands(side: int, fitted: int, channels: int) -> tuple[_Band, ...]:
    """Returns bands of columns whose weights [inputs · channels, outputs · channels] keep the channels apart."""
    apart = np.eye(channels, dtype=np.float32)
    return tuple(
        _Band(
            slice(band.outputs.start * channels, band.outputs.stop * channels),
            slice(band.inputs.start * channels, band.inputs.stop * channels),
            np.kron(band.weights.T, apart),
        )
        for band in _row_bands(side, fitted)
    )
