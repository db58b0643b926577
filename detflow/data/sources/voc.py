"""One VOC XML file, whoever wrote it: an annotation, or what is wrong with it and where.

The parser never opens a file or a socket, expands nothing, and reads a value whole or refuses it.
Only direct children count:
VOC nests `<part>` and CVAT nests `<attribute><name>`, which are not the object's own fields.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from lxml import etree

from detflow.data.judging.rules import Corners, Finding
from detflow.types import ImageSize, ObjectAnnotation

__all__ = [
    "MAX_OBJECTS",
    "MAX_XML_BYTES",
    "VocAnnotation",
    "VocObject",
    "read_annotation",
    "read_image_names",
    "write_annotation",
]

MAX_XML_BYTES = 10_000_000
MAX_OBJECTS = 20_000

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
# int() would take "１２" and "1_000", float() would take "nan": this takes plain ASCII decimals only.
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,20}(?:\.[0-9]*)?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")
_FLAGS = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
# libxml2 finds a DOCTYPE only after it has read what is declared inside; these bytes are looked for
# first.
_DOCTYPES = tuple(
    "<!DOCTYPE".encode(encoding)
    for encoding in ("ascii", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
)
_PARSER = etree.XMLParser(
    resolve_entities=False,
    no_network=True,
    load_dtd=False,
    huge_tree=False,
    recover=False,
    remove_comments=True,
    remove_pis=True,
)


class VocObject(NamedTuple):
    """An `<object>` as written.

    Attributes:
        number: Its place among the file's objects, from 1.
        line: Of the `<object>` tag.
        name: The class name with white space collapsed.
        corners: VOC pixel corners xmin, ymin, xmax, ymax: finite, in no certain order, perhaps
            outside of the image.
        difficult: VOC's flag.
        truncated: VOC's flag.
        pose: VOC's free text.
    """

    number: int
    line: int
    name: str
    corners: Corners
    difficult: bool
    truncated: bool
    pose: str


@dataclass(frozen=True, slots=True)
class VocAnnotation:
    """A VOC file as written.

    Attributes:
        filename: `<filename>`, or None.
        source_path: `<path>`, or None: where the image lay on the annotator's machine.
        size: `<size>`'s width and height in pixels, zero where zero is written; None where they are
            missing or unreadable.
        size_line: Where `<size>` is.
        objects: In the file's order.
    """

    filename: str | None
    source_path: str | None
    size: tuple[int, int] | None
    size_line: int | None
    objects: tuple[VocObject, ...]


def write_annotation(filename: str, size: ImageSize, objects: Sequence[ObjectAnnotation]) -> bytes:
    """Returns a VOC file that any tool reads, and that reads back as exactly these objects.

    Args:
        filename: The image's name.
        size: The image's size.
        objects: Boxes as `records.to_record_box` rounds them.
    """
    root = etree.Element("annotation")
    etree.SubElement(root, "filename").text = filename
    _add_fields(etree.SubElement(root, "size"), width=size.width, height=size.height, depth=3)
    etree.SubElement(root, "segmented").text = "0"
    for entry in objects:
        element = etree.SubElement(root, "object")
        flags = {"truncated": int(entry.truncated), "difficult": int(entry.difficult)}
        _add_fields(element, name=entry.name, pose=entry.pose or "Unspecified", **flags)
        box = entry.box
        _add_fields(
            etree.SubElement(element, "bndbox"),
            xmin=_shortest(box.xmin, size.width, first=1),
            ymin=_shortest(box.ymin, size.height, first=1),
            xmax=_shortest(box.xmax, size.width, first=0),
            ymax=_shortest(box.ymax, size.height, first=0),
        )
    return etree.tostring(root, encoding="utf-8", xml_declaration=True, pretty_print=True)


def _add_fields(parent: etree._Element, **fields: object) -> None:
    for tag, value in fields.items():
        etree.SubElement(parent, tag).text = str(value)


def _shortest(edge: float, side: int, first: int) -> str:
    """Returns the shortest decimal for a box's edge, in VOC pixels, that gives the same float32 again (see `Box.from_voc`)."""
    wanted = struct.pack("<f", edge)
    exact = edge * side + first
    for digits in range(18):
        text = f"{exact:.{digits}f}"
        if struct.pack("<f", (float(text) - first) / side) == wanted:
            return text
    return repr(exact)


class _Unreadable(Exception):
    def __init__(self, finding: Finding) -> None:
        self.finding = finding


def read_annotation(data: bytes, path: str) -> tuple[VocAnnotation | None, list[Finding]]:
    """Reads an annotation.

    Args:
        data: The file's bytes; BOM, UTF-16 and declared encodings are understood.
        path: Named in findings.

    Returns:
        The annotation, or None where a finding quarantines or refuses it or says that it is none;
        and all findings.
    """
    try:
        root = _parse(data, path)
        findings: list[Finding] = []
        fields = _fields_of_image(root, path)
        objects = [
            _read_object(element, index, path, findings)
            for index, element in enumerate(_objects(root, path), start=1)
        ]
        size, size_line = _read_size(root, fields, path)
        filename, source_path = (
            _optional_text(fields, "filename", path),
            _optional_text(fields, "path", path),
        )
    except _Unreadable as error:
        return None, [error.finding]
    if None in objects:
        return None, findings
    return (
        VocAnnotation(
            filename=filename,
            source_path=source_path,
            size=size,
            size_line=size_line,
            objects=tuple(entry for entry in objects if entry is not None),
        ),
        findings,
    )


def read_image_names(data: bytes, path: str) -> tuple[str | None, str | None] | Finding:
    """Reads `<filename>` and `<path>` only, which is what pairing needs; or returns the finding that says why not."""
    try:
        fields = _fields_of_image(_parse(data, path), path)
        return _optional_text(fields, "filename", path), _optional_text(fields, "path", path)
    except _Unreadable as error:
        return error.finding


def _parse(data: bytes, path: str) -> etree._Element:
    if len(data) > MAX_XML_BYTES:
        raise _Unreadable(
            Finding(
                "xml_too_large",
                path,
                value=f"{len(data):,} bytes",
                expected=f"at most {MAX_XML_BYTES:,}",
            )
        )
    for doctype in _DOCTYPES:
        if (place := data.find(doctype)) >= 0:
            raise _Unreadable(
                Finding(
                    "xml_doctype", path, line=data.count(b"\n", 0, place) + 1, value="<!DOCTYPE"
                )
            )
    try:
        root = etree.fromstring(data, _PARSER)
    except etree.XMLSyntaxError as error:
        raise _Unreadable(
            Finding("xml_malformed", path, line=error.lineno or 1, value=error.msg or "empty")
        ) from None
    # An encoding of which the bytes above know nothing may still have hidden one.
    if root.getroottree().docinfo.internalDTD is not None:
        raise _Unreadable(Finding("xml_doctype", path, line=1, value="<!DOCTYPE"))
    if "}" in root.tag:
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
    if root.tag != "annotation":
        raise _Unreadable(Finding("xml_not_voc", path, line=_line(root), value=f"<{root.tag}>"))
    return root


def _line(element: etree._Element) -> int:
    line = element.sourceline
    return line if isinstance(line, int) else 1


def _line_of(parent: etree._Element | None, tag: str) -> int | None:
    element = None if parent is None else parent.find(tag)
    return None if element is None else _line(element)


def _fields(children: etree._Element | list[etree._Element], path: str) -> dict[str, _Field]:
    """Returns an element's children by tag: the text of one that has no children itself; one that stands twice is ambiguous."""
    fields: dict[str, _Field] = {
        child.tag: child if len(child) else child.text or "" for child in children
    }
    if len(fields) == len(children):
        return fields
    seen = set()
    for child in children:
        if child.tag in seen and child.tag in _READ:
            raise _Unreadable(
                Finding("field_twice", path, line=_line(child), value=f"<{child.tag}>")
            )
        seen.add(child.tag)
    return fields


def _fields_of_image(root: etree._Element, path: str) -> dict[str, _Field]:
    return _fields([child for child in root if child.tag != "object"], path)


_Field = str | etree._Element

# Only fields that are read can be ambiguous: an object may have many <part> or <attributes>.
_READ = frozenset(
    {
        "filename",
        "path",
        "size",
        "width",
        "height",
        "name",
        "bndbox",
        "difficult",
        "truncated",
        "pose",
        *_CORNERS,
    }
)


def _objects(root: etree._Element, path: str) -> list[etree._Element]:
    objects = list(root.iterchildren("object"))
    if len(objects) > MAX_OBJECTS:
        raise _Unreadable(
            Finding(
                "too_many_objects",
                path,
                value=f"{len(objects):,}",
                expected=f"at most {MAX_OBJECTS:,}",
            )
        )
    at_any_depth = list(root.iter("object"))
    if len(at_any_depth) > len(objects):
        nested = next(element for element in at_any_depth if element.getparent() is not root)
        raise _Unreadable(Finding("object_nested", path, line=_line(nested)))
    return objects


def _text(fields: Mapping[str, _Field], tag: str, path: str) -> str:
    """Returns a field's text as it stands, empty for a missing field."""
    field = fields.get(tag, "")
    if not isinstance(field, str):
        raise _Unreadable(Finding("field_has_children", path, line=_line(field), value=f"<{tag}>"))
    return field


def _optional_text(fields: Mapping[str, _Field], tag: str, path: str) -> str | None:
    return _text(fields, tag, path).strip() or None


# Corners are whole numbers up to an image's side, nearly all of them, and come again and again.
@lru_cache(maxsize=16_384)
def _number(text: str) -> float | None:
    if not _NUMBER.fullmatch(text.strip()):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _read_size(
    root: etree._Element, fields: Mapping[str, _Field], path: str
) -> tuple[tuple[int, int] | None, int | None]:
    element = fields.get("size")
    if element is None:
        return None, None
    if isinstance(element, str):
        return None, _line_of(root, "size")
    sides = _fields(element, path)
    width, height = (_number(_text(sides, tag, path)) for tag in ("width", "height"))
    if (
        width is None
        or height is None
        or width != int(width)
        or height != int(height)
        or width < 0
        or height < 0
    ):
        return None, _line(element)
    return (int(width), int(height)), _line(element)


def _read_object(
    element: etree._Element, index: int, path: str, findings: list[Finding]
) -> VocObject | None:
    """Returns the object, or None after a finding that quarantines the annotation."""
    fields = _fields(element, path)
    written = _text(fields, "name", path)
    name = " ".join(written.split())
    if not name:
        findings.append(Finding("name_missing", path, line=_line(element), object_index=index))
        return None
    if name != written:
        value, expected = repr(written), repr(name)
        findings.append(
            Finding("name_whitespace", path, _line(element), index, value=value, expected=expected)
        )
    corners = _read_corners(element, fields.get("bndbox"), name, index, path, findings)
    if corners is None:
        return None
    difficult = _read_flag(element, fields, "difficult", index, path, findings)
    truncated = _read_flag(element, fields, "truncated", index, path, findings)
    return VocObject(
        index,
        _line(element),
        name,
        corners,
        difficult,
        truncated,
        _text(fields, "pose", path).strip(),
    )


def _read_corners(
    element: etree._Element,
    box: _Field | None,
    name: str,
    index: int,
    path: str,
    findings: list[Finding],
) -> Corners | None:
    fields: Mapping[str, _Field] = {} if box is None or isinstance(box, str) else _fields(box, path)
    missing = [f"<{tag}>" for tag in _CORNERS if tag not in fields]
    if missing:
        value = f"{name}: no <bndbox>" if box is None else f"{name}: no {', '.join(missing)}"
        findings.append(
            Finding("box_missing", path, line=_line(element), object_index=index, value=value)
        )
        return None
    corners = []
    for tag in _CORNERS:
        text = _text(fields, tag, path)
        corner = _number(text)
        if corner is None:
            value = f"{name}: {tag} {text.strip()[:40]!r}"
            line = _line_of(element.find("bndbox"), tag)
            findings.append(
                Finding("box_not_a_number", path, line=line, object_index=index, value=value)
            )
            return None
        corners.append(corner)
    xmin, ymin, xmax, ymax = corners
    return xmin, ymin, xmax, ymax


def _read_flag(
    element: etree._Element,
    fields: Mapping[str, _Field],
    tag: str,
    index: int,
    path: str,
    findings: list[Finding],
) -> bool:
    text = _text(fields, tag, path)
    flag = _FLAGS.get(text)
    if flag is None:
        flag = _FLAGS.get(text.strip().lower())
    if flag is None:
        value = f"<{tag}> {text.strip()[:40]!r}"
        findings.append(
            Finding(
                "flag_unreadable",
                path,
                line=_line_of(element, tag),
                object_index=index,
                value=value,
            )
        )
    return flag or False
