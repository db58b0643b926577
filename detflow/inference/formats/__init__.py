"""Every export format, as those see it who load exported files.

Importing this package imports no runtime. A new format is a module here, a module of the same name
in `detflow.exporting.formats`, and a line in the list below.
"""

from typing import Final

from detflow.inference.formats.base import Format
from detflow.inference.formats.frozen import Frozen
from detflow.inference.formats.frozen_text import FrozenText
from detflow.inference.formats.keras_h5 import KerasH5
from detflow.inference.formats.onnx import Onnx
from detflow.inference.formats.openvino import OpenVino
from detflow.inference.formats.saved_model import SavedModel
from detflow.inference.formats.tflite import Tflite

FORMATS: Final[tuple[Format, ...]] = (
    Onnx(),
    Tflite("tflite", "float32"),
    Tflite("tflite_float16", "float16"),
    Tflite("tflite_int8", "int8"),
    Tflite("tflite_dynamic", "dynamic"),
    OpenVino(),
    Frozen(),
    SavedModel(),
    FrozenText(),
    KerasH5(),
)
"""All formats. Of an exported folder the first one whose runtime is installed runs: those without
TensorFlow come first, the fast ones before the others."""


def find_format(name: str) -> Format | None:
    """Returns the format of a name; None where there is none."""
    return next((known for known in FORMATS if known.name == name), None)
