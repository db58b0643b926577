"""The frozen graph in protobuf's text form, as TensorFlow 1's `tf.io.write_graph` wrote it."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import override

from detflow.artifact import CLASS_NAMES_NODE, INPUT_NAME, LABEL_MAP_NAME, OUTPUT_NAMES
from detflow.inference.formats.base import EntryPoint
from detflow.inference.formats.frozen import Frozen

_SNIPPET = """from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from PIL import Image, ImageOps

text = Path("{path}").read_bytes()
graph = text_format.Parse(text, tf.compat.v1.GraphDef())
function = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
tensors = [{outputs}]
detect = function.prune("image_tensor:0", [f"{{name}}:0" for name in [*tensors, "{labels}"]])
photo = np.asarray(ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB"))
boxes, scores, classes, count, names = (x.numpy() for x in detect(tf.constant(photo[np.newaxis])))
for i in range(int(count[0])):
    print(names[int(classes[0, i]) - 1].decode(), scores[0, i], boxes[0, i])
"""


class FrozenText(Frozen):
    """The graph for pixels, in protobuf's text form."""

    name = "frozen_text"
    entries = (EntryPoint("frozen_inference_graph.pbtxt", INPUT_NAME),)
    suffixes = (".pbtxt",)
    is_default = False

    @override
    def find(self, path: Path) -> Path | None:
        # A label map has the same suffix.
        return None if path.name == LABEL_MAP_NAME else super().find(path)

    @override
    def snippet(self, entry: EntryPoint) -> str | None:
        outputs = ", ".join(f'"{name}"' for name in OUTPUT_NAMES)
        return _SNIPPET.format(path=entry.path, outputs=outputs, labels=CLASS_NAMES_NODE)
