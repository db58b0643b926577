"""A second reader of annotations, which shares no code with detflow.

It has another XML parser (expat), its own idea of a number, and its own application of the stated
rules. What it cannot read beyond doubt, nobody may accept.
"""

from __future__ import annotations

import codecs
import math
import re
import unicodedata
import xml.etree.ElementTree as ET
from dataclasses import dataclass

import numpy as np

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
# The marks of UTF-32 begin like those of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_ROUNDING_PX = 0.1


class NotStrict(Exception):
    """The file does not say, beyond doubt, what it labels; whoever accepts it guesses."""


@dataclass(frozen=True)
class ReferenceObject:
    """An object as the second reader expects it in the record.

    Attributes:
        name: The class.
        box: float32 [ymin, xmin, ymax, xmax], as shares of the image's sides.
        difficult: VOC's flag.
        truncated: VOC's flag.
    """

    name: str
    box: tuple[float, float, float, float]
    difficult: bool
    truncated: bool


@dataclass(frozen=True)
class Reference:
    """What the second reader makes of an annotation.

    Attributes:
        filename: `<filename>`, or "".
        size: `<size>` where it can be read.
        objects: What the record has to hold.
        deviations: (number of the object from 1, what is not as the file has it).
    """

    filename: str
    size: tuple[int, int] | None
    objects: tuple[ReferenceObject, ...]
    deviations: frozenset[tuple[int, str]]


def read_strictly(data: bytes, image_size: tuple[int, int]) -> Reference:
    """Reads an annotation for an image of (width, height).

    Raises:
        NotStrict: No sample may come of it.
    """
    root = _parse(data)
    if _tag(root) != "annotation":
        raise NotStrict("the root is no annotation")
    objects = [child for child in root if _tag(child) == "object" and (len(child) or child.attrib)]
    if len(objects) != sum(
        _tag(element) == "object" and len(element) > 0 for element in root.iter()
    ):
        raise NotStrict("an object is nested")
    for child in root:
        if _tag(child) != "object" and any(_bears_box(element) for element in child.iter()):
            raise NotStrict("a box outside of every object")
    found: list[ReferenceObject] = []
    deviations = set()
    for number, element in enumerate(objects, start=1):
        written, mended = _read_object(element, image_size)
        deviations |= {(number, what) for what in written}
        if mended is None:
            continue
        # Twice the same class and box is one object, whatever its flags say.
        if any((one.name, one.box) == (mended.name, mended.box) for one in found):
            deviations.add((number, "left out"))
        else:
            found.append(mended)
    filename = _only(root, "filename", optional=True)
    return Reference(filename or "", _read_size(root), tuple(found), frozenset(deviations))


def _parse(data: bytes) -> ET.Element:
    try:
        if b"<!DOCTYPE" in data.replace(b"\0", b""):
            raise NotStrict("a DOCTYPE")
        text, is_certain = _to_text(data)
        # The declaration has done its duty, and only blanks may stand before it.
        text = re.sub(r"^[\s\ufeff]*<\?xml\s[^>]*\?>", "", text.lstrip("\ufeff"), count=1)
        root = ET.fromstring(text.encode("utf-8", "surrogatepass"))  # noqa: S314  No DOCTYPE.
    except (ET.ParseError, UnicodeError, LookupError, ValueError) as error:
        raise NotStrict(str(error)) from None
    if not is_certain:
        for element in root.iter():
            if _tag(element) in ("name", "filename", "pose") and not (element.text or "").isascii():
                raise NotStrict("a name in an unknown encoding")
    return root


def _to_text(data: bytes) -> tuple[str, bool]:
    """Returns a file's text, and whether its letters beyond ASCII are certain."""
    for mark, encoding in _MARKS:
        if data.startswith(mark) and encoding != "utf-8-sig":
            return data.decode(encoding), True
    while data.startswith(codecs.BOM_UTF8):
        data = data[3:]
    if data[:2] in (b"<\0", b"\0<"):
        return data.decode("utf-16-le" if data[0] else "utf-16-be"), True
    declaration = re.match(
        rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]*)["']""", data
    )
    declared = declaration[1].decode("ascii").lower() if declaration else "utf-8"
    try:
        unicode = data.decode()
    except UnicodeDecodeError:
        unicode = None
    try:
        as_declared = data.decode(declared)
    except (UnicodeError, LookupError):
        as_declared = None
    if as_declared is None or declared.startswith(("utf-16", "utf-32")):
        return (data.decode("latin-1"), False) if unicode is None else (unicode, True)
    if unicode is not None and not data.isascii() and unicode != as_declared:
        one_byte = len(as_declared) == len(data)
        rare = declared in ("gbk", "gb18030") and max(unicode) >= "\u0800"
        if one_byte or (rare and not _is_gb2312(data)):
            return unicode, True
    return as_declared, True


def _is_gb2312(data: bytes) -> bool:
    try:
        data.decode("gb2312")
    except UnicodeDecodeError:
        return False
    return True


def _tag(element: ET.Element) -> str:
    """Returns what an element is called, whoever called it so."""
    tag = re.sub("[_-]", "", element.tag.rpartition("}")[2]).lower()
    return {"obj": "object", "bbox": "bndbox", "box": "bndbox", "boundingbox": "bndbox"}.get(
        tag, tag
    )


def _only(parent: ET.Element, tag: str, *, optional: bool = False) -> str | None:
    """The text of the only child with a tag; it must be plain text."""
    found = [child for child in parent if _tag(child) == tag]
    if not found and optional:
        return None
    if len(found) != 1 or len(found[0]):
        raise NotStrict(f"<{tag}> is missing, stands twice or has children")
    return found[0].text or ""


def _read_number(text: str) -> float:
    text = text.strip()
    if not text or not set(text) <= set("+-.0123456789eE") or text[-1] in "eE+-":
        raise NotStrict(f"{text!r} is no number")
    try:
        value = float(text)
    except ValueError:
        raise NotStrict(f"{text!r} is no number") from None
    if not math.isfinite(value):
        raise NotStrict(f"{text!r} is not finite")
    return value


def _read_size(root: ET.Element) -> tuple[int, int] | None:
    sizes = [child for child in root if _tag(child) == "size"]
    if len(sizes) != 1:
        return None
    try:
        width, height = (_read_number(_only(sizes[0], tag) or "") for tag in ("width", "height"))
    except NotStrict:
        return None
    return (int(width), int(height)) if width == int(width) and height == int(height) else None


def _read_object(
    element: ET.Element, image_size: tuple[int, int]
) -> tuple[set[str], ReferenceObject | None]:
    """Returns what differs from the file, and the object; None where the rules leave it out."""
    written = _only(element, "name") or ""
    spaced = " ".join(written.split())
    composed = unicodedata.normalize("NFC", spaced)
    seen = "".join(char for char in composed if unicodedata.category(char) != "Cf")
    name = " ".join(seen.split())
    if not name:
        raise NotStrict("no name")
    deviations = {"name"} if spaced != written else set()
    if name != spaced:
        deviations.add("form of the name")
    xmin, ymin, xmax, ymax, form = _read_box(element)
    if form:
        deviations.add(form)
    flags = {}
    for tag in ("difficult", "truncated"):
        text = (_only(element, tag, optional=True) or "").strip().lower()
        flags[tag] = text in ("1", "true", "yes")
        if text not in ("1", "true", "yes", "0", "false", "no", ""):
            deviations.add("flag")
    if xmin == xmax or ymin == ymax:
        return deviations | {"left out"}, None
    if xmin > xmax or ymin > ymax:
        deviations.add("box")
    (left, right), (top, bottom) = sorted((xmin, xmax)), sorted((ymin, ymax))
    x0, x1, moved_x = _clip(left, right, image_size[0])
    y0, y1, moved_y = _clip(top, bottom, image_size[1])
    if moved_x or moved_y:
        deviations.add("box")
    box = tuple(float(np.float32(value)) for value in (y0, x0, y1, x1))
    if not (box[0] < box[2] and box[1] < box[3]):
        return (deviations - {"box"}) | {"left out"}, None
    return deviations, ReferenceObject(name, box, flags["difficult"], flags["truncated"])  # type: ignore[arg-type]


def _read_box(element: ET.Element) -> tuple[float, float, float, float, str]:
    """Returns the corners, and what account the ledger must give of them."""
    named = [child for child in element if _tag(child) == "bndbox"]
    proper = [child for child in named if child.tag.rpartition("}")[2].lower() == "bndbox"]
    boxes = proper or named
    if len(boxes) > 1:
        raise NotStrict("several boxes")
    holder = boxes[0] if boxes else element
    if any(_tag(child) in _CORNERS for child in holder):
        values = [_read_number(_only(holder, tag) or "") for tag in _CORNERS]
        form = "" if boxes else "form"
    elif {_fold(key) for key in holder.attrib} >= set(_CORNERS):
        texts = {_fold(key): value for key, value in holder.attrib.items()}
        values, form = [_read_number(texts[tag]) for tag in _CORNERS], "form"
    elif boxes:
        raise NotStrict("a box without corners")
    else:
        values, form = _read_outline(element), "outline"
    xmin, ymin, xmax, ymax = values
    return xmin, ymin, xmax, ymax, form


def _read_outline(element: ET.Element) -> list[float]:
    """Returns the hull of a rotated box or of polygons, by turning each corner."""
    rotated = [child for child in element if _tag(child) == "robndbox"]
    if rotated:
        x, y, width, height, angle = (
            _read_number(_only(rotated[0], tag) or "") for tag in ("cx", "cy", "w", "h", "angle")
        )
        if len(rotated) > 1 or width <= 0 or height <= 0 or abs(angle) > 2 * math.pi:
            raise NotStrict("no rotated box")
        turn = complex(math.cos(angle), math.sin(angle))
        corners = [complex(i * width, j * height) / 2 * turn for i in (-1, 1) for j in (-1, 1)]
        points = [(x + corner.real, y + corner.imag) for corner in corners]
    else:
        points = [
            point for child in element if _tag(child) == "polygon" for point in _read_polygon(child)
        ]
    if not points:
        raise NotStrict("no box")
    xs, ys = zip(*points, strict=True)
    return [round(value, 6) for value in (min(xs), min(ys), max(xs), max(ys))]


def _read_polygon(polygon: ET.Element) -> list[tuple[float, float]]:
    points = [child for child in polygon if _tag(child) in ("pt", "point")]
    found = [
        (_read_number(_only(point, "x") or ""), _read_number(_only(point, "y") or ""))
        for point in points
    ]
    texts = {_tag(child): child.text or "" for child in reversed(polygon)}
    numbers = [tag[1:] for tag in texts if re.fullmatch("[xy][0-9]+", tag)]
    for number in dict.fromkeys(numbers):
        found.append(
            (_read_number(texts.get(f"x{number}", "")), _read_number(texts.get(f"y{number}", "")))
        )
    if len(found) < 3:
        raise NotStrict("no polygon")
    return found


def _bears_box(element: ET.Element) -> bool:
    names = {_tag(child) for child in element} | {_fold(key) for key in element.attrib}
    is_box = _tag(element) in ("bndbox", "robndbox", "polygon")
    return names >= set(_CORNERS) or (is_box and bool(len(element) or element.attrib))


def _fold(name: str) -> str:
    return re.sub("[_-]", "", name.rpartition("}")[2]).lower()


def _clip(low: float, high: float, side: int) -> tuple[float, float, bool]:
    """Turns VOC's inclusive corners, counted from 1, into shares of the side.

    The third value says whether more was cut off than rounding explains.
    """
    start, end = max(low, 1.0), min(high, float(side))
    moved = max(abs(start - low), abs(end - high))
    return (start - 1) / side, end / side, moved >= _ROUNDING_PX
