"""What the architectures do with boxes, as TensorFlow operations.

Boxes are [..., (ymin, xmin, ymax, xmax)], in any unit that both arguments share.
"""

from __future__ import annotations

import math

import tensorflow as tf

# Deltas of sizes are logarithms. e^4.135 = 62.5: a box may be that much larger than its anchor, and
# exp() stays finite.
_MAX_LOG_SCALE = math.log(1000.0 / 16.0)
_EPSILON = 1e-7


def decode_boxes(deltas: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
    """Turns deltas into boxes, as Faster R-CNN defines them (arXiv:1506.01497, section 3.1.2).

    Args:
        deltas: [..., 4]: dy, dx, log height and log width, in sizes of the anchor.
        anchors: [..., 4], of a shape that broadcasts.
    """
    size = anchors[..., 2:] - anchors[..., :2]
    centre = (anchors[..., :2] + anchors[..., 2:]) / 2 + deltas[..., :2] * size
    half = size * tf.exp(tf.minimum(deltas[..., 2:], _MAX_LOG_SCALE)) / 2
    return tf.concat([centre - half, centre + half], -1)


def encode_boxes(boxes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
    """Returns the deltas that `decode_boxes` turns into the boxes.

    They are finite for boxes and anchors without area, too.
    """
    size = tf.maximum(anchors[..., 2:] - anchors[..., :2], _EPSILON)
    offset = (boxes[..., :2] + boxes[..., 2:] - anchors[..., :2] - anchors[..., 2:]) / 2
    return tf.concat(
        [offset / size, tf.math.log(tf.maximum(boxes[..., 2:] - boxes[..., :2], _EPSILON) / size)],
        -1,
    )


def box_area(boxes: tf.Tensor) -> tf.Tensor:
    """Returns the area; 0 where an edge is on the wrong side."""
    return tf.reduce_prod(tf.maximum(boxes[..., 2:] - boxes[..., :2], 0.0), -1)


def pairwise_iou(boxes: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Returns intersection over union of each box with each other one of its image.

    `geometry.pairwise_iou` is its twin in NumPy, but for two boxes without area.

    Args:
        boxes: [B, M, 4].
        others: [N, 4] or [B, N, 4].

    Returns:
        [B, M, N]; 0 where one of two boxes has no area, not a number where neither has.
    """
    top_left = tf.maximum(boxes[:, :, tf.newaxis, :2], others[..., tf.newaxis, :, :2])
    bottom_right = tf.minimum(boxes[:, :, tf.newaxis, 2:], others[..., tf.newaxis, :, 2:])
    intersection = tf.reduce_prod(tf.maximum(bottom_right - top_left, 0.0), -1)
    return intersection / (
        box_area(boxes)[..., tf.newaxis] + box_area(others)[..., tf.newaxis, :] - intersection
    )
