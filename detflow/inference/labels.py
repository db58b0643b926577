"""The class names inside an exported file, for one that was copied without its label map."""

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


def read_onnx_labels(path: Path) -> LabelMap:
    """Reads the property `class_names` of an ONNX file.

    Raises:
        ArtifactError: It has none.
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
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ArtifactError(f"the property {CLASS_NAMES_NODE} is no JSON list of names", path=path)
    return to_label_map(names, path)


def read_tflite_labels(path: Path) -> LabelMap:
    """Reads the `labels.txt` that is packed into a TFLite file.

    Raises:
        ArtifactError: There is none.
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
        return to_label_map([], path)
    return to_label_map(text.removesuffix("\n").split("\n"), path)


def to_label_map(names: Iterable[str], path: Path) -> LabelMap:
    """Makes a label map of what a file holds.

    Raises:
        ArtifactError: There are no names, or they are not those of classes.
    """
    try:
        label_map = LabelMap(tuple(names))
    except ValueError as error:
        raise ArtifactError(f"its class names are damaged: {error}", path=path) from None
    if not label_map:
        raise ArtifactError(
            "the label map is missing, and there are no class names inside",
            path=path,
            remedy="put label_map.pbtxt beside it",
        )
    return label_map
