"""Reads one VOC XML file, whoever wrote it: an annotation, or what is wrong with it and where.

A value is read whole or refused. Only direct children count: VOC nests `<part>` and CVAT nests
`<attribute><name>`, which are not the object's own fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lxml import etree

from detflow.data.findings import Corners, Finding
from detflow.data.rules import Action
from detflow.data.sources.source import FileContent, ImageNames, RawAnnotation, RawObject
from detflow.data.sources.voc.corners import BoxReader
from detflow.data.sources.voc.fields import Field, find_line, read_fields, read_number, read_text
from detflow.data.sources.voc.parse import Unreadable, line_of, parse_xml
from detflow.data.sources.voc.tags import CORNERS, IMAGE_TAGS, OBJECT_TAGS, find_root, tidy
from detflow.types import CornerFrame

MAX_OBJECTS = 20_000
TOOL = "detflow"
"""What detflow's own files say in `<source><database>`: their corners are VOC's."""

_MAX_TOOL = 40

_OBJECTS_OF_ANY_NAME = ("{*}object", "{*}Object", "{*}OBJECT", "{*}obj")
_SET_ASIDE = (Action.QUARANTINED, Action.REFUSED)
_FLAGS = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}


class _Unusual(Exception):
    """Ends the fast reading of a tree: something in it needs a second look."""


def read_annotation(data: bytes, path: str) -> FileContent:
    """Reads an annotation.

    Args:
        data: The file's bytes; BOM, UTF-16 and declared encodings are understood.
        path: The file's path inside the dataset, for findings.

    Returns:
        The annotation; none, and a finding, where it does not even say which image it is about.
    """
    try:
        tree = parse_xml(data, path)
        findings = [*tree.findings, *find_root(tree.root, path)]
        try:
            annotation = _read_tree(tree.root, path, is_tidy=False)
        except _Unusual:
            findings += tidy(tree.root, path)
            annotation = _read_tree(tree.root, path, is_tidy=True)
    except Unreadable as error:
        return FileContent((), (error.finding,))
    if findings:
        annotation = replace(annotation, findings=(*findings, *annotation.findings))
    return FileContent((annotation,))


def _read_tree(root: etree._Element, path: str, *, is_tidy: bool) -> RawAnnotation:
    """Reads an annotation's tree.

    Args:
        root: Its root.
        path: The file inside the dataset.
        is_tidy: Whether what has another name than VOC's was looked at; otherwise it ends the
            reading.

    Raises:
        Unreadable: The file does not even say which image it is about.
        _Unusual: Something in the tree may bear a box, and is not known.
    """
    others = [child for child in root if child.tag != "object"]
    if not is_tidy and not all(map(_is_usual, others)):
        raise _Unusual
    fields = read_fields(others, path)
    folder = fields.get("folder", "")
    names = ImageNames(
        _optional_text(fields, "filename", path),
        _optional_text(fields, "path", path),
        # It only breaks ties, so nothing is wrong with one that cannot be read.
        (folder.strip() or None) if isinstance(folder, str) else None,
    )
    findings: list[Finding] = []
    try:
        objects = [
            _read_object(element, index, path, findings, is_tidy=is_tidy)
            for index, element in enumerate(_objects(root, path), start=1)
        ]
        size, size_line = _read_size(root, fields, path)
    except Unreadable as error:
        return RawAnnotation(path, "", names, None, None, None, (error.finding,))
    tool = _read_tool(fields)
    is_usable = not any(finding.action in _SET_ASIDE for finding in findings)
    return RawAnnotation(
        path=path,
        entry="",
        names=names,
        size=size,
        size_line=size_line,
        objects=tuple(entry for entry in objects if entry is not None) if is_usable else None,
        findings=tuple(findings),
        frame=CornerFrame.VOC if tool == TOOL else None,
        tool=tool,
    )


def _is_usual(element: etree._Element) -> bool:
    """Whether a child of `<annotation>` cannot bear a box of its own."""
    return element.tag in IMAGE_TAGS and not any(len(child) for child in element)


def _objects(root: etree._Element, path: str) -> list[etree._Element]:
    objects = list(root.iterchildren("object"))
    if len(objects) > MAX_OBJECTS:
        raise Unreadable(
            Finding(
                "too_many_objects",
                path,
                value=f"{len(objects):,}",
                expected=f"at most {MAX_OBJECTS:,}",
            )
        )
    at_any_depth = list(root.iter(*_OBJECTS_OF_ANY_NAME))
    if len(at_any_depth) > len(objects):
        for element in at_any_depth:
            # A child of the root under another name is no object: `tidy` has looked at it.
            if element.getparent() is not root:
                raise Unreadable(Finding("object_nested", path, line=line_of(element)))
    return objects


def _optional_text(fields: Mapping[str, Field], tag: str, path: str) -> str | None:
    return read_text(fields, tag, path).strip() or None


def _read_size(
    root: etree._Element, fields: Mapping[str, Field], path: str
) -> tuple[tuple[int, int] | None, int | None]:
    element = fields.get("size")
    if element is None:
        return None, None
    if isinstance(element, str):
        return None, find_line(root, "size")
    sides = read_fields(element, path)
    width, height = (read_number(read_text(sides, tag, path)) for tag in ("width", "height"))
    if (
        width is None
        or height is None
        or width != int(width)
        or height != int(height)
        or width < 0
        or height < 0
    ):
        return None, line_of(element)
    return (int(width), int(height)), line_of(element)


def _read_tool(fields: Mapping[str, Field]) -> str:
    """Returns what `<source>` says: the database, and who annotated it."""
    source = fields.get("source")
    if source is None or isinstance(source, str):
        return ""
    texts = (source.findtext("database") or "", source.findtext("annotation") or "")
    return " / ".join(" ".join(text.split())[:_MAX_TOOL] for text in texts if text.strip())


def _read_object(
    element: etree._Element, index: int, path: str, findings: list[Finding], *, is_tidy: bool
) -> RawObject | None:
    """Returns the object, or None after a finding that says why there is none.

    Raises:
        Unreadable: A field is ambiguous or has children.
        _Unusual: As in `_read_tree`.
    """
    fields = read_fields(element, path)
    if not is_tidy and not fields.keys() <= OBJECT_TAGS:
        raise _Unusual
    if read_text(fields, "deleted", path).strip() == "1":
        findings.append(Finding("object_deleted", path, line=line_of(element), object_index=index))
        return None
    written = read_text(fields, "name", path)
    name = " ".join(written.split())
    if not name:
        findings.append(Finding("name_missing", path, line=line_of(element), object_index=index))
        return None
    if name != written:
        value, expected = repr(written), repr(name)
        findings.append(
            Finding(
                "name_whitespace", path, line_of(element), index, value=value, expected=expected
            )
        )
    corners = _read_box(fields.get("bndbox"), path)
    if corners is None:
        if not is_tidy:
            raise _Unusual
        corners = BoxReader(element, fields, name, index, path, findings).read()
        if corners is None:
            return None
    difficult = _read_flag(element, fields, "difficult", index, path, findings)
    truncated = _read_flag(element, fields, "truncated", index, path, findings)
    return RawObject(
        index,
        line_of(element),
        name,
        corners,
        difficult,
        truncated,
        read_text(fields, "pose", path).strip(),
    )


def _read_box(box: Field | None, path: str) -> Corners | None:
    """Returns the corners of a `<bndbox>` as VOC has it; None where anything is odd."""
    if box is None or isinstance(box, str):
        return None
    texts = read_fields(box, path)
    corners = []
    for tag in CORNERS:
        text = texts.get(tag, "")
        corner = read_number(text) if isinstance(text, str) else None
        if corner is None:
            return None
        corners.append(corner)
    xmin, ymin, xmax, ymax = corners
    return xmin, ymin, xmax, ymax


def _read_flag(
    element: etree._Element,
    fields: Mapping[str, Field],
    tag: str,
    index: int,
    path: str,
    findings: list[Finding],
) -> bool:
    text = read_text(fields, tag, path)
    flag = _FLAGS.get(text)
    if flag is None:
        flag = _FLAGS.get(text.strip().lower())
    if flag is None:
        value = f"<{tag}> {text.strip()[:40]!r}"
        findings.append(
            Finding(
                "flag_unreadable",
                path,
                line=find_line(element, tag),
                object_index=index,
                value=value,
            )
        )
    return flag or False
