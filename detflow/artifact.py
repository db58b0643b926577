"""An exported folder: its manifest, and the serving contract that every format in it keeps.

The contract's names, their order and their meaning are those of the TF1 Object Detection API's
frozen graphs, so that scripts and servers written for them work unchanged. A TFLite file keeps
another contract, that of mobile libraries; `inference.formats.tflite` leads from one to the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from detflow.digests import FileDigest, read_sealed_object, verify_files
from detflow.errors import ArtifactError
from detflow.storage.kinds import describe_mistake

MANIFEST_NAME: Final = "model.json"
"""The file that makes a folder an export."""

PAGE_NAME: Final = "card.html"
README_NAME: Final = "README.md"

LABEL_MAP_NAME: Final = "label_map.pbtxt"
"""The file with the class names and ids, inside an export and beside a file that was copied from
one."""

SAVED_MODEL_NAME: Final = "saved_model"
"""The format, and the folder, that holds the weights as variables, in the network's order."""

INPUT_NAME: Final = "image_tensor"
ENCODED_INPUT_NAME: Final = "encoded_image_string_tensor"
EXAMPLE_INPUT_NAME: Final = "tf_example"
OUTPUT_NAMES: Final = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")
# The class names are in the constant of this name in a frozen graph, and in the property of this
# name in an ONNX file; see the contract.
CLASS_NAMES_NODE: Final = "class_names"

# Names of tensors inside an ONNX file and inside OpenVINO's, which is made from it. The network
# takes the normalised canvases [N, 3, height, width]; for all anchors it gives the boxes [N, A, 4],
# normalised by the canvas, and the scores [N, C, A].
CANVASES_NAME: Final = "canvases"
BOXES_NAME: Final = "boxes"
SCORES_NAME: Final = "scores"

_MAX_CANVAS_SIDE = 1 << 16

CONTRACT: Final[dict[str, Any]] = {
    # A graph or a signature takes one of these.
    "inputs": {
        INPUT_NAME: {
            "dtype": "uint8",
            "shape": ["N", "height", "width", 3],
            "meaning": "RGB pixels, any size",
        },
        ENCODED_INPUT_NAME: {
            "dtype": "string",
            "shape": ["N"],
            "meaning": (
                "JPEG or PNG files, each of any size; "
                "alpha is dropped and EXIF's orientation is not applied"
            ),
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
        "openvino": f"model_info {CLASS_NAMES_NODE}: JSON list; entry i names id i + 1",
        "TFLite": "labels.txt, packed into the file; line i, counted from 1, names id i",
    },
}

TFLITE_CONTRACT: Final[dict[str, Any]] = {
    # The keys are the names in the file's signature; the order is that of the operation
    # TFLite_Detection_PostProcess, and so are the tensors' names, by which some readers find them.
    "inputs": {
        "image": {
            "tensor": "normalized_input_image_tensor",
            "dtype": "uint8",
            "shape": [1, "height", "width", 3],
            "meaning": (
                "RGB canvas of one size: the image is scaled to fit, keeps its aspect and lies in "
                "the top left corner; the rest is filled with the mean colour (124, 116, 104)"
            ),
        },
    },
    "outputs": {
        "boxes": {
            "tensor": "TFLite_Detection_PostProcess",
            "dtype": "float32",
            "shape": [1, "K", 4],
            "meaning": (
                "[ymin, xmin, ymax, xmax], normalised by the canvas, not by the image: divided by "
                "the image's share of the canvas' height and width they are normalised by the image"
            ),
        },
        "classes": {
            "tensor": "TFLite_Detection_PostProcess:1",
            "dtype": "float32",
            "shape": [1, "K"],
            "meaning": "counted from 0: lines of labels.txt; ids of label_map.pbtxt less 1",
        },
        "scores": {
            "tensor": "TFLite_Detection_PostProcess:2",
            "dtype": "float32",
            "shape": [1, "K"],
            "meaning": "0 to 1, from high to low",
        },
        "count": {
            "tensor": "TFLite_Detection_PostProcess:3",
            "dtype": "float32",
            "shape": [1],
            "meaning": "valid entries; the rest is padding",
        },
    },
}
"""What a TFLite file takes and gives."""


def read_canvas_sizes(card: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    """Returns (height, width) of each canvas that an export's manifest names.

    Raises:
        ArtifactError: It names none.
    """
    try:
        sizes = (card["canvas_size"], *card["more_canvas_sizes"])
    except KeyError as error:
        raise ArtifactError(
            f"there is no {error} in it", path=MANIFEST_NAME, remedy="export again"
        ) from None
    return tuple((size["height"], size["width"]) for size in sizes)


class ArtifactDir:
    """Names inside an exported folder. Making one touches nothing on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest_path = path / MANIFEST_NAME
        self.page_path = path / PAGE_NAME
        self.readme_path = path / README_NAME
        self.label_map_path = path / LABEL_MAP_NAME
        self.config_path = path / "config.yaml"

    def exists(self) -> bool:
        """Tells whether this is an exported folder."""
        return self.manifest_path.is_file()

    def read_card(self) -> dict[str, Any]:
        """Reads the manifest, which has a digest of itself, without looking at other files.

        Raises:
            ArtifactError: It is missing, damaged, was changed, or is none of an export.
        """
        if not self.manifest_path.is_file():
            cause, remedy = describe_mistake(self.path, "export")
            raise ArtifactError(cause, path=self.path, remedy=remedy)
        card = read_sealed_object(self.manifest_path)
        # Whoever can write it can seal it: what is read from it below has the form that it needs.
        for name, is_sound in _SOUND.items():
            if name in card and not is_sound(card[name]):
                raise ArtifactError(
                    f"{name} is not what an export has there",
                    path=self.manifest_path,
                    remedy="export again",
                )
        return card

    def require_entries(self, card: Mapping[str, Any], *names: str) -> None:
        """Raises ArtifactError where a manifest lacks an entry."""
        for name in names:
            if name not in card:
                raise ArtifactError(
                    f"there is no {name} in it", path=self.manifest_path, remedy="export again"
                )

    def verify(self) -> dict[str, Any]:
        """Compares every file with the manifest, and returns the manifest.

        This reads all files: whoever needs the manifest twice passes it on. Files beside those that
        are listed do no harm, because nothing loads them; inside a folder that is loaded as a whole
        they are refused.

        Raises:
            ArtifactError: The manifest is unreadable or was changed, or a file is missing, differs,
                or is not listed in a folder that is.
        """
        card = self.read_card()
        files = self.list_files(card)
        verify_files(self.path, files)
        self._refuse_unlisted(files)
        return card

    def verify_part(self, path: Path) -> None:
        """Compares a single file or folder of the export, and the label map, with the manifest.

        Args:
            path: Inside this folder.

        Raises:
            ArtifactError: The manifest does not list it, or as from `verify`.
        """
        files = self.list_files(self.read_card())
        name = path.relative_to(self.path).as_posix()
        part = {listed: digest for listed, digest in files.items() if _is_part(listed, name)}
        if not part:
            raise ArtifactError(
                f"{MANIFEST_NAME} beside it does not list it: it is no part of the export",
                path=path,
                remedy="move it out of the exported folder to use it by itself",
            )
        if LABEL_MAP_NAME in files:
            part[LABEL_MAP_NAME] = files[LABEL_MAP_NAME]
        verify_files(self.path, part)
        self._refuse_unlisted(part)

    def list_files(self, card: Mapping[str, Any]) -> dict[str, FileDigest]:
        """Returns the digest of every file that a manifest lists, by its name in the folder.

        Raises:
            ArtifactError: The manifest lists none.
        """
        try:
            return {
                str(name): FileDigest(bytes=int(d["bytes"]), sha256=str(d["sha256"]))
                for name, d in card["files"].items()
            }
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            raise ArtifactError("the manifest lists no files", path=self.manifest_path) from None

    def lists(self, card: Mapping[str, Any], name: str) -> bool:
        """Tells whether a manifest lists a file, or files in a folder, of this name."""
        return any(_is_part(listed, name) for listed in self.list_files(card))

    def _refuse_unlisted(self, files: Mapping[str, FileDigest]) -> None:
        """Raises ArtifactError for what lies in a listed folder and is not listed itself."""
        folders = {name.partition("/")[0] for name in files if "/" in name}
        for folder in sorted(folders):
            for found in _walk(self.path / folder):
                if found.relative_to(self.path).as_posix() not in files:
                    raise ArtifactError(
                        f"{MANIFEST_NAME} does not list this file, and the folder is "
                        "loaded as a whole",
                        path=found,
                        remedy="move it away",
                    )


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_size(value: Any) -> bool:
    return isinstance(value, dict) and all(
        type(value.get(side)) is int and 0 < value[side] <= _MAX_CANVAS_SIDE
        for side in ("height", "width")
    )


def _are_formats(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(described, dict)
        and isinstance(described.get("entries"), dict)
        and (
            described.get("metrics") is None
            or (isinstance(described["metrics"], dict) and "AP" in described["metrics"])
        )
        for described in value.values()
    )


# How the entries of a manifest look that detflow reads.
_SOUND: Final[Mapping[str, Callable[[Any], bool]]] = {
    "classes": _are_names,
    "canvas_size": _is_size,
    "more_canvas_sizes": lambda value: isinstance(value, list) and all(map(_is_size, value)),
    "formats": _are_formats,
}


def _is_part(listed: str, name: str) -> bool:
    return listed == name or listed.startswith(f"{name}/")


def _walk(folder: Path) -> Iterator[Path]:
    """Yields the files and links below a folder."""
    for directory, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(directory, name))]
        yield from (Path(directory) / name for name in sorted(names + links))
