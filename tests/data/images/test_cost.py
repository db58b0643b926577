import struct
import zlib

from detflow.data.images.cost import count_picture_bytes, count_text_bytes


def test_pictures_take_their_pixels_and_the_work_on_the_largest():
    assert count_picture_bytes([10, 30]) == 3 * 40 + 20 * 30
    assert count_picture_bytes([]) == 0


def test_the_texts_of_a_png_count_as_pillow_bounds_them():
    text = b"zTXtkey\0\0" + zlib.compress(bytes(1 << 20))
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(text) - 4) + text + bytes(4)
    assert count_text_bytes(png) == 2 << 20
    assert count_text_bytes(png + text * 1_000) == 128 << 20
    assert count_text_bytes(b"\xff\xd8\xff" + text) == 0
