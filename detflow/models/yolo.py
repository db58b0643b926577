"""YOLOv7 (arXiv:2207.02696): decoding around Model Garden's network and loss.

Sizes: B images, A anchors, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import tensorflow as tf
from typing_extensions import override

from detflow.config.schema import ModelConfig
from detflow.distributed.replicas import gather_rows
from detflow.models.anchors import build_anchors
from detflow.models.base import ClassAxis, DenseModel, Losses
from detflow.models.garden.yolo import YoloNetwork
from detflow.models.precision import as_float32


class Yolo(DenseModel):
    """Each anchor predicts a box, whether there is an object, and its class."""

    loss_names = ("objectness", "classification", "box")
    class_axes: ClassVar[Mapping[str, ClassAxis]] = {
        r"head/_convs/\d+/(kernel|pointwise_kernel|bias)": ClassAxis(before=5),
        r"head/(implicit_muls_l|_implicit_muls/)\d+": ClassAxis(before=5),
    }

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        self.canvas_sizes = config.canvas_sizes
        self.num_classes = num_classes
        self.anchors, level_sizes = build_anchors(config, config.input_size)
        per_cell = config.anchors_per_octave * len(config.aspect_ratios)
        canvas = np.array(config.input_size)
        # All cells of a level have the same anchors: those of its first cell, as (width, height).
        sides_px = (self.anchors[:, 2:] - self.anchors[:, :2]) * canvas
        starts = np.cumsum([0, *level_sizes[:-1]])
        by_level = [
            [(float(w), float(h)) for h, w in sides_px[start : start + per_cell]]
            for start in starts
        ]
        self._yolo = YoloNetwork(config, num_classes, by_level)
        self.network, self.parts = self._yolo.network, self._yolo.parts
        self._anchors = tf.constant(self.anchors)
        # [A, 2]: the sides of the cell that an anchor belongs to.
        strides = np.repeat(
            [2.0**level for level in range(config.min_level, config.max_level + 1)], level_sizes
        )
        self._cells = tf.constant(strides[:, np.newaxis] / canvas, tf.float32)

    @override
    def losses(
        self, canvases: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor, seed: tf.Tensor
    ) -> Losses:
        predictions = as_float32(self.network(canvases, training=True))
        # Model Garden's loss takes means over the matches of a level, and each replica has another
        # number of these.
        total, *parts = self._yolo.losses(*gather_rows((predictions, boxes, classes)))
        return Losses(total, dict(zip(self.loss_names, parts, strict=True)))

    @override
    def decode(
        self, outputs: dict[str, tf.Tensor], canvas_size: tuple[int, int] | tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        depth = 5 + self.num_classes
        # The order is that of the anchors: level by level, row by row, cell by cell.
        flat = tf.concat(
            [
                tf.reshape(level, [-1, int(np.prod(level.shape[1:4])), depth])
                for level in outputs.values()
            ],
            1,
        )
        predicted = tf.sigmoid(flat)
        # As the loss decodes them: a centre may leave its cell by half, a side is up to four times
        # the anchor's.
        centre = (self._anchors[:, :2] + self._anchors[:, 2:]) / 2 + (
            2.0 * predicted[..., 1::-1] - 1.0
        ) * self._cells
        half = (
            tf.square(2.0 * predicted[..., 3:1:-1])
            * (self._anchors[:, 2:] - self._anchors[:, :2])
            / 2
        )
        # A network for one class learns objectness alone.
        scores = predicted[..., 4:5] * (predicted[..., 5:] if self.num_classes > 1 else 1.0)
        return tf.concat([centre - half, centre + half], -1), scores
