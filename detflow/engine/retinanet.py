"""RetinaNet as detflow trains it: anchors, ATSS assignment, focal and GIoU loss, decoding, suppression.

All boxes are [ymin, xmin, ymax, xmax] normalised by the canvas, unless a name says otherwise. Sizes: B images, A anchors,
M box slots (at least 1), C classes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import tensorflow as tf

from detflow.config import EvaluateConfig, ModelConfig
from detflow.engine import garden
from detflow.engine.anchors import build_anchors

__all__ = ["Losses", "RawDetections", "RetinaNet", "assign_atss"]

# RetinaNet (arXiv:1708.02002) found .25 and 2; 1.5 was better on a small set after 400 and after 2,400 steps.
_FOCAL_ALPHA = 0.25
_FOCAL_GAMMA = 1.5
# GIoU's share of the loss in ATSS' reference settings.
_BOX_LOSS_WEIGHT = 2.0
# Candidates a level, the one constant of ATSS; the paper found 7 to 17 alike (arXiv:1912.02424, table 5).
_ATSS_TOP_K = 9
# Deltas of sizes are logarithms. e^4.135 = 62.5: a box may be that much larger than its anchor, and exp() stays finite.
_MAX_LOG_SCALE = math.log(1000.0 / 16.0)
_EPSILON = 1e-7


class Losses(NamedTuple):
    """Scalars: what is minimised, and its parts."""

    total: tf.Tensor
    classification: tf.Tensor
    box: tf.Tensor


class RawDetections(NamedTuple):
    """Boxes [B, K, 4], scores [B, K] from high to low, classes [B, K] counted from 0, number of valid ones [B] int32."""

    boxes: tf.Tensor
    scores: tf.Tensor
    classes: tf.Tensor
    count: tf.Tensor


class RetinaNet:
    """The network together with what its outputs mean.

    Attributes:
        network: From normalised canvases [B, height, width, 3] to (class logits [B, A, C], box deltas [B, A, 4]).
        parts: Model Garden's sub-models that the network is made of: `backbone`, `decoder` and `head`.
        input_size: The canvas: (height, width) in pixels.
    """

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        self.network, self.parts = garden.build_retinanet_network(config, num_classes)
        self.input_size = config.input_size
        self.num_classes = num_classes
        anchors, self._level_sizes = build_anchors(config)
        self._anchors = tf.constant(anchors)
        # IoU does not change when both axes are stretched, but GIoU's enclosing box and ATSS' distances do: pixels are square.
        self._canvas_scale = tf.constant([*config.input_size, *config.input_size], tf.float32)

    def losses(self, canvases: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor) -> Losses:
        """Computes the training loss.

        Args:
            canvases: Normalised [B, height, width, 3] float32.
            boxes: [B, M, 4] float32; an empty slot is all zeros.
            classes: [B, M] int32, counted from 0; -1 in an empty slot.
        """
        # Whatever the network computes in, what follows needs float32.
        logits, deltas = (tf.cast(output, tf.float32) for output in self.network(canvases, training=True))
        matched = assign_atss(self._anchors, self._level_sizes, boxes * self._canvas_scale, classes >= 0, self._canvas_scale)
        positive = matched >= 0
        slot = tf.maximum(matched, 0)
        target_class = tf.where(positive, tf.gather(classes, slot, batch_dims=1), -1)
        target_boxes = tf.gather(boxes, slot, batch_dims=1) * self._canvas_scale
        num_positives = tf.maximum(tf.reduce_sum(tf.cast(positive, tf.float32)), 1.0)

        one_hot = tf.one_hot(target_class, self.num_classes)
        classification = tf.reduce_sum(_focal_loss(logits, one_hot)) / num_positives

        predicted = _decode(deltas, self._anchors) * self._canvas_scale
        box = tf.reduce_sum(tf.where(positive, 1.0 - _giou(predicted, target_boxes), 0.0)) / num_positives
        box *= _BOX_LOSS_WEIGHT
        return Losses(classification + box, classification, box)

    def detect(self, canvases: tf.Tensor, config: EvaluateConfig) -> RawDetections:
        """Runs the network on normalised canvases [B, height, width, 3] and suppresses duplicates."""
        logits, deltas = self.network(canvases, training=False)
        boxes = _decode(deltas, self._anchors)
        # The kernel suppresses class by class and takes one box for all classes; it costs a fifteenth of tf.image's v2.
        kept = tf.image.combined_non_max_suppression(
            boxes[:, :, tf.newaxis, :],
            tf.sigmoid(logits),
            max_output_size_per_class=config.max_detections,
            max_total_size=config.max_detections,
            iou_threshold=config.nms_iou,
            score_threshold=config.score_threshold,
            clip_boxes=True,
        )
        return RawDetections(kept.nmsed_boxes, kept.nmsed_scores, tf.cast(kept.nmsed_classes, tf.int32), kept.valid_detections)


def assign_atss(
    anchors: tf.Tensor, level_sizes: tuple[int, ...], boxes_px: tf.Tensor, valid: tf.Tensor, canvas_scale: tf.Tensor
) -> tf.Tensor:
    """Decides which anchor learns which box (ATSS, arXiv:1912.02424).

    For each box the nearest anchors of every level are candidates; those whose IoU reaches the candidates' mean plus one
    deviation, and whose centre lies in the box, are positive. An anchor wanted by several boxes takes the one of highest IoU.
    Beyond the paper, a box too small to hold any anchor's centre takes its best candidate: otherwise nobody would learn it.

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
    iou = _pairwise_iou(boxes_px, anchors_px)
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
    threshold = tf.reduce_mean(ious, -1, keepdims=True) + tf.math.reduce_std(ious, -1, keepdims=True)

    centre = tf.gather(centres, index)
    inside = tf.reduce_all((centre > boxes_px[:, :, tf.newaxis, :2]) & (centre < boxes_px[:, :, tf.newaxis, 2:]), -1)
    chosen = (ious >= threshold) & inside
    best_candidate = tf.one_hot(tf.argmax(ious, -1), tf.shape(ious)[-1], on_value=True, off_value=False)
    chosen = tf.where(tf.reduce_any(chosen, -1, keepdims=True), chosen, best_candidate) & valid[..., tf.newaxis]
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


def _decode(deltas: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
    """Turns deltas [B, A, 4] = (dy, dx, log height, log width, in anchor sizes) into boxes, as Faster R-CNN defines them."""
    size = anchors[:, 2:] - anchors[:, :2]
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2 + deltas[..., :2] * size
    half = size * tf.exp(tf.minimum(deltas[..., 2:], _MAX_LOG_SCALE)) / 2
    return tf.concat([centre - half, centre + half], -1)


def _area(boxes: tf.Tensor) -> tf.Tensor:
    return tf.reduce_prod(tf.maximum(boxes[..., 2:] - boxes[..., :2], 0.0), -1)


def _pairwise_iou(boxes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
    """IoU [B, M, A] of boxes [B, M, 4] with anchors [A, 4]; 0 for an empty slot."""
    top_left = tf.maximum(boxes[:, :, tf.newaxis, :2], anchors[:, :2])
    bottom_right = tf.minimum(boxes[:, :, tf.newaxis, 2:], anchors[:, 2:])
    intersection = tf.reduce_prod(tf.maximum(bottom_right - top_left, 0.0), -1)
    return intersection / (_area(boxes)[..., tf.newaxis] + _area(anchors) - intersection)


def _giou(predicted: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Generalised IoU of pairs (arXiv:1902.09630), in (-1, 1]."""
    intersection = _area(
        tf.concat([tf.maximum(predicted[..., :2], target[..., :2]), tf.minimum(predicted[..., 2:], target[..., 2:])], -1)
    )
    hull = _area(tf.concat([tf.minimum(predicted[..., :2], target[..., :2]), tf.maximum(predicted[..., 2:], target[..., 2:])], -1))
    union = _area(predicted) + _area(target) - intersection
    return intersection / (union + _EPSILON) - (hull - union) / (hull + _EPSILON)
