"""The frames of a video with their detections drawn, as an MP4 that plays at the video's pace."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from detflow.errors import EnvironmentFault
from detflow.prediction.videos import explain

if TYPE_CHECKING:
    from av.container import OutputContainer

# H.264 is what every player and browser shows. The wheels of PyAV bring libx264; a build of FFmpeg
# without it may have OpenH264, and all have MPEG-4 Part 2. Few frames are looked ahead at, and few
# threads encode, because each of them takes memory: `limits` says how much.
_ENCODERS: Final = {
    "libx264": {"preset": "veryfast", "crf": "21", "rc-lookahead": "8", "threads": "2"},
    "libopenh264": {"rc_mode": "quality", "threads": "2"},
    "mpeg4": {"flags": "+qscale", "global_quality": str(3 * 118), "threads": "2"},
}
# MPEG-4 Part 2 counts a second in at most 65,535 parts.
_TICK_S: Final = Fraction(1, 30_000)
# MP4 has 32 bits for how long a frame is shown; a file may say that there are years between two.
_MAX_PAUSE: Final = round(3_600 / _TICK_S)


class OverlayVideo:
    """An MP4 that is written frame by frame.

    Args:
        path: The file; its folder must exist.
        size: (width, height) of its frames in pixels.

    Raises:
        EnvironmentFault: There is no encoder.
        OSError: The disk refuses.
    """

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        import av

        self.path = path
        self.size = size
        self._last = -1
        # What longer pauses than a player bears were shortened by.
        self._left_out = 0
        self._has_ended = False
        name = find_encoder()
        with contextlib.ExitStack() as stack, self._faults():
            # FFmpeg could take a relative path for a network address, but never an absolute one.
            self._output: OutputContainer = stack.enter_context(
                av.open(os.path.abspath(path), "w", format="mp4")
            )
            stream: Any = self._output.add_stream(name, options=_ENCODERS[name])
            # Both sides are even, because two by two pixels share their colour.
            stream.width, stream.height = (side + side % 2 for side in size)
            stream.pix_fmt = "yuv420p"
            stream.codec_context.time_base = _TICK_S
            stream.codec_context.max_b_frames = 0
            self._stream = stream
            self._stack = stack.pop_all()

    def add(self, pixels: npt.NDArray[np.uint8], time_s: float) -> None:
        """Appends a frame.

        Args:
            pixels: [height, width, 3] uint8, RGB, of the video's size.
            time_s: When it is shown, in seconds from the beginning; a time that does not lie behind
                the last one is moved there, and a pause of more than an hour becomes an hour.

        Raises:
            OSError: The disk refuses.
        """
        import av

        height, width = pixels.shape[:2]
        even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), "rgb24")
        wanted = max(self._last + 1, round(time_s / _TICK_S) - self._left_out)
        shown = min(wanted, self._last + _MAX_PAUSE)
        self._left_out += wanted - shown
        self._last = shown
        frame.pts, frame.time_base = self._last, _TICK_S
        with self._faults():
            self._output.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Writes what is left; does nothing after an error.

        Raises:
            OSError: The disk refuses.
        """
        has_ended, self._has_ended = self._has_ended, True
        with self._stack, self._faults():
            if not has_ended:
                self._output.mux(self._stream.encode(None))

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        import av

        try:
            yield
        except av.FFmpegError as error:
            self._has_ended = True
            if isinstance(error, OSError):
                raise
            raise EnvironmentFault(
                f"the video cannot be encoded: {explain(error)}", path=self.path
            ) from None


def find_encoder() -> str:
    """Returns FFmpeg's name of the encoder that is used.

    Raises:
        EnvironmentFault: This build of FFmpeg has none of them.
    """
    import av

    for name in _ENCODERS:
        with contextlib.suppress(av.codec.codec.UnknownCodecError):
            if av.Codec(name, "w").is_encoder:
                return name
    raise EnvironmentFault(
        f"PyAV has no encoder out of {', '.join(_ENCODERS)}",
        remedy="install a wheel of av, or predict without --overlay-video",
    )
