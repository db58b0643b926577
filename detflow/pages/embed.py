"""Files of pictures as a page holds them: with their own pixels, up to a limit."""

from __future__ import annotations

import io

from PIL import Image

from detflow.pages.draw import fit_picture
from detflow.types import ImageSize

_QUALITY = 82
# Longer sides that are tried one after the other; the last one is below any sensible limit.
_SIDES_PX = (1600, 1200, 900, 640, 400, 200)


def limit_jpeg(jpeg: bytes, max_bytes: int) -> tuple[bytes, ImageSize]:
    """Makes a picture smaller where its file is too large for a page.

    Args:
        jpeg: A JPEG file's bytes.
        max_bytes: How many it may have.

    Returns:
        The same bytes, or those of a smaller picture; and the size of the picture in pixels.
    """
    picture = Image.open(io.BytesIO(jpeg))
    size, longest = picture.size, max(picture.size)
    for side in (longest, *(side for side in _SIDES_PX if side < longest)):
        if len(jpeg) <= max_bytes:
            break
        small = fit_picture(picture.copy() if side == longest else picture, side)
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=_QUALITY)
        jpeg, size = buffer.getvalue(), small.size
    return jpeg, ImageSize(*size)
