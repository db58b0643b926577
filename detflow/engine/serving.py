"""The function that every exported format runs: pixels in, detections out."""

from __future__ import annotations

import tensorflow as tf

from detflow.artifact import INPUT_NAME, OUTPUT_NAMES
from detflow.config import EvaluateConfig
from detflow.engine import preprocess
from detflow.engine.retinanet import RetinaNet

__all__ = ["ServingModel"]


class ServingModel(tf.Module):  # type: ignore[misc]
    """Pixels in, detections out.

    Args:
        model: With the weights that serve.
        config: Threshold, suppression and number of detections.

    Attributes:
        config: As given.
    """

    def __init__(self, model: RetinaNet, config: EvaluateConfig) -> None:
        super().__init__()
        self._model = model
        self._network = model.network
        self.config = config
        # The tensor's name becomes the input's name in every exported format.
        spec = tf.TensorSpec([None, None, None, 3], tf.uint8, name=INPUT_NAME)
        self.detect_traced = tf.function(self.detect, input_signature=[spec])

    def detect(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Detects objects.

        Args:
            images: [N, height, width, 3] uint8, RGB, of any one size.

        Returns:
            detection_boxes [N, K, 4] float32, [ymin, xmin, ymax, xmax] normalised by the image and clipped to it;
            detection_scores [N, K] float32 from high to low; detection_classes [N, K] float32, 1-based;
            num_detections [N] float32. Entries from num_detections on are zeros, their class is 1.
        """
        canvases, ratio = preprocess.fit_to_canvas(images, self._model.input_size)
        raw = self._model.detect(preprocess.normalize(canvases), self.config)
        values = (
            preprocess.boxes_to_image(raw.boxes, ratio),
            raw.scores,
            tf.cast(raw.classes + 1, tf.float32),
            tf.cast(raw.count, tf.float32),
        )
        return {name: tf.identity(value, name=name) for name, value in zip(OUTPUT_NAMES, values, strict=True)}
