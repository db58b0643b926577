"""The class names inside an exported file, which no file beside it can change."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from detflow.artifact import CLASS_NAMES_NODE
from detflow.errors import ArtifactError
from detflow.label_map import LabelMap

LABELS_NAME: Final = "labels.txt"
"""The file packed into a TFLite model: one class name a line, in the order of the classes that the
detector gives, from 0."""

_MAX_LABELS_BYTES = 16 << 20


def read_onnx_labels(path: Path) -> LabelMap | None:
    """Reads the property `class_names` of an ONNX file; None where it has none.

    Raises:
        ArtifactError: It is no ONNX file, or the names are damaged.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(os.fspath(path), load_external_data=False)
    except (DecodeError, OSError) as error:
        raise ArtifactError(f"not an ONNX model: {error}", path=path) from None
    text = next(
        (entry.value for entry in model.metadata_props if entry.key == CLASS_NAMES_NODE), "[]"
    )
    return parse_json_labels(text, path)


def parse_json_labels(text: str, path: Path) -> LabelMap | None:
    """Reads what a file has as its property `class_names`; None where the list is empty.

    Raises:
        ArtifactError: It is no list of class names.
    """
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ArtifactError(f"the property {CLASS_NAMES_NODE} is no JSON list of names", path=path)
    return to_label_map(names, path)


def read_tflite_labels(path: Path) -> LabelMap | None:
    """Reads the `labels.txt` that is packed into a TFLite file; None where there is none.

    Raises:
        ArtifactError: The names are damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(LABELS_NAME).file_size > _MAX_LABELS_BYTES:
                raise ArtifactError(
                    f"{LABELS_NAME} inside has more than {_MAX_LABELS_BYTES:,} bytes", path=path
                )
            text = archive.read(LABELS_NAME).decode()
    except (OSError, KeyError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile):
        # What zipfile raises of a file without an archive, without this member, or with a damaged
        # one: no names can be read.
        return None
    return to_label_map(text.removesuffix("\n").split("\n"), path)


def to_label_map(names: Iterable[str], path: Path) -> LabelMap | None:
    """Makes a label map of what a file holds; None where it holds no names.

    Raises:
        ArtifactError: They are not the names of classes.
    """
    try:
        return LabelMap(tuple(names)) or None
    except ValueError as error:
        raise ArtifactError(f"its class names are damaged: {error}", path=path) from None
