"""The only room that speaks tf-models-official (Model Garden, package `official`).

Leaf modules are imported, since `import tensorflow_models` needs packages that object detection does not.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf
import tf_keras
from official.vision.modeling.backbones import mobilenet, resnet
from official.vision.modeling.decoders import fpn
from official.vision.modeling.heads import dense_prediction_heads

from detflow.config import ModelConfig

__all__ = ["GardenNetwork", "build_retinanet_network"]

# Garden's default, .99, averages over more steps than a short run has.
_NORM_MOMENTUM = 0.9
_NORM_EPSILON = 1e-3


class GardenNetwork(NamedTuple):
    """A network and the Model Garden sub-models in it, by the names that their checkpoints have."""

    network: tf_keras.Model
    parts: dict[str, tf_keras.layers.Layer]


def build_retinanet_network(config: ModelConfig, num_classes: int) -> GardenNetwork:
    """Builds backbone, feature pyramid and head.

    Args:
        config: The model's section of the configuration.
        num_classes: Without background: the head predicts one logit a class.

    Returns:
        A network from normalised images [batch, height, width, 3] float32 to (class logits [batch, anchors, num_classes],
        box deltas [batch, anchors, 4]), anchors level by level from the finest, row by row, cell by cell.
    """
    height, width = config.input_size
    images = tf_keras.Input((height, width, 3), name="images")
    backbone = _build_backbone(config, tf_keras.layers.InputSpec(shape=[None, height, width, 3]))
    decoder = fpn.FPN(
        backbone.output_specs,
        min_level=config.min_level,
        max_level=config.max_level,
        num_filters=config.num_filters,
        use_keras_layer=True,
        norm_momentum=_NORM_MOMENTUM,
        norm_epsilon=_NORM_EPSILON,
    )
    head = dense_prediction_heads.RetinaNetHead(
        min_level=config.min_level,
        max_level=config.max_level,
        num_classes=num_classes,
        num_anchors_per_location=config.anchors_per_octave * len(config.aspect_ratios),
        num_convs=config.num_head_convs,
        num_filters=config.num_filters,
        norm_momentum=_NORM_MOMENTUM,
        norm_epsilon=_NORM_EPSILON,
    )
    scores, boxes, _ = head(decoder(backbone(images)))
    levels = [str(level) for level in range(config.min_level, config.max_level + 1)]
    class_logits = tf.concat(
        [tf.reshape(scores[level], [-1, _num_rows(scores[level], num_classes), num_classes]) for level in levels], 1
    )
    box_deltas = tf.concat([tf.reshape(boxes[level], [-1, _num_rows(boxes[level], 4), 4]) for level in levels], 1)
    network = tf_keras.Model(images, (class_logits, box_deltas), name="retinanet")
    return GardenNetwork(network, {"backbone": backbone, "decoder": decoder, "head": head})


def _num_rows(tensor: tf.Tensor, depth: int) -> int:
    _, height, width, channels = tensor.shape
    return int(height * width * channels // depth)


def _build_backbone(config: ModelConfig, input_specs: tf_keras.layers.InputSpec) -> tf_keras.Model:
    norm = {"norm_momentum": _NORM_MOMENTUM, "norm_epsilon": _NORM_EPSILON}
    if config.backbone == "mobilenet_v2":
        return mobilenet.MobileNet("MobileNetV2", filter_size_scale=config.width_multiplier, input_specs=input_specs, **norm)
    depth = int(config.backbone.removeprefix("resnet"))
    return resnet.ResNet(depth, depth_multiplier=config.width_multiplier, input_specs=input_specs, **norm)
