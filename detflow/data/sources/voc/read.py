"""Reads one VOC XML file, whoever wrote it: an annotation, or what is wrong with it and where.

The parser never opens a file or a socket, expands nothing, and reads a value whole or refuses it.
Only direct children count: VOC nests `<part>` and CVAT nests `<attribute><name>`, which are not the
object's own fields.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache

from lxml import etree

from detflow.data.findings import Corners, Finding
from detflow.data.sources.source import FileContent, ImageNames, RawAnnotation, RawObject
from detflow.types import CornerFrame

MAX_XML_BYTES = 10_000_000
MAX_OBJECTS = 20_000
TOOL = "detflow"
"""What detflow's own files say in `<source><database>`: their corners are VOC's."""

_MAX_TOOL = 40

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
# Plain ASCII decimals only: int() would also take "１２" and "1_000", and float() "nan".
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,20}(?:\.[0-9]*)?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")
_FLAGS = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
# libxml2 finds a DOCTYPE only after it has read what is declared inside, so these bytes are looked
# for first.
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


class _Unreadable(Exception):
    """Ends the reading of a file, or of its objects, with a finding."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding


def read_annotation(data: bytes, path: str) -> FileContent:
    """Reads an annotation.

    Args:
        data: The file's bytes; BOM, UTF-16 and declared encodings are understood.
        path: The file's path inside the dataset, for findings.

    Returns:
        The annotation; none, and a finding, where it does not even say which image it is about.
    """
    try:
        root = _parse(data, path)
        fields = _fields_of_image(root, path)
        folder = fields.get("folder", "")
        names = ImageNames(
            _optional_text(fields, "filename", path),
            _optional_text(fields, "path", path),
            # It only breaks ties, so nothing is wrong with one that cannot be read.
            (folder.strip() or None) if isinstance(folder, str) else None,
        )
    except _Unreadable as error:
        return FileContent((), (error.finding,))
    findings: list[Finding] = []
    try:
        objects = [
            _read_object(element, index, path, findings)
            for index, element in enumerate(_objects(root, path), start=1)
        ]
        size, size_line = _read_size(root, fields, path)
    except _Unreadable as error:
        return FileContent((RawAnnotation(path, "", names, None, None, None, (error.finding,)),))
    tool = _read_tool(fields)
    usable = tuple(entry for entry in objects if entry is not None)
    annotation = RawAnnotation(
        path=path,
        entry="",
        names=names,
        size=size,
        size_line=size_line,
        objects=usable if len(usable) == len(objects) else None,
        findings=tuple(findings),
        frame=CornerFrame.VOC if tool == TOOL else None,
        tool=tool,
    )
    return FileContent((annotation,))


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
    # The file may be in an encoding in which those bytes look different.
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
    """Returns an element's children by tag: the text of a child that has no children itself.

    Raises:
        _Unreadable: A field that is read stands twice, so that it is ambiguous.
    """
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
    """Returns a field's text as written; it is empty for a missing field.

    Raises:
        _Unreadable: The field has children.
    """
    field = fields.get(tag, "")
    if not isinstance(field, str):
        raise _Unreadable(Finding("field_has_children", path, line=_line(field), value=f"<{tag}>"))
    return field


def _optional_text(fields: Mapping[str, _Field], tag: str, path: str) -> str | None:
    return _text(fields, tag, path).strip() or None


# Nearly all corners are whole numbers up to an image's side, so the same texts come often.
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


def _read_tool(fields: Mapping[str, _Field]) -> str:
    """Returns what `<source>` says: the database, and who annotated it."""
    source = fields.get("source")
    if source is None or isinstance(source, str):
        return ""
    texts = (source.findtext("database") or "", source.findtext("annotation") or "")
    return " / ".join(" ".join(text.split())[:_MAX_TOOL] for text in texts if text.strip())


def _read_object(
    element: etree._Element, index: int, path: str, findings: list[Finding]
) -> RawObject | None:
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
    return RawObject(
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
