"""Faster R-CNN (arXiv:1506.01497) with a feature pyramid.

Labels, sampling and decoding stand here, around Model Garden's network and losses. Model Garden's
own samplers draw from random states that no checkpoint has; these draw from the seed of the step.

Sizes: B images, A anchors, R regions, M box slots, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import tensorflow as tf
from typing_extensions import override

from detflow.config.schema import ModelConfig
from detflow.distributed.replicas import uniform_rows
from detflow.models.anchors import build_anchors
from detflow.models.base import ClassAxis, DetectionModel, Losses
from detflow.models.boxes import box_area, decode_boxes, encode_boxes, pairwise_iou
from detflow.models.garden.faster_rcnn import (
    ANCHORS_SAMPLED,
    FasterRCNNNetwork,
    first_stage_losses,
    second_stage_losses,
)

# Section 3.1.2 of the paper: IoU from which an anchor is an object, and below which it is
# background.
_OBJECT_IOU = 0.7
_BACKGROUND_IOU = 0.3
_OBJECT_SHARE = 0.5
# The second stage's deltas are learnt enlarged, as its losses expect them.
_DELTA_SCALE = (10.0, 10.0, 5.0, 5.0)


class FasterRCNN(DetectionModel):
    """The first stage proposes regions at anchors; the second one classifies and corrects them."""

    loss_names = ("proposal_score", "proposal_box", "classification", "box")
    class_axes: ClassVar[Mapping[str, ClassAxis]] = {
        # The background comes first.
        r"detection_head/_classifier/(kernel|bias)": ClassAxis(before=1),
        r"detection_head/_box_regressor/(kernel|bias)": ClassAxis(before=4, each=4),
    }

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        self._stages = FasterRCNNNetwork(config, num_classes)
        self.network, self.parts = self._stages.network, self._stages.parts
        self.canvas_sizes = config.canvas_sizes
        self.num_classes = num_classes
        self.anchors, level_sizes = build_anchors(config, config.input_size)
        self._canvas_scale = tf.constant([*config.input_size, *config.input_size], tf.float32)
        self._anchors_px = tf.constant(self.anchors) * self._canvas_scale
        levels = [str(level) for level in range(config.min_level, config.max_level + 1)]
        split = tf.split(self._anchors_px[tf.newaxis], level_sizes, axis=1)
        self._anchors_by_level = dict(zip(levels, split, strict=True))

    @override
    def losses(
        self, canvases: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor, seed: tf.Tensor
    ) -> Losses:
        boxes_px, valid = boxes * self._canvas_scale, classes >= 0
        proposals = self._stages.propose(canvases, self._anchors_by_level, training=True)
        labels, deltas = self._label_anchors(
            boxes_px, valid, tf.random.experimental.stateless_fold_in(seed, 0)
        )
        score, box = first_stage_losses(proposals, labels, deltas)

        regions, region_classes, region_deltas = self._sample_regions(
            proposals.regions, boxes_px, classes, tf.random.experimental.stateless_fold_in(seed, 1)
        )
        logits, predicted = self._stages.classify(proposals.features, regions, training=True)
        classification, region_box = second_stage_losses(
            logits, predicted, region_classes, region_deltas
        )
        parts = dict(zip(self.loss_names, (score, box, classification, region_box), strict=True))
        return Losses(sum(parts.values(), tf.constant(0.0)), parts)

    @override
    def predict(self, canvases: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        proposals = self._stages.propose(canvases, self._anchors_by_level, training=False)
        logits, deltas = self._stages.classify(
            proposals.features, proposals.regions, training=False
        )
        # Where there are fewer proposals than places, the rest are empty.
        exists = box_area(proposals.regions) > 0.0
        scores = tf.where(exists[..., tf.newaxis], tf.nn.softmax(logits)[..., 1:], 0.0)
        number, num_classes = proposals.regions.shape[1], self.num_classes
        by_class = tf.reshape(deltas, [-1, number, num_classes + 1, 4])[:, :, 1:] / tf.constant(
            _DELTA_SCALE
        )
        boxes = decode_boxes(by_class, proposals.regions[:, :, tf.newaxis]) / self._canvas_scale
        # A region has a box of its own for each class; the other classes have no score there.
        alone = scores[..., tf.newaxis] * tf.eye(num_classes)
        return (
            tf.reshape(boxes, [-1, number * num_classes, 4]),
            tf.reshape(alone, [-1, number * num_classes, num_classes]),
        )

    def _label_anchors(
        self, boxes_px: tf.Tensor, valid: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Decides what each anchor learns.

        Returns:
            Labels [B, A], which are 1 for an object, 0 for background and -1 for neither, and
            deltas [B, A, 4], which are zeros but for objects.
        """
        iou = tf.where(valid[..., tf.newaxis], pairwise_iou(boxes_px, self._anchors_px), -1.0)
        best = tf.reduce_max(iou, 1)
        # Each object's best anchor learns it too, however little they overlap.
        favourite = (
            tf.one_hot(tf.argmax(iou, -1), tf.shape(iou)[-1], on_value=True, off_value=False)
            & valid[..., tf.newaxis]
        )
        is_favourite = tf.reduce_any(favourite, 1)
        slot = tf.where(is_favourite, tf.argmax(tf.cast(favourite, tf.int32), 1), tf.argmax(iou, 1))
        positive = is_favourite | (best >= _OBJECT_IOU)
        negative = ~positive & (best < _BACKGROUND_IOU)
        chosen = sample_balanced(positive, negative, ANCHORS_SAMPLED, _OBJECT_SHARE, seed)
        labels = tf.where(chosen, tf.where(positive, 1.0, 0.0), -1.0)
        deltas = encode_boxes(tf.gather(boxes_px, slot, batch_dims=1), self._anchors_px)
        return labels, tf.where(positive[..., tf.newaxis], deltas, 0.0)

    def _sample_regions(
        self, regions: tf.Tensor, boxes_px: tf.Tensor, classes: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Samples the regions that the second stage learns from.

        Returns:
            Regions [B, R, 4], their classes [B, R], where 0 is background, and deltas [B, R, 4].
        """
        sampling, valid = self._stages.sampling, classes >= 0
        number = min(sampling.num_sampled_rois, regions.shape[1])
        if sampling.mix_gt_boxes:
            # From the start there is something to learn, while no proposal is good.
            regions = tf.concat([regions, boxes_px], 1)
        iou = tf.where(valid[..., tf.newaxis], pairwise_iou(boxes_px, regions), -1.0)
        best, slot = tf.reduce_max(iou, 1), tf.argmax(iou, 1)
        exists = box_area(regions) > 0.0
        positive = exists & (best >= sampling.foreground_iou_threshold)
        is_background = (best >= sampling.background_iou_low_threshold) & (
            best < sampling.background_iou_high_threshold
        )
        # An image without objects has nothing but background.
        negative = exists & ~positive & (is_background | ~tf.reduce_any(valid, 1, keepdims=True))
        chosen = sample_balanced(positive, negative, number, sampling.foreground_fraction, seed)
        # The number is fixed: where too few are to be had, others fill up, with what they truly
        # are.
        _, index = tf.math.top_k(tf.cast(chosen, tf.int32), number)
        slot = tf.gather(slot, index, batch_dims=1)
        sampled = tf.gather(regions, index, batch_dims=1)
        is_object = tf.gather(positive, index, batch_dims=1)
        deltas = encode_boxes(tf.gather(boxes_px, slot, batch_dims=1), sampled) * tf.constant(
            _DELTA_SCALE
        )
        return (
            sampled,
            tf.where(is_object, tf.gather(classes, slot, batch_dims=1) + 1, 0),
            tf.where(is_object[..., tf.newaxis], deltas, 0.0),
        )


def sample_balanced(
    positive: tf.Tensor, negative: tf.Tensor, number: int, positive_share: float, seed: tf.Tensor
) -> tf.Tensor:
    """Chooses examples at random, row by row; few positives leave their places to negatives.

    Args:
        positive: [B, N] bool.
        negative: [B, N] bool.
        number: Most that are chosen of a row.
        positive_share: Most positives as a share of the number.
        seed: [2] int64; the same one chooses the same examples.

    Returns:
        [B, N] bool.
    """
    noise = uniform_rows(tf.shape(positive), seed)
    most = tf.fill([tf.shape(positive)[0]], int(number * positive_share))
    chosen = _first(positive, noise, most, number)
    return chosen | _first(
        negative, noise, number - tf.reduce_sum(tf.cast(chosen, tf.int32), 1), number
    )


def _first(candidates: tf.Tensor, noise: tf.Tensor, count: tf.Tensor, most: int) -> tf.Tensor:
    """Marks the `count` [B] candidates of the highest noise, where `most` is the largest count."""
    most = tf.minimum(most, tf.shape(noise)[1])
    _, index = tf.math.top_k(tf.where(candidates, noise, -1.0), most)
    rows = tf.broadcast_to(tf.range(tf.shape(noise)[0])[:, tf.newaxis], tf.shape(index))
    within = tf.broadcast_to(tf.range(most), tf.shape(index)) < count[:, tf.newaxis]
    marked = tf.scatter_nd(
        tf.stack([rows, index], -1), tf.cast(within, tf.int32), tf.shape(noise, tf.int32)
    )
    return candidates & (marked > 0)
