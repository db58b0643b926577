"""Pictures of a camera, and of a stream that may break off and come back."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from detflow.data.images.pictures import Picture, PictureFile
from detflow.errors import DataError
from detflow.prediction.limits import Limits
from detflow.prediction.videos import Damage, VideoFrame, choose_stream, decode_frames, explain
from detflow.progress import Progress
from detflow.text import count_noun, hide_credentials

SCHEMES: Final = ("rtsp", "rtsps", "http", "https")
"""The kinds of addresses that streams are read from."""

# What FFmpeg may open while it reads one; files are not among them.
_PROTOCOLS = "http,https,httpproxy,tcp,udp,rtp,srtp,rtsp,tls,crypto"
_TIMEOUT_S = 10.0
# Waits between attempts; after the last one without a new frame the stream counts as ended.
_WAITS_S: Final = (0.2, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True, slots=True)
class LiveSource(PictureFile):
    """A camera or a stream, with a name that a file can have in the place of a path.

    Attributes:
        address: The camera's number, or the stream's URL, as the user gave it.
        shown: The address without passwords.
    """

    address: str
    shown: str


def find_live(source: str) -> LiveSource | None:
    """Returns the camera or the stream that a source names; None where it names files.

    Args:
        source: As the user gave it. A file of that name comes first.
    """
    is_camera = re.fullmatch(r"\d{1,2}", source) is not None and not Path(source).exists()
    scheme, separator, _ = source.partition("://")
    if not is_camera and not (separator and scheme.lower() in SCHEMES):
        return None
    shown = hide_credentials(source)
    name = f"camera-{source}" if is_camera else re.sub(r"[^\w.-]+", "_", shown)
    return LiveSource(name, name, source, shown)


def show_source(file: PictureFile) -> str:
    """Returns a file's path, or the address of what is live, without passwords."""
    return file.shown if isinstance(file, LiveSource) else file.place


def read_live(source: LiveSource, limits: Limits, progress: Progress) -> Iterator[VideoFrame]:
    """Yields frames of a camera or a stream until it ends, or until they are enough.

    Args:
        source: As from `find_live`.
        limits: What is taken of it.
        progress: Told how far it is.

    Raises:
        DataError: It cannot be opened, or ended by an error; what came before was yielded.
    """
    address = source.address
    frames = (
        _read_camera(int(address), limits) if address.isdigit() else _read_stream(source, limits)
    )
    for frame in frames:
        yield frame
        taken = frame.index // limits.every + 1
        progress(source.shown, taken, limits.max_frames)
        if taken == limits.max_frames:
            return


def open_camera(number: int) -> Any:
    """Returns OpenCV's reader of a camera.

    Raises:
        DataError: There is no such camera, or it is in use.
    """
    import cv2

    camera = cv2.VideoCapture(number)
    if not camera.isOpened():
        camera.release()
        raise DataError(f"camera {number} cannot be opened", remedy="is it there, and free?")
    return camera


def _read_camera(number: int, limits: Limits) -> Iterator[VideoFrame]:
    camera = open_camera(number)
    try:
        began: float | None = None
        index = 0
        while True:
            taken, pixels = camera.read()
            if not taken:
                raise DataError(f"camera {number} gives no more pictures")
            now = time.monotonic()
            began = now if began is None else began
            if index % limits.every == 0:
                # OpenCV has blue first.
                picture = Picture(np.ascontiguousarray(pixels[:, :, ::-1]), 1)
                yield VideoFrame(index, round(now - began, 6), picture)
            index += 1
    finally:
        camera.release()


def _read_stream(source: LiveSource, limits: Limits) -> Iterator[VideoFrame]:
    index = attempt = 0
    last = 0.0
    began: float | None = None
    while True:
        reason = "it ended"
        count = 0
        # What a server had in store comes faster than it plays.
        offset = 0.0 if began is None else max(last, time.monotonic() - began)
        try:
            for frame in _read_connection(source.address, limits):
                if began is None:
                    began = time.monotonic()
                # Numbers and times go on where the connection before broke off.
                last = round(offset + frame.time_s, 6)
                yield VideoFrame(index + frame.index, last, frame.picture)
                count = frame.index + limits.every
                attempt = 0
        except _EndedError as ended:
            if damage := str(ended):
                raise DataError(f"{source.shown}: {damage}") from None
            return
        except DataError as error:
            reason = error.cause
        index += count
        if attempt == len(_WAITS_S):
            frames = count_noun(index, "frame")
            raise DataError(
                f"{source.shown}: the stream is gone after {frames}: {reason}",
                remedy=f"it was tried again for {sum(_WAITS_S):.0f} s",
            )
        time.sleep(_WAITS_S[attempt])
        attempt += 1


class _EndedError(Exception):
    """A file on a web server was read as far as it can be; the text says what is wrong with it."""


def _read_connection(url: str, limits: Limits) -> Iterator[VideoFrame]:
    import av

    # A file on a web server is read on from where the connection broke off.
    options = {"protocol_whitelist": _PROTOCOLS, "rtsp_transport": "tcp", "reconnect": "1"}
    try:
        container = av.open(url, "r", options=options, timeout=_TIMEOUT_S)
    except (av.FFmpegError, OSError) as error:
        raise DataError(explain(error)) from None
    with container:
        stream = choose_stream(container, limits)
        is_whole_file = bool(container.duration) and container.size > 0
        damage = Damage()
        has_frames = False
        for frame in decode_frames(container, stream, limits, damage):
            has_frames = True
            yield frame
        if is_whole_file:
            # Read again, it would begin with its first frame.
            raise _EndedError(
                damage.describe() or ("" if has_frames else "no frame of it can be decoded")
            )
        if damage.reasons:
            raise DataError(", ".join(damage.reasons))
