"""From an image file's bytes to the JPEG that goes into a record.

A plain JPEG is passed on byte for byte. Whatever decoders read differently becomes a plain JPEG
here, once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import simplejpeg

from detflow.data.images.decode import decode_image
from detflow.data.images.header import find_segments

# 95 with full colour resolution: a mean error below 1 grey level on photographs, at about a fifth
# of a PNG's size.
_JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True)
class Treatment:
    """How a file's bytes become the record's JPEG.

    Attributes:
        transcode: Whether to decode and to encode anew; otherwise the bytes are passed on.
        turn: The EXIF orientation to apply, 1 to 8; 1 turns nothing. It needs `transcode`.
        drop_exif: Whether to leave out the EXIF segments of a JPEG that is passed on.
    """

    transcode: bool = False
    turn: int = 1
    drop_exif: bool = False


def encode_record_jpeg(data: bytes, treatment: Treatment, max_pixels: int | None = None) -> bytes:
    """Returns the JPEG that goes into the record.

    Args:
        data: A file that `read_image_facts` accepted.
        treatment: What the audit decided.
        max_pixels: An image with more pixels is refused from its header; needed only for a file
            that was not accepted before.

    Raises:
        ImageFault: A file that was not accepted before cannot be decoded.
    """
    if not treatment.transcode:
        return _drop_exif(data) if treatment.drop_exif else data
    image = decode_image(data, treatment.turn, max_pixels)
    pixels = np.ascontiguousarray(np.asarray(image))
    if image.mode == "L":
        return bytes(
            simplejpeg.encode_jpeg(
                pixels[:, :, None],
                quality=_JPEG_QUALITY,
                colorspace="GRAY",
                colorsubsampling="Gray",
            )
        )
    return bytes(
        simplejpeg.encode_jpeg(
            pixels, quality=_JPEG_QUALITY, colorspace="RGB", colorsubsampling="444"
        )
    )


def _drop_exif(data: bytes) -> bytes:
    pieces = []
    kept_from = 0
    for marker, start, end in find_segments(data):
        if marker == 0xE1 and data[start : start + 6] == b"Exif\0\0":
            pieces.append(data[kept_from : start - 4])
            kept_from = end
    return b"".join([*pieces, data[kept_from:]])
