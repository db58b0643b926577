"""Judges one record of a TFRecord file by itself: fields, boxes, class ids, image."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from detflow.data.findings import Finding
from detflow.data.images.decode import read_image_facts
from detflow.data.images.header import ImageFault
from detflow.data.records.example import Feature, decode_typed_example
from detflow.data.records.schema import decode_sample
from detflow.data.records.tfrecord import ScannedRecord
from detflow.data.rules import CONSUMERS, DETFLOW, MODEL_GARDEN, Where
from detflow.label_map import LabelMap


@dataclass(frozen=True, slots=True)
class _Field:
    """A field as readers declare it.

    Attributes:
        kind: The type of its values.
        per_object: Whether it has one value for each object.
        needed_by: The consumers that cannot do without it.
        recommended: Whether a record without it is worth a note.
    """

    kind: type
    per_object: bool
    needed_by: tuple[str, ...]
    recommended: bool = False


_BOX_FIELDS = tuple(f"image/object/bbox/{side}" for side in ("ymin", "xmin", "ymax", "xmax"))
_LABEL, _TEXT = "image/object/class/label", "image/object/class/text"
FIELDS: dict[str, _Field] = {
    "image/encoded": _Field(bytes, False, CONSUMERS),
    **dict.fromkeys(_BOX_FIELDS, _Field(float, True, CONSUMERS)),
    _LABEL: _Field(int, True, CONSUMERS),
    _TEXT: _Field(bytes, True, (DETFLOW,), recommended=True),
    "image/height": _Field(int, False, (DETFLOW,), recommended=True),
    "image/width": _Field(int, False, (DETFLOW,), recommended=True),
    "image/source_id": _Field(bytes, False, (MODEL_GARDEN, DETFLOW), recommended=True),
    "image/filename": _Field(bytes, False, (DETFLOW,), recommended=True),
    "image/format": _Field(bytes, False, ()),
    "image/key": _Field(bytes, False, (DETFLOW,)),
    "image/key/sha256": _Field(bytes, False, ()),
    "image/object/difficult": _Field(int, True, (DETFLOW,)),
    "image/object/truncated": _Field(int, True, (DETFLOW,)),
    "image/object/view": _Field(bytes, True, (DETFLOW,)),
    "image/object/is_crowd": _Field(int, True, ()),
    "image/object/area": _Field(float, True, ()),
}
_KIND_NAMES = {bytes: "bytes", float: "float", int: "int64"}
# tf.io.decode_image makes [height, width, 3] of these formats; it makes four dimensions of a GIF or
# WebP, and refuses a TIFF.
_COMMON_FORMATS = frozenset({"jpeg", "png", "bmp"})
_FORMAT_NAMES = {
    "jpeg": {"jpeg", "jpg"},
    "png": {"png"},
    "bmp": {"bmp"},
    "gif": {"gif"},
    "webp": {"webp"},
    "tiff": {"tiff", "tif"},
}
# The OD API's box_list_ops.to_absolute_coordinates asserts this bound.
_MAX_NORMALISED = 1.1
_Typed = Mapping[str, tuple["type | None", Feature]]


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """What `judge_record` hands back.

    Attributes:
        number: The record's place in its file, from 0.
        offset: Its first byte in the file.
        findings: What is wrong with the record alone.
        fields: The names of its fields; empty where it could not be read.
        image: The record's own name for its image.
        num_objects: How many objects it has.
        classes: (id, name) of each object that has an id; the name is None where the record has
            none.
        source_id: The source id as written; empty where there is none.
        image_digest: 16 bytes of the encoded image's SHA-256; empty where there is no image.
    """

    number: int
    offset: int
    findings: tuple[Finding, ...]
    fields: frozenset[str] = frozenset()
    image: str = ""
    num_objects: int = 0
    classes: tuple[tuple[int, str | None], ...] = ()
    source_id: bytes = b""
    image_digest: bytes = b""


def judge_record(file: str, label_map: LabelMap | None, record: ScannedRecord) -> RecordFacts:
    """Judges one record by itself.

    Args:
        file: The file's name, for findings.
        label_map: The classes of detflow's manifest where that lists the file, for then the record
            must be a sample as make-records writes it; else None.
        record: The record as it was scanned.
    """
    build = partial(
        Finding, path=file, record=record.number, offset=record.offset, where=Where.RECORD
    )
    if record.fault is not None:
        code = "data_damaged" if record.goes_on else "framing_damaged"
        return RecordFacts(record.number, record.offset, (build(code, value=record.fault),))
    try:
        features = decode_typed_example(record.data)
    except ValueError as error:
        return RecordFacts(
            record.number, record.offset, (build("not_an_example", value=str(error)),)
        )
    if not features:
        return RecordFacts(
            record.number, record.offset, (build("not_an_example", value="it has no fields"),)
        )
    image = to_printable(
        _first_bytes(features, "image/filename") or _first_bytes(features, "image/source_id")
    )
    build = partial(build, image=image)
    sound, findings = _judge_fields(features, build)
    findings += _judge_boxes(sound, build)
    encoded = _first_bytes(sound, "image/encoded")
    if encoded:
        findings += _judge_image(encoded, sound, build)
    source_id = _first_bytes(sound, "image/source_id")
    if source_id and not re.fullmatch(rb"[0-9]{1,18}", source_id):
        findings.append(build("source_id_not_numeric", value=to_printable(source_id)))
    if label_map is not None:
        try:
            decode_sample(record.data, label_map)
        except ValueError as error:
            findings.append(build("sample_refused", value=str(error)))
    labels: Sequence[Any] = sound[_LABEL][1] if _LABEL in sound else ()
    texts: Sequence[Any] = sound[_TEXT][1] if _TEXT in sound else ()
    names = [to_printable(text) for text in texts] if texts else [None] * len(labels)
    return RecordFacts(
        number=record.number,
        offset=record.offset,
        findings=tuple(findings),
        fields=frozenset(sound),
        image=image,
        num_objects=_count_objects(features),
        classes=tuple(zip(labels, names, strict=False)),
        source_id=source_id,
        image_digest=hashlib.sha256(encoded).digest()[:16] if encoded else b"",
    )


def _first_bytes(features: _Typed, name: str) -> bytes:
    values = features[name][1] if name in features else ()
    return values[0] if values and isinstance(values[0], bytes) else b""


def to_printable(data: bytes) -> str:
    """Returns the beginning of a bytes feature as text."""
    return data[:200].decode("utf-8", "backslashreplace")


def _count_objects(features: _Typed) -> int:
    return max(
        (len(features[name][1]) for name in (*_BOX_FIELDS, _LABEL, _TEXT) if name in features),
        default=0,
    )


def _judge_fields(
    features: _Typed, build: Callable[..., Finding]
) -> tuple[dict[str, tuple[type | None, Feature]], list[Finding]]:
    """Returns the fields of the right type and length, and what is wrong with the others.

    A list of an object's field may be absent, or empty, where there are no objects.
    """
    findings = []
    sound = dict(features)
    num_objects = _count_objects(features)
    for name, wanted in FIELDS.items():
        kind, values = features.get(name, (None, ()))
        needed = not wanted.per_object or num_objects > 0
        if kind is None or not values:
            sound.pop(name, None)
            if not needed:
                sound[name] = (wanted.kind, ())
            elif wanted.needed_by == CONSUMERS:
                findings.append(build("field_missing", value=name))
            elif wanted.recommended:
                findings.append(build("field_recommended", value=name))
        elif kind is not wanted.kind:
            del sound[name]
            findings.append(
                build(
                    "field_type",
                    value=f"{name} is {_KIND_NAMES[kind]}",
                    expected=_KIND_NAMES[wanted.kind],
                )
            )
        elif not wanted.per_object and len(values) != 1:
            del sound[name]
            findings.append(build("field_count", value=f"{name} has {len(values)} values"))
        elif wanted.per_object and len(values) != num_objects:
            del sound[name]
            findings.append(
                build(
                    "lengths_differ",
                    value=f"{name} has {len(values)} values",
                    expected=f"{num_objects}",
                )
            )
    return sound, findings


def _judge_boxes(sound: _Typed, build: Callable[..., Finding]) -> list[Finding]:
    if not all(name in sound for name in _BOX_FIELDS):
        return []
    findings = []
    for index, box in enumerate(
        zip(*(sound[name][1] for name in _BOX_FIELDS), strict=True), start=1
    ):
        ymin, xmin, ymax, xmax = (float(corner) for corner in box)
        code = _judge_box(ymin, xmin, ymax, xmax)
        if code is not None:
            value = f"ymin {ymin:g}, xmin {xmin:g}, ymax {ymax:g}, xmax {xmax:g}"
            findings.append(build(code, object_index=index, value=value))
    return findings


def _judge_box(ymin: float, xmin: float, ymax: float, xmax: float) -> str | None:
    corners = (ymin, xmin, ymax, xmax)
    if not all(map(math.isfinite, corners)):
        return "box_not_finite"
    if max(corners) > _MAX_NORMALISED:
        return "box_not_normalised"
    if ymin > ymax or xmin > xmax:
        return "box_inverted"
    if ymin == ymax or xmin == xmax:
        return "box_zero_area"
    return "box_outside" if min(corners) < 0.0 or max(corners) > 1.0 else None


def _judge_image(encoded: bytes, sound: _Typed, build: Callable[..., Finding]) -> list[Finding]:
    try:
        facts = read_image_facts(encoded)
    except ImageFault as fault:
        return [build("image_undecodable", value=fault.value, expected=fault.expected)]
    findings = []
    if facts.format not in _COMMON_FORMATS:
        findings.append(build("image_format", value=facts.kind))
    declared = _first_bytes(sound, "image/format")
    if declared and to_printable(declared).lower() not in _FORMAT_NAMES[facts.format]:
        findings.append(build("format_field", value=to_printable(declared), expected=facts.format))
    width, height = (
        int(sound[name][1][0]) if name in sound else None
        for name in ("image/width", "image/height")
    )
    if (width or facts.size.width, height or facts.size.height) != (
        facts.size.width,
        facts.size.height,
    ):
        findings.append(build("size_wrong", value=f"{width}x{height}", expected=str(facts.size)))
    if facts.orientation != 1:
        findings.append(build("exif_orientation", value=f"orientation {facts.orientation}"))
    digest = _first_bytes(sound, "image/key/sha256")
    if digest and digest.lower() != hashlib.sha256(encoded).hexdigest().encode():
        findings.append(build("sha256_wrong", value=to_printable(digest)))
    return findings
