"""Pictures without annotations: files that a person names, decoded and turned upright."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from detflow.data.images.cost import count_file_bytes
from detflow.data.images.decode import Decoded, decode_pixels, reduce_pixels
from detflow.data.images.header import (
    DEFAULT_MAX_PIXELS,
    IMAGE_SUFFIXES,
    MAX_IMAGE_BYTES,
    ImageFault,
    pillow_faults,
    read_image_size,
)
from detflow.errors import DataError
from detflow.types import ImageSize


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture's file.

    There may be millions, so it holds texts: a `Path` takes four times the memory.

    Attributes:
        place: The file's path.
        name: Its path relative to the folder that the person named; its own name where the person
            named the file itself.
    """

    place: str
    name: str

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.place)


@dataclass(frozen=True, slots=True)
class Picture:
    """Upright pixels.

    Attributes:
        pixels: [height, width, 3] uint8, RGB.
        orientation: The EXIF orientation that was applied, 1 to 8; 1 turned nothing.
        reduction: 1, or the sides of the blocks of pixels of which each became one here.
        full_size: The upright picture's own size; None where that is the size of the pixels.
    """

    pixels: npt.NDArray[np.uint8]
    orientation: int
    reduction: int = 1
    full_size: ImageSize | None = None

    @property
    def size(self) -> ImageSize:
        """The upright picture's own size, whatever was made of it for a detector."""
        return self.full_size or ImageSize(self.pixels.shape[1], self.pixels.shape[0])


def find_pictures(
    source: str,
    further_suffixes: Collection[str] = (),
    is_wanted: Callable[[Path], bool] = lambda path: False,
) -> list[PictureFile]:
    """Finds pictures.

    Args:
        source: A file; a folder, in which files with an image's extension are looked for at any
            depth, but not among hidden files nor behind links to folders; or a pattern of the
            shell (`photos/**/*.jpg`) that stands for files or folders.
        further_suffixes: Extensions of other files to look for in folders, in lower case.
        is_wanted: Asked about a folder's files with further extensions.

    Raises:
        DataError: There is none.
    """
    if os.path.exists(source):
        found = _expand(Path(source), further_suffixes, is_wanted)
    else:
        found = [
            file
            for match in sorted(glob.glob(source, recursive=True))
            for file in _expand(Path(match), further_suffixes, is_wanted)
        ]
    if not found:
        exists = os.path.exists(source)
        raise DataError(
            "there is no image in it"
            if exists
            else "no such file or folder, nor a pattern that fits any",
            path=source,
        )
    return found


def read_picture(
    path: Path,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    *,
    max_bytes: int | None = None,
    canvas_sizes: Sequence[tuple[int, int]] = (),
) -> Picture:
    """Reads a picture as a person sees it.

    The EXIF orientation is applied, alpha lies over white, everything becomes 8-bit RGB.

    Args:
        path: The file.
        max_pixels: A picture with more pixels is refused.
        max_bytes: A picture is refused that takes more memory while it is read and detected on; see
            `cost.count_file_bytes`. None allows any.
        canvas_sizes: As in `decode_pixels`.

    Raises:
        DataError: It cannot be read, has more than `max_pixels`, takes more than `max_bytes`, is
            damaged or of an unsupported kind.
    """
    try:
        if not path.is_file():
            raise DataError("not a regular file", path=path)
        size = path.stat().st_size
        if size > MAX_IMAGE_BYTES:
            raise DataError(f"larger than {MAX_IMAGE_BYTES:,} bytes", path=path)
        # Twice, because decoders copy it.
        _require_room(path, 2 * size, max_bytes)
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from error
    # Texts take memory before the header is read.
    _require_room(path, count_file_bytes(data, 0), max_bytes)
    try:
        if max_bytes is not None:
            stored = read_image_size(data, max_pixels)
            _require_room(path, count_file_bytes(data, stored.width * stored.height), max_bytes)
        return decode_picture(data, max_pixels, canvas_sizes=canvas_sizes)
    except ImageFault as fault:
        raise DataError(str(fault), path=path, remedy=fault.rule.remedy) from None


def _require_room(path: Path, needed: int, max_bytes: int | None) -> None:
    if max_bytes is not None and needed > max_bytes:
        raise DataError(
            f"it takes {needed:,} bytes of memory, and {max_bytes:,} are allowed",
            path=path,
            remedy="raise --max-memory-mb, or make the picture smaller",
        )


def decode_picture(
    data: bytes,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    *,
    upright: bool = True,
    canvas_sizes: Sequence[tuple[int, int]] = (),
) -> Picture:
    """Decodes a file's bytes. Alpha lies over white, everything becomes 8-bit RGB.

    Args:
        data: The whole file.
        max_pixels: A picture with more pixels is refused from its header.
        upright: Whether to apply the EXIF orientation.
        canvas_sizes: As in `decode_pixels`.

    Raises:
        ImageFault: It is no image, has too many pixels, is damaged or of an unsupported kind.
    """
    return _to_picture(decode_pixels(data, max_pixels, upright=upright, canvas_sizes=canvas_sizes))


def reduce_picture(picture: Picture, canvas_sizes: Sequence[tuple[int, int]]) -> Picture:
    """Returns a decoded picture as small as `decode_picture` would have made it."""
    if picture.reduction > 1:
        return picture
    return _to_picture(reduce_pixels(picture.pixels, picture.orientation, canvas_sizes))


def _to_picture(decoded: Decoded) -> Picture:
    return Picture(decoded.pixels, decoded.orientation, decoded.reduction, decoded.size)


def is_animated_gif(path: Path) -> bool:
    """Whether a GIF has several frames; what cannot be read has not."""
    try:
        with (
            open(path, "rb") as file,
            pillow_faults("gif"),
            Image.open(file, formats=("GIF",)) as image,
        ):
            return bool(getattr(image, "is_animated", False))
    except (OSError, ImageFault):
        return False


def _expand(
    path: Path, further_suffixes: Collection[str], is_wanted: Callable[[Path], bool]
) -> list[PictureFile]:
    if not path.is_dir():
        return [PictureFile(os.fspath(path), path.name)]
    suffixes = {*IMAGE_SUFFIXES, *further_suffixes}
    return [
        PictureFile(os.fspath(file), file.relative_to(path).as_posix())
        for file in _walk(path)
        if file.suffix.lower() in suffixes or is_wanted(file)
    ]


def _walk(folder: Path) -> Iterator[Path]:
    for directory, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(directory, name)
