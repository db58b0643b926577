import hashlib

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from detflow.data.images.decode import read_image_facts
from detflow.data.images.transcode import Treatment, encode_record_jpeg
from detflow.types import ImageSize


def record_pixels(data, turn=1):
    facts = read_image_facts(data)
    transcode = turn != 1 or not facts.is_plain_jpeg
    jpeg = encode_record_jpeg(
        data, Treatment(transcode=transcode, turn=turn, drop_exif=not transcode)
    )
    again = read_image_facts(jpeg)
    assert again.is_plain_jpeg
    assert again.orientation == 1
    return simplejpeg.decode_jpeg(jpeg, colorspace="RGB")


def mean_error(one, other):
    assert one.shape == other.shape
    return np.abs(one.astype(int) - other.astype(int)).mean()


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"restart_marker_blocks": 2}, {"subsampling": 0}, {"quality": 100}],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_plain_jpeg_is_passed_on_byte_for_byte(pictures, mode, options):
    data = pictures.encode(pictures.draw(mode=mode), **options)
    facts = read_image_facts(data)
    assert facts.is_plain_jpeg
    assert (facts.size, facts.orientation) == (ImageSize(64, 48), 1)
    assert facts.kind == {"RGB": "jpeg colour", "L": "jpeg grey"}[mode]
    assert encode_record_jpeg(data, Treatment()) is data


@pytest.mark.parametrize(
    ("mode", "image_format", "kind"),
    [
        ("RGB", "PNG", "png RGB"),
        ("RGBA", "PNG", "png RGBA"),
        ("RGB", "WEBP", "webp RGB"),
        ("RGB", "BMP", "bmp RGB"),
        ("RGB", "TIFF", "tiff RGB"),
        ("CMYK", "TIFF", "tiff CMYK"),
        ("CMYK", "JPEG", "jpeg CMYK"),
    ],
)
def test_other_formats_become_a_jpeg_of_the_same_picture(pictures, mode, image_format, kind):
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 98}}.get(image_format, {})
    picture = pictures.draw(mode=mode)
    data = pictures.encode(picture, image_format, **options)
    facts = read_image_facts(data)
    assert (facts.kind, facts.is_plain_jpeg, facts.size) == (kind, False, ImageSize(64, 48))
    assert mean_error(record_pixels(data), np.asarray(pictures.draw())) < 2.5


def test_rgb_stored_in_a_jpeg_is_transcoded(pictures):
    data = pictures.encode(pictures.draw(), keep_rgb=True, quality=98)
    assert read_image_facts(data).kind == "jpeg RGB"
    assert mean_error(record_pixels(data), np.asarray(pictures.draw())) < 2.5


def test_alpha_is_laid_over_white(pictures):
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:, 8:, 3] = 255
    pixels[8:, :8] = (0, 0, 0, 128)
    left, right, half = (
        record_pixels(pictures.encode(Image.fromarray(pixels), "PNG"))[y, x]
        for y, x in ((3, 3), (3, 12), (12, 3))
    )
    assert left.min() >= 253
    assert right.max() <= 2
    assert np.abs(half.astype(int) - 127).max() <= 3


def test_palettes_with_and_without_transparency(pictures):
    palette = Image.new("P", (16, 16), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    assert (
        np.abs(record_pixels(pictures.encode(palette, "PNG")).astype(int) - (0, 0, 255)).max() <= 3
    )
    palette.putpixel((15, 15), 0)
    assert record_pixels(pictures.encode(palette, "PNG", transparency=1))[:8].min() >= 253
    colour = Image.new("RGB", (16, 16), (9, 9, 9))
    colour.putpixel((15, 15), (0, 0, 0))
    assert record_pixels(pictures.encode(colour, "PNG", transparency=(9, 9, 9)))[:8].min() >= 253


@pytest.mark.parametrize("image_format", [".png", ".tiff"])
def test_sixteen_bits_are_scaled_not_cut(image_format):
    ramp = np.linspace(0, 65_535, 64 * 64).reshape(64, 64).astype(np.uint16)
    data = cv2.imencode(image_format, ramp)[1].tobytes()
    expected = np.round(ramp / 257.0)
    assert np.abs(record_pixels(data)[:, :, 0] - expected).mean() < 1.0


def test_one_bit_pictures(pictures):
    assert record_pixels(pictures.encode(Image.new("1", (16, 16), 1), "PNG")).min() >= 253


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_turns_are_reported_and_applied_on_demand(pictures, orientation, image_format):
    picture = pictures.draw()
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 98}, "WEBP": {"lossless": True}}.get(image_format, {})
    data = pictures.encode(picture, image_format, exif=exif, **options)
    facts = read_image_facts(data)
    assert (facts.orientation, facts.size) == (orientation, ImageSize(64, 48))
    assert facts.turned_size == (ImageSize(48, 64) if orientation >= 5 else ImageSize(64, 48))
    assert mean_error(record_pixels(data, turn=1)[:8, :8], np.asarray(picture)[:8, :8]) < 3.5
    tagged = picture.copy()
    tagged.getexif()[0x0112] = orientation
    assert (
        mean_error(
            record_pixels(data, turn=orientation), np.asarray(ImageOps.exif_transpose(tagged))
        )
        < 3.5
    )


def test_exif_is_removed_and_nothing_else(pictures):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = pictures.encode(pictures.draw(), exif=exif, comment=b"kept")
    bare = encode_record_jpeg(data, Treatment(drop_exif=True))
    assert read_image_facts(bare).orientation == 1
    assert b"kept" in bare
    assert b"Exif" not in bare
    assert np.array_equal(simplejpeg.decode_jpeg(bare), simplejpeg.decode_jpeg(data))


# The same pixels must give the same record for years; the hashes were made with the versions in
# requirements.lock.
GOLDEN = {
    "RGB": "03715c78dc92fb85",
    "L": "8e2f6c3b3071a288",
    "RGBA": "cfc3dec96fdb6322",
    "I;16": "e24efc350abe7985",
    "P": "19f14e2a180c4df8",
    "CMYK": "03715c78dc92fb85",
}


@pytest.mark.parametrize("mode", GOLDEN)
def test_golden_records(pictures, mode):
    y, x = np.mgrid[:48, :64]
    pixels = np.stack([x * 4, y * 5, (x + y) * 2], axis=2).astype(np.uint8)
    if mode == "I;16":
        picture = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    elif mode == "RGBA":
        picture = Image.fromarray(np.dstack([pixels, (x * 4).astype(np.uint8)]))
    else:
        picture = Image.fromarray(pixels).convert(mode)
    data = pictures.encode(picture, "TIFF" if mode == "CMYK" else "PNG")
    digest = hashlib.sha256(encode_record_jpeg(data, Treatment(transcode=True))).hexdigest()
    assert digest[:16] == GOLDEN[mode]
