"""One image file: what it is, whether all of it decodes, and the JPEG that goes into the record.

The content decides, never the extension. The header's size is checked before a pixel is decoded. A
plain JPEG is passed on byte for byte; whatever decoders read differently (docs/repairs.md has the
table) becomes a plain JPEG here, once, so that training, evaluation, export and prediction see the
same pixels.
"""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageFile

from detflow.types import ImageSize

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "IMAGE_SUFFIXES",
    "MAX_IMAGE_BYTES",
    "Grey",
    "ImageFacts",
    "ImageFault",
    "Treatment",
    "decode_pixels",
    "decode_rgb",
    "encode_record_jpeg",
    "find_format",
    "perceptual_hash",
    "read_image_facts",
    "read_image_size",
]

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

# 95 with full colour resolution: a mean error below 1 grey level on photographs, at about a fifth
# of a PNG's size.
_JPEG_QUALITY = 95
_JPEG_MAX_SIDE = 65_500
_PILLOW_FORMATS = {
    "jpeg": "JPEG",
    "png": "PNG",
    "webp": "WEBP",
    "bmp": "BMP",
    "tiff": "TIFF",
    "gif": "GIF",
}
_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Start-of-frame markers: baseline, extended and progressive Huffman are what every decoder reads.
_PLAIN_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})

Grey = npt.NDArray[np.uint8]
"""A small grey rendition, uint8 of shape (height, width): what a perceptual hash is made of."""

_Weights = npt.NDArray[np.float32]


class ImageFault(Exception):
    """An image that cannot be used.

    Attributes:
        code: A key of `findings.RULES`.
        value: What is there.
        expected: What should be.
    """

    def __init__(self, code: str, value: str, expected: str = "") -> None:
        super().__init__(code, value, expected)
        self.code = code
        self.value = value
        self.expected = expected

    def __str__(self) -> str:
        expected = f"; expected {self.expected}" if self.expected else ""
        return f"{self.code.replace('_', ' ')}: {self.value}{expected}"


@dataclass(frozen=True, slots=True)
class Treatment:
    """How a file's bytes become the record's JPEG.

    Attributes:
        transcode: Decode and encode anew; otherwise the bytes are passed on.
        turn: The EXIF orientation to apply, 1 to 8; 1 turns nothing. Needs `transcode`.
        drop_exif: Leave out the EXIF segments of a JPEG that is passed on.
    """

    transcode: bool = False
    turn: int = 1
    drop_exif: bool = False


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What a file holds, after all of it was decoded.

    Attributes:
        format: "jpeg", "png", …, by content.
        kind: For readers: "png RGBA", "jpeg CMYK".
        size: As stored, before any EXIF turn.
        orientation: EXIF's, 1 to 8; 1 where it has none.
        is_plain_jpeg: Every consumer decodes it alike (but for EXIF).
        grey: A small rendition of the stored pixels.
    """

    format: str
    kind: str
    size: ImageSize
    orientation: int
    is_plain_jpeg: bool
    grey: Grey

    @property
    def turned_size(self) -> ImageSize:
        """The size after EXIF's turn."""
        return ImageSize(self.size.height, self.size.width) if self.orientation >= 5 else self.size


def find_format(head: bytes) -> str | None:
    """Returns the format that a file's first 16 bytes announce, or None for what is no image that detflow knows."""
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


def read_image_facts(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> ImageFacts:
    """Reads the header, checks the size, then decodes everything once.

    Args:
        data: The whole file.
        max_pixels: More are refused from the header.

    Raises:
        ImageFault: The file is no image, has too many pixels, is damaged or of an unsupported kind.
    """
    image_format = _require_format(data)
    if image_format == "jpeg":
        return _read_jpeg_facts(data, max_pixels)
    image, orientation = _open(data, image_format, max_pixels)
    rgb = _to_eight_bit(image)
    return ImageFacts(
        format=image_format,
        kind=f"{image_format} {image.mode}",
        size=ImageSize(*rgb.size),
        orientation=orientation,
        is_plain_jpeg=False,
        grey=_shrink(rgb),
    )


def read_image_size(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> ImageSize:
    """Reads the stored size from the header; no pixel is decoded, so the rest of the file may still be damaged.

    Args:
        data: The whole file.
        max_pixels: More are refused.

    Raises:
        ImageFault: The file is no image, has too many pixels, or its header is damaged or of an
            unsupported kind.
    """
    image_format = _require_format(data)
    if image_format == "jpeg":
        size = _read_jpeg_header(data).size
        _check_pixels(size.width, size.height, max_pixels)
        return size
    with _pillow_faults(image_format):
        image = _open_header(data, image_format, max_pixels)
    return ImageSize(*image.size)


def encode_record_jpeg(data: bytes, treatment: Treatment, max_pixels: int | None = None) -> bytes:
    """Returns the JPEG that goes into the record.

    Args:
        data: A file that `read_image_facts` accepted.
        treatment: What the audit decided.
        max_pixels: More are refused from the header; needed only for a file that was not accepted
            before.

    Raises:
        ImageFault: A file that was not accepted before cannot be decoded.
    """
    if not treatment.transcode:
        return _drop_exif(data) if treatment.drop_exif else data
    image = _decode(data, treatment.turn, max_pixels)
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


def perceptual_hash(grey: Grey) -> bytes:
    """Returns 256 bits that change little when an image is scaled, compressed again or brightened.

    It is the difference hash (N. Krawetz, "Kind of Like That", 2013) at 16x16: each bit says
    whether a cell of a 17x16 grid is brighter than its left neighbour.
    """
    rows, columns, widths = _hash_grid(*grey.shape)
    # Whole numbers below 2**24: float32 sums them exactly, in any order.
    means = rows @ grey.astype(np.float32) @ columns / widths
    return np.packbits(means[:, 1:] > means[:, :-1]).tobytes()


def decode_rgb(data: bytes, turn: int = 1) -> npt.NDArray[np.uint8]:
    """Returns the pixels [height, width, 3] of a file that `read_image_facts` accepted, after the EXIF turn (1 turns nothing)."""
    return np.ascontiguousarray(np.asarray(_decode(data, turn).convert("RGB")))


def decode_pixels(
    data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS, *, upright: bool = True
) -> tuple[npt.NDArray[np.uint8], int]:
    """Decodes a file for a detector: what `read_image_facts` and `decode_rgb` do together, but a plain JPEG is decoded once.

    Args:
        data: The whole file.
        max_pixels: More are refused from the header.
        upright: Whether to apply the EXIF orientation.

    Returns:
        Pixels [height, width, 3] uint8, RGB, and the EXIF orientation that was applied; 1 turned
        nothing.

    Raises:
        ImageFault: As `read_image_facts`.
    """
    if find_format(data[:16]) == "jpeg":
        header = _read_jpeg_header(data)
        _check_pixels(header.size.width, header.size.height, max_pixels)
        orientation = _exif_orientation(header.exif) if upright else 1
        if header.is_plain:
            try:
                # The same integer transform and the same upsampling as Pillow's.
                pixels = simplejpeg.decode_jpeg(
                    data, colorspace="RGB", fastdct=False, fastupsample=False, strict=True
                )
            except ValueError as error:
                if "subsampling" not in str(error):
                    raise ImageFault("image_undecodable", str(error)) from None
            else:
                return _turn_pixels(pixels, orientation), orientation
    facts = read_image_facts(data, max_pixels)
    orientation = facts.orientation if upright else 1
    return decode_rgb(data, orientation), orientation


def _turn_pixels(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    if orientation == 1:
        return pixels
    return np.ascontiguousarray(np.asarray(Image.fromarray(pixels).transpose(_TURNS[orientation])))


@lru_cache(maxsize=64)
def _hash_grid(height: int, width: int) -> tuple[_Weights, _Weights, _Weights]:
    """Returns the matrices [16, height] and [width, 17] that sum rows and columns over cells, and how many columns each has."""
    rows, columns = _cell_sums(16, height), _cell_sums(17, width)
    return rows, columns.T.copy(), columns.sum(axis=1)


def _cell_sums(cells: int, side: int) -> _Weights:
    """Returns a matrix [cells, side] of ones where a pixel belongs to a cell; where there are fewer pixels, cells share them."""
    begins = np.arange(cells + 1) * side // cells
    places = np.arange(side)
    ends = np.maximum(begins[1:], begins[:-1] + 1)
    return ((places >= begins[:-1, None]) & (places < ends[:, None])).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _JpegHeader:
    frame: int
    precision: int
    size: ImageSize
    component_ids: tuple[int, ...]
    adobe_transform: int | None
    exif: bytes | None

    @property
    def is_plain(self) -> bool:
        """8-bit Huffman grey or YCbCr. Without a JFIF or Adobe marker, decoders take components named R, G, B for RGB."""
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


def _read_jpeg_facts(data: bytes, max_pixels: int) -> ImageFacts:
    header = _read_jpeg_header(data)
    _check_pixels(header.size.width, header.size.height, max_pixels)
    if header.precision != 8:
        raise ImageFault("image_unsupported", header.kind, "8 bit")
    plain = header.is_plain
    grey: Grey | None = None
    if plain:
        try:
            # Walks all entropy-coded data, and leaves a rendition that is just large enough for a
            # perceptual hash.
            decoded = simplejpeg.decode_jpeg(
                data, colorspace="GRAY", min_height=16, min_width=17, min_factor=1, strict=True
            )
            grey = decoded[:, :, 0]
        except ValueError as error:
            if "subsampling" not in str(error):
                raise ImageFault("image_undecodable", str(error)) from None
            # A sampling pattern that TurboJPEG's interface cannot name; libjpeg, and so Pillow, may
            # read it all the same.
            plain = False
    if grey is None:
        grey = _shrink(_to_eight_bit(_open(data, "jpeg", max_pixels)[0]))
    return ImageFacts(
        format="jpeg",
        kind=header.kind,
        size=header.size,
        orientation=_exif_orientation(header.exif),
        is_plain_jpeg=plain,
        grey=grey,
    )


def _read_jpeg_header(data: bytes) -> _JpegHeader:
    """Walks the segments up to the first scan."""
    adobe_transform = exif = frame = None
    for marker, start, end in _segments(data):
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
            return _JpegHeader(*frame, adobe_transform=adobe_transform, exif=exif)
    raise ImageFault("image_undecodable", "the JPEG header is damaged")


def _segments(data: bytes) -> list[tuple[int, int, int]]:
    """Returns (marker, first byte, end) of every segment's content up to and with the first start of scan."""
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


def _drop_exif(data: bytes) -> bytes:
    pieces = []
    kept_from = 0
    for marker, start, end in _segments(data):
        if marker == 0xE1 and data[start : start + 6] == b"Exif\0\0":
            pieces.append(data[kept_from : start - 4])
            kept_from = end
    return b"".join([*pieces, data[kept_from:]])


def _exif_orientation(exif: bytes | None) -> int:
    if exif is None:
        return 1
    entries = Image.Exif()
    try:
        entries.load(exif)
        orientation = entries.get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001  Pillow has no one error for damaged EXIF; what nobody can read turns nothing.
        return 1
    return _valid_orientation(orientation)


def _valid_orientation(value: object) -> int:
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _check_pixels(width: int, height: int, max_pixels: int | None) -> None:
    if max_pixels is not None and width * height > max_pixels:
        value = f"{width}x{height}, {width * height:,} pixels"
        raise ImageFault("image_too_large", value, f"at most {max_pixels:,}")
    if max(width, height) > _JPEG_MAX_SIDE:
        raise ImageFault(
            "image_unsupported",
            f"{width}x{height}",
            f"sides of at most {_JPEG_MAX_SIDE:,}, as JPEG has them",
        )


def _require_format(data: bytes) -> str:
    """Returns a format that Pillow reads here."""
    image_format = find_format(data[:16])
    if image_format is None:
        what = "an empty file" if not data else f"it begins with {data[:8].hex(' ')}"
        raise ImageFault("image_undecodable", what, "a JPEG, PNG, WebP, BMP, TIFF or GIF")
    if image_format not in _PILLOW_FORMATS:
        raise ImageFault("image_unsupported", image_format, "a JPEG, PNG, WebP, BMP, TIFF or GIF")
    return image_format


def _open_header(data: bytes, image_format: str, max_pixels: int | None) -> ImageFile.ImageFile:
    image: ImageFile.ImageFile = Image.open(
        io.BytesIO(data), formats=(_PILLOW_FORMATS[image_format],)
    )
    _check_pixels(*image.size, max_pixels)
    return image


@contextlib.contextmanager
def _pillow_faults(image_format: str) -> Iterator[None]:
    """Turns whatever Pillow raises in the block into `ImageFault`."""
    with warnings.catch_warnings():
        # Pillow warns of metadata it does not understand; pixels are what counts, and the gate for
        # them is ours.
        warnings.simplefilter("ignore")
        try:
            yield
        except Image.DecompressionBombError as error:
            raise ImageFault("image_too_large", str(error).split(",")[0]) from None
        except ImageFault:
            raise
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  Damaged files make Pillow raise almost anything: struct.error, SyntaxError, …
            raise ImageFault(
                "image_undecodable", f"{image_format}: {error or type(error).__name__}"
            ) from None


def _open(data: bytes, image_format: str, max_pixels: int | None) -> tuple[Image.Image, int]:
    """Opens with Pillow and decodes all of it; returns the stored pixels and the EXIF orientation."""
    with _pillow_faults(image_format):
        image = _open_header(data, image_format, max_pixels)
        num_frames = getattr(image, "n_frames", 1)
        if num_frames > 1 and image_format != "jpeg":
            raise ImageFault(
                "image_unsupported", f"{image_format} with {num_frames} frames", "one frame"
            )
        orientation = _valid_orientation(image.getexif().get(_ORIENTATION_TAG))
        image.load()
    if image_format == "tiff" and orientation != 1:
        # Pillow turns a TIFF, and only a TIFF, while it loads it; of the turns, only 6 and 8 do not
        # undo themselves.
        return image.transpose(_TURNS[{6: 8, 8: 6}.get(orientation, orientation)]), orientation
    return image, orientation


def _decode(data: bytes, turn: int, max_pixels: int | None = None) -> Image.Image:
    """Returns a file's picture as "L" or "RGB", turned by an EXIF orientation."""
    image = _to_eight_bit(_open(data, find_format(data[:16]) or "", max_pixels)[0])
    return image if turn == 1 else image.transpose(_TURNS[turn])


def _to_eight_bit(image: Image.Image) -> Image.Image:
    """Returns the image as "L" or "RGB": alpha over white, 16 bits scaled by 1/257, palettes resolved."""
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        # 32-bit integers and floats have no stated range.
        raise ImageFault("image_unsupported", f"{image.mode} pixels of 32 bit", "8 or 16 bit")
    return _flatten(image)


def _flatten(image: Image.Image) -> Image.Image:
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _shrink(image: Image.Image) -> Grey:
    """Returns a grey rendition at 1/8, but not below 17x16, as the reduced JPEG decode has it."""
    factor = max(1, min(8, image.width // 17, image.height // 16))
    return np.asarray(image.convert("L").reduce(factor))
