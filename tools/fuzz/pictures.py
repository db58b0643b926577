"""Pictures that are small as files and large as anything else, and sound ones beside them."""

from __future__ import annotations

import io
import random
import struct
import zlib
from typing import Any

from PIL import Image, ImageDraw

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PIECE = 1 << 20


def draw(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    """Draws some rectangles."""
    image = Image.new("RGB", size, tuple(rng.randrange(256) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    for _ in range(4):
        left, top = (rng.randrange(side) for side in size)
        fill = tuple(rng.randrange(256) for _ in range(3))
        pen.rectangle((left, top, left + size[0] // 3, top + size[1] // 3), fill)
    return image


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Returns a picture as a file's bytes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def build_png(
    width: int, height: int, depth: int = 8, colour: int = 2, is_interlaced: bool = False
) -> bytes:
    """Returns a black PNG of any size; an interlaced one is damaged."""
    row = bytes(1 + (width * _CHANNELS[colour] * depth + 7) // 8)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, is_interlaced)
    return _assemble_png(header, [], _squeeze(row, height))


def build_png_of_texts(count: int) -> bytes:
    """Returns a PNG of 8x8 pixels with texts of a megabyte each, compressed to a kilobyte."""
    text = _squeeze(b"A" * _PIECE, 1)
    texts = [_chunk(b"zTXt", b"k%d\0\0" % i + text) for i in range(count)]
    return _assemble_png(
        struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0), texts, _squeeze(bytes(25), 8)
    )


def build_tiff_in_tiles(width: int, height: int) -> bytes:
    """Returns a grey TIFF of 64x64 pixels that lies in the corner of one tile of another size."""
    data = _squeeze(bytes(width), height)

    def build(offset: int) -> bytes:
        return _assemble_tiff(
            (256, 64), (257, 64), (258, 8), (259, 8), (262, 1), (277, 1), (284, 1),
            (322, width), (323, height), (324, offset), (325, len(data)),
        )  # fmt: skip

    return build(len(build(0))) + data


def build_tiff_of_pages(count: int) -> bytes:
    """Returns a grey TIFF of 8x8 pixels with so many pages, all of the same pixels."""
    tags = (
        (256, 8),
        (257, 8),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 8),
        (279, 64),
    )
    size = 2 + 12 * len(tags) + 4
    first = 8 + 64
    pages = [_directory(tags, first + size * (i + 1) if i + 1 < count else 0) for i in range(count)]
    return b"II*\0" + struct.pack("<I", first) + bytes(64) + b"".join(pages)


def build_jpeg_of_scans(count: int, size: tuple[int, int] = (1_500, 1_500)) -> bytes:
    """Returns a progressive JPEG whose last scan is repeated."""
    content = encode(Image.new("RGB", size, (9, 99, 199)), "JPEG", progressive=True)
    last = content[content.rfind(b"\xff\xda") : -2]
    return content[:-2] + last * count + content[-2:]


def _squeeze(piece: bytes, times: int) -> bytes:
    squeezer = zlib.compressobj(6)
    # Few large calls: a call for each row would take longer than the compression.
    together = max(1, _PIECE // len(piece))
    large, (whole, rest) = piece * min(together, times), divmod(times, together)
    pieces = [squeezer.compress(large) for _ in range(whole)]
    return b"".join([*pieces, squeezer.compress(piece * rest), squeezer.flush()])


def _chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def _assemble_png(header: bytes, more: list[bytes], data: bytes) -> bytes:
    chunks = [_chunk(b"IHDR", header), *more, _chunk(b"IDAT", data), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _assemble_tiff(*tags: tuple[int, int]) -> bytes:
    return b"II*\0" + struct.pack("<I", 8) + _directory(tags, 0)


def _directory(tags: tuple[tuple[int, int], ...], following: int) -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)
