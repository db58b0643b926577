"""The SavedModel: the same contract for TensorFlow 2 and TensorFlow Serving."""

from __future__ import annotations

import os
from pathlib import Path

import tensorflow as tf

from detflow.engine.faults import write_faults
from detflow.engine.serving import ServingModel

__all__ = ["write_saved_model"]


def write_saved_model(serving: ServingModel, label_map_path: Path, directory: Path) -> None:
    """Writes a SavedModel whose `serving_default` keeps the serving contract.

    Args:
        serving: With the weights.
        label_map_path: Is copied into `assets/`.
        directory: Is made.

    Raises:
        OSError: The disk refuses.
    """
    # Only variables and the label map are tracked. The network itself would drag Keras' own traces of every layer in.
    exported = tf.Module()
    exported.weights = serving.variables
    exported.label_map = tf.saved_model.Asset(os.fspath(label_map_path))
    signatures = {"serving_default": serving.detect_traced.get_concrete_function()}
    with write_faults(directory):
        tf.saved_model.save(exported, os.fspath(directory), signatures=signatures)
