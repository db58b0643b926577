"""Mutations of annotations and of pictures, each a function of a random generator and the file."""

from __future__ import annotations

import codecs
import random
import re
import struct
import zlib
from collections.abc import Callable

from fuzz.sound import build_image, build_object

_NUMBERS = (
    *["nan", "inf", "-inf", "Infinity", "1_000", "１２", "٣"],
    "",
    " ",
    *["12abc", "0x10", "1e3", "1E1", "1e400", "-1e400", "1e-400", "--5", "+7", "-5", "-0", "0"],
    *["0.0", ".5", "5.", ".", "1.2.3", "12,5"],
    "1 2",
    *["999999999999999999999999999999"],
    "9" * 400,
    *["1e", "e5"],
    "\xa012",
    "12\n",
    *["½", "1.9999999999", "0.0000000001", "96.00000001", "97", "65", "1000", "-1000"],
    "2147483648",
    *["10000000000000000000", "True", "None", "12px"],
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
    "",
    *["other.jpg", "../a.jpg"],
    "..\\a.jpg",
    *["/etc/passwd", "a", "A.JPG", "a.png", "sub/a.jpg"],
    "C:\\x\\a.jpg",
    "a.jpg\n",
    *["./a.jpg", "a.jpg/..", "....//a.jpg"],
    "a b.jpg",
    *["%2e%2e/a.jpg", "a.jpg.xml", "~", "CON", "con.jpg", "á.jpg"],
)
_MISNAMED = (
    *(("object", name) for name in ("Object", "OBJECT", "obj", "item", "objects")),
    *(("bndbox", name) for name in ("Bndbox", "bbox", "box", "bounding_box", "BNDBOX", "region")),
    *((tag, name) for tag in ("xmin", "ymax") for name in (tag.upper(), f"{tag[0]}_{tag[1:]}")),
    *(("name", "Name"), ("size", "Size"), ("filename", "Filename"), ("annotation", "Annotation")),
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
    if draw < 0.1:
        return _misdeclare(rng, text)
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


def _misdeclare(rng: random.Random, text: str) -> bytes:
    """Writes a head or an encoding as tools do that did not look."""
    body = re.sub(r"^<\?xml[^>]*\?>", "", text)
    says = rng.choice(("utf-8", "utf-16", "latin-1", "ISO-8859-1", "windows-1252", "gbk", "ascii"))
    is_in = rng.choice(("utf-8", "utf-8", "latin-1", "gbk", "utf-16", "utf-16-le"))
    declaration = rng.choice((f'<?xml version="1.0" encoding="{says}"?>\n', ""))
    before = rng.choice(("", "", "\n", " \r\n", "\ufeff\ufeff", "\ufeff \ufeff"))
    text = before + declaration + body
    try:
        return text.encode(is_in)
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


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


def _misname(rng: random.Random, text: str) -> str:
    """Names elements as people and tools do, sometimes only the first of them."""
    old, new = rng.choice(_MISNAMED)
    count = rng.choice((0, 1))
    if rng.random() < 0.3:
        space = rng.choice((' xmlns:q="u"', ' xmlns:q="u"', ' xmlns:q="u"', ""))
        text = re.sub(rf"<{old}>", f"<q:{old}{space}>", text, count=count)
        return re.sub(rf"</{old}>", f"</q:{old}>", text, count=count)
    text = re.sub(rf"<{old}>", f"<{new}>", text, count=count)
    return re.sub(rf"</{old}>", f"</{new}>", text, count=count)


def _reshape_box(rng: random.Random, text: str) -> str:
    """Writes boxes in other forms than VOC's."""

    def reshape(match: re.Match[str]) -> str:
        fields = dict(re.findall(r"<(\w+)>([^<]*)</\1>", match[0]))
        if sorted(fields) != ["xmax", "xmin", "ymax", "ymin"]:
            return match[0]
        x0, y0, x1, y1 = (fields[tag] for tag in ("xmin", "ymin", "xmax", "ymax"))
        corners = "".join(f"<{tag}>{value}</{tag}>" for tag, value in fields.items())
        return rng.choice(
            (
                "<bndbox " + " ".join(f'{tag}="{value}"' for tag, value in fields.items()) + "/>",
                corners,
                f"<bbox>{corners}</bbox>",
                f"<bbox>{x0} {y0} {x1} {y1}</bbox>",
                f"<polygon><x1>{x0}</x1><y1>{y0}</y1><x2>{x1}</x2><y2>{y0}</y2>"
                f"<x3>{x1}</x3><y3>{y1}</y3></polygon>",
                f"<polygon><pt><x>{x0}</x><y>{y1}</y></pt><pt><x>{x1}</x><y>{y0}</y></pt>"
                f"<pt><x>{x1}</x><y>{y1}</y></pt></polygon>",
                f"<robndbox><cx>40</cx><cy>30</cy><w>{x0}</w><h>9.5</h>"
                f"<angle>{rng.choice((0, 0.5, 1.5708, 3, 30))}</angle></robndbox>",
            )
        )

    return re.sub(r"<bndbox>.*?</bndbox>", reshape, text, count=rng.choice((0, 1)))


def _move_out(rng: random.Random, text: str) -> str:
    """Leaves a box where it belongs to no object."""
    return re.sub(r"(<bndbox>.*?</bndbox>)</object>", r"</object>\1", text, count=1)


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
    return text.replace("</object>", build_object(rng) + "</object>", 1)


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


def make_hostile(rng: random.Random, text: str) -> str:
    """Makes an annotation that would harm a careless parser: bombs, depth, or sheer numbers."""
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
                "</annotation>", build_object(rng) * rng.choice((200, 21_000)) + "</annotation>"
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
    *(_misname, _misname, _reshape_box, _reshape_box, _move_out),
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
    if rng.random() < 0.15 and data.startswith(b"\xff\xd8"):
        data = _add_extra_bytes(rng, data)
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


def _add_extra_bytes(rng: random.Random, data: bytes) -> bytes:
    """Puts bytes that mean nothing into a JPEG."""
    extra = rng.choice((bytes(rng.choice((1, 9, 900))), rng.randbytes(rng.choice((1, 4, 20, 90)))))
    extra = extra.replace(b"\xff", b"\xfe")
    table, end = data.find(b"\xff\xdb"), data.rfind(b"\xff\xd9")
    place = rng.choice((table, end, end, len(data)))
    return data if place < 0 else data[:place] + extra + data[place:]


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
