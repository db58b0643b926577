"""One VOC XML file, whoever wrote it: an annotation, or what is wrong with it and where.

The parser never opens a file or a socket, expands nothing, and reads a value whole or refuses it. Only direct children count:
VOC nests `<part>` and CVAT nests `<attribute><name>`, which are not the object's own fields.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from lxml import etree

from detflow.dataset.findings import Corners, Finding
from detflow.types import ImageSize, ObjectAnnotation

__all__ = ["MAX_OBJECTS", "MAX_XML_BYTES", "VocAnnotation", "VocObject", "read_annotation", "read_image_names", "write_annotation"]

MAX_XML_BYTES = 10_000_000
MAX_OBJECTS = 20_000

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
# int() would take "１２" and "1_000", float() would take "nan": this takes plain ASCII decimals only.
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,20}(?:\.[0-9]*)?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")
_FOUR_NUMBERS = re.compile(r"\s*N\s*,\s*N\s*,\s*N\s*,\s*N\s*".replace("N", _NUMBER.pattern))
_FLAGS = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
# libxml2 finds a DOCTYPE only after it has read what is declared inside; these bytes are looked for first.
_DOCTYPES = tuple("<!DOCTYPE".encode(encoding) for encoding in ("ascii", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"))
_PARSER = etree.XMLParser(
    resolve_entities=False,
    no_network=True,
    load_dtd=False,
    huge_tree=False,
    recover=False,
    remove_comments=True,
    remove_pis=True,
)


@dataclass(frozen=True, slots=True)
class VocObject:
    """An `<object>` as written.

    Attributes:
        index: Its place among the file's objects, from 1.
        line: Of the `<object>` tag.
        name: The class name with white space collapsed.
        corners: VOC pixel corners xmin, ymin, xmax, ymax: finite, in no certain order, perhaps outside of the image.
        difficult: VOC's flag.
        truncated: VOC's flag.
        pose: VOC's free text.
    """

    index: int
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
        size: `<size>`'s width and height in pixels, zero where zero is written; None where they are missing or unreadable.
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
        The annotation, or None where a finding quarantines or refuses it or says that it is none; and all findings.
    """
    try:
        root = _parse(data, path)
        findings: list[Finding] = []
        fields = _fields(root, path, repeated=("object",))
        objects = [_read_object(element, index, path, findings) for index, element in enumerate(_objects(root, path), start=1)]
        size, size_line = _read_size(fields.get("size"), path)
        filename, source_path = _optional_text(fields, "filename", path), _optional_text(fields, "path", path)
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
        fields = _fields(_parse(data, path), path, repeated=("object",))
        return _optional_text(fields, "filename", path), _optional_text(fields, "path", path)
    except _Unreadable as error:
        return error.finding


def _parse(data: bytes, path: str) -> etree._Element:
    if len(data) > MAX_XML_BYTES:
        raise _Unreadable(Finding("xml_too_large", path, value=f"{len(data):,} bytes", expected=f"at most {MAX_XML_BYTES:,}"))
    for doctype in _DOCTYPES:
        if (place := data.find(doctype)) >= 0:
            raise _Unreadable(Finding("xml_doctype", path, line=data.count(b"\n", 0, place) + 1, value="<!DOCTYPE"))
    try:
        root = etree.fromstring(data, _PARSER)
    except etree.XMLSyntaxError as error:
        raise _Unreadable(Finding("xml_malformed", path, line=error.lineno or 1, value=error.msg or "empty")) from None
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


def _fields(parent: etree._Element, path: str, repeated: tuple[str, ...] = ()) -> dict[str, etree._Element]:
    """Returns the direct children by tag; one that stands twice is ambiguous."""
    fields = {child.tag: child for child in parent}
    if len(fields) == len(parent):
        return fields
    seen = set()
    for child in parent:
        if child.tag in seen and child.tag in _READ and child.tag not in repeated:
            raise _Unreadable(Finding("field_twice", path, line=_line(child), value=f"<{child.tag}>"))
        seen.add(child.tag)
    return fields


# Only fields that are read can be ambiguous: an object may have many <part> or <attributes>.
_READ = frozenset({"filename", "path", "size", "width", "height", "name", "bndbox", "difficult", "truncated", "pose", *_CORNERS})


def _objects(root: etree._Element, path: str) -> list[etree._Element]:
    objects = root.findall("object")
    if len(objects) > MAX_OBJECTS:
        raise _Unreadable(Finding("too_many_objects", path, value=f"{len(objects):,}", expected=f"at most {MAX_OBJECTS:,}"))
    if sum(1 for _ in root.iter("object")) > len(objects):
        nested = next(element for element in root.iter("object") if element.getparent() is not root)
        raise _Unreadable(Finding("object_nested", path, line=_line(nested)))
    return objects


def _text(element: etree._Element | None, path: str) -> str:
    """Returns an element's text as it stands, empty for a missing element."""
    if element is None:
        return ""
    if len(element):
        raise _Unreadable(Finding("field_has_children", path, line=_line(element), value=f"<{element.tag}>"))
    return element.text or ""


def _optional_text(fields: dict[str, etree._Element], tag: str, path: str) -> str | None:
    return _text(fields.get(tag), path).strip() or None


def _number(text: str) -> float | None:
    if not _NUMBER.fullmatch(text.strip()):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _read_size(element: etree._Element | None, path: str) -> tuple[tuple[int, int] | None, int | None]:
    if element is None:
        return None, None
    fields = _fields(element, path)
    sides = [_number(_optional_text(fields, tag, path) or "") for tag in ("width", "height")]
    width, height = sides
    if width is None or height is None or width != int(width) or height != int(height) or width < 0 or height < 0:
        return None, _line(element)
    return (int(width), int(height)), _line(element)


def _read_object(element: etree._Element, index: int, path: str, findings: list[Finding]) -> VocObject | None:
    """Returns the object, or None after a finding that quarantines the annotation."""
    line = _line(element)
    fields = _fields(element, path)
    written = _text(fields.get("name"), path)
    name = " ".join(written.split())
    if not name:
        findings.append(Finding("name_missing", path, line=line, object_index=index))
        return None
    if name != written:
        findings.append(Finding("name_whitespace", path, line=line, object_index=index, value=repr(written), expected=repr(name)))
    corners = _read_corners(fields.get("bndbox"), name, line, index, path, findings)
    if corners is None:
        return None
    return VocObject(
        index=index,
        line=line,
        name=name,
        corners=corners,
        difficult=_read_flag(fields.get("difficult"), index, path, findings),
        truncated=_read_flag(fields.get("truncated"), index, path, findings),
        pose=_text(fields.get("pose"), path).strip(),
    )


def _read_corners(
    element: etree._Element | None, name: str, line: int, index: int, path: str, findings: list[Finding]
) -> Corners | None:
    fields = {} if element is None else _fields(element, path)
    missing = [f"<{tag}>" for tag in _CORNERS if tag not in fields]
    if missing:
        value = f"{name}: no <bndbox>" if element is None else f"{name}: no {', '.join(missing)}"
        findings.append(Finding("box_missing", path, line=line, object_index=index, value=value))
        return None
    texts = [_text(fields[tag], path) for tag in _CORNERS]
    # One look at all four, since nearly all are in order.
    in_order = _FOUR_NUMBERS.fullmatch(",".join(texts)) is not None and math.isfinite(sum(map(float, texts)))
    for tag, text in () if in_order else zip(_CORNERS, texts, strict=True):
        if _number(text) is None:
            value = f"{name}: {tag} {text.strip()[:40]!r}"
            findings.append(Finding("box_not_a_number", path, line=_line(fields[tag]), object_index=index, value=value))
            return None
    xmin, ymin, xmax, ymax = map(float, texts)
    return xmin, ymin, xmax, ymax


def _read_flag(element: etree._Element | None, index: int, path: str, findings: list[Finding]) -> bool:
    text = _text(element, path)
    flag = _FLAGS.get(text)
    if flag is None:
        flag = _FLAGS.get(text.strip().lower())
    if flag is None and element is not None:
        value = f"<{element.tag}> {text.strip()[:40]!r}"
        findings.append(Finding("flag_unreadable", path, line=_line(element), object_index=index, value=value))
    return flag or False
