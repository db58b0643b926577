"""How much is taken of a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_FRAME_PIXELS: Final = 8192 * 4352
"""A decoder may keep up to 16 frames to predict others from, so these are bounded more tightly than
pictures are: 8K has room, and takes up to 0.9 GB."""

# 26 for a pixel of the frames that the decoder keeps, as many for one of a picture in work.
_BYTES_PER_PIXEL: Final = 52
# What encoding a video with the detections drawn adds, measured at 2 threads: H.264 keeps as many
# frames in several renditions as it looks ahead at.
_ENCODER_BYTES_PER_PIXEL: Final = 78

DEFAULT_MAX_FRAMES: Final = 100_000
"""Most frames that are taken of one video: an hour of 28 frames a second."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is taken of a video.

    Attributes:
        every: 1 takes each frame, 2 every second one.
        max_frames: Most frames that are taken.
        max_pixels: Most pixels of a frame.
    """

    every: int = 1
    max_frames: int = DEFAULT_MAX_FRAMES
    max_pixels: int = MAX_FRAME_PIXELS


ALL_FRAMES: Final = Limits()
"""Each frame of a video, as far as videos are read."""


def fit_frame(max_bytes: int, *, is_encoded: bool = False) -> int:
    """Returns how many pixels a video's frame may have, so that it takes no more memory.

    Args:
        max_bytes: The memory.
        is_encoded: Whether a video with the detections drawn is written, too.
    """
    per_pixel = _BYTES_PER_PIXEL + is_encoded * _ENCODER_BYTES_PER_PIXEL
    return min(MAX_FRAME_PIXELS, max_bytes // per_pixel)
