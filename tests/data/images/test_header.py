import struct
import subprocess
import sys
import zlib

import pytest
from PIL import Image

from detflow.data.images.decode import read_image_facts
from detflow.data.images.header import ImageFault, find_format


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
