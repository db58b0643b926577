"""Reads the objects of one record: a tf.Example with the TF Object Detection API's fields."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from detflow.data.findings import Finding
from detflow.data.records.example import Feature, decode_typed_example
from detflow.data.sources.source import (
    CROWD_POSE,
    FileContent,
    ImageNames,
    RawAnnotation,
    RawObject,
)
from detflow.label_map import LabelMap
from detflow.types import CornerFrame

MAX_OBJECTS = 20_000

_SIDES = ("xmin", "ymin", "xmax", "ymax")
_TEXT, _LABEL = "image/object/class/text", "image/object/class/label"
# The OD API's box_list_ops.to_absolute_coordinates asserts this bound.
_MAX_FRACTION = 1.1
_Features = Mapping[str, tuple["type | None", Feature]]


class _Fault(Exception):
    """A record that cannot be used: the code of a rule, the object's number, and the value."""

    def __init__(self, code: str, value: str, number: int | None = None) -> None:
        super().__init__(code, value, number)
        self.code = code
        self.value = value
        self.number = number


def read_record(data: bytes, path: str, label_map: LabelMap | None) -> FileContent:
    """Reads a record's annotation.

    Args:
        data: The serialised tf.Example.
        path: What the record is called, for findings.
        label_map: The classes by their ids; None where no label map is there.
    """
    size = None
    findings: list[Finding] = []
    objects: tuple[RawObject, ...] | None = None
    try:
        features = _decode(data)
        size = _read_size(features)
        objects, crowds = _read_objects(features, label_map)
        if crowds:
            value = f"{crowds} of {len(objects)} objects"
            findings.append(Finding("object_crowd", path, value=value))
    except _Fault as fault:
        findings.append(Finding(fault.code, path, None, fault.number, fault.value))
    annotation = RawAnnotation(
        path=path,
        entry="",
        names=ImageNames(None, None),
        size=size,
        size_line=None,
        objects=objects,
        findings=tuple(findings),
        frame=CornerFrame.FRACTIONS,
    )
    return FileContent((annotation,))


def find_class(label_map: LabelMap | None, class_id: int | None, text: str | None) -> str | None:
    """Returns the name of an object's class by what its record says; None where they contradict.

    A class is called by its display name where the label map has one, as people read it.

    Args:
        label_map: The classes by their ids; None where no label map is there.
        class_id: The id; None where the record has none.
        text: The name; None where the record has none.
    """
    if label_map is None:
        return text if text is not None else None if class_id is None else str(class_id)
    if class_id is not None:
        name = label_map.find_name(class_id)
        shown = name and label_map.display_names.get(class_id, name)
        return shown if text is None or text in (name, shown) else None
    for known, known_id in label_map.ids_by_name.items():
        shown = label_map.display_names.get(known_id, known)
        if text in (known, shown):
            return shown
    return None


def list_classes(label_map: LabelMap) -> tuple[str, ...]:
    """Returns the classes of a label map as `find_class` calls them, in the order of their ids."""
    names = label_map.ids_by_name.items()
    return tuple(label_map.display_names.get(class_id, name) for name, class_id in names)


def _decode(data: bytes) -> _Features:
    try:
        features = decode_typed_example(data)
    except ValueError as error:
        raise _Fault("entry_malformed", str(error)[:200]) from None
    if not features:
        raise _Fault("entry_malformed", "a record without fields")
    return features


def _read_size(features: _Features) -> tuple[int, int] | None:
    sides = [features.get(f"image/{side}", (None, ())) for side in ("width", "height")]
    if any(kind is not int or len(values) != 1 for kind, values in sides):
        return None
    width, height = (int(values[0]) for _, values in sides)
    return (width, height) if min(width, height) >= 0 else None


def _read_objects(
    features: _Features, label_map: LabelMap | None
) -> tuple[tuple[RawObject, ...], int]:
    boxes = [_read_column(features, f"image/object/bbox/{side}", float) for side in _SIDES]
    texts, labels = (_read_column(features, _TEXT, bytes), _read_column(features, _LABEL, int))
    count = max(len(column) for column in (*boxes, texts, labels))
    if count > MAX_OBJECTS:
        raise _Fault("too_many_objects", f"{count:,}")
    for name, column in (
        *zip((f"image/object/bbox/{side}" for side in _SIDES), boxes, strict=True),
        *((name, column) for name, column in ((_TEXT, texts), (_LABEL, labels)) if column),
    ):
        if len(column) != count:
            raise _Fault("entry_malformed", f"{name} has {len(column)} values of {count}")
    difficult, truncated, crowd, poses = (
        _read_optional(features, f"image/object/{name}", kind, count)
        for name, kind in (
            ("difficult", int),
            ("truncated", int),
            ("is_crowd", int),
            ("view", bytes),
        )
    )
    objects = []
    for index in range(count):
        text = _to_text(texts[index]) if texts else None
        class_id = int(labels[index]) if labels else None
        class_name = find_class(label_map, class_id, text)
        if not class_name:
            known = label_map is not None and class_id is not None and label_map.find_name(class_id)
            code = "class_conflict" if known and text else "class_id_unknown"
            raise _Fault(code, f"id {class_id}, name {text!r}", index + 1)
        corners = tuple(float(column[index]) for column in boxes)
        if not all(map(math.isfinite, corners)):
            raise _Fault("box_not_a_number", f"{class_name}: {corners}", index + 1)
        if max(corners) > _MAX_FRACTION:
            raise _Fault("box_not_normalised", f"{class_name}: {max(corners):g}", index + 1)
        xmin, ymin, xmax, ymax = corners
        pose = _to_text(poses[index]) if poses else ""
        is_crowd = bool(crowd and crowd[index])
        objects.append(
            RawObject(
                index + 1,
                1,
                class_name,
                (xmin, ymin, xmax, ymax),
                bool(difficult and difficult[index]) or is_crowd,
                bool(truncated and truncated[index]),
                CROWD_POSE if is_crowd else pose,
                is_crowd,
            )
        )
    return tuple(objects), sum(map(bool, crowd))


def _to_text(data: bytes) -> str:
    return " ".join(data.decode("utf-8", "backslashreplace").split())


def _read_column(features: _Features, name: str, kind: type) -> Sequence[Any]:
    found, values = features.get(name, (None, ()))
    if values and found is not kind:
        raise _Fault("entry_malformed", f"{name} is of another type")
    return values


def _read_optional(features: _Features, name: str, kind: type, count: int) -> Sequence[Any]:
    """Returns a column that decides nothing; an empty one where it is no such column."""
    found, values = features.get(name, (None, ()))
    return values if found is kind and len(values) == count else ()
