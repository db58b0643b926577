"""The SavedModel: the same contract for TensorFlow 2 and TensorFlow Serving."""

from __future__ import annotations

import os
from pathlib import Path

import tensorflow as tf

from detflow.inference.serving import ServingModel
from detflow.process.tensorflow_faults import write_faults

__all__ = ["write_saved_model"]


def write_saved_model(serving: ServingModel, label_map_path: Path, directory: Path) -> None:
    """Writes a SavedModel with one signature an input of the serving contract: serving_default, image_bytes and tf_example.

    Args:
        serving: With the weights.
        label_map_path: Is copied into `assets/`.
        directory: Is made.

    Raises:
        OSError: The disk refuses.
    """
    # Only variables and the label map are tracked. The network itself would drag Keras' own traces
    # of every layer in.
    exported = tf.Module()
    exported.weights = serving.variables
    exported.label_map = tf.saved_model.Asset(os.fspath(label_map_path))
    signatures = {
        "serving_default": serving.detect_traced.get_concrete_function(),
        "image_bytes": serving.detect_encoded_traced.get_concrete_function(),
        "tf_example": serving.detect_examples_traced.get_concrete_function(),
    }
    with write_faults(directory):
        tf.saved_model.save(exported, os.fspath(directory), signatures=signatures)
