import io
import struct
from random import Random

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from detflow.data.images.decode import decode_pixels, decode_rgb, read_image_facts
from detflow.data.images.hashes import perceptual_hash
from detflow.data.images.header import ImageFault
from detflow.data.rules import UPLOAD_RULES
from detflow.types import ImageSize


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


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 200), (200, 3), (17, 16), (1000, 20)])
@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_any_shape_can_be_read(pictures, width, height, image_format):
    facts = read_image_facts(pictures.encode(pictures.draw(width, height), image_format))
    assert facts.size == ImageSize(width, height)
    assert len(perceptual_hash(facts.grey)) == 32


def find_fault(data):
    try:
        read_image_facts(data)
    except ImageFault as fault:
        return fault.code
    return None


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
    assert find_fault(magic + data) in (None, *UPLOAD_RULES)


@given(st.binary(max_size=200), st.sampled_from([0xFE, 0xE0, 0xE5, 0xEF]))
def test_a_sound_jpeg_is_accepted_whatever_its_comments_hold(data, marker):
    coarse = Image.fromarray(np.arange(36, dtype=np.uint8).reshape(3, 4, 3) * 7)
    file = io.BytesIO()
    coarse.resize((40, 30)).save(file, "JPEG")
    sound = file.getvalue()
    segment = struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data
    facts = read_image_facts(sound[:2] + segment + sound[2:])
    expected = read_image_facts(sound)
    assert (facts.size, facts.orientation, facts.kind) == (expected.size, 1, "jpeg colour")
    np.testing.assert_array_equal(facts.grey, expected.grey)


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
    """One fast decoding of a plain JPEG gives Pillow's pixels, which are TensorFlow's, too."""
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
