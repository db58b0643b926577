"""An exported folder: its formats and the names inside it, its manifest, and the serving contract that every format keeps.

The names, their order and their meaning are those of the TF1 Object Detection API's frozen graphs,
so that scripts and servers written for them work unchanged. A TFLite file keeps another contract,
that of mobile libraries; `runtime.tflite` leads from one to the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from detflow.errors import ArtifactError
from detflow.publish import FileDigest, read_json_object, verify_files

__all__ = [
    "BOXES_NAME",
    "CANVASES_NAME",
    "CLASS_NAMES_NODE",
    "CONTRACT",
    "ENCODED_INPUT_NAME",
    "EXAMPLE_INPUT_NAME",
    "FORMATS",
    "INPUT_NAME",
    "MANIFEST_NAME",
    "OPENCV_SIGNATURE",
    "OUTPUT_NAMES",
    "SCORES_NAME",
    "ArtifactDir",
    "Entry",
    "Format",
    "Runtime",
]

MANIFEST_NAME: Final = "model.json"
"""The file that makes a folder an export."""

INPUT_NAME: Final = "image_tensor"
ENCODED_INPUT_NAME: Final = "encoded_image_string_tensor"
EXAMPLE_INPUT_NAME: Final = "tf_example"
OUTPUT_NAMES: Final = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")
# The constant of a frozen graph, and the property of an ONNX file, that holds the class names; see
# the contract.
CLASS_NAMES_NODE: Final = "class_names"

# Tensors inside an ONNX file, and inside OpenVINO's made from it: the network lies between the
# normalised canvases [N, 3, height, width] and, of all anchors, the boxes [N, A, 4], normalised by
# the canvas, and the scores [N, C, A].
CANVASES_NAME: Final = "canvases"
BOXES_NAME: Final = "boxes"
SCORES_NAME: Final = "scores"

# The entry of an ONNX file that OpenCV reads it by.
OPENCV_SIGNATURE: Final = "OpenCV"

CONTRACT: Final[dict[str, Any]] = {
    # A graph or signature takes one of them.
    "inputs": {
        INPUT_NAME: {
            "dtype": "uint8",
            "shape": ["N", "height", "width", 3],
            "meaning": "RGB pixels, any size",
        },
        ENCODED_INPUT_NAME: {
            "dtype": "string",
            "shape": ["N"],
            "meaning": "JPEG or PNG files, each of any size; alpha is dropped and EXIF's orientation is not applied",
        },
        EXAMPLE_INPUT_NAME: {
            "dtype": "string",
            "shape": ["N"],
            "meaning": "serialised tf.Example with the file in image/encoded",
        },
    },
    "outputs": {
        "detection_boxes": {
            "dtype": "float32",
            "shape": ["N", "K", 4],
            "meaning": "[ymin, xmin, ymax, xmax], normalised by the image and clipped to it",
        },
        "detection_scores": {
            "dtype": "float32",
            "shape": ["N", "K"],
            "meaning": "0 to 1, from high to low",
        },
        "detection_classes": {
            "dtype": "float32",
            "shape": ["N", "K"],
            "meaning": "1-based ids of label_map.pbtxt",
        },
        "num_detections": {
            "dtype": "float32",
            "shape": ["N"],
            "meaning": "valid entries; the rest is padding",
        },
    },
    "labels": {
        "frozen graphs": f"string constant {CLASS_NAMES_NODE} [C]; entry i names id i + 1",
        "saved_model": "assets/label_map.pbtxt",
        "onnx": f"metadata_props {CLASS_NAMES_NODE}: JSON list; entry i names id i + 1",
        "openvino": "model_info labels, with blanks between and _ for the blanks inside",
        "TFLite": "labels.txt, packed into the file; line i, counted from 1, names id i",
    },
}

Runtime = Literal["tensorflow", "onnxruntime", "openvino", "litert"]


@dataclass(frozen=True)
class Entry:
    """One way into a format.

    Attributes:
        path: The file or folder that a runtime loads, relative to the exported folder.
        input_name: The input of the serving contract that it takes.
        signature: Its name among several of one file; empty where there is one.
        is_optional: The format stays although this one fails, which the card then tells.
    """

    path: str
    input_name: str
    signature: str = ""
    is_optional: bool = False

    @property
    def name(self) -> str:
        """For messages and the card."""
        return f"{self.path} {self.signature}".rstrip()


@dataclass(frozen=True)
class Format:
    """What an exported folder holds for one kind of runtime.

    Attributes:
        name: As in `detflow export --formats` and in the card.
        runtime: What runs it.
        entries: Ways in; the first one takes pixels.
    """

    name: str
    runtime: Runtime
    entries: tuple[Entry, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """Its files and folders, relative to the exported folder."""
        return tuple(dict.fromkeys(entry.path.partition("/")[0] for entry in self.entries))


FORMATS: Final[Mapping[str, Format]] = {
    entry.name: entry
    for entry in (
        Format(
            "frozen",
            "tensorflow",
            (
                Entry("frozen_inference_graph.pb", INPUT_NAME),
                Entry("frozen_inference_graph_encoded.pb", ENCODED_INPUT_NAME),
            ),
        ),
        Format(
            "saved_model",
            "tensorflow",
            (
                Entry("saved_model", INPUT_NAME),
                Entry("saved_model", ENCODED_INPUT_NAME, "image_bytes"),
                Entry("saved_model", EXAMPLE_INPUT_NAME, "tf_example"),
            ),
        ),
        Format(
            "onnx",
            "onnxruntime",
            (
                Entry("model.onnx", INPUT_NAME),
                # Its reader is younger, and its older releases know no sizes but fixed ones.
                Entry("model.onnx", INPUT_NAME, OPENCV_SIGNATURE, is_optional=True),
            ),
        ),
        Format("openvino", "openvino", (Entry("openvino/model.xml", INPUT_NAME),)),
        Format("tflite", "litert", (Entry("model.tflite", INPUT_NAME),)),
        Format("tflite_float16", "litert", (Entry("model_float16.tflite", INPUT_NAME),)),
        Format("tflite_dynamic", "litert", (Entry("model_dynamic.tflite", INPUT_NAME),)),
        Format("tflite_int8", "litert", (Entry("model_int8.tflite", INPUT_NAME),)),
    )
}
"""Every format that an exported folder can hold, by name."""


class ArtifactDir:
    """Names inside an exported folder. Making one touches nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest_path = path / MANIFEST_NAME
        self.page_path = path / "card.html"
        self.label_map_path = path / "label_map.pbtxt"
        self.config_path = path / "config.yaml"
        self.frozen_graph_path = path / "frozen_inference_graph.pb"
        self.encoded_graph_path = path / "frozen_inference_graph_encoded.pb"
        self.saved_model_path = path / "saved_model"

    def exists(self) -> bool:
        """Tells whether this is an exported folder."""
        return self.manifest_path.is_file()

    def verify(self) -> dict[str, Any]:
        """Returns the manifest after every file was compared with it.

        Raises:
            ArtifactError: The manifest is unreadable, or a file is missing or differs.
        """
        manifest = read_json_object(self.manifest_path)
        try:
            files = {
                str(name): FileDigest(bytes=int(d["bytes"]), sha256=str(d["sha256"]))
                for name, d in manifest["files"].items()
            }
        except (AttributeError, KeyError, TypeError, ValueError):
            raise ArtifactError("the manifest lists no files", path=self.manifest_path) from None
        verify_files(self.path, files)
        return manifest
