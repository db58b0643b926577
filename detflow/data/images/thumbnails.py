"""Small pictures for a page: a few kilobytes each, and never a reason to fail."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from detflow.data.images.decode import read_image_facts
from detflow.data.images.header import DEFAULT_MAX_PIXELS, MAX_IMAGE_BYTES, ImageFault, find_format
from detflow.data.images.transcode import Treatment, encode_record_jpeg
from detflow.storage.interface import Folder
from detflow.types import ImageSize

_QUALITY = 74


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small picture.

    Attributes:
        jpeg: A JPEG file's bytes.
        size: The size of the image that it stands for, in whose pixels boxes are given.
        own_size: Its own size.
    """

    jpeg: bytes
    size: ImageSize
    own_size: ImageSize

    def describe(self) -> str:
        """Returns how much smaller it is than the image; nothing where it is not."""
        if self.own_size == self.size:
            return ""
        return f"shown with {self.own_size} of {self.size} pixels"


def read_thumbnail(
    source: Folder, image: str, treatment: Treatment, max_side: int, quality: int = _QUALITY
) -> Thumbnail | None:
    """Shrinks an image of a dataset.

    Args:
        source: The dataset's folder.
        image: The image's path inside it.
        treatment: How the image goes into the record, so that a turned one is turned here too.
        max_side: The longer side of the result in pixels.
        quality: Of the JPEG, 1 to 100.

    Returns:
        The picture; of a damaged file, what could be decoded; None where there is nothing to show.
    """
    try:
        data = source.read(image, MAX_IMAGE_BYTES + 1)
    except OSError:
        # It is gone, or must not be read: the findings say so.
        return None
    if len(data) > MAX_IMAGE_BYTES:
        return None
    if find_format(data[:16]) == "jpeg" and treatment.turn == 1:
        shrunk = shrink_jpeg(data, max_side, quality)
        if shrunk is not None:
            return shrunk
    if find_format(data[:16]) is None:
        return None
    try:
        jpeg = encode_record_jpeg(
            data, Treatment(transcode=True, turn=treatment.turn), DEFAULT_MAX_PIXELS
        )
    except ImageFault:
        return None
    return shrink_jpeg(jpeg, max_side, quality)


def read_turn(source: Folder, image: str) -> int:
    """Returns the EXIF orientation of an image of a dataset; 1 where it has none or is unreadable.

    Args:
        source: The dataset's folder.
        image: The image's path inside it.
    """
    try:
        return read_image_facts(source.read(image, MAX_IMAGE_BYTES)).orientation
    except (FileNotFoundError, ImageFault):
        return 1


def shrink_jpeg(data: bytes, max_side: int, quality: int = _QUALITY) -> Thumbnail | None:
    """Shrinks a JPEG; of a damaged file, what can be decoded.

    Args:
        data: The file's bytes.
        max_side: The longer side of the result in pixels.
        quality: Of the JPEG, 1 to 100.

    Returns:
        The picture; None where there is nothing to show.
    """
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data, strict=False)
        if width * height > DEFAULT_MAX_PIXELS:
            return None
        factor = min(1.0, max_side / max(width, height))
        target = max(1, round(width * factor)), max(1, round(height * factor))
        pixels = _decode_reduced(data, ImageSize(width, height), ImageSize(*target))
    except (ValueError, KeyError):
        # simplejpeg raises a KeyError for a header whose subsampling it does not know.
        return None
    if (pixels.shape[1], pixels.shape[0]) != target:
        pixels = np.asarray(Image.fromarray(pixels).resize(target, Image.Resampling.BILINEAR))
    jpeg = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=quality, colorspace="RGB", colorsubsampling="420"
    )
    return Thumbnail(bytes(jpeg), ImageSize(width, height), ImageSize(*target))


def _decode_reduced(data: bytes, size: ImageSize, target: ImageSize) -> npt.NDArray[np.uint8]:
    """Returns pixels [height, width, 3], at least as many as the target has on both sides.

    Where a file breaks off, the decoder leaves the rest of its buffer as it was. Fresh memory would
    show whatever the process had there before, different in every run; so a damaged file is decoded
    into a grey buffer.
    """
    bounds = {"min_width": target.width, "min_height": target.height, "min_factor": 1}
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, "RGB", **bounds, strict=True))
    except ValueError:
        eighths = min(
            8, math.ceil(8 * max(target.width / size.width, target.height / size.height)) + 1
        )
        num_pixels = math.ceil(size.width * eighths / 8) * math.ceil(size.height * eighths / 8)
        grey = np.full(num_pixels * 3, 128, np.uint8)
        return np.asarray(simplejpeg.decode_jpeg(data, "RGB", **bounds, buffer=grey, strict=False))
