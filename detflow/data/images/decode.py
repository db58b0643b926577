"""Decodes an image file completely, and says what it holds.

What decoders read differently (docs/repairs.md has the table) is read by one rule here, so that
training, evaluation, export and prediction see the same pixels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageFile

from detflow.data.images.extra_bytes import clean_header, cut_extra_bytes
from detflow.data.images.header import (
    DEFAULT_MAX_PIXELS,
    ORIENTATION_TAG,
    ImageFault,
    check_pixels,
    drop_png_texts,
    find_format,
    open_header,
    pillow_faults,
    read_jpeg_header,
    read_orientation,
    require_format,
    to_orientation,
)
from detflow.geometry import choose_reduction
from detflow.types import ImageSize

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Each scan of a progressive JPEG may have some.
_MAX_CUTS = 4
Grey = npt.NDArray[np.uint8]
"""A small grey rendition, uint8 of shape (height, width): what a perceptual hash is made of."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What a file holds, found by decoding all of it.

    Attributes:
        format: "jpeg", "png", …, by content.
        kind: A description for readers: "png RGBA", "jpeg CMYK".
        size: The size as stored, before any EXIF turn.
        orientation: The EXIF orientation, 1 to 8; 1 where it has none.
        is_plain_jpeg: Whether every consumer decodes it alike (but for EXIF).
        grey: A small rendition of the stored pixels.
        remarks: What was passed over to show the picture: codes of rules, each with what is there.
    """

    format: str
    kind: str
    size: ImageSize
    orientation: int
    is_plain_jpeg: bool
    grey: Grey
    remarks: tuple[tuple[str, str], ...] = ()

    @property
    def turned_size(self) -> ImageSize:
        """The size after EXIF's turn."""
        return self.size.turned(self.orientation)


def read_image_facts(data: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> ImageFacts:
    """Reads the header, checks the size, then decodes everything once.

    Args:
        data: The whole file.
        max_pixels: An image with more pixels is refused from its header.

    Raises:
        ImageFault: The file is no image, has too many pixels, is damaged or of an unsupported kind.
    """
    image_format = require_format(data)
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
        remarks=(("alpha_zero", f"{image_format} {image.mode}"),) if _is_unseen(image) else (),
    )


def decode_rgb(data: bytes, turn: int = 1) -> npt.NDArray[np.uint8]:
    """Returns the pixels, uint8 of shape [height, width, 3], of a file that was accepted before.

    Args:
        data: A file that `read_image_facts` accepted.
        turn: The EXIF orientation to apply; 1 turns nothing.
    """
    return np.ascontiguousarray(np.asarray(decode_image(data, turn).convert("RGB")))


class Decoded(NamedTuple):
    """Pixels for a detector.

    Attributes:
        pixels: [height, width, 3] uint8, RGB.
        orientation: The EXIF orientation that was applied; 1 turned nothing.
        size: The picture's own size, after that turn.
        reduction: 1, or the sides of the blocks of pixels of which each became one.
    """

    pixels: npt.NDArray[np.uint8]
    orientation: int
    size: ImageSize
    reduction: int


def decode_pixels(
    data: bytes,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    *,
    upright: bool = True,
    canvas_sizes: Sequence[tuple[int, int]] = (),
) -> Decoded:
    """Decodes a file for a detector.

    It does what `read_image_facts` and `decode_rgb` do together, but decodes a plain JPEG once.

    Args:
        data: The whole file.
        max_pixels: An image with more pixels is refused from its header.
        upright: Whether to apply the EXIF orientation.
        canvas_sizes: (height, width) of the canvases that the picture is for: a large one is
            decoded as small as `geometry.choose_reduction` allows. None keeps it as it is.

    Raises:
        ImageFault: The file is no image, has too many pixels, is damaged or of an unsupported kind.
    """
    if find_format(data[:16]) == "jpeg":
        header = read_jpeg_header(data)
        check_pixels(header.size.width, header.size.height, max_pixels)
        orientation = read_orientation(header.exif) if upright else 1
        size = header.size.turned(orientation)
        reduction = choose_reduction((size.height, size.width), canvas_sizes)
        if header.is_plain:
            # What this refuses, the slower way below refuses or proves to be harmless.
            with contextlib.suppress(ValueError):
                # The same integer transform and the same upsampling as Pillow's.
                pixels = simplejpeg.decode_jpeg(
                    data,
                    colorspace="RGB",
                    fastdct=False,
                    fastupsample=False,
                    min_height=-(-header.size.height // reduction),
                    min_width=-(-header.size.width // reduction),
                    min_factor=reduction,
                    strict=True,
                )
                return Decoded(turn_pixels(pixels, orientation), orientation, size, reduction)
    facts = read_image_facts(data, max_pixels)
    orientation = facts.orientation if upright else 1
    pixels = decode_rgb(data, orientation)
    return reduce_pixels(pixels, orientation, canvas_sizes)


def reduce_pixels(
    pixels: npt.NDArray[np.uint8], orientation: int, canvas_sizes: Sequence[tuple[int, int]]
) -> Decoded:
    """Makes decoded pixels as small as `geometry.choose_reduction` allows: each block its mean.

    Args:
        pixels: [height, width, 3] uint8, RGB, upright.
        orientation: The EXIF orientation that was applied to them.
        canvas_sizes: As in `decode_pixels`.
    """
    height, width = pixels.shape[:2]
    reduction = choose_reduction((height, width), canvas_sizes)
    if reduction > 1:
        pixels = np.asarray(Image.fromarray(pixels).reduce(reduction))
    return Decoded(pixels, orientation, ImageSize(width, height), reduction)


def turn_pixels(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Returns pixels [height, width, 3] as an EXIF orientation, 1 to 8, wants them seen."""
    if orientation == 1:
        return pixels
    return np.ascontiguousarray(np.asarray(Image.fromarray(pixels).transpose(_TURNS[orientation])))


def _read_jpeg_facts(data: bytes, max_pixels: int) -> ImageFacts:
    header = read_jpeg_header(data)
    check_pixels(header.size.width, header.size.height, max_pixels)
    if header.precision != 8:
        raise ImageFault("image_unsupported", header.kind, "8 bit")
    plain = header.is_plain
    grey: Grey | None = None
    extra = ""
    if plain:
        try:
            grey = _decode_small(data)
        except ValueError as error:
            # TurboJPEG's interface cannot name every sampling pattern; libjpeg, and so Pillow, may
            # read it all the same.
            if "subsampling" not in str(error):
                grey, extra = _decode_without_extra(data, str(error))
            plain = False
    if grey is None:
        grey = _shrink(_to_eight_bit(_open(data, "jpeg", max_pixels)[0]))
    return ImageFacts(
        format="jpeg",
        kind=header.kind,
        size=header.size,
        orientation=read_orientation(header.exif),
        is_plain_jpeg=plain,
        grey=grey,
        remarks=(("jpeg_extra_bytes", extra),) if extra else (),
    )


def _decode_without_extra(data: bytes, warning: str) -> tuple[Grey, str]:
    """Decodes a file that the decoder warns of, without what means nothing.

    Returns:
        What `_decode_small` returns, and what was left out.

    Raises:
        ImageFault: It is damaged, or may be.
    """
    cleaned, what = clean_header(data)
    faults = [what] if what else []
    for _ in range(_MAX_CUTS):
        try:
            return _decode_small(cleaned), " and ".join(faults)
        except ValueError as error:
            cut = cut_extra_bytes(cleaned, str(error))
        if cut is None:
            break
        cleaned = cut[0]
        faults.append(cut[1])
    raise ImageFault("image_undecodable", warning)


def _decode_small(data: bytes) -> Grey:
    """Walks all entropy-coded data, so that damage is found.

    Returns:
        A rendition that is just large enough for a perceptual hash.

    Raises:
        ValueError: It is damaged, or sampled in an unknown way.
    """
    decoded: Grey = simplejpeg.decode_jpeg(
        data, colorspace="GRAY", min_height=16, min_width=17, min_factor=1, strict=True
    )
    return decoded[:, :, 0]


def _open(data: bytes, image_format: str, max_pixels: int | None) -> tuple[Image.Image, int]:
    """Decodes a file with Pillow; returns the stored pixels and the EXIF orientation."""
    if image_format == "jpeg":
        data, _ = clean_header(data)
    try:
        image, orientation = _load(data, image_format, max_pixels)
    except ImageFault:
        # Pillow bounds what texts and profiles may hold, and none of them is about the pixels.
        bare = drop_png_texts(data) if image_format == "png" else data
        if bare is data:
            raise
        image, orientation = _load(bare, image_format, max_pixels)
    if image_format == "tiff" and orientation != 1:
        # Pillow turns a TIFF, and only a TIFF, while it loads it: turn it back. All turns but 6 and
        # 8 undo themselves.
        return image.transpose(_TURNS[{6: 8, 8: 6}.get(orientation, orientation)]), orientation
    return image, orientation


def _load(
    data: bytes, image_format: str, max_pixels: int | None
) -> tuple[ImageFile.ImageFile, int]:
    with pillow_faults(image_format):
        image = open_header(data, image_format, max_pixels)
        # Counting the frames would walk all of them.
        if image_format != "jpeg" and getattr(image, "is_animated", False):
            raise ImageFault("image_unsupported", f"{image_format} with several frames", "one")
        orientation = to_orientation(image.getexif().get(ORIENTATION_TAG))
        image.load()
    return image, orientation


def decode_image(data: bytes, turn: int, max_pixels: int | None = None) -> Image.Image:
    """Returns a file's picture in mode "L" or "RGB", turned by an EXIF orientation.

    Raises:
        ImageFault: The file is damaged, of an unsupported kind, or has more than `max_pixels`.
    """
    image = _to_eight_bit(_open(data, find_format(data[:16]) or "", max_pixels)[0])
    return image if turn == 1 else image.transpose(_TURNS[turn])


def _to_eight_bit(image: Image.Image) -> Image.Image:
    """Returns the image as "L" or "RGB".

    Alpha is laid over white, unless it hides everything; 16 bits are scaled by 1/257, palettes are
    resolved.
    """
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
    if _has_alpha(image):
        rgba = image.convert("RGBA")
        if _is_unseen(rgba):
            # A picture that nobody could see says nothing by its alpha: other decoders, and the
            # annotator, go by its colours.
            return rgba.convert("RGB")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def _is_unseen(image: Image.Image) -> bool:
    """Whether alpha is 0 everywhere."""
    if not _has_alpha(image):
        return False
    with_alpha = image if image.mode in ("LA", "RGBA") else image.convert("RGBA")
    return with_alpha.getchannel("A").getextrema() == (0, 0)


def _shrink(image: Image.Image) -> Grey:
    """Returns a grey rendition at 1/8, but not below 17x16: as large as a JPEG's reduced decode."""
    factor = max(1, min(8, image.width // 17, image.height // 16))
    return np.asarray(image.convert("L").reduce(factor))
