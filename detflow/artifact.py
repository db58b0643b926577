"""An exported folder: the names inside it, its manifest, and the serving contract that every format keeps.

The names, their order and their meaning are those of the TF1 Object Detection API's frozen graphs, so that scripts and servers
written for them work unchanged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from detflow.errors import ArtifactError
from detflow.publish import FileDigest, read_json_object, verify_files

__all__ = ["CLASS_NAMES_NODE", "CONTRACT", "ENCODED_INPUT_NAME", "EXAMPLE_INPUT_NAME", "INPUT_NAME", "OUTPUT_NAMES", "ArtifactDir"]

INPUT_NAME: Final = "image_tensor"
ENCODED_INPUT_NAME: Final = "encoded_image_string_tensor"
EXAMPLE_INPUT_NAME: Final = "tf_example"
OUTPUT_NAMES: Final = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")
# The constant of a frozen graph that holds the class names; see the contract.
CLASS_NAMES_NODE: Final = "class_names"

CONTRACT: Final[dict[str, Any]] = {
    # A graph or signature takes one of them.
    "inputs": {
        INPUT_NAME: {"dtype": "uint8", "shape": ["N", "height", "width", 3], "meaning": "RGB pixels, any size"},
        ENCODED_INPUT_NAME: {
            "dtype": "string",
            "shape": ["N"],
            "meaning": "JPEG or PNG files, each of any size; alpha is dropped and EXIF's orientation is not applied",
        },
        EXAMPLE_INPUT_NAME: {"dtype": "string", "shape": ["N"], "meaning": "serialised tf.Example with the file in image/encoded"},
    },
    "outputs": {
        "detection_boxes": {
            "dtype": "float32",
            "shape": ["N", "K", 4],
            "meaning": "[ymin, xmin, ymax, xmax], normalised by the image and clipped to it",
        },
        "detection_scores": {"dtype": "float32", "shape": ["N", "K"], "meaning": "0 to 1, from high to low"},
        "detection_classes": {"dtype": "float32", "shape": ["N", "K"], "meaning": "1-based ids of label_map.pbtxt"},
        "num_detections": {"dtype": "float32", "shape": ["N"], "meaning": "valid entries; the rest is padding"},
    },
    "labels": {
        "frozen graphs": f"string constant {CLASS_NAMES_NODE} [C]; entry i names id i + 1",
        "saved_model": "assets/label_map.pbtxt",
    },
}


class ArtifactDir:
    """Names inside an exported folder. Making one touches nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest_path = path / "model.json"
        self.label_map_path = path / "label_map.pbtxt"
        self.config_path = path / "config.yaml"
        self.frozen_graph_path = path / "frozen_inference_graph.pb"
        self.encoded_graph_path = path / "frozen_inference_graph_encoded.pb"
        self.saved_model_path = path / "saved_model"
        self.onnx_path = path / "model.onnx"

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
            files = {str(name): FileDigest(bytes=int(d["bytes"]), sha256=str(d["sha256"])) for name, d in manifest["files"].items()}
        except (AttributeError, KeyError, TypeError, ValueError):
            raise ArtifactError("the manifest lists no files", path=self.manifest_path) from None
        verify_files(self.path, files)
        return manifest
