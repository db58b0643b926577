"""The frozen graph: one file that TensorFlow 1 and 2 run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from typing_extensions import override

from detflow.artifact import CLASS_NAMES_NODE, ENCODED_INPUT_NAME, INPUT_NAME, OUTPUT_NAMES
from detflow.inference.detector import Runner
from detflow.inference.formats.base import TENSORFLOW, EntryPoint, Format
from detflow.inference.tensors import Tensors
from detflow.label_map import LabelMap
from detflow.process.libraries import is_installed

_SNIPPET = """import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

graph = tf.compat.v1.GraphDef.FromString(tf.io.read_file("{path}").numpy())
function = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
tensors = [{outputs}]
detect = function.prune("image_tensor:0", [f"{{name}}:0" for name in [*tensors, "{labels}"]])
photo = np.asarray(ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB"))
boxes, scores, classes, count, names = (x.numpy() for x in detect(tf.constant(photo[np.newaxis])))
for i in range(int(count[0])):
    print(names[int(classes[0, i]) - 1].decode(), scores[0, i], boxes[0, i])
"""


class Frozen(Format):
    """Graphs without variables, one for pixels and one for files."""

    name = "frozen"
    runtime = TENSORFLOW
    runtime_title = "TensorFlow"
    entries: tuple[EntryPoint, ...] = (
        EntryPoint("frozen_inference_graph.pb", INPUT_NAME),
        EntryPoint("frozen_inference_graph_encoded.pb", ENCODED_INPUT_NAME),
    )
    suffixes = (".pb",)
    holds_names = True
    extra = "train"
    is_default = True

    @override
    def find(self, path: Path) -> Path | None:
        # The graph inside a SavedModel's folder has the same suffix.
        is_graph = path.is_file() and path.name != "saved_model.pb"
        return super().find(path) if is_graph else None

    @override
    def is_installed(self) -> bool:
        return is_installed(TENSORFLOW)

    @override
    def load(self, path: Path, entry: EntryPoint, *, threads: int = 0) -> Runner:
        self.require_installed()
        from detflow.inference.tensorflow import load_frozen_graph

        return load_frozen_graph(path, entry.input_name, threads=threads)

    @override
    def load_bare_network(
        self, path: Path, entry: EntryPoint, canvas_size: tuple[int, int], *, threads: int = 0
    ) -> Callable[[], object]:
        from detflow.inference.tensorflow import cut_frozen_graph

        return cut_frozen_graph(path, canvas_size)

    @override
    def read_names(self, path: Path) -> LabelMap | None:
        from detflow.inference.tensorflow import read_graph_labels

        return read_graph_labels(path)

    @override
    def read_tensors(self, path: Path, entry: EntryPoint) -> Tensors | None:
        from detflow.inference.tensorflow import read_graph_tensors

        return read_graph_tensors(path)

    @override
    def snippet(self, entry: EntryPoint) -> str | None:
        if entry != self.entries[0]:
            return None
        outputs = ", ".join(f'"{name}"' for name in OUTPUT_NAMES)
        return _SNIPPET.format(path=entry.path, outputs=outputs, labels=CLASS_NAMES_NODE)
