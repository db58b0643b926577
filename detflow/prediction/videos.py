"""Frames of a video, each at its presentation time, whatever container and codec hold them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import numpy as np

from detflow.data.images.decode import turn_pixels
from detflow.data.images.pictures import Picture
from detflow.errors import DataError
from detflow.prediction.containers import Container, find_missing_end
from detflow.prediction.limits import Limits
from detflow.process.libraries import require_library
from detflow.progress import Progress
from detflow.text import count_noun

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame as AvFrame
    from av.video.stream import VideoStream

_PROBED_PIXELS = 1 << 27
# Where nothing says how long a frame lasts.
_USUAL_STEP_S = 1 / 25
# A time that lies further back than this begins a new count, as where two recordings were joined.
_JITTER_S = 1.0
_ATTACHED_PICTURE = 0x400
# The signs of a display matrix's first two columns → the EXIF orientation of the same turn.
_ORIENTATIONS = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """A frame.

    Attributes:
        index: Its number, counted from 0.
        time_s: Seconds from the first frame to this one, as a player shows them.
        picture: Its upright pixels.
    """

    index: int
    time_s: float
    picture: Picture


@dataclass
class Damage:
    """What could not be decoded.

    Attributes:
        packets: Pieces that the decoder refused.
        frames: Frames that it filled in by guessing.
        reasons: Why reading ended before the end.
    """

    packets: int = 0
    frames: int = 0
    reasons: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """Returns all of it in words; nothing where there is none."""
        parts = list(self.reasons)
        if self.packets:
            parts.append(f"{count_noun(self.packets, 'piece')} cannot be decoded")
        if self.frames:
            parts.append(f"{count_noun(self.frames, 'frame')} damaged")
        return ", ".join(parts)


class Clock:
    """Turns the times that frames carry into seconds from the first one, which never run back.

    A frame without a time, as old containers have them, follows the one before by that one's
    duration. Where the times begin anew, as in recordings that were joined, they are counted on.

    Args:
        step_s: How long a frame lasts that does not say so.
    """

    def __init__(self, step_s: float = _USUAL_STEP_S) -> None:
        self._step_s = step_s
        self._origin: float | None = None
        self._last = 0.0
        self._next = 0.0

    def read(self, time_s: float | None, duration_s: float | None) -> float:
        """Returns the next frame's time.

        Args:
            time_s: As the frame says; None where it does not.
            duration_s: How long it lasts; None or 0 where that is unknown.
        """
        if time_s is None:
            seconds = self._next
        else:
            if self._origin is None or time_s - self._origin < self._last - _JITTER_S:
                self._origin = time_s - self._next
            seconds = max(self._last, time_s - self._origin)
        self._last = seconds
        self._next = seconds + (duration_s or self._step_s)
        return seconds


class _Nameless:
    """A file without its name, by whose extension FFmpeg could judge it."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def read_video(
    path: Path, container: Container, limits: Limits, progress: Progress, name: str
) -> Iterator[VideoFrame]:
    """Yields the frames of a file.

    Args:
        path: The file.
        container: What `containers.find_container` says of it.
        limits: What is taken of it.
        progress: Told how far it is.
        name: The name for `progress`.

    Raises:
        DataError: It is no video, or cannot be decoded to its end; what can be was yielded before.
        EnvironmentFault: PyAV, an extra, is not installed.
    """
    require_library("av", "a video")
    import av

    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
            missing = find_missing_end(file, container)
            file.seek(0)
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", path=path) from error
        early = [missing] if missing else []
        try:
            opened = stack.enter_context(
                av.open(
                    _Nameless(file),
                    "r",
                    format=container.demuxer,
                    io_open=_open_no_other_file,
                    # Few frames are decoded yet, and what is too large has its size told.
                    options={"max_pixels": str(max(_PROBED_PIXELS, limits.max_pixels))},
                )
            )
        except (av.FFmpegError, OSError) as error:
            reasons = ", ".join([explain(error), *early])
            raise DataError(
                f"not {container.name} that can be read: {reasons}", path=path
            ) from None
        try:
            stream = choose_stream(opened, limits)
        except DataError as error:
            raise DataError(", ".join([str(error), *early]), path=path) from None
        damage = Damage(reasons=early)
        number = 0
        for frame in decode_frames(opened, stream, limits, damage):
            number = frame.index + 1
            progress(name, number, max(number, _count_expected(stream)))
            yield frame
        if not number:
            why = damage.describe()
            raise DataError(
                f"no frame of the video can be decoded{': ' if why else ''}{why}", path=path
            )
        if why := damage.describe():
            raise DataError(f"decoded up to frame {number - 1:,} (from 0), but {why}", path=path)


def choose_stream(container: InputContainer, limits: Limits) -> VideoStream:
    """Returns the video that a container holds; a cover of an audio file is none.

    Raises:
        DataError: There is none, its frames are too large, or nothing decodes it.
    """
    best = container.streams.best("video")
    shown = [
        stream
        for stream in container.streams.video
        if not int(stream.disposition) & _ATTACHED_PICTURE
    ]
    if not shown:
        raise DataError("there is no video in it")
    stream = next((one for one in shown if best is not None and one.index == best.index), shown[0])
    context: Any = stream.codec_context
    if context is None:
        raise DataError("there is no decoder for its codec")
    require_pixels(context.width, context.height, limits.max_pixels)
    context.options = {"max_pixels": str(limits.max_pixels)}
    return stream


def decode_frames(
    container: InputContainer, stream: VideoStream, limits: Limits, damage: Damage
) -> Iterator[VideoFrame]:
    """Yields the frames of an opened video up to its end, or to where it cannot be decoded.

    Args:
        container: The video.
        stream: As from `choose_stream`.
        limits: What is taken of it.
        damage: Gets what could not be decoded.
    """
    rate = stream.average_rate or stream.guessed_rate
    clock = Clock(float(1 / rate) if rate else _USUAL_STEP_S)
    taken = 0
    for index, frame in enumerate(_decode(container, stream, damage)):
        time_s = clock.read(_to_seconds(frame.pts, stream), _to_seconds(frame.duration, stream))
        damage.frames += frame.is_corrupt
        if index % limits.every == 0:
            if taken == limits.max_frames:
                damage.reasons.append(
                    f"that is as many frames as are taken ({taken:,}; --max-frames takes more)"
                )
                return
            try:
                require_pixels(frame.width, frame.height, limits.max_pixels)
            except DataError as error:
                damage.reasons.append(str(error))
                return
            taken += 1
            yield VideoFrame(index, round(time_s, 6), _to_picture(frame))


def require_pixels(width: int, height: int, max_pixels: int) -> None:
    """Refuses frames that are too large.

    Raises:
        DataError: They are.
    """
    if width * height > max_pixels:
        raise DataError(
            f"image too large: {width}x{height}, {width * height:,} pixels; "
            f"expected at most {max_pixels:,}"
        )


def explain(error: Exception) -> str:
    """Returns what FFmpeg says of a fault, without the names and numbers around it."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _decode(container: InputContainer, stream: VideoStream, damage: Damage) -> Iterator[AvFrame]:
    import av

    packets = container.demux(stream)
    flushed = False
    while not flushed:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError) as error:
            damage.reasons.append(explain(error))
            packet = None
        # What the decoder still holds comes last. A packet without content, as an AVI has it where
        # a frame is shown for longer, would bring it out before its time.
        flushed = packet is None
        if packet is not None and not packet.size:
            continue
        try:
            damage.packets += packet is not None and packet.is_corrupt
            frames: list[AvFrame] = stream.decode(packet)
        except av.FFmpegError:
            damage.packets += 1
            continue
        yield from frames


def _to_picture(frame: AvFrame) -> Picture:
    orientation = _read_orientation(frame)
    pixels = np.ascontiguousarray(frame.to_ndarray(format="rgb24"), np.uint8)
    return Picture(turn_pixels(pixels, orientation), orientation)


def _read_orientation(frame: AvFrame) -> int:
    """Returns the turn that a player gives a frame, as EXIF numbers it."""
    from av.sidedata.sidedata import Type

    side_data: Any
    try:
        side_data = frame.side_data
    except ValueError:
        # PyAV has no names for the newest kinds. The angle it still knows, a mirror it does not.
        return {90: 8, 180: 3, -180: 3, -90: 6}.get(90 * round(frame.rotation / 90), 1)
    for data in side_data:
        if data.type is Type.DISPLAYMATRIX:
            a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
            # A turn by another angle is the nearest of those by quarters.
            if abs(a) + abs(d) >= abs(b) + abs(c):
                b = c = 0
            else:
                a = d = 0
            signs = np.sign((a, b, c, d)).tolist()
            return _ORIENTATIONS.get((signs[0], signs[1], signs[2], signs[3]), 1)
    return 1


def _to_seconds(ticks: int | None, stream: VideoStream) -> float | None:
    """Converts by the stream's unit: the frames that come last do not know theirs."""
    return None if ticks is None or stream.time_base is None else float(ticks * stream.time_base)


def _count_expected(stream: VideoStream) -> int:
    """Returns about how many frames a video has, for a progress bar alone."""
    if stream.frames:
        return stream.frames
    if stream.duration and stream.time_base and stream.average_rate:
        return round(stream.duration * stream.time_base * stream.average_rate)
    return 0


def _open_no_other_file(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise PermissionError("the video names another file")
