"""The images that a model detects on, one after the other: pictures, and frames of videos."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from detflow.data.images.cost import DEFAULT_MAX_BYTES, count_picture_bytes
from detflow.data.images.header import DEFAULT_MAX_PIXELS
from detflow.data.images.pictures import Picture, PictureFile, find_pictures, read_picture
from detflow.errors import ConfigError, DataError
from detflow.progress import Progress

VIDEO_SUFFIXES: Final = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"}
)
# How a video file begins, and at which byte. FFmpeg goes by the content, and some of its formats
# are playlists that name other files and hosts; a file that begins otherwise never reaches it.
_CONTAINERS: Final = (
    (4, b"ftyp"),
    (8, b"AVI LIST"),
    (0, b"\x1a\x45\xdf\xa3"),
    (0, b"\x00\x00\x01\xba"),
    (0, b"\x00\x00\x01\xb3"),
    (0, b"G"),
)
# Some files do not say how many frames they hold, and OpenCV guesses it from the duration. A video
# that ends this share earlier than guessed is not called damaged.
_GUESSED_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture, or a frame of a video.

    Attributes:
        file: The file that it comes from.
        picture: Its upright pixels.
        index: The frame's number in the video, counted from 0; None for a picture.
        time_s: Seconds from the video's start to the frame; None for a picture.
    """

    file: PictureFile
    picture: Picture
    index: int | None = None
    time_s: float | None = None

    @property
    def name(self) -> str:
        """The file's name; for a frame of a video followed by its number."""
        return self.file.name if self.index is None else f"{self.file.name}/{self.index:06}"


def find_media(sources: Sequence[str], output: Path | None = None) -> list[PictureFile]:
    """Returns the pictures and videos of all sources, each file once.

    Args:
        sources: Files, folders and patterns, each as `find_pictures` takes it.
        output: A folder that the predictions are to replace. It is not searched, so that they do
            not find themselves the next time.

    Raises:
        ConfigError: A source lies in `output`.
        DataError: A source holds none, or none but in `output`.
    """
    found = (file for source in sources for file in find_pictures(source, VIDEO_SUFFIXES))
    files = list({file.path.absolute(): file for file in found}.values())
    if output is None:
        return files
    replaced = output.resolve()
    for source in sources:
        if os.path.exists(source) and Path(source).resolve().is_relative_to(replaced):
            raise ConfigError(
                "--output would replace the source", path=source, remedy="choose another folder"
            )
    folders = {file.path.parent for file in files}
    inside = {folder for folder in folders if folder.resolve().is_relative_to(replaced)}
    kept = [file for file in files if file.path.parent not in inside]
    if not kept:
        raise DataError("there is no image but in the output folder", path=output)
    return kept


def read_frames(
    files: Sequence[PictureFile],
    every: int,
    failed: Callable[[Path, str], None],
    progress: Progress,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> Iterator[Frame]:
    """Yields all pictures, and the frames of all videos, in the order of the files.

    Args:
        files: As from `find_media`.
        every: 1 takes each frame of a video, 2 every second one.
        failed: Told of each file that cannot be read, or not to its end, and why.
        progress: Told how far it is.
        max_pixels: Larger pictures are not decoded.
        max_bytes: Neither are those that take more memory while they are read and detected on.
    """
    for done, file in enumerate(files, start=1):
        try:
            if file.path.suffix.lower() in VIDEO_SUFFIXES:
                most = min(max_pixels, max_bytes // count_picture_bytes([1, 1]))
                yield from _read_video(file, every, progress, most)
            else:
                yield Frame(file, read_picture(file.path, max_pixels, max_bytes))
        except DataError as error:
            failed(file.path, str(error))
        progress("detecting", done, len(files))


def _read_video(
    file: PictureFile, every: int, progress: Progress, max_pixels: int
) -> Iterator[Frame]:
    import cv2

    _require_container(file.path)
    # FFmpeg and OpenCV write about damage to stderr; here it becomes an error of one line.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    # FFmpeg could take a relative path for a network address, but never an absolute one.
    video = cv2.VideoCapture(os.path.abspath(file.path), cv2.CAP_FFMPEG)
    with contextlib.ExitStack() as stack:
        stack.callback(cv2.utils.logging.setLogLevel, level)
        stack.callback(video.release)
        if not video.isOpened():
            raise DataError("not a video that can be decoded", path=file.path)
        width, height = (
            int(video.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        if width * height > max_pixels:
            raise DataError(
                f"image too large: {width}x{height}, {width * height:,} pixels; "
                f"expected at most {max_pixels:,}",
                path=file.path,
            )
        expected = max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
        index = 0
        while video.grab():
            if index % every == 0:
                time_s = video.get(cv2.CAP_PROP_POS_MSEC) / 1000.0
                decoded, pixels = video.retrieve()
                if not decoded:
                    break
                yield Frame(
                    file,
                    Picture(np.ascontiguousarray(pixels[:, :, ::-1]), 1),
                    index,
                    round(time_s, 6),
                )
            index += 1
            progress(file.name, index, max(index, expected))
        if not index:
            raise DataError("no frame of the video can be decoded", path=file.path)
        if index < expected * (1.0 - _GUESSED_SHARE):
            raise DataError(
                f"the video can be decoded for {index:,} of its {expected:,} frames", path=file.path
            )


def _require_container(path: Path) -> None:
    if not path.is_file():
        raise DataError("not a regular file", path=path)
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=path) from error
    if not any(head[start : start + len(mark)] == mark for start, mark in _CONTAINERS):
        raise DataError(f"not a video: it begins with {head[:8].hex(' ') or 'nothing'}", path=path)
