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
    objects = [child for child in root if _tag(child) == "object"]
    if len(objects) != sum(_tag(element) == "object" for element in root.iter()):
        raise NotStrict("an object is nested")
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
        return ET.fromstring(_to_utf8(data))  # noqa: S314  There is no DOCTYPE, hence no entity.
    except (ET.ParseError, UnicodeError, LookupError, ValueError) as error:
        raise NotStrict(str(error)) from None


def _to_utf8(data: bytes) -> bytes:
    """Decodes by the byte order mark, or else as the file declares: expat knows few encodings."""
    declaration = re.match(
        rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]*)["'][^>]*\?>""", data
    )
    marked = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None)
    if marked is None and declaration is None:
        return data
    text = data.decode(marked or declaration[1].decode("ascii"), "strict")  # type: ignore[index]
    # What is left of the declaration is expat's to refuse.
    return re.sub(
        r"""(<\?xml[^>]*?)\s*encoding\s*=\s*["'][A-Za-z][A-Za-z0-9._-]*["']""", r"\1", text, count=1
    ).encode()


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


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
    boxes = [child for child in element if _tag(child) == "bndbox"]
    if len(boxes) != 1:
        raise NotStrict("not one <bndbox>")
    xmin, ymin, xmax, ymax = (
        _read_number(_only(boxes[0], tag) or "") for tag in ("xmin", "ymin", "xmax", "ymax")
    )
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


def _clip(low: float, high: float, side: int) -> tuple[float, float, bool]:
    """Turns VOC's inclusive corners, counted from 1, into shares of the side.

    The third value says whether more was cut off than rounding explains.
    """
    start, end = max(low, 1.0), min(high, float(side))
    moved = max(abs(start - low), abs(end - high))
    return (start - 1) / side, end / side, moved >= _ROUNDING_PX
