"""Backbones and feature pyramids."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
import tf_keras
from official.projects.yolo.configs import backbones as yolo_backbones
from official.projects.yolo.modeling.backbones import yolov7
from official.vision.configs import backbones, common, decoders
from official.vision.modeling.backbones import efficientnet, mobilenet, resnet, spinenet_mobile
from official.vision.modeling.decoders import fpn

from detflow.config.backbones import BACKBONES
from detflow.config.schema import ModelConfig
from detflow.models.garden.parameters import GardenParameters

# Garden's default, .99, averages over more steps than a short run has.
_NORM_MOMENTUM = 0.9
_NORM_EPSILON = 1e-3


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
    """Returns an image's (height, width, 3); both sides are open if there are several canvases."""
    height, width = (None, None) if config.more_input_sizes else config.input_size
    return height, width, 3


def build_norm(parameters: GardenParameters, activation: str) -> common.NormActivation:
    """Returns the normalisation and activation of all parts.

    Args:
        parameters: Model Garden's, as far as the configuration sets them.
        activation: What the architecture takes where the configuration says nothing.
    """
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
    """Builds the feature extractor.

    Returns:
        A network from images [B, height, width, 3] to feature maps by level, the level as text.
    """
    backbone = BACKBONES[config.backbone]
    images = tf_keras.layers.InputSpec(shape=[None, *input_shape(config)])
    return _BUILDERS[backbone.family.name](backbone.model_id, images, config, parameters, norm)


def _build_resnet(
    model_id: str | int,
    images: tf_keras.layers.InputSpec,
    config: ModelConfig,
    parameters: GardenParameters,
    norm: common.NormActivation,
) -> tf_keras.Model:
    chosen = parameters.fill(
        backbones.ResNet,
        "backbone",
        model_id=model_id,
        depth_multiplier=config.width_multiplier,
    )
    return resnet.build_resnet(images, backbones.Backbone(type="resnet", resnet=chosen), norm)


def _build_mobilenet(
    model_id: str | int,
    images: tf_keras.layers.InputSpec,
    config: ModelConfig,
    parameters: GardenParameters,
    norm: common.NormActivation,
) -> tf_keras.Model:
    chosen = parameters.fill(
        backbones.MobileNet,
        "backbone",
        model_id=model_id,
        filter_size_scale=config.width_multiplier,
    )
    return mobilenet.build_mobilenet(
        images, backbones.Backbone(type="mobilenet", mobilenet=chosen), norm
    )


def _build_efficientnet(
    model_id: str | int,
    images: tf_keras.layers.InputSpec,
    config: ModelConfig,
    parameters: GardenParameters,
    norm: common.NormActivation,
) -> tf_keras.Model:
    # The Lite networks, which the table has, are those without squeeze and excitation.
    chosen = parameters.fill(backbones.EfficientNet, "backbone", model_id=model_id, se_ratio=0.0)
    return efficientnet.build_efficientnet(
        images, backbones.Backbone(type="efficientnet", efficientnet=chosen), norm
    )


def _build_spinenet(
    model_id: str | int,
    images: tf_keras.layers.InputSpec,
    config: ModelConfig,
    parameters: GardenParameters,
    norm: common.NormActivation,
) -> tf_keras.Model:
    chosen = parameters.fill(
        backbones.SpineNetMobile,
        "backbone",
        model_id=model_id,
        min_level=config.min_level,
        max_level=config.max_level,
    )
    return spinenet_mobile.build_spinenet_mobile(
        images, backbones.Backbone(type="spinenet_mobile", spinenet_mobile=chosen), norm
    )


def _build_yolo(
    model_id: str | int,
    images: tf_keras.layers.InputSpec,
    config: ModelConfig,
    parameters: GardenParameters,
    norm: common.NormActivation,
) -> tf_keras.Model:
    chosen = parameters.fill(yolo_backbones.YoloV7, "backbone", model_id=model_id)
    return yolov7.YoloV7(
        chosen.model_id, images, kernel_initializer=FreshKernels(), **norm.as_dict()
    )


# By the names of the families in `config.backbones`.
_BUILDERS: dict[str, Callable[..., tf_keras.Model]] = {
    "resnet": _build_resnet,
    "mobilenet": _build_mobilenet,
    "efficientnet": _build_efficientnet,
    "spinenet_mobile": _build_spinenet,
    "yolov7": _build_yolo,
}


def build_decoder(
    config: ModelConfig,
    parameters: GardenParameters,
    norm: common.NormActivation,
    features: dict[str, tf.TensorShape],
) -> tf_keras.Model | None:
    """Builds the feature pyramid for features by level; None where the backbone is one itself."""
    if BACKBONES[config.backbone].family.is_pyramid:
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
    """Runs the backbone on images [B, height, width, 3] and the decoder on its features.

    MobileNets and EfficientNets also return what comes after their last level, which no decoder
    takes.
    """
    outputs = backbone(images)
    features = {level: outputs[level] for level in backbone.output_specs}
    return features if decoder is None else decoder(features)
