import io

import numpy as np
import pytest
from PIL import Image

from detflow.pages.embed import limit_jpeg
from detflow.types import ImageSize


def encode(width, height, quality=95):
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def test_a_small_file_stays_as_it_is():
    data = encode(60, 40)
    assert limit_jpeg(data, len(data)) == (data, ImageSize(60, 40))


@pytest.mark.parametrize(("limit", "longest"), [(200_000, 700), (60_000, 400), (1, 200)])
def test_a_large_file_keeps_as_many_pixels_as_fit(limit, longest):
    data = encode(700, 350)
    assert len(data) > 200_000
    jpeg, size = limit_jpeg(data, limit)
    assert size == ImageSize(longest, longest // 2)
    assert Image.open(io.BytesIO(jpeg)).size == (longest, longest // 2)
    assert len(jpeg) <= max(limit, 20_000)
