"""Detections as JSON, in the same form wherever detflow writes them or answers with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from detflow.types import Detection, ImageSize

FRAME: Final = (
    "box is [ymin, xmin, ymax, xmax] normalised by the image, "
    "box_px is [left, top, right, bottom] in pixels; "
    "both, like width and height, are of the upright image, with the EXIF orientation applied"
)
"""The meaning of the numbers, for readers of the JSON."""

DEFAULT_SCORE_THRESHOLD: Final = 0.3
"""Detections with a lower score are left out unless the caller says otherwise."""

PIXEL_DIGITS: Final = 3
"""Decimals of lengths in pixels."""


def describe_detections(detections: Iterable[Detection], size: ImageSize) -> list[dict[str, Any]]:
    """Returns an image's detections as JSON values; `FRAME` says what the numbers mean.

    Args:
        detections: The detections.
        size: The upright image's size in pixels.
    """
    return [
        {
            "name": detection.name,
            "class_id": detection.class_id,
            "score": detection.score,
            "box": [detection.box.ymin, detection.box.xmin, detection.box.ymax, detection.box.xmax],
            "box_px": [round(value, PIXEL_DIGITS) for value in detection.box.to_pixels(size)],
        }
        for detection in detections
    ]
