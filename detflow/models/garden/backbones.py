"""Backbones and feature pyramids."""

from __future__ import annotations

import tensorflow as tf
import tf_keras
from official.projects.yolo.configs import backbones as yolo_backbones
from official.projects.yolo.modeling.backbones import yolov7
from official.vision.configs import backbones, common, decoders
from official.vision.modeling.backbones import mobilenet, resnet, spinenet_mobile
from official.vision.modeling.decoders import fpn

from detflow.config.schema import ModelConfig
from detflow.models.garden.parameters import GardenParameters

__all__ = [
    "FreshKernels",
    "build_backbone",
    "build_decoder",
    "build_norm",
    "feature_pyramid",
    "input_shape",
]

# Garden's default, .99, averages over more steps than a short run has.
_NORM_MOMENTUM = 0.9
_NORM_EPSILON = 1e-3
_MOBILENETS = {
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_small": "MobileNetV3Small",
    "mobilenet_v3_large": "MobileNetV3Large",
}
_SPINENETS = {"spinenet49_mobile": "49", "spinenet49s_mobile": "49S", "spinenet49xs_mobile": "49XS"}


class FreshKernels(tf_keras.initializers.Initializer):  # type: ignore[misc]
    """YOLO's kernels, each drawn anew.

    Model Garden hands one initialiser to all layers of a YOLO, and in tf_keras one object gives all
    kernels of one shape the same values: parallel branches would start as copies of each other.
    """

    def __call__(
        self, shape: tf.TensorShape, dtype: tf.DType | None = None, **kwargs: object
    ) -> tf.Tensor:
        """Draws as PyTorch does for convolutions, which is what YOLO's authors trained with."""
        fresh = tf_keras.initializers.VarianceScaling(
            scale=1 / 3, mode="fan_in", distribution="uniform"
        )
        return fresh(shape, dtype, **kwargs)


def input_shape(config: ModelConfig) -> tuple[int | None, int | None, int]:
    """Returns what a network takes: images [height, width, 3], both sides open where there are several canvases."""
    height, width = (None, None) if config.more_input_sizes else config.input_size
    return height, width, 3


def build_norm(parameters: GardenParameters, activation: str) -> common.NormActivation:
    """Returns the normalisation and activation of all parts; `activation` is the architecture's own choice."""
    return parameters.fill(
        common.NormActivation,
        "norm_activation",
        activation=activation,
        # Statistics are of the whole batch, however many devices it is split over.
        use_sync_bn=tf.distribute.get_strategy().num_replicas_in_sync > 1,
        norm_momentum=_NORM_MOMENTUM,
        norm_epsilon=_NORM_EPSILON,
    )


def build_backbone(
    config: ModelConfig, parameters: GardenParameters, norm: common.NormActivation
) -> tf_keras.Model:
    """Builds the feature extractor: images [B, height, width, 3] → feature maps by level, the level as text."""
    images = tf_keras.layers.InputSpec(shape=[None, *input_shape(config)])
    name, width = config.backbone, config.width_multiplier
    if name in _MOBILENETS:
        chosen = parameters.fill(
            backbones.MobileNet, "backbone", model_id=_MOBILENETS[name], filter_size_scale=width
        )
        return mobilenet.build_mobilenet(
            images, backbones.Backbone(type="mobilenet", mobilenet=chosen), norm
        )
    if name in _SPINENETS:
        levels = {"min_level": config.min_level, "max_level": config.max_level}
        chosen = parameters.fill(
            backbones.SpineNetMobile, "backbone", model_id=_SPINENETS[name], **levels
        )
        return spinenet_mobile.build_spinenet_mobile(
            images, backbones.Backbone(type="spinenet_mobile", spinenet_mobile=chosen), norm
        )
    if name.startswith("yolov7"):
        chosen = parameters.fill(yolo_backbones.YoloV7, "backbone", model_id=name.replace("_", "-"))
        return yolov7.YoloV7(
            chosen.model_id, images, kernel_initializer=FreshKernels(), **norm.as_dict()
        )
    depth = int(name.removeprefix("resnet"))
    chosen = parameters.fill(backbones.ResNet, "backbone", model_id=depth, depth_multiplier=width)
    return resnet.build_resnet(images, backbones.Backbone(type="resnet", resnet=chosen), norm)


def build_decoder(
    config: ModelConfig,
    parameters: GardenParameters,
    norm: common.NormActivation,
    features: dict[str, tf.TensorShape],
) -> tf_keras.Model | None:
    """Builds the feature pyramid for feature maps by level; None where the backbone is one itself."""
    if config.backbone in _SPINENETS:
        parameters.fill(decoders.Identity, "decoder")
        return None
    chosen = parameters.fill(
        decoders.FPN, "decoder", num_filters=config.num_filters, use_keras_layer=True
    )
    return fpn.FPN(
        features,
        min_level=config.min_level,
        max_level=config.max_level,
        **chosen.as_dict(),
        **norm.as_dict(),
    )


def feature_pyramid(
    backbone: tf_keras.Model, decoder: tf_keras.Model | None, images: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Runs both. A MobileNet also hands out what comes after its last level, which no decoder takes."""
    outputs = backbone(images)
    features = {level: outputs[level] for level in backbone.output_specs}
    return features if decoder is None else decoder(features)
