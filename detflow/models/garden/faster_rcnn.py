"""Faster R-CNN's network and losses."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf
import tf_keras
from official.vision.configs import maskrcnn
from official.vision.losses import maskrcnn_losses
from official.vision.modeling.heads import dense_prediction_heads, instance_heads
from official.vision.modeling.layers import roi_aligner, roi_generator

from detflow.config.schema import ModelConfig
from detflow.models.garden.backbones import (
    build_backbone,
    build_decoder,
    build_norm,
    feature_pyramid,
)
from detflow.models.garden.parameters import GardenParameters
from detflow.models.precision import as_float32

_PARTS = (
    "backbone",
    "decoder",
    "rpn_head",
    "detection_head",
    "roi_generator",
    "roi_sampler",
    "roi_aligner",
    "norm_activation",
)
# Anchors of an image that the proposals' scores learn from (Faster R-CNN, arXiv:1506.01497, section
# 3.1.3).
ANCHORS_SAMPLED = 256
# Where the Huber losses become linear: the regression targets of proposals are smaller than those
# of the second stage.
_FIRST_STAGE_DELTA = 1.0 / 9.0
_SECOND_STAGE_DELTA = 1.0


@dataclass(frozen=True)
class RegionSampling:
    """Which proposals the second stage learns from: Model Garden's parameters by their names."""

    mix_gt_boxes: bool
    num_sampled_rois: int
    foreground_fraction: float
    foreground_iou_threshold: float
    background_iou_high_threshold: float
    background_iou_low_threshold: float


@dataclass(frozen=True)
class Proposals:
    """The first stage's predictions.

    Attributes:
        features: Feature maps by level.
        scores: By level, logits [B, height, width, anchors a cell].
        deltas: By level, [B, height, width, 4 × anchors a cell].
        regions: [B, R, 4] in canvas pixels, the best first. Rows beyond the last region are all
            zeros.
    """

    features: dict[str, tf.Tensor]
    scores: dict[str, tf.Tensor]
    deltas: dict[str, tf.Tensor]
    regions: tf.Tensor


class FasterRCNNNetwork:
    """Faster R-CNN's two stages.

    Attributes:
        network: Holds every weight: (images, regions [B, R, 4] in pixels) → (scores, deltas, class
            logits, class deltas).
        parts: Model Garden's sub-models by the names that their checkpoints have.
        sampling: Which proposals the second stage is trained on.
    """

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        parameters = GardenParameters(config, _PARTS)
        norm = build_norm(parameters, "relu")
        filters = {"num_filters": config.num_filters}
        rpn = parameters.fill(maskrcnn.RPNHead, "rpn_head", **filters)
        detection = parameters.fill(
            maskrcnn.DetectionHead, "detection_head", num_convs=config.num_head_convs, **filters
        ).as_dict()
        del detection["cascade_class_ensemble"]
        # The batched kernel costs a fraction of the default one.
        generator = parameters.fill(maskrcnn.ROIGenerator, "roi_generator", use_batched_nms=True)
        aligner = parameters.fill(maskrcnn.ROIAligner, "roi_aligner")
        sampler = parameters.fill(maskrcnn.ROISampler, "roi_sampler").as_dict()
        del sampler["cascade_iou_thresholds"]
        self.sampling = RegionSampling(**sampler)
        images = tf_keras.Input((*config.input_size, 3), name="images")
        regions = tf_keras.Input((self.sampling.num_sampled_rois, 4), name="regions")
        with parameters.refusals():
            backbone = build_backbone(config, parameters, norm)
            decoder = build_decoder(config, parameters, norm, backbone.output_specs)
            rpn_head = dense_prediction_heads.RPNHead(
                min_level=config.min_level,
                max_level=config.max_level,
                num_anchors_per_location=config.anchors_per_octave * len(config.aspect_ratios),
                **rpn.as_dict(),
                **norm.as_dict(),
            )
            self._detection_head = instance_heads.DetectionHead(
                num_classes=num_classes + 1, **detection, **norm.as_dict()
            )
            self._roi_aligner = roi_aligner.MultilevelROIAligner(**aligner.as_dict())
            self._roi_generator = roi_generator.MultilevelROIGenerator(**generator.as_dict())
            features = feature_pyramid(backbone, decoder, images)
            scores, deltas = rpn_head(features)
            second_stage = self._detection_head(self._roi_aligner(features, regions))
        self._first_stage = tf_keras.Model(images, (features, scores, deltas), name="first_stage")
        self.network = tf_keras.Model(
            (images, regions), (scores, deltas, *second_stage), name="faster_rcnn"
        )
        parts = {
            "backbone": backbone,
            "decoder": decoder,
            "rpn_head": rpn_head,
            "detection_head": self._detection_head,
        }
        self.parts = {name: part for name, part in parts.items() if part is not None}

    def propose(
        self, canvases: tf.Tensor, anchors_px: dict[str, tf.Tensor], *, training: bool
    ) -> Proposals:
        """Runs the first stage.

        Args:
            canvases: [B, height, width, 3], normalised.
            anchors_px: By level, [1, number, 4] in pixels.
            training: Whether batch norms normalise by the batch.
        """
        features, *outputs = self._first_stage(canvases, training=training)
        scores, deltas = as_float32(outputs)
        size = tf.broadcast_to(
            tf.constant([*canvases.shape[1:3]], tf.float32), [tf.shape(canvases)[0], 2]
        )
        regions, _ = self._roi_generator(deltas, scores, anchors_px, size, training=training)
        return Proposals(features, scores, deltas, tf.stop_gradient(regions))

    def classify(
        self, features: dict[str, tf.Tensor], regions: tf.Tensor, *, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Runs the second stage on regions [B, R, 4] in pixels.

        Returns:
            Logits [B, R, 1 + C], background first, and deltas [B, R, 4 × (1 + C)].
        """
        return tuple(
            as_float32(
                self._detection_head(self._roi_aligner(features, regions), training=training)
            )
        )


def first_stage_losses(
    proposals: Proposals, labels: tf.Tensor, deltas: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes the losses of the proposals' scores and boxes.

    Args:
        proposals: As predicted.
        labels: [B, A], for each anchor 1 (object), 0 (background) or -1 (not learnt from).
        deltas: [B, A, 4], to the object; zeros where there is none.
    """
    label_levels, delta_levels, start = {}, {}, 0
    for level, scores in proposals.scores.items():
        _, height, width, per_cell = scores.shape
        end = start + height * width * per_cell
        label_levels[level] = tf.reshape(labels[:, start:end], [-1, height, width, per_cell])
        delta_levels[level] = tf.reshape(deltas[:, start:end], [-1, height, width, 4 * per_cell])
        start = end
    return (
        maskrcnn_losses.RpnScoreLoss(ANCHORS_SAMPLED)(proposals.scores, label_levels),
        maskrcnn_losses.RpnBoxLoss(_FIRST_STAGE_DELTA)(proposals.deltas, delta_levels),
    )


def second_stage_losses(
    logits: tf.Tensor, predicted: tf.Tensor, classes: tf.Tensor, deltas: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes the losses of classes and boxes.

    Args:
        logits: [B, R, 1 + C], background first.
        predicted: [B, R, 4 × (1 + C)].
        classes: [B, R] int32, 0 for background.
        deltas: [B, R, 4].
    """
    return (
        maskrcnn_losses.FastrcnnClassLoss()(logits, classes),
        maskrcnn_losses.FastrcnnBoxLoss(_SECOND_STAGE_DELTA)(predicted, classes, deltas),
    )
