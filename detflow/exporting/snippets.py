"""Ten lines of code for each way into a format. They stand in the card, and a test runs each as it stands."""

from __future__ import annotations

from detflow.artifact import (
    CLASS_NAMES_NODE,
    FORMATS,
    OPENCV_SIGNATURE,
    OUTPUT_NAMES,
    Entry,
    Format,
)

__all__ = ["choose_snippets"]

_FROZEN = """import numpy as np
import tensorflow as tf
from PIL import Image

graph = tf.compat.v1.GraphDef.FromString(open("{path}", "rb").read())
function = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
names = [{outputs}]
detect = function.prune("image_tensor:0", [f"{{name}}:0" for name in names])
photo = np.asarray(Image.open("photo.jpg").convert("RGB"))
boxes, scores, classes, count = detect(tf.constant(photo[np.newaxis]))
print(int(count[0]), boxes[0, 0].numpy(), float(scores[0, 0]), int(classes[0, 0]))
"""

_SAVED_MODEL = """import tensorflow as tf

model = tf.saved_model.load("{path}")
photo = tf.io.decode_jpeg(tf.io.read_file("photo.jpg"), channels=3, dct_method="INTEGER_ACCURATE")
found = model.signatures["serving_default"](image_tensor=photo[tf.newaxis])
print(int(found["num_detections"][0]), found["detection_boxes"][0, 0].numpy(), float(found["detection_scores"][0, 0]))
"""

_ONNXRUNTIME = """import json

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("{path}")
names = json.loads(session.get_modelmeta().custom_metadata_map["{labels}"])
photo = np.asarray(Image.open("photo.jpg").convert("RGB"))
boxes, scores, classes, count = session.run(None, {{"image_tensor": photo[np.newaxis]}})
for i in range(int(count[0])):
    print(names[int(classes[0, i]) - 1], scores[0, i], boxes[0, i])
"""

_OPENCV = """import cv2

net = cv2.dnn.readNetFromONNX("{path}")
photo = cv2.imread("photo.jpg", cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
net.setInput(cv2.cvtColor(photo, cv2.COLOR_BGR2RGB)[None], "image_tensor")
names = [{outputs}]
boxes, scores, classes, count = net.forward(names)
print(int(count[0]), boxes[0, 0], scores[0, 0], int(classes[0, 0]))
"""

_OPENVINO = """import numpy as np
import openvino
from PIL import Image

# Some processors would compute in bfloat16; the export was proved in float32.
model = openvino.compile_model("{path}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
photo = np.asarray(Image.open("photo.jpg").convert("RGB"))
found = model({{"image_tensor": photo[np.newaxis]}})
print(int(found["num_detections"][0]), found["detection_boxes"][0, 0], found["detection_scores"][0, 0])
"""

_LITERT = """import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

detect = Interpreter("{path}").get_signature_runner()
_, height, width, _ = detect.get_input_details()["image"]["shape"]
photo = Image.open("photo.jpg").convert("RGB")
scale = min(height / photo.height, width / photo.width)
canvas = Image.new("RGB", (width, height), (124, 116, 104))
canvas.paste(photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.BILINEAR))
found = detect(image=np.asarray(canvas)[np.newaxis])
print(int(found["count"][0]), found["boxes"][0, 0], found["scores"][0, 0], int(found["classes"][0, 0]) + 1)
"""

_DETFLOW = """from pathlib import Path

from detflow.data.images.pictures import read_picture
from detflow.inference.load import load_detector

detector = load_detector(Path("."))
(found,) = detector.detect([read_picture(Path("photo.jpg")).pixels])
for detection in found:
    print(detection.name, detection.score, detection.box)
"""


def choose_snippets(formats: list[str]) -> list[tuple[str, str]]:
    """Returns (title, code) for an exported folder.

    Args:
        formats: Names of the formats in it.
    """
    chosen = [("detflow, whatever is in the folder", _DETFLOW)]
    runtimes = set()
    for form in (FORMATS[name] for name in formats):
        for entry in form.entries:
            template = _template(form, entry)
            # Files of one runtime are run alike.
            if template is not None and (template, form.runtime) not in runtimes:
                runtimes.add((template, form.runtime))
                outputs = ", ".join(f'"{name}"' for name in OUTPUT_NAMES)
                chosen.append(
                    (
                        _title(form, entry),
                        template.format(path=entry.path, outputs=outputs, labels=CLASS_NAMES_NODE),
                    )
                )
    return chosen


def _template(form: Format, entry: Entry) -> str | None:
    if entry.signature == OPENCV_SIGNATURE:
        return _OPENCV
    if entry is not form.entries[0]:
        return None
    by_runtime: dict[str, str] = {
        "onnxruntime": _ONNXRUNTIME,
        "openvino": _OPENVINO,
        "litert": _LITERT,
    }
    by_format = {"frozen": _FROZEN, "saved_model": _SAVED_MODEL}
    return by_format.get(form.name) or by_runtime[form.runtime]


def _title(form: Format, entry: Entry) -> str:
    names: dict[str, str] = {
        "tensorflow": "TensorFlow",
        "onnxruntime": "ONNX Runtime",
        "openvino": "OpenVINO",
        "litert": "LiteRT",
    }
    return f"{entry.signature or names[form.runtime]}: {entry.path}"
