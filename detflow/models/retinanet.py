"""RetinaNet as detflow trains it: ATSS assignment, focal and GIoU loss, decoding.

All boxes are [ymin, xmin, ymax, xmax] normalised by the canvas, unless a name says otherwise.
Sizes: B images, A anchors, M box slots (at least 1), C classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import tensorflow as tf
from typing_extensions import override

from detflow.config.schema import ModelConfig
from detflow.distributed.replicas import mean_over_replicas, num_replicas
from detflow.models.anchors import build_anchors
from detflow.models.base import ClassAxis, DenseModel, Losses
from detflow.models.boxes import box_area, decode_boxes, pairwise_iou
from detflow.models.garden.retinanet import build_retinanet_network
from detflow.models.precision import as_float32

# RetinaNet (arXiv:1708.02002) found .25 and 2; 1.5 was better on a small set after 400 and after
# 2,400 steps.
_FOCAL_ALPHA = 0.25
_FOCAL_GAMMA = 1.5
# GIoU's share of the loss in ATSS' reference settings.
_BOX_LOSS_WEIGHT = 2.0
# Candidates a level, the one constant of ATSS; the paper found 7 to 17 alike (arXiv:1912.02424,
# table 5).
_ATSS_TOP_K = 9
_EPSILON = 1e-7


class RetinaNet(DenseModel):
    """The network maps to (class logits [B, A, C], box deltas [B, A, 4])."""

    loss_names = ("classification", "box")
    class_axes: ClassVar[Mapping[str, ClassAxis]] = {
        r"head/_classifier/(\d+/)?(kernel|pointwise_kernel|bias)": ClassAxis()
    }

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        self.network, self.parts = build_retinanet_network(config, num_classes)
        self.canvas_sizes = config.canvas_sizes
        self.num_classes = num_classes
        self._canvases = {size: _Canvas.build(config, size) for size in self.canvas_sizes}

    @override
    def losses(
        self, canvases: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor, seed: tf.Tensor
    ) -> Losses:
        logits, deltas = as_float32(self.network(canvases, training=True))
        anchors, level_sizes, scale = self._canvases[tuple(canvases.shape[1:3])]
        matched = assign_atss(anchors, level_sizes, boxes * scale, classes >= 0, scale)
        positive = matched >= 0
        slot = tf.maximum(matched, 0)
        target_class = tf.where(positive, tf.gather(classes, slot, batch_dims=1), -1)
        target_boxes = tf.gather(boxes, slot, batch_dims=1) * scale
        # The whole batch counts one positive at least.
        num_positives = tf.maximum(
            mean_over_replicas(tf.reduce_sum(tf.cast(positive, tf.float32))), 1.0 / num_replicas()
        )

        one_hot = tf.one_hot(target_class, self.num_classes)
        classification = tf.reduce_sum(_focal_loss(logits, one_hot)) / num_positives

        predicted = decode_boxes(deltas, anchors) * scale
        box = (
            tf.reduce_sum(tf.where(positive, 1.0 - _giou(predicted, target_boxes), 0.0))
            / num_positives
        )
        box *= _BOX_LOSS_WEIGHT
        return Losses(classification + box, {"classification": classification, "box": box})

    @override
    def decode(
        self, outputs: tuple[tf.Tensor, tf.Tensor], canvas_size: tuple[int, int] | tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        logits, deltas = outputs
        anchors = (
            self._find_anchors(canvas_size)
            if tf.is_tensor(canvas_size)
            else self._canvases[canvas_size].anchors
        )
        return decode_boxes(deltas, anchors), tf.sigmoid(logits)

    def _find_anchors(self, canvas_size: tf.Tensor) -> tf.Tensor:
        """Returns the anchors of the canvas of size [2] int32."""
        tables = [canvas.anchors for canvas in self._canvases.values()]
        ends = list(itertools.accumulate(len(table) for table in tables))
        index = tf.argmax(
            tf.cast(tf.reduce_all(tf.constant(self.canvas_sizes) == canvas_size, 1), tf.int32)
        )
        first, last = tf.gather([0, *ends[:-1]], index), tf.gather(ends, index)
        return tf.concat(tables, 0)[first:last]


class _Canvas(NamedTuple):
    """A canvas as losses and decoding need it.

    Attributes:
        anchors: [A, 4] float32, normalised by the canvas.
        level_sizes: Number of anchors of each level.
        scale: [4] float32: the canvas's (height, width, height, width) in pixels. IoU does not
            change when both axes are stretched, but GIoU's enclosing box and ATSS's distances do;
            pixels are square.
    """

    anchors: tf.Tensor
    level_sizes: tuple[int, ...]
    scale: tf.Tensor

    @classmethod
    def build(cls, config: ModelConfig, size: tuple[int, int]) -> _Canvas:
        """Lays out the canvas of (height, width)."""
        anchors, level_sizes = build_anchors(config, size)
        return cls(tf.constant(anchors), level_sizes, tf.constant([*size, *size], tf.float32))


def assign_atss(
    anchors: tf.Tensor,
    level_sizes: tuple[int, ...],
    boxes_px: tf.Tensor,
    valid: tf.Tensor,
    canvas_scale: tf.Tensor,
) -> tf.Tensor:
    """Decides which anchor learns which box (ATSS, arXiv:1912.02424).

    For each box the nearest anchors of every level are candidates; those whose IoU reaches the
    candidates' mean plus one deviation, and whose centre lies in the box, are positive. An anchor
    that several boxes want takes the one of highest IoU. Beyond the paper, a box too small to hold
    the centre of any anchor takes its best candidate: otherwise no anchor would learn it.

    Args:
        anchors: [A, 4], normalised.
        level_sizes: Number of anchors of each level, in order; their sum is A.
        boxes_px: [B, M, 4] in canvas pixels.
        valid: [B, M] bool: the slot holds a box.
        canvas_scale: [4]: the canvas' (height, width, height, width) in pixels.

    Returns:
        [B, A] int32: the slot that an anchor is matched with, or -1.
    """
    anchors_px = anchors * canvas_scale
    iou = pairwise_iou(boxes_px, anchors_px)
    centres = (anchors_px[:, :2] + anchors_px[:, 2:]) / 2
    box_centres = (boxes_px[..., :2] + boxes_px[..., 2:]) / 2
    distance = tf.reduce_sum(tf.square(box_centres[:, :, tf.newaxis] - centres), -1)

    candidate_iou, candidate_index, start = [], [], 0
    for size in level_sizes:
        _, nearest = tf.math.top_k(-distance[..., start : start + size], min(_ATSS_TOP_K, size))
        nearest += start
        candidate_index.append(nearest)
        candidate_iou.append(tf.gather(iou, nearest, batch_dims=2))
        start += size
    index, ious = tf.concat(candidate_index, -1), tf.concat(candidate_iou, -1)
    threshold = tf.reduce_mean(ious, -1, keepdims=True) + tf.math.reduce_std(
        ious, -1, keepdims=True
    )

    centre = tf.gather(centres, index)
    inside = tf.reduce_all(
        (centre > boxes_px[:, :, tf.newaxis, :2]) & (centre < boxes_px[:, :, tf.newaxis, 2:]), -1
    )
    chosen = (ious >= threshold) & inside
    best_candidate = tf.one_hot(
        tf.argmax(ious, -1), tf.shape(ious)[-1], on_value=True, off_value=False
    )
    chosen = (
        tf.where(tf.reduce_any(chosen, -1, keepdims=True), chosen, best_candidate)
        & valid[..., tf.newaxis]
    )
    # [B, M, A]: the IoU where the pair was chosen, 0 elsewhere.
    shape = tf.shape(iou)
    batch = tf.broadcast_to(tf.range(shape[0])[:, tf.newaxis, tf.newaxis], tf.shape(index))
    slot = tf.broadcast_to(tf.range(shape[1])[tf.newaxis, :, tf.newaxis], tf.shape(index))
    score = tf.scatter_nd(tf.stack([batch, slot, index], -1), tf.where(chosen, ious, 0.0), shape)
    return tf.where(tf.reduce_max(score, 1) > 0.0, tf.argmax(score, 1, output_type=tf.int32), -1)


def _focal_loss(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Focal loss of each logit (arXiv:1708.02002, equation 5)."""
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
    probability = tf.sigmoid(logits)
    miss = targets * (1.0 - probability) + (1.0 - targets) * probability
    alpha = targets * _FOCAL_ALPHA + (1.0 - targets) * (1.0 - _FOCAL_ALPHA)
    return alpha * tf.pow(miss + _EPSILON, _FOCAL_GAMMA) * cross_entropy


def _giou(predicted: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Generalised IoU of pairs (arXiv:1902.09630), in (-1, 1]."""
    intersection = box_area(
        tf.concat(
            [
                tf.maximum(predicted[..., :2], target[..., :2]),
                tf.minimum(predicted[..., 2:], target[..., 2:]),
            ],
            -1,
        )
    )
    hull = box_area(
        tf.concat(
            [
                tf.minimum(predicted[..., :2], target[..., :2]),
                tf.maximum(predicted[..., 2:], target[..., 2:]),
            ],
            -1,
        )
    )
    union = box_area(predicted) + box_area(target) - intersection
    return intersection / (union + _EPSILON) - (hull - union) / (hull + _EPSILON)
