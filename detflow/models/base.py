"""What training, evaluation and export need of a model, whatever it is made of.

All boxes are [ymin, xmin, ymax, xmax] normalised by the canvas. Sizes: B images, M box slots (at
least 1), N boxes, C classes, K detections.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import tensorflow as tf
import tf_keras
from typing_extensions import override

from detflow.config.schema import EvaluateConfig


class Losses(NamedTuple):
    """The loss of a batch.

    Attributes:
        total: Scalar: what is minimised.
        parts: Scalars by name: the terms that it is the sum of, in the order of `loss_names`.
    """

    total: tf.Tensor
    parts: dict[str, tf.Tensor]


class RawDetections(NamedTuple):
    """Detections of a batch.

    Attributes:
        boxes: [B, K, 4].
        scores: [B, K], from high to low.
        classes: [B, K], counted from 0.
        count: [B] int32: how many of the K are valid.
    """

    boxes: tf.Tensor
    scores: tf.Tensor
    classes: tf.Tensor
    count: tf.Tensor


class ClassAxis(NamedTuple):
    """How classes lie in the last axis of a variable: in groups, one for each anchor of a cell.

    A group has `before` entries that belong to no class, then `each` entries of every class.
    """

    before: int = 0
    each: int = 1

    def depth(self, num_classes: int) -> int:
        """Returns how many entries a group has."""
        return self.before + self.each * num_classes


class DetectionModel(abc.ABC):
    """A network together with what its outputs mean.

    Attributes:
        loss_names: Names of the terms of the loss.
        class_axes: Where the classes are: the layout of the variables whose name, from the part on,
            matches a pattern.
        network: From normalised canvases [B, height, width, 3], all of one of the canvas sizes;
            holds every weight.
        parts: Model Garden's sub-models that the network is made of, by the names that their
            checkpoints have: `backbone`, `decoder` where there is one, and `head` or the heads.
        canvas_sizes: (height, width) in pixels of each canvas, as `ModelConfig.canvas_sizes`.
        num_classes: Number of classes without the background.
    """

    loss_names: ClassVar[tuple[str, ...]]
    class_axes: ClassVar[Mapping[str, ClassAxis]]

    network: tf_keras.Model
    parts: Mapping[str, tf_keras.layers.Layer]
    canvas_sizes: tuple[tuple[int, int], ...]
    num_classes: int

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the first canvas, the only one of formats and models that take one."""
        return self.canvas_sizes[0]

    @abc.abstractmethod
    def losses(
        self, canvases: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor, seed: tf.Tensor
    ) -> Losses:
        """Computes the training loss; `replicas` says what it is of a batch that is split.

        Args:
            canvases: Normalised [B, height, width, 3] float32, their shape known when the graph is
                built.
            boxes: [B, M, 4] float32; an empty slot is all zeros.
            classes: [B, M] int32, counted from 0; -1 in an empty slot.
            seed: [2] int64. Whatever is random in the loss is drawn from it by stateless
                operations, so that a resumed run draws the same.
        """

    @abc.abstractmethod
    def predict(self, canvases: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Runs the network on normalised canvases [B, height, width, 3].

        Returns:
            Boxes [B, N, 4] and scores [B, N, C], in the order of the network's outputs.
        """

    def detect(self, canvases: tf.Tensor, config: EvaluateConfig) -> RawDetections:
        """Runs the network on canvases and suppresses duplicates, class by class.

        Args:
            canvases: Normalised [B, height, width, 3].
            config: What counts as a detection.
        """
        boxes, scores = self.predict(canvases)
        # The kernel takes one box for all classes; it costs a fifteenth of tf.image's v2.
        kept = tf.image.combined_non_max_suppression(
            boxes[:, :, tf.newaxis],
            scores,
            max_output_size_per_class=config.max_detections,
            max_total_size=config.max_detections,
            iou_threshold=config.nms_iou,
            score_threshold=config.score_threshold,
            clip_boxes=True,
        )
        return RawDetections(
            kept.nmsed_boxes,
            kept.nmsed_scores,
            tf.cast(kept.nmsed_classes, tf.int32),
            kept.valid_detections,
        )


class DenseModel(DetectionModel):
    """A model of one stage: each output of its network is decoded to one box with its scores."""

    @abc.abstractmethod
    def decode(
        self, outputs: Any, canvas_size: tuple[int, int] | tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Turns the network's outputs into boxes and scores.

        Args:
            outputs: The network's, of canvases.
            canvas_size: Their (height, width) in pixels; [2] int32 where that is not known when the
                graph is built.

        Returns:
            Boxes [B, N, 4], which may reach out of the canvas, and scores [B, N, C].
        """

    @override
    def predict(self, canvases: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        height, width = canvases.shape[1:3]
        canvas_size = tf.shape(canvases)[1:3] if height is None else (height, width)
        return self.decode(self.network(canvases, training=False), canvas_size)
