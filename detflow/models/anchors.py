"""Where the anchors are. This file imports no TensorFlow: `detflow init` asks for anchors too."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from detflow.config.schema import ModelConfig


def build_anchors(
    config: ModelConfig, canvas_size: tuple[int, int]
) -> tuple[npt.NDArray[np.float32], tuple[int, ...]]:
    """Lays out the anchors of a canvas in the order of the network's outputs.

    Their sides in pixels are the same on every canvas.

    Args:
        config: The model's section of the configuration.
        canvas_size: (height, width) in pixels.

    Returns:
        [A, 4] float32, normalised by the canvas and not clipped to it, and the number of anchors of
        each level.
    """
    height, width = canvas_size
    sizes = [2 ** (i / config.anchors_per_octave) for i in range(config.anchors_per_octave)]
    levels = []
    for level in range(config.min_level, config.max_level + 1):
        stride = 2**level
        centre_y, centre_x = np.meshgrid(
            np.arange(stride / 2, height, stride),
            np.arange(stride / 2, width, stride),
            indexing="ij",
        )
        shapes = []
        for size in sizes:
            for aspect in config.aspect_ratios:
                side = config.anchor_scale * stride * size
                half_height, half_width = side / math.sqrt(aspect) / 2, side * math.sqrt(aspect) / 2
                shapes.append(
                    np.stack(
                        [
                            (centre_y - half_height) / height,
                            (centre_x - half_width) / width,
                            (centre_y + half_height) / height,
                            (centre_x + half_width) / width,
                        ],
                        axis=-1,
                    )
                )
        levels.append(np.stack(shapes, axis=2).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32), tuple(len(level) for level in levels)
