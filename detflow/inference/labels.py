"""The class names inside an exported file, which no file beside it can change."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import BinaryIO, Final

from detflow.artifact import CLASS_NAMES_NODE
from detflow.data.records.wire import MAX_HEAD_BYTES, MAX_WALKED_FIELDS, find_field, read_parts
from detflow.errors import ArtifactError
from detflow.label_map import LabelMap

LABELS_NAME: Final = "labels.txt"
"""The file packed into a TFLite model: one class name a line, in the order of the classes that the
detector gives, from 0."""

_MAX_LABELS_BYTES = 4 << 20
_MAX_NAMES = 100_000
# The key of ONNX's `metadata_props`, number 14, a message.
_PROPERTIES_KEY = 14 << 3 | 2


def read_onnx_labels(path: Path) -> LabelMap | None:
    """Reads the property `class_names` of an ONNX file; None where it has none.

    The graph with its weights is passed over, and onnx is not imported: it takes 10 MB and .4 s.

    Raises:
        ArtifactError: It is no ONNX file, or the names are damaged.
    """
    try:
        with open(path, "rb") as file:
            texts = list(_read_property(file, CLASS_NAMES_NODE))
    except (ValueError, OSError) as error:
        raise ArtifactError(f"not an ONNX model: {error}", path=path) from None
    if len(texts) > 1:
        raise ArtifactError(f"the property {CLASS_NAMES_NODE} stands in it twice", path=path)
    return parse_json_labels(texts[0] if texts else b"[]", path)


def parse_json_labels(text: str | bytes, path: Path) -> LabelMap | None:
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


def _read_property(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Yields the values of a property of an ONNX file, as often as it stands there.

    Args:
        file: A serialised `ModelProto`; see https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
        name: The property's name.

    Raises:
        ValueError: It is no such message.
    """
    size, position = file.seek(0, os.SEEK_END), 0
    for _ in range(MAX_WALKED_FIELDS):
        if position == size:
            return
        file.seek(position)
        key, begin, end = find_field(memoryview(file.read(MAX_HEAD_BYTES)), 0)
        begin, position = position + begin, position + end
        if position > size:
            raise ValueError("it is cut off")
        if key == _PROPERTIES_KEY:
            if position - begin > _MAX_LABELS_BYTES:
                raise ValueError(f"a property of more than {_MAX_LABELS_BYTES:,} bytes")
            file.seek(begin)
            entry, budget = memoryview(file.read(position - begin)), count()
            if name.encode() in map(bytes, read_parts(entry, 1, budget)):
                yield b"".join(read_parts(entry, 2, budget))
    raise ValueError(f"more than {MAX_WALKED_FIELDS:,} fields")


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
    names = tuple(islice(names, _MAX_NAMES + 1))
    if len(names) > _MAX_NAMES:
        raise ArtifactError(f"more than {_MAX_NAMES:,} class names", path=path)
    try:
        return LabelMap(names) or None
    except ValueError as error:
        raise ArtifactError(f"its class names are damaged: {error}", path=path) from None
