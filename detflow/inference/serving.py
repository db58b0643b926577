"""The function that every exported format computes: pixels or files in, detections out."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from detflow.artifact import ENCODED_INPUT_NAME, EXAMPLE_INPUT_NAME, INPUT_NAME, OUTPUT_NAMES
from detflow.config.schema import EvaluateConfig
from detflow.models import preprocess
from detflow.models.base import DetectionModel


class ServingModel(tf.Module):  # type: ignore[misc]
    """A model with its preprocessing and suppression, as TensorFlow functions.

    Args:
        model: The model, with the weights that serve.
        config: Threshold, suppression and number of detections.
        canvas_sizes: (height, width) in pixels of the canvases to use; None uses all that the model
            has.

    Attributes:
        config: Threshold, suppression and number of detections.
    """

    def __init__(
        self,
        model: DetectionModel,
        config: EvaluateConfig,
        canvas_sizes: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        super().__init__()
        self._model = model
        self._canvas_sizes = tuple(canvas_sizes or model.canvas_sizes)
        self._network = model.network
        self.config = config
        # The names of these tensors become the names of the inputs in the exported formats.
        pixels = tf.TensorSpec([None, None, None, 3], tf.uint8, name=INPUT_NAME)
        encoded = tf.TensorSpec([None], tf.string, name=ENCODED_INPUT_NAME)
        examples = tf.TensorSpec([None], tf.string, name=EXAMPLE_INPUT_NAME)
        self.detect_traced = tf.function(self.detect, autograph=False, input_signature=[pixels])
        self.detect_encoded_traced = tf.function(
            self.detect_encoded, autograph=False, input_signature=[encoded]
        )
        self.detect_examples_traced = tf.function(
            self.detect_examples, autograph=False, input_signature=[examples]
        )

    @property
    def model(self) -> DetectionModel:
        """The model with the weights that serve."""
        return self._model

    def detect(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Detects objects.

        Args:
            images: [N, height, width, 3] uint8, RGB, of any size that all of them share.

        Returns:
            detection_boxes [N, K, 4] float32, [ymin, xmin, ymax, xmax] normalised by the image and
            clipped to it; detection_scores [N, K] float32 from high to low; detection_classes [N,
            K] float32, 1-based; num_detections [N] float32. Entries from num_detections on are
            zeros, their class is 1.
        """
        return _name_outputs(self._detect(images))

    def detect_encoded(self, encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        """Does what `detect` does for JPEG or PNG files [N], each of its own size."""
        if len(self._canvas_sizes) > 1:
            return _name_outputs(self._detect_one_by_one(encoded))

        def fit(file: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            canvases, ratio = preprocess.fit_to_canvas(
                preprocess.decode_jpeg(file)[tf.newaxis], self._canvas_sizes[0]
            )
            return canvases[0], ratio

        canvas = tf.TensorSpec([*self._canvas_sizes[0], 3], tf.float32)
        canvases, ratios = tf.map_fn(
            fit, encoded, fn_output_signature=(canvas, tf.TensorSpec([2], tf.float32))
        )
        return _name_outputs(self._detect_on_canvases(canvases, ratios[:, tf.newaxis]))

    def detect_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Does what `detect_encoded` does for serialised tf.Examples [N] with `image/encoded`."""
        fields = tf.io.parse_example(
            examples, {"image/encoded": tf.io.FixedLenFeature([], tf.string)}
        )
        return self.detect_encoded(fields["image/encoded"])

    def _detect(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        canvas_size = preprocess.choose_canvas(images, self._canvas_sizes)
        return self._detect_on_canvases(*preprocess.fit_to_canvas(images, canvas_size))

    def _detect_one_by_one(self, encoded: tf.Tensor) -> dict[str, tf.Tensor]:
        """Detects on each file apart: canvases of several sizes cannot be one batch."""

        def detect(file: tf.Tensor) -> dict[str, tf.Tensor]:
            return {
                name: values[0]
                for name, values in self._detect(preprocess.decode_jpeg(file)[tf.newaxis]).items()
            }

        count = self.config.max_detections
        specs = [tf.TensorSpec(shape, tf.float32) for shape in ([count, 4], [count], [count], [])]
        signature = dict(zip(OUTPUT_NAMES, specs, strict=True))
        outputs: dict[str, tf.Tensor] = tf.map_fn(detect, encoded, fn_output_signature=signature)
        return outputs

    def _detect_on_canvases(self, canvases: tf.Tensor, ratio: tf.Tensor) -> dict[str, tf.Tensor]:
        """Detects on canvases; ratio is [2], or [N, 1, 2] where the images differ in size."""
        raw = self._model.detect(preprocess.normalize(canvases), self.config)
        values = (
            preprocess.boxes_to_image(raw.boxes, ratio),
            raw.scores,
            tf.cast(raw.classes + 1, tf.float32),
            tf.cast(raw.count, tf.float32),
        )
        return dict(zip(OUTPUT_NAMES, values, strict=True))


def _name_outputs(outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Names the tensors as the serving contract does."""
    return {name: tf.identity(outputs[name], name=name) for name in OUTPUT_NAMES}
