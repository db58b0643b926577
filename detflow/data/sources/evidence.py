"""What files say about pairs beyond their names: images' sizes, and equal bytes.

It is read only for what their names leave open, and may be read in any process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from PIL import Image

from detflow.data.images.header import (
    MAX_IMAGE_BYTES,
    ORIENTATION_TAG,
    ImageFault,
    open_header,
    pillow_faults,
    read_jpeg_header,
    read_orientation,
    require_format,
    to_orientation,
)
from detflow.storage.faults import read_readable
from detflow.storage.interface import Folder

_HEAD_BYTES = 1 << 18


class HeaderSize(NamedTuple):
    """The size in an image's header.

    Attributes:
        width: In pixels, as stored.
        height: In pixels, as stored.
        is_turned: Whether EXIF asks for a quarter turn, so that the sides may be exchanged.
    """

    width: int
    height: int
    is_turned: bool

    def fits(self, size: tuple[int, int]) -> bool:
        """Whether an annotation's width and height are this image's."""
        stored = (self.width, self.height)
        return size == stored or (self.is_turned and size == stored[::-1])

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


class Evidence(Protocol):
    """Reads what the names leave open."""

    def read_sizes(self, images: Sequence[str]) -> Mapping[str, HeaderSize]:
        """Returns the sizes of images; one whose header cannot be read is left out."""

    def read_digests(self, files: Sequence[str]) -> Mapping[str, bytes]:
        """Returns the SHA-256 of files."""


def read_header_size(data: bytes) -> HeaderSize | None:
    """Returns the size in an image's header; None where it cannot be read.

    Args:
        data: The file, or its first part.
    """
    try:
        image_format = require_format(data)
        if image_format == "jpeg":
            header = read_jpeg_header(data)
            return HeaderSize(
                header.size.width, header.size.height, read_orientation(header.exif) >= 5
            )
        with pillow_faults(image_format):
            image: Image.Image = open_header(data, image_format, None)
            orientation = to_orientation(image.getexif().get(ORIENTATION_TAG))
            return HeaderSize(*image.size, orientation >= 5)
    except ImageFault:
        return None


@dataclass(frozen=True)
class SizeReader:
    """Reads the sizes of a batch of images; a value that can be sent to any process."""

    source: Folder

    def __call__(self, images: Sequence[str]) -> list[HeaderSize | None]:
        """Returns the size of each image; None where its header cannot be read."""
        sizes = []
        for path in images:
            data = read_readable(self.source, path, _HEAD_BYTES) or b""
            size = read_header_size(data)
            if size is None and len(data) == _HEAD_BYTES:
                # A TIFF may have its header at the end, a JPEG a long profile in front.
                size = read_header_size(self.source.read(path, MAX_IMAGE_BYTES))
            sizes.append(size)
        return sizes


@dataclass(frozen=True)
class DigestReader:
    """Digests a batch of files; a value that can be sent to any process."""

    source: Folder

    def __call__(self, files: Sequence[str]) -> list[bytes]:
        """Returns the SHA-256 of each file; of one that cannot be read, that of its path."""
        digests = []
        for path in files:
            data = read_readable(self.source, path, MAX_IMAGE_BYTES + 1)
            content = path.encode("utf-8", "surrogateescape") if data is None else data
            digests.append(hashlib.sha256(content).digest())
        return digests
