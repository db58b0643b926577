"""The frozen graph: one file that TensorFlow 1 and 2 run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from typing_extensions import override

from detflow.artifact import ENCODED_INPUT_NAME, INPUT_NAME, OUTPUT_NAMES
from detflow.inference.detector import Runner
from detflow.inference.formats.base import TENSORFLOW, EntryPoint, Format
from detflow.label_map import LabelMap

_SNIPPET = """import numpy as np
import tensorflow as tf
from PIL import Image

graph = tf.compat.v1.GraphDef.FromString(tf.io.read_file("{path}").numpy())
function = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
names = [{outputs}]
detect = function.prune("image_tensor:0", [f"{{name}}:0" for name in names])
photo = np.asarray(Image.open("photo.jpg").convert("RGB"))
boxes, scores, classes, count = detect(tf.constant(photo[np.newaxis]))
print(int(count[0]), boxes[0, 0].numpy(), float(scores[0, 0]), int(classes[0, 0]))
"""


class Frozen(Format):
    """Graphs without variables, one for pixels and one for files."""

    name = "frozen"
    runtime = TENSORFLOW
    runtime_title = "TensorFlow"
    entries = (
        EntryPoint("frozen_inference_graph.pb", INPUT_NAME),
        EntryPoint("frozen_inference_graph_encoded.pb", ENCODED_INPUT_NAME),
    )
    suffixes = (".pb",)
    is_default = True

    @override
    def find(self, path: Path) -> Path | None:
        # The graph inside a SavedModel's folder has the same suffix.
        is_graph = path.is_file() and path.name != "saved_model.pb"
        return super().find(path) if is_graph else None

    @override
    def load(self, path: Path, entry: EntryPoint, *, threads: int = 0) -> Runner:
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
    def snippet(self, entry: EntryPoint) -> str | None:
        if entry != self.entries[0]:
            return None
        outputs = ", ".join(f'"{name}"' for name in OUTPUT_NAMES)
        return _SNIPPET.format(path=entry.path, outputs=outputs)
