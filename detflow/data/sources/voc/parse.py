"""From a file's bytes to its XML tree, whatever its writer did to the encoding and the first line.

The parser never opens a file or a socket and expands nothing. Formal faults that leave nothing open
are mended, each with a finding; the tree's lines are those of the file.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

from lxml import etree

from detflow.data.findings import Finding

MAX_XML_BYTES = 10_000_000

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
_ENCODING = re.compile(
    rb"""\s*<\?xml[^>]{0,100}?encoding\s{0,9}=\s{0,9}["']([A-Za-z][A-Za-z0-9._:-]{0,40})["']"""
)
_DECLARATION = re.compile(r"[\s\ufeff]*<\?xml\s[^>]{0,400}\?>")
# Byte order marks, white space, declarations, comments and a DOCTYPE, which reading refuses.
_PROLOGUE = re.compile(
    r"(?:[\s\ufeff]+|<\?.*?\?>|<!--.*?-->|<!DOCTYPE\s+(?:\w+:)?annotation\b[^>\[]*"
    r"(?:\[.*?\]\s*)?>)*+",
    re.DOTALL,
)
_ROOT = re.compile(r"<(?:[\w.-]+:)?annotation", re.IGNORECASE)
_SINGLE_BYTE = re.compile(r"iso8859-\d+|cp12\d\d|latin.*|ascii|koi8-[rtu]|mac.*")
# Python's names of the encodings in which every byte below 0x40 stands for itself, so that markup
# is where it seems to be.
_MULTI_BYTE = frozenset(
    {"gbk", "gb2312", "gb18030", "big5", "cp950", "shift_jis", "cp932", "euc_jp", "euc_kr", "cp949"}
)
# What must not be in an unknown encoding, and what may be, since it is emptied.
_CERTAIN_TEXT = frozenset({"name", "filename", "pose"})
_FREE_TEXT = frozenset({"path", "folder"})


class Unreadable(Exception):
    """Ends the reading of a file, or of its objects, with a finding."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding


class Tree(NamedTuple):
    """A file as a tree.

    Attributes:
        root: The root element; comments and processing instructions are left out.
        findings: What was mended before it could be read.
    """

    root: etree._Element
    findings: tuple[Finding, ...]


class _Mended(NamedTuple):
    """A file's text where the parser refuses its bytes.

    Attributes:
        text: The text, with the XML declaration blanked out.
        head: What is wrong with the beginning; empty where nothing is.
        encoding: What is wrong with the encoding; empty where nothing is.
        is_unknown: Whether nobody knows the encoding, so that only ASCII is certain.
    """

    text: str
    head: str
    encoding: str
    is_unknown: bool


def parse_xml(data: bytes, path: str) -> Tree:
    """Parses a file.

    Args:
        data: Its bytes.
        path: Its path inside the dataset, for findings.

    Raises:
        Unreadable: It is too large, not well-formed, or has a DOCTYPE.
    """
    if len(data) > MAX_XML_BYTES:
        raise Unreadable(
            Finding(
                "xml_too_large",
                path,
                value=f"{len(data):,} bytes",
                expected=f"at most {MAX_XML_BYTES:,}",
            )
        )
    for doctype in _DOCTYPES:
        if (place := data.find(doctype)) >= 0:
            raise Unreadable(
                Finding(
                    "xml_doctype", path, line=data.count(b"\n", 0, place) + 1, value="<!DOCTYPE"
                )
            )
    mended = None
    try:
        if _is_misdeclared_utf8(data):
            mended = _mend(data)
        root = etree.fromstring(mended.text.encode() if mended else data, _PARSER)
    except etree.XMLSyntaxError as error:
        mended = mended or _mend(data)
        root = _parse_mended(mended, error, path)
    # The file may be in an encoding in which those bytes look different.
    if root.getroottree().docinfo.internalDTD is not None:
        raise Unreadable(Finding("xml_doctype", path, line=1, value="<!DOCTYPE"))
    findings = []
    if mended is not None:
        if mended.is_unknown:
            _require_ascii(root, mended, path)
        if mended.head:
            findings.append(Finding("xml_head_wrong", path, line=1, value=mended.head))
        if mended.encoding:
            findings.append(Finding("encoding_wrong", path, line=1, value=mended.encoding))
    return Tree(root, tuple(findings))


def is_annotation_head(head: bytes) -> bool:
    """Whether a file's first bytes are those of an annotation, whatever stands before its root.

    A comment that is longer than the head may hide anything, so that the whole file decides.
    """
    if head.startswith((codecs.BOM_UTF16_LE, b"<\0")):
        text = head.decode("utf-16-le", "replace")
    elif head.startswith((codecs.BOM_UTF16_BE, b"\0<")):
        text = head.decode("utf-16-be", "replace")
    else:
        text = head.decode("utf-8", "replace")
    match = _PROLOGUE.match(text)
    rest = text[match.end() :] if match else text
    return rest.startswith(("<!--", "<?")) or bool(_ROOT.match(rest))


def line_of(element: etree._Element) -> int:
    """Returns the line where an element begins."""
    line = element.sourceline
    return line if isinstance(line, int) else 1


def _parse_mended(mended: _Mended | None, error: etree.XMLSyntaxError, path: str) -> etree._Element:
    """Parses a mended text.

    Raises:
        Unreadable: There is none, or it is not well-formed either.
    """
    if mended is not None and (mended.head or mended.encoding):
        try:
            return etree.fromstring(mended.text.encode("utf-8", "surrogatepass"), _PARSER)
        except etree.XMLSyntaxError as again:
            if mended.head:
                error = again
    raise Unreadable(
        Finding("xml_malformed", path, line=error.lineno or 1, value=error.msg or "empty")
    )


def _declared_codec(data: bytes) -> tuple[str, str | None]:
    """Returns the encoding that a file declares, and Python's name of it.

    The first is empty where the file declares none, the second None where it is not known.
    """
    match = _ENCODING.match(data)
    if match is None:
        return "", "utf-8"
    declared = match[1].decode("ascii")
    try:
        return declared, codecs.lookup(declared).name
    except LookupError:
        return declared, None


def _is_misdeclared_utf8(data: bytes) -> bool:
    """Whether a file says something else and is UTF-8, which the parser would not notice.

    Letters beyond ASCII that form nothing but sequences of UTF-8 are no accident where the file
    says one byte a letter: in Latin-1 they would be pairs such as "Ã¤". Of encodings such as GBK,
    pairs of bytes are common that UTF-8 has, too (猫 is è), so what those files declare counts,
    unless it makes signs of them that GB 2312 does not have, and UTF-8 makes sequences of three.
    """
    declared, codec = _declared_codec(data)
    if not declared or codec is None or data.isascii():
        return False
    is_pairs = codec in ("gbk", "gb18030")
    if not is_pairs and not _SINGLE_BYTE.fullmatch(codec):
        return False
    text = _decode(data, "utf-8")
    if text is None or not is_pairs:
        return text is not None
    return max(text) >= "\u0800" and _decode(data, "gb2312") is None


def _mend(data: bytes) -> _Mended | None:
    """Returns a file's text by what the bytes are, and what is wrong with its form.

    None where the file declares an encoding in which ASCII may mean something else.
    """
    head = []
    body = data
    while body.startswith(codecs.BOM_UTF8):
        body = body[3:]
    num_marks = (len(data) - len(body)) // 3
    declared, codec = _declared_codec(body)
    if body.startswith((codecs.BOM_UTF16_LE, b"<\0")):
        codec = "utf-16-le"
    elif body.startswith((codecs.BOM_UTF16_BE, b"\0<")):
        codec = "utf-16-be"
    elif num_marks or (codec or "").startswith(("utf-16", "utf-32")):
        codec = "utf-8"
    elif codec is not None and not _keeps_markup(codec):
        return None
    elif _is_misdeclared_utf8(body) or (codec is None and body.isascii()):
        codec = "utf-8"
    text = None if codec is None else _decode(body, codec)
    if text is None and codec is not None and (text := _decode(body, "utf-8")) is not None:
        codec = "utf-8"
    encoding = ""
    said = declared or "nothing, so UTF-8"
    is_unknown = text is None
    if text is None or codec is None:
        # Every encoding that is left keeps the markup in ASCII, and so does this one.
        text, encoding = body.decode("latin-1"), f"says {said}, and cannot be read so"
    elif not body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and not _is_same(
        declared or "utf-8", codec
    ):
        encoding = f"says {said}, is {codec.upper().removesuffix('-LE').removesuffix('-BE')}"
    stripped = text.lstrip("\ufeff")
    num_marks += len(text) - len(stripped)
    if num_marks > 1:
        head.append(f"{num_marks} byte order marks")
    if (declaration := _DECLARATION.match(stripped)) is not None:
        if not stripped.startswith("<?xml"):
            head.append("white space before the XML declaration")
        blank = re.sub(r"[^\n]", " ", declaration[0])
        stripped = blank + stripped[declaration.end() :]
        if not head and not encoding:
            head.append("an XML declaration that parsers refuse")
    return _Mended(stripped, " and ".join(head), encoding, is_unknown)


def _decode(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None


def _keeps_markup(codec: str) -> bool:
    return codec in ("utf-8", *_MULTI_BYTE) or bool(_SINGLE_BYTE.fullmatch(codec))


def _is_same(declared: str, codec: str) -> bool:
    try:
        name = codecs.lookup(declared).name
    except LookupError:
        return False
    return name in (codec, "utf-16") if codec.startswith("utf-16") else name == codec


def _require_ascii(root: etree._Element, mended: _Mended, path: str) -> None:
    """Refuses a tree in an unknown encoding if a text that may be read needs it.

    Where the annotator's folder is, nobody needs to know: it is emptied.

    Raises:
        Unreadable: A name is in an unknown encoding.
    """
    for element in root.iter():
        if (element.text or "").isascii():
            continue
        tag = element.tag.rpartition("}")[2].lower()
        if tag in _FREE_TEXT:
            element.text = None
        if tag not in _CERTAIN_TEXT:
            continue
        value = f"the encoding: the file {mended.encoding}; <{element.tag}> is not ASCII"
        raise Unreadable(Finding("xml_malformed", path, line=line_of(element), value=value))
