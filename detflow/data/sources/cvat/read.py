"""Reads one XML file of CVAT's format "CVAT for images 1.1".

The format is described at https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/. Boxes
are pixel edges from the image's upper left corner. Files are hostile: the parser opens nothing,
expands nothing, and forgets each image behind itself.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lxml import etree

from detflow.data.findings import Corners, Finding
from detflow.data.sources.claims import claim_image
from detflow.data.sources.entries import name_entries
from detflow.data.sources.source import FileContent, RawAnnotation, RawObject
from detflow.text import count_noun
from detflow.types import CornerFrame

MAX_XML_BYTES = 256_000_000
MAX_OBJECTS = 20_000
MAX_SHAPES = 5_000_000

_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,20}(?:\.[0-9]*)?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")
_SHAPES = frozenset(
    {"box", "polygon", "ellipse", "mask", "cuboid", "polyline", "points", "skeleton"}
)
# They enclose nothing.
_OPEN_SHAPES = frozenset({"polyline", "points", "skeleton"})
_OPEN_TYPES = _OPEN_SHAPES | {"tag"}
# libxml2 finds a DOCTYPE only after it has read what is declared inside.
_DOCTYPES = tuple("<!DOCTYPE".encode(encoding) for encoding in ("ascii", "utf-16-le", "utf-16-be"))


class _Fault(Exception):
    """A shape that cannot be read: the code of a rule, and the value."""

    def __init__(self, code: str, value: str) -> None:
        super().__init__(code, value)
        self.code = code
        self.value = value


class _NotCvat(Exception):
    """The root is another one."""


class _Shape(NamedTuple):
    """A shape as written: its line, its element's name, and its attributes."""

    line: int
    kind: str
    values: dict[str, str]


class _Image(NamedTuple):
    line: int
    name: str
    subset: str
    size: tuple[int, int] | None
    shapes: tuple[_Shape, ...]


class Described(NamedTuple):
    """What a file says beside its shapes.

    Attributes:
        labels: The classes that the task has, in its order.
        subsets: The subset of each image by its entry; empty where it has none.
    """

    labels: tuple[str, ...]
    subsets: dict[str, str]


def read_images(data: bytes, path: str) -> FileContent:
    """Reads a file's annotations, one for each image that it lists.

    Args:
        data: The file's bytes.
        path: The file's path inside the dataset, for findings.
    """
    fault = _find_fault(data, path)
    if fault is not None:
        return FileContent((), (fault,))
    images: list[_Image] = []
    num_shapes = 0
    try:
        for element in _parse(data, ("image", "track")):
            if element.tag == "track":
                value = f"<track> of {(element.get('label') or '')[:80]!r}"
                finding = Finding("video_unsupported", path, _line(element), value=value)
                return FileContent((), (finding,))
            images.append(_read_image(element))
            num_shapes += 1 + len(images[-1].shapes)
            if num_shapes > MAX_SHAPES:
                value = f"more than {MAX_SHAPES:,} images and shapes"
                finding = Finding("file_too_large", path, _line(element), value=value)
                return FileContent((), (finding,))
    except etree.XMLSyntaxError as error:
        finding = Finding("file_malformed", path, error.lineno or 1, value=error.msg or "empty")
        return FileContent((), (finding,))
    except _NotCvat as error:
        return FileContent((), (Finding("file_passed_over", path, value=str(error)),))
    entries = name_entries(image.name for image in images)
    annotations = [_build(path, entry, image) for entry, image in zip(entries, images, strict=True)]
    return FileContent(tuple(annotations))


def read_description(data: bytes) -> Described:
    """Returns what a file says beside its shapes; nothing where it cannot be read."""
    labels: list[str] = []
    names: list[str] = []
    subsets: list[str] = []
    if _find_fault(data, "") is None:
        try:
            for element in _parse(data, ("image", "label")):
                if element.tag == "image":
                    names.append(element.get("name") or "")
                    subsets.append(element.get("subset") or "")
                elif element.findtext("type") not in _OPEN_TYPES:
                    labels.append(" ".join((element.findtext("name") or "").split()))
        except (etree.XMLSyntaxError, _NotCvat):
            return Described((), {})
    return Described(
        tuple(dict.fromkeys(filter(None, labels))),
        dict(zip(name_entries(names), subsets, strict=True)),
    )


def _find_fault(data: bytes, path: str) -> Finding | None:
    if len(data) > MAX_XML_BYTES:
        value, expected = f"{len(data):,} bytes", f"at most {MAX_XML_BYTES:,}"
        return Finding("file_too_large", path, value=value, expected=expected)
    for doctype in _DOCTYPES:
        if (place := data.find(doctype)) >= 0:
            line = data.count(b"\n", 0, place) + 1
            return Finding("xml_doctype", path, line, value="<!DOCTYPE")
    return None


def _parse(data: bytes, tags: Sequence[str]) -> Iterator[etree._Element]:
    """Yields the elements with the tags, each complete, and frees it afterwards.

    Raises:
        XMLSyntaxError: The file is not well-formed.
        _NotCvat: The root is not `<annotations>`.
    """
    events = etree.iterparse(
        io.BytesIO(data),
        events=("start", "end"),
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    depth = 0
    for event, element in events:
        if event == "start":
            if depth == 0 and element.tag != "annotations":
                raise _NotCvat(f"its root is <{element.tag[:80]}>")
            depth += 1
            continue
        depth -= 1
        if element.tag in tags and (element.tag == "label" or depth == 1):
            yield element
        if depth == 1:
            element.clear()
            parent = element.getparent()
            while parent is not None and element.getprevious() is not None:
                del parent[0]


def _line(element: etree._Element) -> int:
    line = element.sourceline
    return line if isinstance(line, int) else 1


def _read_image(element: etree._Element) -> _Image:
    sides = [element.get(side) or "" for side in ("width", "height")]
    size = None
    if all(map(_NUMBER.fullmatch, sides)) and min(map(float, sides)) >= 0:
        width, height = (round(min(float(side), 1e9)) for side in sides)
        size = (width, height)
    return _Image(
        _line(element),
        (element.get("name") or "").strip(),
        element.get("subset") or "",
        size,
        tuple(
            _Shape(
                _line(shape),
                shape.tag,
                {str(name): str(value) for name, value in shape.attrib.items()},
            )
            for shape in element
            if shape.tag in _SHAPES
        ),
    )


def _build(path: str, entry: str, image: _Image) -> RawAnnotation:
    findings: list[Finding] = []

    def note(code: str, line: int, number: int | None = None, value: str = "") -> None:
        findings.append(Finding(code, path, line, number, value, entry=entry))

    is_usable = bool(image.name)
    if not is_usable:
        note("entry_malformed", image.line, value="an image without a name")
    if len(image.shapes) > MAX_OBJECTS:
        note("too_many_objects", image.line, value=f"{len(image.shapes):,}")
        is_usable = False
    objects = []
    outlines: list[_Shape] = []
    passed: list[_Shape] = []
    for number, shape in enumerate(image.shapes[:MAX_OBJECTS], start=1):
        if shape.kind in _OPEN_SHAPES:
            passed.append(shape)
            continue
        try:
            name = " ".join(shape.values.get("label", "").split())
            if not name:
                raise _Fault("name_missing", f"<{shape.kind}>")
            corners, is_box = _find_corners(shape)
        except _Fault as fault:
            note(fault.code, shape.line, number, fault.value)
            is_usable = False
            continue
        if not is_box:
            outlines.append(shape)
        objects.append(
            RawObject(number, shape.line, name, corners, difficult=False, truncated=False, pose="")
        )
    for code, chosen in (("outline_boxed", outlines), ("shape_left_out", passed)):
        if chosen:
            kinds = ", ".join(f"<{kind}>" for kind in sorted({shape.kind for shape in chosen}))
            note(code, chosen[0].line, value=f"{count_noun(len(chosen), 'object')}: {kinds}")
    return RawAnnotation(
        path=path,
        entry=entry,
        names=claim_image(image.name or None, path),
        size=image.size,
        size_line=image.line,
        objects=tuple(objects) if is_usable else None,
        findings=tuple(findings),
        frame=CornerFrame.ZERO_BASED,
    )


def _find_corners(shape: _Shape) -> tuple[Corners, bool]:
    """Returns a shape's pixel edges, and whether they are those of a box that is not turned."""
    turn = math.radians(_read_number(shape, "rotation", default=0.0))
    if shape.kind == "box":
        left, top, right, bottom = (
            _read_number(shape, side) for side in ("xtl", "ytl", "xbr", "ybr")
        )
        if turn == 0.0:
            return (left, top, right, bottom), True
        wide, high = abs(right - left) / 2, abs(bottom - top) / 2
        across = wide * abs(math.cos(turn)) + high * abs(math.sin(turn))
        along = wide * abs(math.sin(turn)) + high * abs(math.cos(turn))
        return _around((left + right) / 2, (top + bottom) / 2, across, along), False
    if shape.kind == "ellipse":
        x, y, wide, high = (_read_number(shape, name) for name in ("cx", "cy", "rx", "ry"))
        across = math.hypot(wide * math.cos(turn), high * math.sin(turn))
        along = math.hypot(wide * math.sin(turn), high * math.cos(turn))
        return _around(x, y, across, along), False
    if shape.kind == "mask":
        left, top, width, height = (
            _read_number(shape, name) for name in ("left", "top", "width", "height")
        )
        return (left, top, left + width, top + height), False
    if shape.kind == "cuboid":
        xs = [_read_number(shape, name) for name in shape.values if re.match(r"x[tb][lr]\d$", name)]
        ys = [_read_number(shape, name) for name in shape.values if re.match(r"y[tb][lr]\d$", name)]
    else:
        written = shape.values.get("points", "")
        pairs = [point.split(",") for point in written.split(";")]
        if any(len(pair) != 2 for pair in pairs):
            raise _Fault("box_not_a_number", f"points {written[:80]!r}")
        xs = [_to_number("points", x) for x, _ in pairs]
        ys = [_to_number("points", y) for _, y in pairs]
    if not xs or not ys:
        raise _Fault("box_missing", f"<{shape.kind}>")
    return (min(xs), min(ys), max(xs), max(ys)), False


def _around(x: float, y: float, across: float, along: float) -> Corners:
    return x - across, y - along, x + across, y + along


def _read_number(shape: _Shape, name: str, default: float | None = None) -> float:
    written = shape.values.get(name)
    if written is None:
        if default is None:
            raise _Fault("box_missing", f"<{shape.kind}> has no {name}")
        return default
    return _to_number(name, written)


def _to_number(name: str, written: str) -> float:
    number = float(written) if _NUMBER.fullmatch(written.strip()) else math.nan
    if not abs(number) < 1e300:
        raise _Fault("box_not_a_number", f"{name} {written[:80]!r}")
    return number
