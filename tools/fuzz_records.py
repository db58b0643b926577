#!/usr/bin/env python
"""Feeds mutated XML and image files to make-records' reading, pairing, judging and encoding, and checks each result.

    python tools/fuzz_records.py                        # 10,000 cases of seed 1 python
    tools/fuzz_records.py --seed 7 --cases 500 python tools/fuzz_records.py --first 4711 --cases 1
    --keep case   # one case again, with its files

A case is a function of (seed, number). Three things may not happen: an exception that is no
finding, a case that takes longer than five seconds, and a wrong label that nobody was told of. For
the last one every accepted annotation is read again by a second reader, which shares no code with
detflow: another XML parser (expat), its own idea of a number, its own application of the stated
rules. What is accepted must be exactly what that reader says, each deviation from the file must
stand in the ledger, and what is not accepted must have a finding that says why.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import faulthandler
import io
import math
import random
import re
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import xml.etree.ElementTree as ET
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detflow.data.findings import Finding
from detflow.data.images.header import DEFAULT_MAX_PIXELS
from detflow.data.images.transcode import encode_record_jpeg
from detflow.data.judging.audit import judge, read_batch
from detflow.data.judging.sample import AuditedSample
from detflow.data.records.schema import decode_sample, encode_sample
from detflow.data.rules import Action
from detflow.data.sources.pairing import find_own_images, pair_images
from detflow.storage.folders import LocalFolder
from detflow.types import LabelMap, Sample

SECONDS_PER_CASE = 5.0
_BACKSTOP_SECONDS = 30.0  # For a hang inside C code, which no signal interrupts.
_SIZE = (96, 64)
_NAMES = ("cat", "dog", "猫", "Straße", "traffic light", "a&b", "x<y")


# --- The second reader ----------------------------------------------------------------------------


class NotStrict(Exception):
    """The file does not say, beyond doubt, what it labels; whoever accepts it guesses."""


@dataclass(frozen=True)
class ReferenceObject:
    """An object as the second reader expects it in the record: the class, float32 [ymin, xmin, ymax, xmax], the two flags."""

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
    """Expat knows few encodings; Python's codecs decode what a byte order mark says, else what the file declares."""
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


# The marks of UTF-32 begin like those of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


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
    name = " ".join(written.split())
    if not name:
        raise NotStrict("no name")
    deviations = {"name"} if name != written else set()
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
    """From VOC's inclusive corners, counted from 1, to shares of the side; says whether something was cut off."""
    start, end = max(low, 1.0), min(high, float(side))
    return (start - 1) / side, end / side, (start, end) != (low, high)


# --- Comparing ------------------------------------------------------------------------------------

# Which codes of the ledger account for which deviation.
_ACCOUNTS = {
    "name": {"name_whitespace"},
    "flag": {"flag_unreadable"},
    "box": {"box_inverted", "box_clipped"},
    "left out": {"box_zero_area", "box_outside", "object_duplicate"},
}
_SIZE_CODES = {"size_missing", "size_zero", "size_swapped", "size_wrong", "exif_applied"}
_PAIRING_CODES = {"paired_by_case", "paired_by_extension", "paired_by_path", "paired_by_stem"}


class Wrong(Exception):
    """What detflow made of a case is not what may be made of it."""


def check_refusal(findings: list[Finding]) -> str:
    """No sample came of a case: a finding must say why; returns its code."""
    for finding in findings:
        if finding.action in (Action.QUARANTINED, Action.REFUSED) or finding.code == "xml_not_voc":
            return finding.code
    raise Wrong(
        f"the annotation was lost without a word; findings: {[finding.code for finding in findings]}"
    )


def check_labels(sample: AuditedSample, findings: list[Finding], xml: bytes, image: str) -> None:
    """A sample came of a case: it must be what the second reader says, and the ledger must account for every difference."""
    try:
        reference = read_strictly(xml, (sample.size.width, sample.size.height))
    except NotStrict as error:
        raise Wrong(f"accepted, yet it cannot be read beyond doubt: {error}") from None
    found = tuple(
        ReferenceObject(
            one.name,
            (one.box.ymin, one.box.xmin, one.box.ymax, one.box.xmax),
            one.difficult,
            one.truncated,
        )
        for one in sample.objects
    )
    if found != reference.objects:
        raise Wrong(f"labels differ: {found} instead of {reference.objects}")
    codes = {(finding.object_index, finding.code) for finding in findings}
    for number, deviation in reference.deviations:
        if not any((number, code) in codes for code in _ACCOUNTS[deviation]):
            raise Wrong(f"object {number}: {deviation} changed, the ledger does not say so")
    names = {code for _, code in codes}
    if reference.size != (sample.size.width, sample.size.height) and not names & _SIZE_CODES:
        raise Wrong(
            f"<size> is {reference.size}, the sample has {sample.size}, the ledger does not say so"
        )
    if (
        re.split(r"[\\/]", reference.filename.strip())[-1] != image.rpartition("/")[2]
        and not names & _PAIRING_CODES
    ):
        raise Wrong(
            f"<filename> is {reference.filename!r}, the image {image!r}, the ledger does not say so"
        )
    if ".." in re.split(
        r"[\\/]", reference.filename.strip()
    ) or reference.filename.strip().startswith("/"):
        raise Wrong(f"<filename> {reference.filename!r} leaves the dataset")


def check_record(sample: AuditedSample, data: bytes) -> None:
    """The sample's record must come back as it went in, with a JPEG of its size that another decoder reads and sees alike."""
    jpeg = encode_record_jpeg(data, sample.treatment)
    label_map = LabelMap(tuple(sorted({one.name for one in sample.objects})))
    record = Sample(sample.key, 1, sample.image, sample.size, jpeg, sample.objects)
    if decode_sample(encode_sample(record, label_map), label_map) != record:
        raise Wrong("the record does not come back as it was written")
    try:
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
            image.load()
            written, size, turn = (
                np.asarray(image.convert("RGB"), np.int16),
                image.size,
                image.getexif().get(0x0112, 1),
            )
    except Exception as error:  # noqa: BLE001  Whatever Pillow raises, the record is damaged.
        raise Wrong(f"the record's JPEG cannot be decoded: {error}") from None
    if size != (sample.size.width, sample.size.height):
        raise Wrong(f"the record's JPEG has {size}, the sample {sample.size}")
    if turn in range(2, 9):
        raise Wrong(f"the record's JPEG has EXIF orientation {turn}")
    seen = decode_plainly(data) if sample.treatment.turn == 1 else None
    if seen is None:
        return
    # Noise at a quality of 95 costs less than three levels on average.
    if seen.shape != written.shape or np.abs(seen - written).mean() > 6:
        raise Wrong("the record shows another picture than the file")


def decode_plainly(data: bytes) -> NDArray[np.int16] | None:
    """RGB pixels as Pillow sees a file, where they do not depend on rules about alpha, depth or colour; else None."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            plain = image.mode in ("L", "RGB") and "transparency" not in image.info
            return np.asarray(image.convert("RGB"), np.int16) if plain else None
    except Exception:  # noqa: BLE001  Then there is nothing to compare with.
        return None


# --- Sound files to begin with --------------------------------------------------------------------


def build_xml(rng: random.Random, image: str) -> str:
    """An annotation in one of the dialects that are about, sound but for an occasional box at the edge."""
    objects = "".join(_build_object(rng) for _ in range(rng.choice((0, 1, 1, 2, 3, 8))))
    size = f"<size><width>{_SIZE[0]}</width><height>{_SIZE[1]}</height><depth>3</depth></size>"
    path = rng.choice(("", f"<path>C:\\photos\\{image}</path>", f"<path>/home/me/{image}</path>"))
    extra = rng.choice(
        (
            "",
            "<source><database>Unknown</database></source><segmented>0</segmented>",
            "<folder>images</folder>",
        )
    )
    parts = [f"<filename>{image}</filename>", path, size, extra, objects]
    if rng.random() < 0.2:
        rng.shuffle(parts)
    declaration = rng.choice(
        ("", '<?xml version="1.0"?>\n', '<?xml version="1.0" encoding="utf-8"?>\n')
    )
    joint = rng.choice(("", "\n", "\n\t"))
    attribute = rng.choice(("", " verified='yes'"))
    return f"{declaration}<annotation{attribute}>{joint}{joint.join(parts)}{joint}</annotation>"


def _build_object(rng: random.Random) -> str:
    x, y = (
        sorted(rng.sample(range(1, _SIZE[0] + 1), 2)),
        sorted(rng.sample(range(1, _SIZE[1] + 1), 2)),
    )
    numbers = [
        rng.choice(
            (
                str,
                lambda n: f"{n}.0",
                lambda n: f"{n + rng.random() * 0.9:.3f}" if n < 60 else str(n),
            )
        )(n)
        for n in (*x, *y)
    ]
    xmin, xmax, ymin, ymax = numbers
    corners = {"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax}
    order = rng.choice((("xmin", "ymin", "xmax", "ymax"), ("xmin", "xmax", "ymin", "ymax")))
    box = "".join(f"<{tag}>{corners[tag]}</{tag}>" for tag in order)
    name = rng.choice(_NAMES).replace("&", "&amp;").replace("<", "&lt;")
    extra = rng.choice(
        (
            "",
            "<pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>",
            "<truncated>1</truncated><difficult>1</difficult><occluded>0</occluded>",
            "<attributes><attribute><name>colour</name><value>red</value></attribute></attributes>",
            "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>",
        )
    )
    return f"<object><name>{name}</name>{extra}<bndbox>{box}</bndbox></object>"


def build_image(rng: random.Random) -> tuple[bytes, str]:
    """A sound picture in one of many formats; returns its bytes and the extension that belongs to it."""
    coarse = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize(_SIZE, Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = rng.randint(1, 8)
    kinds: list[tuple[str, str, str, dict[str, object]]] = [
        (
            "JPEG",
            "RGB",
            ".jpg",
            {"quality": rng.choice((40, 75, 92)), "subsampling": rng.choice((0, 1, 2))},
        ),
        ("JPEG", "RGB", ".jpg", {"quality": 85}),
        ("JPEG", "RGB", ".jpeg", {"progressive": True}),
        ("JPEG", "RGB", ".jpg", {"exif": exif.tobytes()}),
        ("JPEG", "RGB", ".jpg", {"restart_marker_rows": 1}),
        ("JPEG", "L", ".jpg", {}),
        ("JPEG", "CMYK", ".jpg", {}),
        ("PNG", rng.choice(("RGB", "RGBA", "P", "L", "LA", "1", "I;16")), ".png", {}),
        ("WEBP", "RGB", ".webp", {"lossless": rng.random() < 0.5}),
        ("BMP", rng.choice(("RGB", "L", "P")), ".bmp", {}),
        (
            "TIFF",
            rng.choice(("RGB", "L", "RGBA")),
            ".tif",
            {"compression": rng.choice((None, "tiff_lzw", "tiff_deflate"))},
        ),
        ("GIF", "P", ".gif", {}),
    ]
    image_format, mode, suffix, options = rng.choice(kinds)
    buffer = io.BytesIO()
    converted = picture.convert("L").convert("I;16") if mode == "I;16" else picture.convert(mode)
    converted.save(
        buffer, image_format, **{key: value for key, value in options.items() if value is not None}
    )
    return buffer.getvalue(), suffix


# --- Mutations ------------------------------------------------------------------------------------

_NUMBERS = (
    *(
        "nan",
        "inf",
        "-inf",
        "Infinity",
        "1_000",
        "１２",
        "٣",
        "",
        " ",
        "12abc",
        "0x10",
        "1e3",
        "1E1",
        "1e400",
        "-1e400",
        "1e-400",
        "--5",
    ),
    *(
        "+7",
        "-5",
        "-0",
        "0",
        "0.0",
        ".5",
        "5.",
        ".",
        "1.2.3",
        "12,5",
        "1 2",
        "9" * 30,
        "9" * 400,
        "1e",
        "e5",
        "\u00a012",
        "12\n",
        "½",
    ),
    *(
        "1.9999999999",
        "0.0000000001",
        "96.00000001",
        "97",
        "65",
        "1000",
        "-1000",
        "2147483648",
        "1" + "0" * 19,
        "True",
        "None",
        "12px",
    ),
)
_NAMES_ODD = (
    "",
    " ",
    "\n",
    "cat\n",
    " cat",
    "c at",
    "c  at",
    "cat\u200b",
    "\u202ecat",
    "CAT",
    "cat;",
    "猫猫",
    "a" * 5000,
    "\U0001f600",
)
# U+FEFF is not among them: inside a tag's name the editions of XML 1.0 differ about it, and so do
# expat and libxml2.
_PIECES = (
    *(
        "<!--x-->",
        "<?pi x?>",
        "<![CDATA[x]]>",
        "<![CDATA[<name>]]>",
        "<b/>",
        "<b>3</b>",
        "&amp;",
        "&lt;",
        "&#48;",
        "&#x31;",
        "&#0;",
        "&x;",
    ),
    *(
        "&",
        "<",
        ">",
        "]]>",
        "\x00",
        "\x01",
        "\ufffe",
        "\u2028",
        "\r",
        "<object/>",
        "</object>",
        "<name>dog</name>",
        "</name>",
    ),
    *(
        "<!DOCTYPE a>",
        '<!DOCTYPE a [<!ENTITY e "1">]>',
        "<!ENTITY e 'x'>",
        "<xmin>1</xmin>",
        "<size/>",
        "<bndbox/>",
        "<difficult>1</difficult>",
    ),
    *(
        "<truncated>maybe</truncated>",
        "<filename>b.jpg</filename>",
        "<annotation>",
        "<object><object/></object>",
    ),
)
_FILENAMES = (
    *(
        "",
        "other.jpg",
        "../a.jpg",
        "..\\a.jpg",
        "/etc/passwd",
        "a",
        "A.JPG",
        "a.png",
        "sub/a.jpg",
        "C:\\x\\a.jpg",
        "a.jpg\n",
        "./a.jpg",
        "a.jpg/..",
    ),
    *("....//a.jpg", "a b.jpg", "%2e%2e/a.jpg", "a.jpg.xml", "~", "CON", "con.jpg", "á.jpg"),
)
_TAG_PATTERN = re.compile(r"</?([A-Za-z]+)[^>]*>")


def mutate_xml(rng: random.Random, text: str) -> bytes:
    """Applies a few mutations to an annotation's text, then perhaps some to its bytes."""
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        text = rng.choice(_TEXT_MUTATIONS)(rng, text)
    data = _encode(rng, text)
    for _ in range(rng.choice((0, 0, 0, 0, 1, 3))):
        data = mutate_bytes(rng, data)
    return data


def _encode(rng: random.Random, text: str) -> bytes:
    draw = rng.random()
    if draw < 0.86:
        return text.encode("utf-8", "surrogatepass")
    if draw < 0.90:
        return codecs.BOM_UTF8 + text.encode("utf-8", "surrogatepass")
    body = re.sub(r"^<\?xml[^>]*\?>", "", text)
    encoding = rng.choice(
        (
            "utf-16",
            "gb2312",
            "gbk",
            "latin-1",
            "cp1252",
            "shift_jis",
            "big5",
            "utf-7",
            "ascii",
            "utf-32",
            "koi8-r",
            "nonsense",
        )
    )
    declared = (
        encoding if rng.random() < 0.8 else rng.choice(("utf-8", "latin-1", "gb2312", "us-ascii"))
    )
    try:
        return (f'<?xml version="1.0" encoding="{declared}"?>' + body).encode(
            encoding, "xmlcharrefreplace"
        )
    except (UnicodeError, LookupError):
        return (f'<?xml version="1.0" encoding="{declared}"?>' + body).encode("utf-8", "replace")


def _replace_value(rng: random.Random, text: str, tags: str, values: tuple[str, ...]) -> str:
    found = list(re.finditer(rf"<({tags})>([^<]*)</\1>", text))
    if not found:
        return text
    match = rng.choice(found)
    return text[: match.start(2)] + rng.choice(values) + text[match.end(2) :]


def _replace_number(rng: random.Random, text: str) -> str:
    return _replace_value(rng, text, "xmin|ymin|xmax|ymax", _NUMBERS)


def _replace_size(rng: random.Random, text: str) -> str:
    return _replace_value(
        rng, text, "width|height|depth", (*_NUMBERS, "64", "96", "128", "192", "48", "640")
    )


def _replace_name(rng: random.Random, text: str) -> str:
    return _replace_value(rng, text, "name", _NAMES_ODD)


def _replace_filename(rng: random.Random, text: str) -> str:
    return _replace_value(rng, text, "filename|path", _FILENAMES)


def _replace_flag(rng: random.Random, text: str) -> str:
    return _replace_value(
        rng,
        text,
        "difficult|truncated|pose",
        ("1", "0", "2", "", "true", "yes", "Unspecified", " 1 ", "１", "on", "-1", "01"),
    )


def _swap_corners(rng: random.Random, text: str) -> str:
    axis = rng.choice("xy")
    return (
        text.replace(f"{axis}min", "\0")
        .replace(f"{axis}max", f"{axis}min")
        .replace("\0", f"{axis}max")
    )


def _shift_box(rng: random.Random, text: str) -> str:
    step = rng.choice((-300, -90, -40, -5, -1, 1, 2, 40, 90, 300))
    tags = rng.choice(
        ("xmin", "xmax", "ymin", "ymax", "xmin|xmax", "ymin|ymax", "xmin|xmax|ymin|ymax")
    )

    def shift(match: re.Match[str]) -> str:
        return f"<{match[1]}>{float(match[2]) + step:g}</{match[1]}>"

    return re.sub(rf"<({tags})>([0-9]+(?:[.][0-9]+)?)</\1>", shift, text, count=rng.choice((1, 0)))


def _drop_element(rng: random.Random, text: str) -> str:
    found = list(re.finditer(r"<([A-Za-z]+)>(?:[^<]*|(?:(?!<\1>).)*?)</\1>", text, re.DOTALL))
    if not found:
        return text
    match = rng.choice(found)
    return text[: match.start()] + text[match.end() :]


def _double_element(rng: random.Random, text: str) -> str:
    found = list(re.finditer(r"<([A-Za-z]+)>(?:[^<]*|(?:(?!<\1>).)*?)</\1>", text, re.DOTALL))
    if not found:
        return text
    match = rng.choice(found)
    return text[: match.end()] + match[0] + text[match.end() :]


def _rename_tag(rng: random.Random, text: str) -> str:
    tags = sorted({match[1] for match in _TAG_PATTERN.finditer(text)})
    if not tags:
        return text
    old, new = (
        rng.choice(tags),
        rng.choice((*tags, "Object", "OBJECT", "Name", "robndbox", "polygon", "v:object", "obj")),
    )
    return re.sub(rf"(</?){old}\b", rf"\g<1>{new}", text, count=rng.choice((0, 1, 2)))


def _insert_piece(rng: random.Random, text: str) -> str:
    place = rng.randrange(len(text) + 1)
    return text[:place] + rng.choice(_PIECES) + text[place:]


def _insert_into_value(rng: random.Random, text: str) -> str:
    found = list(re.finditer(r">([^<>]+)</", text))
    if not found:
        return text
    match = rng.choice(found)
    place = rng.randint(match.start(1), match.end(1))
    return text[:place] + rng.choice(_PIECES) + text[place:]


def _nest_object(rng: random.Random, text: str) -> str:
    return text.replace("</object>", _build_object(rng) + "</object>", 1)


def _wrap(rng: random.Random, text: str) -> str:
    return rng.choice(
        (
            f"<annotations>{text}</annotations>",
            text.replace("<annotation", '<annotation xmlns="http://example.org/voc"'),
            text.replace("<annotation", '<v:annotation xmlns:v="http://example.org/voc"').replace(
                "</annotation", "</v:annotation"
            ),
            text + text,
            text + "<!-- end -->",
            " " + text,
            text.replace("<object>", "<objects><object>").replace(
                "</object>", "</object></objects>"
            ),
        )
    )


def _make_hostile(rng: random.Random, text: str) -> str:
    depth = rng.choice((300, 5_000, 60_000))
    return rng.choice(
        (
            "<!DOCTYPE a ["
            + "".join(f'<!ENTITY e{i} "&e{i - 1};&e{i - 1};">' for i in range(1, 40))
            + "]>"
            + text,
            '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd">' + text,
            text.replace("<object>", "<a>" * depth + "</a>" * depth + "<object>", 1),
            text.replace(
                "</annotation>", _build_object(rng) * rng.choice((200, 21_000)) + "</annotation>"
            ),
            text.replace(
                "<name>", "<name " + " ".join(f'a{i}="{i}"' for i in range(2_000)) + ">", 1
            ),
            "<?xml version='1.0'?>" + "<!-- -->" * 20_000 + text,
        )
    )


def _cut(rng: random.Random, text: str) -> str:
    return text[: rng.randrange(len(text) + 1)]


_TEXT_MUTATIONS: tuple[Callable[[random.Random, str], str], ...] = (
    *(
        _replace_number,
        _replace_number,
        _replace_number,
        _replace_size,
        _replace_name,
        _replace_filename,
        _replace_flag,
    ),
    *(
        _swap_corners,
        _shift_box,
        _shift_box,
        _drop_element,
        _double_element,
        _rename_tag,
        _insert_piece,
        _insert_into_value,
    ),
    *(_insert_into_value, _nest_object, _wrap, _cut),
)


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    """One blind mutation of bytes."""
    if not data:
        return data
    place, length = rng.randrange(len(data)), rng.choice((1, 1, 2, 4, 16, 64))
    return rng.choice(
        (
            data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :],
            data[:place] + rng.randbytes(length) + data[place + length :],
            data[:place] + data[place + length :],
            data[:place]
            + data[place : place + length] * rng.choice((2, 8))
            + data[place + length :],
            data[:place],
            data[:place]
            + rng.choice(
                (b"\x00", b"\xff", b"\x80", b"\x7f", b"\xff\xd9", b"\xff\xda", b"\xff\xc0")
            )
            + data[place:],
        )
    )


def mutate_image(rng: random.Random, data: bytes) -> bytes:
    """A few mutations of a picture's bytes: blind ones, or of the size in its header."""
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        data = _lie_about_size(rng, data) if rng.random() < 0.2 else mutate_bytes(rng, data)
    if rng.random() < 0.05:
        other, _ = build_image(rng)
        data = rng.choice(
            (
                data + other,
                data[:40] + other[40:],
                other[: len(other) // 2] + data[len(data) // 2 :],
            )
        )
    return data


def _lie_about_size(rng: random.Random, data: bytes) -> bytes:
    width, height = (rng.choice((0, 1, 17, 64, 96, 97, 4_000, 30_000, 65_535)) for _ in range(2))
    if data.startswith(b"\x89PNG") and len(data) > 33:
        header = data[12:16] + struct.pack(">II", width, height) + data[24:29]
        return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        place = data.find(marker)
        if 0 <= place < len(data) - 9:
            return data[: place + 5] + struct.pack(">HH", height, width) + data[place + 9 :]
    if data.startswith(b"BM") and len(data) > 26:
        return data[:18] + struct.pack("<ii", width, rng.choice((height, -height))) + data[26:]
    return mutate_bytes(rng, data)


# --- Running --------------------------------------------------------------------------------------


class TookTooLong(BaseException):
    """Raised by the alarm; no handler of exceptions inside detflow may swallow it."""


@dataclass(frozen=True)
class Case:
    """A folder of one annotation and one image: a function of (seed, number)."""

    image_name: str
    xml: bytes
    image: bytes


@dataclass
class Tally:
    """What came of the cases."""

    accepted: int = 0
    changed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)

    @property
    def cases(self) -> int:
        """How many cases were run."""
        return self.accepted + self.refused.total() + len(self.failures)


def build_case(seed: int, number: int) -> Case:
    """Builds a case: two thirds mutate the annotation, one third the image, some both."""
    rng = random.Random(seed * 1_000_003 + number)  # noqa: S311
    aim = rng.random()
    image, suffix = build_image(rng) if aim > 0.6 else (_SOUND_IMAGE, ".jpg")
    if rng.random() < 0.1:
        suffix = rng.choice((".jpg", ".png", ".JPG", ".tiff", ".webp"))
    name = f"a{suffix}"
    text = build_xml(rng, name)
    if rng.random() < 0.01:
        text = _make_hostile(rng, text)
    xml = mutate_xml(rng, text) if aim < 0.7 else text.encode()
    return Case(name, xml, mutate_image(rng, image) if aim > 0.6 else image)


def convert_case(root: Path, case: Case) -> tuple[AuditedSample | None, list[Finding]]:
    """Takes a case through the steps of make-records: reading, pairing, judging."""
    (root / "a.xml").write_bytes(case.xml)
    (root / case.image_name).write_bytes(case.image)
    own = find_own_images(["a.xml"], [case.image_name])
    [reading] = read_batch(
        LocalFolder.of(root), DEFAULT_MAX_PIXELS, None, [("a.xml", own.get("a.xml"))]
    )
    if isinstance(reading.names, Finding):
        return None, [reading.names]
    pairs = pair_images({"a.xml": reading.names}, [case.image_name])
    findings = list(pairs.findings)
    if reading.judgement is not None and pairs.images != {"a.xml": reading.judgement.image}:
        raise Wrong(f"judged with {reading.judgement.image}, paired with {pairs.images}")
    if not pairs.images:
        return None, findings
    [pair] = pairs.images.items()
    judgement = reading.judgement or judge(LocalFolder.of(root), DEFAULT_MAX_PIXELS, None, pair)
    findings += judgement.findings
    return (AuditedSample.from_json(judgement.line) if judgement.line else None), findings


def check_case(root: Path, case: Case) -> tuple[AuditedSample | None, list[Finding], str]:
    """Runs a case and checks it; returns the sample, the findings, and the code of the refusal ("" where there is none).

    Raises:
        Wrong: The result must not be.
    """
    sample, findings = convert_case(root, case)
    if sample is None:
        return None, findings, check_refusal(findings)
    check_labels(sample, findings, case.xml, case.image_name)
    check_record(sample, case.image)
    return sample, findings, ""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises `TookTooLong` in the block after so many seconds; ends the process where C code does not come back."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, stop)
    faulthandler.dump_traceback_later(_BACKSTOP_SECONDS, exit=True, file=sys.__stderr__)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def check_in_time(root: Path, case: Case) -> tuple[AuditedSample | None, list[Finding], str]:
    """Runs a case under the time limit. A busy machine can starve a case once; what hangs, hangs again."""
    try:
        with time_limit(SECONDS_PER_CASE):
            return check_case(root, case)
    except TookTooLong:
        with time_limit(SECONDS_PER_CASE):
            return check_case(root, case)


def run_cases(
    seed: int, first: int, count: int, progress: Callable[[int], None] = lambda number: None
) -> Tally:
    """Runs cases one after the other in this process."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number in range(first, first + count):
            case = build_case(seed, number)
            start = time.perf_counter()
            try:
                sample, findings, code = check_in_time(root, case)
            except TookTooLong:
                tally.failures.append(f"case {number}: hangs")
            except Wrong as error:
                tally.failures.append(f"case {number}: wrong: {error}")
            except Exception:  # noqa: BLE001  This is what the tool looks for.
                tally.failures.append(f"case {number}: crashes\n{traceback.format_exc(limit=-4)}")
            else:
                tally.accepted += sample is not None
                tally.changed += sample is not None and any(
                    one.action is Action.REPAIRED for one in findings
                )
                if code:
                    tally.refused[code] += 1
            tally.slowest = max(tally.slowest, (time.perf_counter() - start, number))
            (root / case.image_name).unlink(missing_ok=True)
            progress(number + 1 - first)
    return tally


def _draw_sound_image() -> bytes:
    buffer = io.BytesIO()
    coarse = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(_SIZE, Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


_SOUND_IMAGE = _draw_sound_image()


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1, help="of the cases (default 1)")
    parser.add_argument(
        "--cases", type=int, default=10_000, metavar="N", help="how many (default 10,000)"
    )
    parser.add_argument(
        "--first",
        type=int,
        default=0,
        metavar="NUMBER",
        help="number of the first case (default 0)",
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="write the files of the first case there"
    )
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    if options.keep:
        case = build_case(options.seed, options.first)
        options.keep.mkdir(parents=True, exist_ok=True)
        (options.keep / "a.xml").write_bytes(case.xml)
        (options.keep / case.image_name).write_bytes(case.image)

    def show(done: int) -> None:
        if sys.stderr.isatty() and done % 100 == 0:
            print(f"\r{done:,}/{options.cases:,}", end="", file=sys.stderr, flush=True)

    start = time.perf_counter()
    tally = run_cases(options.seed, options.first, options.cases, show)
    seconds = time.perf_counter() - start
    for failure in tally.failures:
        print(failure)
    print(
        f"{tally.cases:,} cases of seed {options.seed} in {seconds:.0f} s: {len(tally.failures)} failures"
    )
    print(f"  accepted {tally.accepted:,}, of them {tally.changed:,} with repairs in the ledger")
    print(
        f"  not accepted {tally.refused.total():,}: {', '.join(f'{code} {n:,}' for code, n in tally.refused.most_common())}"
    )
    print(
        f"  slowest case {tally.slowest[1]}: {tally.slowest[0]:.2f} s; peak memory {_peak_megabytes():.0f} MB"
    )
    sys.exit(1 if tally.failures else 0)


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
