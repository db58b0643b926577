"""A perceptual hash: 256 bits that tell whether two images show nearly the same."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from detflow.data.images.decode import Grey

_Weights = npt.NDArray[np.float32]


def perceptual_hash(grey: Grey) -> bytes:
    """Returns 256 bits that change little when an image is scaled, compressed again or brightened.

    It is the difference hash (N. Krawetz, "Kind of Like That", 2013) at 16x16: each bit says
    whether a cell of a 17x16 grid is brighter than its left neighbour.

    Args:
        grey: A small grey rendition of the image.

    Returns:
        32 bytes.
    """
    rows, columns, widths = _hash_grid(*grey.shape)
    # The sums are whole numbers below 2**24, which float32 holds exactly in any order.
    means = rows @ grey.astype(np.float32) @ columns / widths
    return np.packbits(means[:, 1:] > means[:, :-1]).tobytes()


@lru_cache(maxsize=64)
def _hash_grid(height: int, width: int) -> tuple[_Weights, _Weights, _Weights]:
    """Returns matrices [16, height] and [width, 17] that sum over cells, and the cells' widths."""
    rows, columns = _cell_sums(16, height), _cell_sums(17, width)
    return rows, columns.T.copy(), columns.sum(axis=1)


def _cell_sums(cells: int, side: int) -> _Weights:
    """Returns a matrix [cells, side] of ones where a pixel belongs to a cell.

    Where there are fewer pixels than cells, cells share them.
    """
    begins = np.arange(cells + 1) * side // cells
    places = np.arange(side)
    ends = np.maximum(begins[1:], begins[:-1] + 1)
    return ((places >= begins[:-1, None]) & (places < ends[:, None])).astype(np.float32)
