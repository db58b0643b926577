"""The SavedModel: a folder that TensorFlow 2 and TensorFlow Serving run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from typing_extensions import override

from detflow.artifact import (
    ENCODED_INPUT_NAME,
    EXAMPLE_INPUT_NAME,
    INPUT_NAME,
    LABEL_MAP_NAME,
    SAVED_MODEL_NAME,
)
from detflow.inference.detector import Runner
from detflow.inference.formats.base import TENSORFLOW, EntryPoint, Format
from detflow.inference.tensors import Tensors
from detflow.label_map import LabelMap, read_label_map
from detflow.process.libraries import is_installed

_GRAPH_NAME = "saved_model.pb"

_SNIPPET = """import ast
import re
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

text = Path("{path}/assets/label_map.pbtxt").read_text(encoding="utf-8")
names = [ast.literal_eval(name) for name in re.findall("name: ('.*')", text)]
detect = tf.saved_model.load("{path}").signatures["serving_default"]
photo = np.asarray(ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB"))
found = {{k: v[0].numpy() for k, v in detect(image_tensor=tf.constant(photo[np.newaxis])).items()}}
for i in range(int(found["num_detections"])):
    name = names[int(found["detection_classes"][i]) - 1]
    print(name, found["detection_scores"][i], found["detection_boxes"][i])
"""


class SavedModel(Format):
    """A SavedModel with one signature for each input of the serving contract."""

    name = SAVED_MODEL_NAME
    runtime = TENSORFLOW
    runtime_title = "TensorFlow"
    entries = (
        EntryPoint(SAVED_MODEL_NAME, INPUT_NAME),
        EntryPoint(SAVED_MODEL_NAME, ENCODED_INPUT_NAME, "image_bytes"),
        EntryPoint(SAVED_MODEL_NAME, EXAMPLE_INPUT_NAME, "tf_example"),
    )
    is_default = True
    holds_names = True
    extra = "train"

    @override
    def find(self, path: Path) -> Path | None:
        folder = path.parent if path.name == _GRAPH_NAME else path
        return folder if (folder / _GRAPH_NAME).is_file() else None

    @override
    def is_installed(self) -> bool:
        return is_installed(TENSORFLOW)

    @override
    def load(self, path: Path, entry: EntryPoint, *, threads: int = 0) -> Runner:
        self.require_installed()
        from detflow.inference.tensorflow import load_saved_model

        return load_saved_model(path, entry.input_name, threads=threads)

    @override
    def load_bare_network(
        self, path: Path, entry: EntryPoint, canvas_size: tuple[int, int], *, threads: int = 0
    ) -> Callable[[], object]:
        from detflow.inference.tensorflow import cut_saved_model

        return cut_saved_model(path, canvas_size)

    @override
    def read_names(self, path: Path) -> LabelMap | None:
        inside = path / "assets" / LABEL_MAP_NAME
        return read_label_map(inside) if inside.is_file() else None

    @override
    def read_tensors(self, path: Path, entry: EntryPoint) -> Tensors | None:
        from detflow.inference.tensorflow import read_signature_tensors

        return read_signature_tensors(path, entry.signature or "serving_default")

    @override
    def snippet(self, entry: EntryPoint) -> str | None:
        return _SNIPPET.format(path=entry.path) if entry == self.entries[0] else None
