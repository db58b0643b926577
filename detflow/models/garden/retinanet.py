"""RetinaNet's network."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf
import tf_keras
from official.vision.configs import retinanet
from official.vision.modeling.heads import dense_prediction_heads

from detflow.config.schema import ModelConfig
from detflow.models.garden.backbones import (
    build_backbone,
    build_decoder,
    build_norm,
    feature_pyramid,
    input_shape,
)
from detflow.models.garden.parameters import GardenParameters


class RetinaNetNetwork(NamedTuple):
    """A network and the Model Garden sub-models in it, by the names that their checkpoints have."""

    network: tf_keras.Model
    parts: dict[str, tf_keras.layers.Layer]


def build_retinanet_network(config: ModelConfig, num_classes: int) -> RetinaNetNetwork:
    """Builds backbone, feature pyramid and head.

    Args:
        config: The model's section of the configuration.
        num_classes: Without background: the head predicts one logit a class.

    Returns:
        A network from normalised images [batch, height, width, 3] float32 to (class logits [batch,
        anchors, num_classes], box deltas [batch, anchors, 4]), anchors level by level from the
        finest, row by row, cell by cell. Where there are several canvases it takes each of them.

    Raises:
        ConfigError: `model.garden` says what Model Garden cannot build.
    """
    parameters = GardenParameters(config, ("backbone", "decoder", "head", "norm_activation"))
    norm = build_norm(parameters, "relu")
    chosen = parameters.fill(
        retinanet.RetinaNetHead,
        "head",
        num_convs=config.num_head_convs,
        num_filters=config.num_filters,
    )
    images = tf_keras.Input(input_shape(config), name="images")
    with parameters.refusals():
        backbone = build_backbone(config, parameters, norm)
        decoder = build_decoder(config, parameters, norm, backbone.output_specs)
        head = dense_prediction_heads.RetinaNetHead(
            min_level=config.min_level,
            max_level=config.max_level,
            num_classes=num_classes,
            num_anchors_per_location=config.anchors_per_octave * len(config.aspect_ratios),
            **chosen.as_dict(),
            **norm.as_dict(),
        )
        scores, boxes, _ = head(feature_pyramid(backbone, decoder, images))
    levels = [str(level) for level in range(config.min_level, config.max_level + 1)]
    class_logits = tf.concat([_as_rows(scores[level], num_classes) for level in levels], 1)
    box_deltas = tf.concat([_as_rows(boxes[level], 4) for level in levels], 1)
    parts = {"backbone": backbone, "decoder": decoder, "head": head}
    return RetinaNetNetwork(
        tf_keras.Model(images, (class_logits, box_deltas), name="retinanet"),
        {name: part for name, part in parts.items() if part is not None},
    )


def _as_rows(tensor: tf.Tensor, depth: int) -> tf.Tensor:
    """Reshapes [batch, height, width, anchors a cell · depth] to [batch, anchors, depth]."""
    _, height, width, channels = tensor.shape
    if height is None:
        return tf.reshape(tensor, [tf.shape(tensor)[0], -1, depth])
    return tf.reshape(tensor, [-1, height * width * channels // depth, depth])
