"""Networks with the rounding of int8 inside, for quantisation-aware training (Model Garden's project `qat`)."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow_model_optimization as tfmot
import tf_keras
from official.projects.qat.vision.modeling.layers import nn_layers
from official.projects.qat.vision.quantization import configs, schemes

from detflow.errors import ArtifactError

__all__ = ["quantize_body"]

_quantization = tfmot.quantization.keras


def quantize_body(parts: Mapping[str, tf_keras.layers.Layer], input_size: tuple[int, int]) -> tf_keras.Model:
    """Makes backbone and feature pyramid anew, with rounding inside.

    Weights and activations are rounded to 256 steps on the way, and the gradient passes through. Their ranges are weights that do
    not train but follow what is seen in training.

    Args:
        parts: As `DetectionModel.parts` of a RetinaNet; the weights are copied.
        input_size: The canvas: (height, width) in pixels.

    Returns:
        From normalised images [B, height, width, 3] to the feature maps that the head takes.

    Raises:
        ArtifactError: Model Garden's quantisation-aware training has nothing that stands for a layer of these.
    """
    backbone = parts["backbone"]
    with _quantization.quantize_scope({"BatchNormalizationWrapper": nn_layers.BatchNormalizationWrapper}):
        try:
            annotated = _quantization.quantize_annotate_model(backbone)
            quantized = _quantization.quantize_apply(annotated, schemes.Default8BitQuantizeScheme())
            decoder = _quantize_pyramid(parts["decoder"]) if "decoder" in parts else None
        except (RuntimeError, ValueError) as error:
            # The message goes on with a class and a hint for programmers.
            reason = str(error).partition(":<")[0].splitlines()[0]
            raise ArtifactError(f"quantisation-aware training does not know this backbone ({reason})") from None
    images = tf_keras.Input((*input_size, 3), name="images")
    outputs = quantized(images)
    features = {level: outputs[level] for level in backbone.output_specs}
    return tf_keras.Model(images, features if decoder is None else decoder(features), name="quantized_body")


def _quantize_pyramid(decoder: tf_keras.Model) -> tf_keras.Model:
    def annotate(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        if isinstance(layer, tf_keras.layers.UpSampling2D):
            # It repeats values, and rounding has no part in that.
            return layer
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            # There is no convolution right before it that it could be folded into.
            layer = nn_layers.BatchNormalizationWrapper(layer)
            return _quantization.quantize_annotate_layer(layer, configs.Default8BitOutputQuantizeConfig())
        return _quantization.quantize_annotate_layer(layer)

    quantized = _quantization.quantize_apply(tf_keras.models.clone_model(decoder, clone_function=annotate))
    # The backbone has rounded its outputs already.
    return _quantization.remove_input_range(quantized)
