"""Writes the SavedModel, for TensorFlow 2 and TensorFlow Serving."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from typing_extensions import override

from detflow.exporting.formats.base import Draft, FormatWriter, Job
from detflow.exporting.proof.compare import EXACT
from detflow.inference.formats.saved_model import SavedModel
from detflow.inference.serving import ServingModel
from detflow.process.tensorflow_faults import write_faults


class Writer(FormatWriter[SavedModel]):
    """Writes the folder."""

    own_gate = EXACT

    @override
    def write(self, job: Job) -> Iterator[Draft]:
        directory = job.artifact.path / self.format.entries[0].path
        write_saved_model(job.trained.serving, job.artifact.label_map_path, directory)
        yield Draft()


def write_saved_model(serving: ServingModel, label_map_path: Path, directory: Path) -> None:
    """Writes a SavedModel with one signature for each input of the serving contract.

    Args:
        serving: The model, with its weights.
        label_map_path: The label map, which is copied into `assets/`.
        directory: The SavedModel's folder, which is made.

    Raises:
        OSError: The disk refuses.
    """
    # Only variables and the label map are tracked: the network itself would bring Keras' own traces
    # of every layer with it.
    exported = tf.Module()
    exported.weights = serving.model.network.variables
    exported.label_map = tf.saved_model.Asset(os.fspath(label_map_path))
    signatures = {
        "serving_default": serving.detect_traced.get_concrete_function(),
        "image_bytes": serving.detect_encoded_traced.get_concrete_function(),
        "tf_example": serving.detect_examples_traced.get_concrete_function(),
    }
    with write_faults(directory):
        tf.saved_model.save(exported, os.fspath(directory), signatures=signatures)
