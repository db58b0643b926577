"""Which files without loss every decoder reads alike, so that they can be passed on as they are."""

from __future__ import annotations

from collections.abc import Iterator

from detflow.data.images.header import find_format

_PNG_HEAD_BYTES = 8
_GREY, _RGB = 0, 2
# What changes the pixels, or how they are shown: transparency, EXIF's turn, an animation.
_TELLING_CHUNKS = frozenset({b"tRNS", b"eXIf", b"acTL"})
_TEXT_CHUNKS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
# ImageMagick keeps EXIF in a text of this name.
_EXIF_KEYWORD = b"Raw profile type"


def find_lossless_suffix(data: bytes) -> str | None:
    """Returns the suffix of a file without loss that is 8-bit grey or RGB and nothing else.

    Args:
        data: A file that `read_image_facts` accepted.

    Returns:
        ".png" or ".bmp"; None for any other file, and where transparency, a palette, EXIF or an
        animation might be read differently.
    """
    image_format = find_format(data[:16])
    if image_format == "png" and _is_plain_png(data):
        return ".png"
    # 24 bits a pixel, not compressed.
    if image_format == "bmp" and data[14] >= 40 and data[28:34] == b"\x18\0\0\0\0\0":
        return ".bmp"
    return None


def _is_plain_png(data: bytes) -> bool:
    for kind, start, end in _walk_chunks(data):
        if kind == b"IHDR" and (data[start + 8] != 8 or data[start + 9] not in (_GREY, _RGB)):
            return False
        if kind in _TELLING_CHUNKS:
            return False
        if kind in _TEXT_CHUNKS and data[start:end].startswith(_EXIF_KEYWORD):
            return False
    return True


def _walk_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields the kind, the first and the last-but-one byte of each chunk's content."""
    place = _PNG_HEAD_BYTES
    while place + 8 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        yield data[place + 4 : place + 8], place + 8, place + 8 + length
        place += 12 + length
