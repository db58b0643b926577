"""From an image file's bytes to the JPEG that goes into a record.

A plain JPEG is passed on byte for byte. Whatever decoders read differently becomes a plain JPEG
here, once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image

from detflow.data.images.decode import decode_image
from detflow.data.images.header import find_segments
from detflow.types import ImageSize

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
        max_side: How long the longer side may be at most, in pixels; 0 allows any length. An image
            that is larger needs `transcode`.
    """

    transcode: bool = False
    turn: int = 1
    drop_exif: bool = False
    max_side: int = 0

    def shrink(self, size: ImageSize) -> ImageSize:
        """Returns what becomes of an image's size, after its turn."""
        longest = max(size.width, size.height)
        if not 0 < self.max_side < longest:
            return size
        width, height = (
            max(1, round(side * self.max_side / longest)) for side in (size.width, size.height)
        )
        return ImageSize(width, height)


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
    size = treatment.shrink(ImageSize(*image.size))
    if (size.width, size.height) != image.size:
        # Each pixel becomes the mean of those that lie in it: in whole numbers, so that every
        # machine has the same result.
        image = image.resize((size.width, size.height), Image.Resampling.BOX)
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
