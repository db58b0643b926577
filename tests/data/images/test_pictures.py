import os

import numpy as np
import pytest
from PIL import Image

from detflow.data.images.pictures import find_pictures, read_picture
from detflow.errors import DataError


def corner_picture():
    """30 x 20, red in the top left quarter, blue elsewhere."""
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[..., 2] = 200
    pixels[:10, :15] = (200, 0, 0)
    return Image.fromarray(pixels)


def names(source):
    return [file.name for file in find_pictures(str(source))]


def test_a_folder_is_searched_at_any_depth_in_order(tmp_path):
    for name in (
        "b.PNG",
        "a.jpg",
        "deep/er/c.webp",
        ".hidden.jpg",
        ".cache/d.jpg",
        "notes.txt",
        "e.xml",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    assert names(tmp_path) == ["a.jpg", "b.PNG", "deep/er/c.webp"]


def test_a_pattern_stands_for_files_and_folders(tmp_path):
    for name in ("a1.jpg", "a2.jpg", "b.jpg", "a-dir/c.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    assert names(tmp_path / "a*") == ["c.jpg", "a1.jpg", "a2.jpg"]
    assert names(tmp_path / "**" / "*.jpg") == [["a-dir", "c.jpg"][1], "a1.jpg", "a2.jpg", "b.jpg"]


def test_a_name_with_a_pattern_s_characters_is_a_file_if_it_exists(tmp_path):
    (tmp_path / "a[1].jpg").write_bytes(b"")
    assert names(tmp_path / "a[1].jpg") == ["a[1].jpg"]


@pytest.mark.parametrize("source", ["nothing", "no*thing", "."])
def test_nothing_found_is_an_error_that_names_the_source(source, tmp_path):
    with pytest.raises(DataError, match=r"there is no image in it|no such file"):
        find_pictures(str(tmp_path / source))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright(orientation, tmp_path):
    upright = corner_picture()
    # What a camera stores so that its viewer sees `upright`: the inverse of each orientation.
    stored = (
        upright.transpose(
            {
                2: Image.Transpose.FLIP_LEFT_RIGHT,
                3: Image.Transpose.ROTATE_180,
                4: Image.Transpose.FLIP_TOP_BOTTOM,
                5: Image.Transpose.TRANSPOSE,
                6: Image.Transpose.ROTATE_90,
                7: Image.Transpose.TRANSVERSE,
                8: Image.Transpose.ROTATE_270,
            }[orientation]
        )
        if orientation > 1
        else upright
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "phone.jpg", exif=exif, quality=95, subsampling=0)
    picture = read_picture(tmp_path / "phone.jpg")
    assert picture.orientation == orientation
    assert picture.pixels.shape == (20, 30, 3)
    assert np.abs(picture.pixels.astype(int) - np.asarray(upright)).mean() < 3


@pytest.mark.parametrize(
    ("mode", "suffix", "expected"),
    [
        ("L", "png", (90, 90, 90)),
        ("RGBA", "png", (10, 20, 30)),
        ("1", "png", (255, 255, 255)),
        ("CMYK", "tiff", (255, 255, 255)),
    ],
)
def test_every_kind_of_picture_becomes_eight_bit_rgb(mode, suffix, expected, tmp_path):
    value = {"L": 90, "RGBA": (10, 20, 30, 0), "1": 1, "CMYK": (0, 0, 0, 0)}[mode]
    Image.new(mode, (5, 4), value).save(tmp_path / f"x.{suffix}")
    pixels = read_picture(tmp_path / f"x.{suffix}").pixels
    assert (pixels.shape, pixels.dtype, pixels.flags.c_contiguous) == ((4, 5, 3), np.uint8, True)
    assert tuple(pixels[0, 0]) == expected


def test_sixteen_bits_are_scaled_not_cut(tmp_path):
    Image.fromarray(np.full((4, 5), 257 * 40, np.uint16)).save(tmp_path / "x.png")
    assert read_picture(tmp_path / "x.png").pixels.tolist() == [[[40] * 3] * 5] * 4


def test_png_pixels_come_back_exactly(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert (read_picture(tmp_path / "x.png").pixels == pixels).all()


def damaged(path, kind):
    corner_picture().resize((300, 200)).save(path, "JPEG")
    content = path.read_bytes()
    path.write_bytes(
        {"cut": content[:-400], "empty": b"", "text": b"hello " * 50, "head": content[:30]}[kind]
    )


@pytest.mark.parametrize("kind", ["cut", "empty", "text", "head"])
def test_a_damaged_file_is_named(kind, tmp_path):
    damaged(tmp_path / "x.jpg", kind)
    with pytest.raises(DataError, match=r"x\.jpg") as caught:
        read_picture(tmp_path / "x.jpg")
    assert "\n" not in str(caught.value)


def test_a_bomb_is_refused_from_its_header(tmp_path):
    Image.new("1", (8_000, 8_000)).save(tmp_path / "bomb.png")
    with pytest.raises(DataError, match="too large"):
        read_picture(tmp_path / "bomb.png")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: None])
def test_what_is_no_regular_file_is_refused_at_once(make, tmp_path):
    make(tmp_path / "x.jpg")
    with pytest.raises(DataError, match=r"x\.jpg"):
        read_picture(tmp_path / "x.jpg")
