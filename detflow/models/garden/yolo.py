"""YOLOv7's network and loss."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf
import tf_keras
from official.projects.yolo.configs import decoders, yolov7
from official.projects.yolo.losses import yolov7_loss
from official.projects.yolo.modeling.decoders import yolov7 as yolov7_decoder
from official.projects.yolo.modeling.heads import yolov7_head

from detflow.config.backbones import BACKBONES
from detflow.config.schema import ModelConfig
from detflow.models.garden.backbones import FreshKernels, build_backbone, build_norm
from detflow.models.garden.parameters import GardenParameters


class YoloNetwork:
    """Backbone, decoder, head, and the loss that they were published with.

    Args:
        config: The model's section of the configuration.
        num_classes: Without background.
        anchor_sides_px: [levels][anchors a cell] of (width, height) in pixels.

    Attributes:
        network: From images [B, height, width, 3] to predictions by level, [B, rows, columns,
            anchors a cell, 5 + C]: x, y, width, height, objectness, classes, all before their
            sigmoids.
        parts: Model Garden's sub-models by the names that their checkpoints have.
    """

    def __init__(
        self,
        config: ModelConfig,
        num_classes: int,
        anchor_sides_px: Sequence[Sequence[tuple[float, float]]],
    ) -> None:
        parameters = GardenParameters(
            config, ("backbone", "decoder", "head", "loss", "norm_activation")
        )
        norm = build_norm(parameters, "swish")
        decoding = parameters.fill(
            decoders.YoloV7, "decoder", model_id=BACKBONES[config.backbone].model_id
        )
        heading = parameters.fill(yolov7.YoloV7Head, "head", num_anchors=len(anchor_sides_px[0]))
        losing = parameters.fill(yolov7.YoloV7Loss, "loss").as_dict()
        del losing["use_ota"]
        images = tf_keras.Input((*config.input_size, 3), name="images")
        with parameters.refusals():
            backbone = build_backbone(config, parameters, norm)
            decoder = yolov7_decoder.YoloV7(
                backbone.output_specs,
                kernel_initializer=FreshKernels(),
                **decoding.as_dict(),
                **norm.as_dict(),
            )
            head = yolov7_head.YoloV7DetectionHead(
                num_classes=num_classes,
                min_level=config.min_level,
                max_level=config.max_level,
                kernel_initializer=FreshKernels(),
                **heading.as_dict(),
            )
            self.network = tf_keras.Model(images, head(decoder(backbone(images))), name="yolo")
            self._loss = yolov7_loss.YoloV7Loss(
                anchors=[list(sides) for sides in anchor_sides_px],
                strides=[2**level for level in range(config.min_level, config.max_level + 1)],
                input_size=config.input_size,
                num_classes=num_classes,
                **losing,
            )
        self.parts = {"backbone": backbone, "decoder": decoder, "head": head}
        # Model Garden's loss branches on tensors, which only autograph makes a graph of.
        self._traced_losses = tf.function(self._losses)

    def losses(
        self, predictions: dict[str, tf.Tensor], boxes: tf.Tensor, classes: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Computes the loss, weighted as in Model Garden, but of one image.

        Args:
            predictions: As the network gives them.
            boxes: [B, M, 4], normalised; an empty slot is all zeros.
            classes: [B, M] int32; -1 in an empty slot.

        Returns:
            What is minimised, and without gradients the three terms that it is the sum of:
            objectness, classification, box.
        """
        return self._traced_losses(predictions, boxes, classes)  # type: ignore[no-any-return]

    def _losses(
        self, predictions: dict[str, tf.Tensor], boxes: tf.Tensor, classes: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        # It multiplies with the number of images at the very end, for an SGD whose rate was found
        # that way.
        total = self._loss.call({"bbox": boxes, "classes": classes}, predictions) / tf.cast(
            tf.shape(boxes)[0], tf.float32
        )
        parts = self._loss.report_separate_losses()
        return tuple(
            tf.reshape(value, [])
            for value in (total, parts["obj_loss"], parts["cls_loss"], parts["box_loss"])
        )
