"""Keras' weights in HDF5: a file that a network which was built anew takes its weights from.

The file is laid out as Keras 2 lays weights out (`model.save_weights("model_weights.h5")`; by a
name that ends in `.weights.h5` it would take Keras 3's layout). A text beside them says which
network that is, and what its classes are called.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from typing_extensions import override

from detflow.artifact import INPUT_NAME
from detflow.inference.detector import Runner
from detflow.inference.formats.base import MODEL_GARDEN, EntryPoint, Format
from detflow.inference.tensors import Tensors
from detflow.label_map import LabelMap
from detflow.process.libraries import is_installed

WEIGHTS_NAME: Final = "model_weights.h5"
"""The file."""

_SNIPPET = """import json

import h5py
import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from detflow.config.schema import EvaluateConfig, ModelConfig
from detflow.inference.serving import ServingModel
from detflow.models.build import build_model

told = json.loads(h5py.File("{path}")["detflow"][()])
model = build_model(ModelConfig(**told["model"]), len(told["class_names"]))
model.network.load_weights("{path}")
detect = ServingModel(model, EvaluateConfig(**told["evaluate"])).detect
photo = np.asarray(ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB"))
boxes, scores, classes, count = detect(tf.constant(photo[np.newaxis])).values()
for i in range(int(count[0])):
    print(told["class_names"][int(classes[0, i]) - 1], scores[0, i].numpy(), boxes[0, i].numpy())
"""


class KerasH5(Format):
    """The weights alone; what is around them is built by detflow."""

    name = "keras_h5"
    runtime = MODEL_GARDEN
    runtime_title = "TensorFlow and Model Garden"
    entries = (EntryPoint(WEIGHTS_NAME, INPUT_NAME),)
    suffixes = (".h5", ".hdf5")
    holds_names = True
    extra = "train"

    @override
    def is_installed(self) -> bool:
        return is_installed("official")

    @override
    def load(self, path: Path, entry: EntryPoint, *, threads: int = 0) -> Runner:
        self.require_installed()
        from detflow.inference.hdf5 import build_serving
        from detflow.inference.tensorflow import eager_outputs, set_threads

        set_threads(threads)
        serving, _ = build_serving(path)
        return eager_outputs(serving.detect_traced, path, has_variables=True)

    @override
    def load_bare_network(
        self, path: Path, entry: EntryPoint, canvas_size: tuple[int, int], *, threads: int = 0
    ) -> Callable[[], object]:
        import tensorflow as tf

        from detflow.inference.hdf5 import build_serving
        from detflow.inference.tensorflow import set_threads

        set_threads(threads)
        serving, _ = build_serving(path)
        canvas = tf.constant(np.zeros((1, *canvas_size, 3), np.float32))
        predict = tf.function(serving.model.predict, autograph=False)
        return lambda: [value.numpy() for value in predict(canvas)]

    @override
    def read_names(self, path: Path) -> LabelMap | None:
        from detflow.inference.hdf5 import read_description

        return read_description(path).label_map

    @override
    def read_tensors(self, path: Path, entry: EntryPoint) -> Tensors | None:
        # Weights declare no inputs and outputs: these are the contract's, which detflow builds.
        return None

    @override
    def snippet(self, entry: EntryPoint) -> str | None:
        return _SNIPPET.format(path=entry.path)
