"""How much memory decoding a picture and the work on it take, told before anything is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

CHANNELS: Final = 3
"""Channels of a decoded picture, RGB; each has one byte a pixel."""

DEFAULT_MAX_BYTES: Final = 2 << 30
"""What reading a picture and detecting on it may take where nobody says otherwise."""

_WORK_BYTES = 20
"""Bytes a pixel that decoding a picture or fitting it into the canvas takes for a moment, beside
the picture itself. Measured as the peak of a process with 12 megapixels: 18 for the ONNX file's
resize, 14 for a WebP, 13 for a PNG with alpha, 8 for one without, less than 1 for a JPEG, 6 for a
progressive one."""

_TEXT_KINDS = (b"zTXt", b"iTXt", b"tEXt", b"iCCP")
# Pillow reads at most so much of one text, and of all of them, as bytes and as letters.
_MAX_TEXT_BYTES = 2 << 20
_MAX_TEXTS_BYTES = 128 << 20


def count_picture_bytes(pixels: Sequence[int]) -> int:
    """Returns the memory for decoded pictures and for the work on one of them at a time.

    Args:
        pixels: Number of pixels of each.
    """
    return CHANNELS * sum(pixels) + _WORK_BYTES * max(pixels, default=0)


def count_file_bytes(data: bytes, pixels: int) -> int:
    """Returns the memory for a picture from its file: the bytes, what they hold, and the work.

    Args:
        data: The file.
        pixels: Number of its pixels, by its header.
    """
    # Some decoders take a copy of the file, and a copy of the picture is made where it is written.
    return 2 * len(data) + count_text_bytes(data) + count_picture_bytes([pixels, pixels])


def count_text_bytes(data: bytes) -> int:
    """Returns how much memory the texts and profiles of a PNG take at most while it is read."""
    if not data.startswith(b"\x89PNG"):
        return 0
    texts = sum(data.count(kind) for kind in _TEXT_KINDS)
    return min(texts * _MAX_TEXT_BYTES, _MAX_TEXTS_BYTES)
