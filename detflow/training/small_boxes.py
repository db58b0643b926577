"""What limits which objects can be found: boxes smaller than the network's finest cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_MAX_NAMED = 5


def describe_small_boxes(
    sides_px: npt.NDArray[np.float64], names: Sequence[str], min_level: int
) -> str:
    """Says how many boxes are smaller than a cell of the finest level, and of which classes.

    No anchor's centre may lie in such a box, and then nothing learns it. Larger boxes train
    whatever the anchors' shapes are: ATSS takes the best of them for each box.

    Args:
        sides_px: [N, 2], height and width of each box in pixels of its canvas.
        names: The class of each box.
        min_level: The finest level; its cells have sides of 2 to its power.

    Returns:
        Words for a line or a comment, with the five classes that are hit hardest.
    """
    cell_px = 2**min_level
    is_small = np.sqrt(sides_px.prod(1)) < cell_px
    if not is_small.any():
        return f"no box is smaller than a cell of the finest level, {cell_px} pixels, on the canvas"
    classes, numbers = np.unique(np.array(names), return_inverse=True)
    shares = np.bincount(numbers, is_small) / np.bincount(numbers)
    worst = [index for index in np.argsort(-shares, kind="stable")[:_MAX_NAMED] if shares[index]]
    listed = ", ".join(f"{classes[index]} {shares[index]:.0%}" for index in worst)
    return (
        f"smaller than a cell of the finest level, {cell_px} pixels, on the canvas, and hard to "
        f"find: {is_small.mean():.1%} of the boxes; most of {listed}; a larger model.input_size "
        "helps them"
    )
