import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from detflow.data.images.thumbnails import read_thumbnail
from detflow.data.images.transcode import Treatment
from detflow.storage.folders import LocalFolder
from detflow.types import ImageSize


def read(root, content, treatment=Treatment(), max_side=40):  # noqa: B008  Treatment is frozen.
    (root / "image").write_bytes(content)
    return read_thumbnail(LocalFolder.of(root), "image", treatment, max_side)


def pixels_of(thumbnail):
    return np.asarray(Image.open(io.BytesIO(thumbnail.jpeg)).convert("RGB"), np.float32)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_every_format_is_shrunk_and_keeps_its_picture(tmp_path, voc_set, image_format):
    image = voc_set.draw(200, 100)
    thumbnail = read(tmp_path, voc_set.encode(image, image_format))
    assert thumbnail.size == ImageSize(200, 100)
    found = pixels_of(thumbnail)
    assert found.shape == (20, 40, 3)
    expected = np.asarray(image.resize((40, 20), Image.Resampling.BOX), np.float32)
    assert np.abs(found - expected).mean() < 12


def test_a_small_image_is_not_enlarged(tmp_path, voc_set):
    assert pixels_of(read(tmp_path, voc_set.encode(voc_set.draw(16, 12)))).shape == (12, 16, 3)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk(tmp_path, voc_set, mode):
    assert read(tmp_path, voc_set.encode(voc_set.draw(mode=mode))).size == ImageSize(64, 48)


def test_a_turned_image_is_turned(tmp_path, voc_set):
    thumbnail = read(
        tmp_path, voc_set.encode(voc_set.draw(100, 50)), Treatment(transcode=True, turn=6)
    )
    assert thumbnail.size == ImageSize(50, 100)


def test_a_cut_jpeg_shows_what_there_is(tmp_path, voc_set):
    image = voc_set.draw(80, 80)
    content = voc_set.encode(image)
    found = pixels_of(read(tmp_path, content[: len(content) * 2 // 3], max_side=80))
    assert np.abs(found[:20] - np.asarray(image, np.float32)[:20]).mean() < 12


def test_a_damaged_image_never_shows_the_memory_of_the_process(tmp_path, voc_set):
    rng = np.random.default_rng(1)
    sound = voc_set.encode(voc_set.draw(120, 90))
    progressive = voc_set.encode(voc_set.draw(120, 90), progressive=True)
    for number in range(300):
        content = bytearray((sound, progressive)[number % 2])
        for _ in range(2):
            content[rng.integers(20, len(content))] = rng.integers(256)
        del content[int(rng.integers(len(content) // 2, len(content))) :]
        found = []
        for fill in (0, 255):
            memory = [np.full(size, fill, np.uint8) for size in (120 * 90 * 3, 60 * 45 * 3, 4096)]
            del memory
            found.append(read(tmp_path, bytes(content), max_side=60))
        assert found[0] == found[1]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n garbage",
        b"\xff\xd8\xff\xe0" + b"\0" * 500,
    ],
)
def test_what_is_no_image_gives_nothing(tmp_path, content):
    assert read(tmp_path, content) is None


def test_a_missing_file_gives_nothing(tmp_path):
    assert read_thumbnail(LocalFolder.of(tmp_path), "gone.jpg", Treatment(), 40) is None


def test_a_bomb_is_not_opened(tmp_path):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 9_000, 9_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * (9_000 * 3 + 1) * 100)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
    start = time.process_time()
    assert read(tmp_path, bomb) is None
    assert time.process_time() - start < 1
