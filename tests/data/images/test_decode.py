import contextlib
import hashlib
import io
import struct
import subprocess
import sys
import zlib
from random import Random

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from detflow.data.images.decode import decode_pixels, decode_rgb, read_image_facts
from detflow.data.images.hashes import perceptual_hash
from detflow.data.images.header import ImageFault, find_format
from detflow.data.images.transcode import Treatment, encode_record_jpeg
from detflow.types import ImageSize


@pytest.fixture
def pictures(voc_set):
    return voc_set


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
    assert record_pixels(pictures.encode(palette, "PNG", transparency=1)).min() >= 253
    assert (
        record_pixels(
            pictures.encode(Image.new("RGB", (16, 16), (9, 9, 9)), "PNG", transparency=(9, 9, 9))
        ).min()
        >= 253
    )


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


def test_damaged_exif_turns_nothing(pictures):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = pictures.encode(pictures.draw(), exif=exif).replace(b"MM\0*", b"MM\0\xff")
    assert read_image_facts(data).orientation == 1


@pytest.mark.parametrize("progressive", [False, True])
def test_every_cut_jpeg_is_found(pictures, progressive):
    data = pictures.encode(pictures.draw(), progressive=progressive)
    for length in (*range(40), *range(600, len(data), 97), len(data) - 2, len(data) - 1):
        with pytest.raises(ImageFault) as caught:
            read_image_facts(data[:length])
        assert caught.value.code == "image_undecodable"


def test_corrupt_entropy_data_is_found(pictures):
    data = bytearray(pictures.encode(pictures.draw(200, 200), quality=95))
    data[len(data) // 2 : len(data) // 2 + 4] = b"\xff\xd9\x00\x00"
    with pytest.raises(ImageFault, match="image undecodable"):
        read_image_facts(bytes(data))


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}, {"mode": "L"}]
)
def test_the_reduced_decode_refuses_what_a_full_one_refuses(pictures, options):
    """Reading decodes to 1/8, in grey: every entropy-coded bit is walked all the same."""
    options = dict(options)
    data = pictures.encode(
        pictures.draw(160, 120, mode=options.pop("mode", "RGB")), quality=90, **options
    )
    scan = data.index(b"\xff\xda")
    random = Random(0)
    refused = 0
    for number in range(300):
        place, length = random.randrange(scan, len(data)), random.randrange(1, 60)
        damaged = (
            data[:place],
            data[:place] + random.randbytes(1) + data[place + 1 :],
            data[:place] + bytes(length) + data[place + length :],
            data[:place] + data[place + length :],
            data[:place] + random.randbytes(length) + data[place:],
            data[:-2] + random.randbytes(number % 3),
        )[number % 6]
        whole = True
        try:
            simplejpeg.decode_jpeg(damaged, strict=True)
        except ValueError:
            whole = False
        if whole:
            read_image_facts(damaged)
        else:
            refused += 1
            with pytest.raises(ImageFault):
                read_image_facts(damaged)
    assert 100 < refused < 300


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_other_cut_formats_are_found(pictures, image_format):
    data = pictures.encode(pictures.draw(), image_format)
    for share in (0.3, 0.6, 0.9):
        with pytest.raises(ImageFault, match="image undecodable"):
            read_image_facts(data[: int(len(data) * share)])


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


@pytest.mark.parametrize("image_format", ["GIF", "TIFF", "WEBP", "PNG"])
def test_several_frames_are_refused(pictures, image_format):
    data = pictures.encode(
        pictures.draw(), image_format, save_all=True, append_images=[pictures.draw(seed=1)]
    )
    with pytest.raises(ImageFault, match="2 frames"):
        read_image_facts(data)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_a_range_are_refused(pictures, mode):
    with pytest.raises(ImageFault, match="32 bit"):
        read_image_facts(pictures.encode(pictures.draw(mode=mode), "TIFF"))


def _png_bomb(side):
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + chunk(b"IDAT", zlib.compress(bytes((side // 8 + 1) * side), 9))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [7_200, 12_000, 30_000])
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


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 200), (200, 3), (17, 16), (1000, 20)])
@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_any_shape_can_be_read(pictures, width, height, image_format):
    facts = read_image_facts(pictures.encode(pictures.draw(width, height), image_format))
    assert facts.size == ImageSize(width, height)
    assert len(perceptual_hash(facts.grey)) == 32


def _distance(one, other):
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()


def test_the_perceptual_hash_knows_a_picture_again(pictures):
    picture = pictures.draw(640, 480, seed=3)
    original = perceptual_hash(read_image_facts(pictures.encode(picture, quality=95)).grey)
    for variant in (
        pictures.encode(picture, quality=60),
        pictures.encode(picture, "PNG"),
        pictures.encode(picture.resize((500, 375)), quality=90),
        pictures.encode(picture.point(lambda value: value * 0.9), quality=90),
    ):
        assert _distance(original, perceptual_hash(read_image_facts(variant).grey)) <= 12
    for seed in range(4, 14):
        other = perceptual_hash(
            read_image_facts(pictures.encode(pictures.draw(640, 480, seed=seed))).grey
        )
        assert _distance(original, other) > 60


def test_formats_are_told_by_content(pictures):
    for image_format in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"):
        assert (
            find_format(pictures.encode(pictures.draw(), image_format)[:16]) == image_format.lower()
        )
    assert find_format(b"BMW is a car maker from Munich") is None


@given(
    st.binary(max_size=200),
    st.sampled_from(
        [
            b"",
            b"\xff\xd8\xff",
            b"\x89PNG\r\n\x1a\n",
            b"RIFF\0\0\0\0WEBP",
            b"BM",
            b"II*\0",
            b"GIF89a",
        ]
    ),
)
def test_no_input_escapes(data, magic):
    with contextlib.suppress(ImageFault):
        read_image_facts(magic + data)


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


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {"quality": 90, "subsampling": 0}),
        ("RGB", {"quality": 75, "subsampling": 2, "progressive": True}),
        ("RGB", {"quality": 40, "subsampling": 1}),
        ("L", {"quality": 85}),
        ("CMYK", {"quality": 85}),
    ],
)
def test_pixels_for_a_detector_are_those_of_the_records(mode, options):
    """One fast decoding of a plain JPEG gives the very pixels of Pillow's, which are TensorFlow's INTEGER_ACCURATE ones."""
    random = np.random.default_rng(3)
    coarse = random.integers(0, 256, (9, 12, 3), np.uint8)
    image = Image.fromarray(coarse).resize((131, 97), Image.Resampling.BICUBIC).convert(mode)
    for orientation in (1, 6):
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = io.BytesIO()
        image.save(file, "JPEG", exif=exif, **options)
        pixels, turned = decode_pixels(file.getvalue())
        assert turned == orientation
        np.testing.assert_array_equal(pixels, decode_rgb(file.getvalue(), orientation))
        stored, turned = decode_pixels(file.getvalue(), upright=False)
        assert turned == 1
        np.testing.assert_array_equal(stored, decode_rgb(file.getvalue()))


def test_what_a_detector_cannot_decode_is_refused_as_everywhere():
    file = io.BytesIO()
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(file, "JPEG")
    data = file.getvalue()
    for broken, options in (
        (data[:-20], {}),
        (data, {"max_pixels": 2399}),
        (b"no image", {}),
        (data[:40], {}),
    ):
        with pytest.raises(ImageFault) as caught:
            decode_pixels(broken, **options)
        with pytest.raises(ImageFault) as expected:
            read_image_facts(broken, **options)
        assert caught.value.code == expected.value.code
