import struct
import subprocess
import sys
import zlib

import pytest
from PIL import Image

from detflow.data.images.decode import read_image_facts
from detflow.data.images.header import ImageFault, find_format, read_image_size
from detflow.types import ImageSize


def test_damaged_exif_turns_nothing(pictures):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = pictures.encode(pictures.draw(), exif=exif).replace(b"MM\0*", b"MM\0\xff")
    assert read_image_facts(data).orientation == 1


def _png_bomb(side):
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + chunk(b"IDAT", zlib.compress(bytes((side // 8 + 1) * side), 1))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [7_200, 30_000])
def test_too_many_pixels_are_refused_from_the_header(side, tmp_path):
    (tmp_path / "bomb.png").write_bytes(_png_bomb(side))
    code = """
import re, sys, time
from detflow.data.images.header import ImageFault
from detflow.data.images.decode import read_image_facts
start = time.process_time()
try:
    read_image_facts(open(sys.argv[1], "rb").read())
except ImageFault as fault:
    assert fault.code == "image_too_large", fault
else:
    raise AssertionError
assert time.process_time() - start < 1
# Not ru_maxrss: that keeps the parent's peak over a fork.
assert int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) < 500_000
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "bomb.png")], check=True)


def test_a_jpeg_header_that_promises_too_much_is_refused(pictures):
    data = pictures.encode(pictures.draw())
    place = data.index(b"\xff\xc0") + 5
    with pytest.raises(ImageFault, match="image too large"):
        read_image_facts(data[:place] + struct.pack(">HH", 60_000, 60_000) + data[place + 4 :])


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "image_undecodable"),
        (b"hello", "image_undecodable"),
        (b"\xff\xd8\xff\xd9", "image_undecodable"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "image_unsupported"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "image_unsupported"),
    ],
)
def test_what_is_no_image_is_named(data, code):
    with pytest.raises(ImageFault, match=code.replace("_", " ")):
        read_image_facts(data)


def test_formats_are_told_by_content(pictures):
    for image_format in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"):
        assert (
            find_format(pictures.encode(pictures.draw(), image_format)[:16]) == image_format.lower()
        )
    assert find_format(b"BMW is a car maker from Munich") is None


def _progressive(pictures, scans):
    data = pictures.encode(pictures.draw(), "JPEG", progressive=True)
    last = data[data.rfind(b"\xff\xda") : -2]
    # A comment that looks like the end, and a marker without content, hide nothing behind them.
    comment = b"\xff\xfe\0\x04\xff\xd9\xff\xd0"
    return data[:-2] + (comment + last) * scans + data[-2:]


def test_a_jpeg_of_very_many_scans_is_refused_before_they_are_decoded(pictures):
    """Each is a pass over all blocks: 300 kB took a core half a minute."""
    with pytest.raises(ImageFault, match="more than 64 scans") as caught:
        read_image_size(_progressive(pictures, 64))
    assert caught.value.code == "image_unsupported"
    assert read_image_size(_progressive(pictures, 20)).width
    # What follows the picture is none of its scans.
    assert read_image_size(_progressive(pictures, 0) + b"\xff\xda" * 100).width


@pytest.mark.parametrize(("side", "is_read"), [(1_024, True), (1_040, False), (16_384, False)])
def test_a_tiff_in_tiles_much_larger_than_itself_is_refused(side, is_read):
    """One tile is decoded as a whole: 0.4 MB took 390 MB."""
    entries = (
        *((256, 64), (257, 64), (258, 8), (259, 8), (262, 1), (277, 1)),
        *((322, side), (323, side), (324, 8 + 6 + 12 * 10), (325, 100)),
    )
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries))
    data += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    data += bytes(4) + zlib.compress(bytes(side * side))
    if is_read:
        assert read_image_size(data) == ImageSize(64, 64)
    else:
        with pytest.raises(ImageFault, match="in tiles of") as caught:
            read_image_size(data)
        assert caught.value.code == "image_unsupported"
