"""The images that a model detects on, one after the other: pictures, and frames of videos."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from detflow.data.images.cost import DEFAULT_MAX_BYTES
from detflow.data.images.header import DEFAULT_MAX_PIXELS, find_format
from detflow.data.images.pictures import (
    Picture,
    PictureFile,
    find_pictures,
    is_animated_gif,
    read_picture,
)
from detflow.errors import ConfigError, DataError
from detflow.prediction.containers import (
    AUDIO_SUFFIXES,
    HEAD_BYTES,
    VIDEO_SUFFIXES,
    Container,
    find_container,
)
from detflow.prediction.limits import ALL_FRAMES, Limits
from detflow.prediction.streams import LiveSource, find_live, read_live, show_source
from detflow.prediction.videos import read_video
from detflow.progress import Progress


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture, or a frame of a video.

    Attributes:
        file: The file that it comes from.
        picture: Its upright pixels; those of a large picture file as small as the model needs them.
        index: The frame's number in the video, counted from 0; None for a picture.
        time_s: Seconds from the video's first frame to this one; None for a picture.
    """

    file: PictureFile
    picture: Picture
    index: int | None = None
    time_s: float | None = None

    def read_whole(self) -> npt.NDArray[np.uint8]:
        """Returns all upright pixels [height, width, 3]; a file that was read smaller is read anew.

        Raises:
            DataError: The file cannot be read any more.
        """
        if self.picture.reduction == 1:
            return self.picture.pixels
        return read_picture(self.file.path, self.picture.size.num_pixels).pixels

    @property
    def source(self) -> str:
        """The file's path, or the address of what is live, without passwords."""
        return show_source(self.file)

    @property
    def name(self) -> str:
        """The file's name; for a frame of a video followed by its number."""
        return self.file.name if self.index is None else f"{self.file.name}/{self.index:06}"


def find_media(sources: Sequence[str], output: Path | None = None) -> list[PictureFile]:
    """Returns the pictures and videos of all sources, each file once.

    Args:
        sources: Files, folders and patterns, each as `find_pictures` takes it; numbers of cameras
            and addresses of streams.
        output: A folder that the predictions are to replace. It is not searched, so that they do
            not find themselves the next time.

    Raises:
        ConfigError: A source lies in `output`.
        DataError: A source holds none, or none but in `output`.
    """
    found = (file for source in sources for file in _find_files(source))
    files = list({_identify(file): file for file in found}.values())
    if output is None:
        return files
    replaced = output.resolve()
    for source in sources:
        if os.path.exists(source) and Path(source).resolve().is_relative_to(replaced):
            raise ConfigError(
                "--output would replace the source", path=source, remedy="choose another folder"
            )
    folders = {file.path.parent for file in files if not isinstance(file, LiveSource)}
    inside = {folder for folder in folders if folder.resolve().is_relative_to(replaced)}
    kept = [
        file for file in files if isinstance(file, LiveSource) or file.path.parent not in inside
    ]
    if not kept:
        raise DataError("there is no image but in the output folder", path=output)
    return kept


def _identify(file: PictureFile) -> str:
    """Returns what two names of one file share; two streams may look alike when they are shown."""
    return file.address if isinstance(file, LiveSource) else os.path.abspath(file.place)


def read_frames(
    files: Sequence[PictureFile],
    failed: Callable[[PictureFile, str], None],
    progress: Progress,
    *,
    limits: Limits = ALL_FRAMES,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    max_bytes: int = DEFAULT_MAX_BYTES,
    canvas_sizes: Sequence[tuple[int, int]] = (),
) -> Iterator[Frame]:
    """Yields all pictures, and the frames of all videos, in the order of the files.

    A file's content decides which of the two it is.

    Args:
        files: As from `find_media`.
        failed: Told of each file that cannot be read, or not to its end, and why.
        progress: Told how far it is.
        limits: What is taken of each video.
        max_pixels: Larger pictures are not decoded.
        max_bytes: Neither are those that take more memory while they are read and detected on.
            What it means for a video stands in `limits`.
        canvas_sizes: (height, width) of the canvases that pictures are for: large ones are read as
            small as `read_picture` allows.
    """
    for done, file in enumerate(files, start=1):
        try:
            container = None if isinstance(file, LiveSource) else _find_video(file.path)
            if isinstance(file, LiveSource):
                for frame in read_live(file, limits, progress):
                    yield Frame(file, frame.picture, frame.index, frame.time_s)
            elif container is None:
                picture = read_picture(
                    file.path, max_pixels, max_bytes=max_bytes, canvas_sizes=canvas_sizes
                )
                yield Frame(file, picture)
            else:
                for frame in read_video(file.path, container, limits, progress, file.name):
                    yield Frame(file, frame.picture, frame.index, frame.time_s)
        except DataError as error:
            failed(file, str(error))
        progress("detecting", done, len(files))


def _find_files(source: str) -> Sequence[PictureFile]:
    live = find_live(source)
    return find_pictures(source, VIDEO_SUFFIXES, _is_unnamed_video) if live is None else [live]


def _find_video(path: Path) -> Container | None:
    """Returns the container of a video; None for what may be a picture.

    Raises:
        DataError: It has a video's name and is neither.
    """
    head = _read_head(path)
    container = find_container(head)
    if container is not None and container.demuxer == "gif":
        return container if is_animated_gif(path) else None
    if container is None and path.suffix.lower() in VIDEO_SUFFIXES and not find_format(head[:16]):
        raise DataError(f"not a video: it begins with {head[:8].hex(' ') or 'nothing'}", path=path)
    return container


def _read_head(path: Path) -> bytes:
    if not path.is_file():
        raise DataError("not a regular file", path=path)
    try:
        with open(path, "rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from error


def _is_unnamed_video(path: Path) -> bool:
    """Whether a file of another extension holds a video nevertheless."""
    if path.suffix.lower() in AUDIO_SUFFIXES:
        return False
    try:
        return find_container(_read_head(path)) is not None
    except DataError:
        return False
