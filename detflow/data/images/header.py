"""What an image file says before a pixel is decoded: its format, its size, its EXIF orientation.

The content decides, never the extension. A size is checked as soon as the header has told it, so
that a small file cannot make the process fill its memory.
"""

from __future__ import annotations

import contextlib
import io
import re
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, ImageFile, UnidentifiedImageError

from detflow.data.images.extra_bytes import clean_header, has_more_scans
from detflow.data.rules import UPLOAD_RULES, Rule
from detflow.types import ImageSize

DEFAULT_MAX_PIXELS = 50_000_000
MAX_IMAGE_BYTES = 256_000_000
IMAGE_SUFFIXES = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".png": "png",
    ".webp": "webp",
    ".bmp": "bmp",
    ".dib": "bmp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".gif": "gif",
    ".heic": "heif",
    ".heif": "heif",
    ".avif": "heif",
}

UNREAD_SUFFIXES = frozenset(
    {
        *(".jp2", ".j2k", ".jpf", ".jpx", ".jpc", ".j2c", ".jxl", ".jxr", ".wdp", ".hif"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tga", ".pcx", ".psd", ".exr", ".hdr", ".dds"),
        *(".cr2", ".cr3", ".nef", ".arw", ".dng", ".raw", ".raf", ".orf", ".rw2", ".pef", ".srw"),
        *(".dcm", ".ico", ".svg", ".eps", ".xcf", ".sgi", ".rgb", ".ras", ".fits", ".mpo", ".apng"),
    }
)
"""Extensions of pictures that detflow does not read."""
_UNREAD = (
    (b"\0\0\0\x0cjP  \r\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"II\xbc", "JPEG XR"),
    *((b"P%d" % kind + space, "PNM") for kind in range(1, 8) for space in (b"\n", b" ", b"\r")),
    (b"8BPS", "PSD"),
    (b"v/1\x01", "OpenEXR"),
    (b"DDS ", "DDS"),
    (b"BPG\xfb", "BPG"),
    (b"\0\0\1\0", "ICO"),
    (b"\x0a\x05\x01", "PCX"),
)
_JPEG_MAX_SIDE = 65_500
_SCAN = b"\xff\xda"
_PILLOW_FORMATS = {
    "jpeg": "JPEG",
    "png": "PNG",
    "webp": "WEBP",
    "bmp": "BMP",
    "tiff": "TIFF",
    "gif": "GIF",
}
ORIENTATION_TAG = 0x0112
_PNG_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})
# What Pillow may say of the file object, which has another address in every run.
_OBJECT = re.compile(r"<[^<>]* object at 0x[0-9a-fA-F]+>")
# Each scan costs a pass over all blocks, and a hostile one costs a file hardly any bytes. Encoders
# that search for the best script write a dozen.
_MAX_SCANS = 64
# A small picture may lie in one tile of a writer's usual size.
_MAX_TILE_PIXELS = 1 << 20
_TILE_TAGS = (0x0142, 0x0143)
# Start-of-frame markers: baseline, extended and progressive Huffman are what every decoder reads.
_PLAIN_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})


class ImageFault(Exception):
    """An image that cannot be used.

    Attributes:
        code: The code of a rule for pictures; the rules for datasets have the same three,
            and one for a file that cannot be read.
        value: What is there.
        expected: What should be.
    """

    def __init__(self, code: str, value: str, expected: str = "") -> None:
        super().__init__(code, value, expected)
        self.code = code
        self.value = value
        self.expected = expected

    @property
    def rule(self) -> Rule:
        """The rule for a picture that nobody has annotated."""
        return UPLOAD_RULES[self.code]

    def __str__(self) -> str:
        expected = f"; expected {self.expected}" if self.expected else ""
        return f"{self.code.replace('_', ' ')}: {self.value}{expected}"


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What a JPEG's segments say in front of its first scan.

    Attributes:
        frame: The marker of its start of frame, which names the coding.
        precision: Bits of a sample.
        size: Its size as stored.
        component_ids: The components' ids, which some writers use to name the colours.
        adobe_transform: The transform of its Adobe segment, where it has one.
        exif: The content of its first EXIF segment, where it has one.
    """

    frame: int
    precision: int
    size: ImageSize
    component_ids: tuple[int, ...]
    adobe_transform: int | None
    exif: bytes | None

    @property
    def is_plain(self) -> bool:
        """Whether it is 8-bit Huffman grey or YCbCr, which every decoder reads alike.

        Without a JFIF or Adobe marker, decoders take components named R, G, B for RGB.
        """
        if self.frame not in _PLAIN_FRAMES or self.precision != 8:
            return False
        if len(self.component_ids) == 1:
            return True
        return (
            len(self.component_ids) == 3
            and self.adobe_transform in (None, 1)
            and self.component_ids != tuple(b"RGB")
        )

    @property
    def kind(self) -> str:
        """A description for readers: "jpeg colour", "jpeg CMYK"."""
        colours = {1: "grey", 3: "colour", 4: "CMYK"}.get(
            len(self.component_ids), f"{len(self.component_ids)} components"
        )
        if len(self.component_ids) == 3 and not self.is_plain and self.frame in _PLAIN_FRAMES:
            colours = "RGB"
        depth = "" if self.precision == 8 else f" {self.precision} bit"
        return (
            f"jpeg {colours}{depth}"
            if self.frame in _PLAIN_FRAMES
            else f"jpeg {colours}{depth} SOF{self.frame - 0xC0}"
        )


def find_format(head: bytes) -> str | None:
    """Returns the format that a file's first 16 bytes announce; None where detflow knows none."""
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "tiff"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head[4:8] == b"ftyp" and head[8:12] in (
        b"heic",
        b"heix",
        b"mif1",
        b"msf1",
        b"avif",
        b"avis",
    ):
        return "heif"
    # A bitmap's header says how long the next header is; "BM" alone begins many a text.
    if (
        head.startswith(b"BM")
        and len(head) >= 16
        and head[14] in (12, 16, 40, 52, 56, 64, 108, 124)
        and head[15] == 0
    ):
        return "bmp"
    return None


def find_unread_format(head: bytes) -> str | None:
    """Returns the name of a format that is known and not read; None where none is announced."""
    return next((name for magic, name in _UNREAD if head.startswith(magic)), None)


def read_image_size(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> ImageSize:
    """Reads the stored size from the header.

    No pixel is decoded, so the rest of the file may still be damaged.

    Args:
        data: The whole file.
        max_pixels: An image with more pixels is refused.

    Raises:
        ImageFault: The file is no image, has too many pixels, or its header is damaged or of an
            unsupported kind.
    """
    image_format = require_format(data)
    if image_format == "jpeg":
        size = read_jpeg_header(data).size
        check_pixels(size.width, size.height, max_pixels)
        return size
    with pillow_faults(image_format):
        image = open_header(data, image_format, max_pixels)
    return ImageSize(*image.size)


def read_jpeg_header(data: bytes) -> JpegHeader:
    """Walks a JPEG's segments up to the first scan.

    Raises:
        ImageFault: The header is damaged.
    """
    header = _find_jpeg_header(data)
    if header is None:
        header = _find_jpeg_header(clean_header(data)[0])
    if header is None:
        raise ImageFault("image_undecodable", "the JPEG header is damaged")
    # Counting the two bytes is fast, but other content may hold them too.
    if data.count(_SCAN) > _MAX_SCANS and has_more_scans(data, _MAX_SCANS):
        raise ImageFault(
            "image_unsupported",
            f"jpeg with more than {_MAX_SCANS} scans",
            "the dozen that a picture needs",
        )
    return header


def _find_jpeg_header(data: bytes) -> JpegHeader | None:
    adobe_transform = exif = frame = None
    for marker, start, end in find_segments(data):
        if marker == 0xEE and data[start : start + 5] == b"Adobe" and end - start >= 12:
            adobe_transform = data[start + 11]
        elif marker == 0xE1 and data[start : start + 6] == b"Exif\0\0" and exif is None:
            exif = data[start:end]
        elif marker in _FRAMES and frame is None:
            if end - start < 6 or end - start < 6 + 3 * data[start + 5]:
                break
            precision, height, width, count = struct.unpack_from(">BHHB", data, start)
            if not (width and height and count):
                break
            frame = (
                marker,
                precision,
                ImageSize(width, height),
                tuple(data[start + 6 : start + 6 + 3 * count : 3]),
            )
        elif marker == 0xDA and frame is not None:
            return JpegHeader(*frame, adobe_transform=adobe_transform, exif=exif)
    return None


def find_segments(data: bytes) -> list[tuple[int, int, int]]:
    """Returns (marker, first byte, end) of the content of each segment up to the first scan's."""
    segments = []
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker == 0xFF:  # A fill byte.
            position += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # They have no content.
            position += 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if length < 2 or position + 2 + length > len(data):
            break
        segments.append((marker, position + 4, position + 2 + length))
        if marker == 0xDA:
            break
        position += 2 + length
    return segments


def read_orientation(exif: bytes | None) -> int:
    """Returns the orientation, 1 to 8, in an EXIF segment; 1 where there is none."""
    if exif is None:
        return 1
    entries = Image.Exif()
    try:
        entries.load(exif)
        orientation = entries.get(ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001  Pillow has no one error for damaged EXIF.
        # What nobody can read turns nothing.
        return 1
    return to_orientation(orientation)


def to_orientation(value: object) -> int:
    """Returns the value of an orientation tag where it is a valid one, else 1."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def check_pixels(width: int, height: int, max_pixels: int | None) -> None:
    """Refuses an image with too many pixels, or with a side that JPEG cannot have.

    Args:
        width: In pixels.
        height: In pixels.
        max_pixels: How many pixels are allowed; None allows any number.

    Raises:
        ImageFault: It is refused.
    """
    if max_pixels is not None and width * height > max_pixels:
        value = f"{width}x{height}, {width * height:,} pixels"
        raise ImageFault("image_too_large", value, f"at most {max_pixels:,}")
    if max(width, height) > _JPEG_MAX_SIDE:
        raise ImageFault(
            "image_unsupported",
            f"{width}x{height}",
            f"sides of at most {_JPEG_MAX_SIDE:,}, as JPEG has them",
        )


def require_format(data: bytes) -> str:
    """Returns the format of a file that Pillow is allowed to read.

    Raises:
        ImageFault: The file has no such format.
    """
    image_format = find_format(data[:16])
    if image_format is None:
        unread = find_unread_format(data[:16])
        if unread is not None:
            raise ImageFault("image_unsupported", unread, "a JPEG, PNG, WebP, BMP, TIFF or GIF")
        what = "an empty file" if not data else f"it begins with {data[:8].hex(' ')}"
        raise ImageFault("image_undecodable", what, "a JPEG, PNG, WebP, BMP, TIFF or GIF")
    if image_format not in _PILLOW_FORMATS:
        raise ImageFault("image_unsupported", image_format, "a JPEG, PNG, WebP, BMP, TIFF or GIF")
    return image_format


def open_header(data: bytes, image_format: str, max_pixels: int | None) -> ImageFile.ImageFile:
    """Opens a file with Pillow, which decodes no pixel yet, and checks its size.

    Raises:
        ImageFault: It has too many pixels.
    """
    image: ImageFile.ImageFile = Image.open(
        io.BytesIO(data), formats=(_PILLOW_FORMATS[image_format],)
    )
    check_pixels(*image.size, max_pixels)
    if image_format == "tiff":
        _check_tile(image)
    return image


def _check_tile(image: ImageFile.ImageFile) -> None:
    """Refuses a TIFF whose tiles are much larger than the picture: each is decoded as a whole.

    Raises:
        ImageFault: It is refused.
    """
    width, height = (getattr(image, "tag_v2", {}).get(tag, 0) for tag in _TILE_TAGS)
    if not isinstance(width, int) or not isinstance(height, int):
        raise ImageFault("image_undecodable", "tiff: the size of its tiles is no number")
    if width * height > max(_MAX_TILE_PIXELS, 2 * image.width * image.height):
        raise ImageFault(
            "image_unsupported",
            f"tiff of {image.width}x{image.height} in tiles of {width}x{height}",
            "tiles no larger than the picture",
        )


def drop_png_texts(data: bytes) -> bytes:
    """Leaves texts and profiles out of a PNG; the same object where it has none."""
    pieces = [data[:8]]
    position = 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if kind not in _PNG_TEXTS or end > len(data):
            pieces.append(data[position:end])
        position = end
    bare = b"".join(pieces)
    return data if len(bare) == len(data) else bare


@contextlib.contextmanager
def pillow_faults(image_format: str) -> Iterator[None]:
    """Turns whatever Pillow raises in the block into an `ImageFault`."""
    with warnings.catch_warnings():
        # Pillow warns of metadata that it does not understand, and of many pixels: only the pixels
        # count here, and `check_pixels` has looked at their number.
        warnings.simplefilter("ignore")
        try:
            yield
        except Image.DecompressionBombError as error:
            raise ImageFault("image_too_large", str(error).split(",")[0]) from None
        except ImageFault:
            raise
        except MemoryError:
            raise
        except UnidentifiedImageError:
            # Its text has the address of the file object, which is another one in every run.
            raise ImageFault(
                "image_undecodable", f"{image_format}: the header cannot be read"
            ) from None
        except Exception as error:  # noqa: BLE001  Damaged files make Pillow raise almost anything.
            reason = _OBJECT.sub("the file", str(error)) or type(error).__name__
            raise ImageFault("image_undecodable", f"{image_format}: {reason}") from None
