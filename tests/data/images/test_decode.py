import io
import struct
import time
import zlib
from random import Random

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

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
    refused = excused = 0
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
            continue
        refused += 1
        try:
            facts = read_image_facts(damaged)
        except ImageFault:
            continue
        # Damage can look like bytes that mean nothing; then somebody is told.
        assert [code for code, _ in facts.remarks] == ["jpeg_extra_bytes"]
        excused += 1
    assert 100 < refused < 300
    assert excused < refused / 5


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
    with pytest.raises(ImageFault, match="several frames"):
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
        pixels, turned, *_ = decode_pixels(file.getvalue())
        assert turned == orientation
        np.testing.assert_array_equal(pixels, decode_rgb(file.getvalue(), orientation))
        stored, turned, *_ = decode_pixels(file.getvalue(), upright=False)
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


def bitmap(pixels, alpha):
    """A bitmap of 32 bits with an alpha channel, as cameras of vehicles write it."""
    height, width, _ = pixels.shape
    rows = np.dstack([pixels[::-1, :, ::-1], np.full((height, width), alpha, np.uint8)])
    header = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, rows.size, 0, 0, 0, 0)
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    return (
        b"BM" + struct.pack("<IHHI", 122 + rows.size, 0, 0, 122) + header + masks + rows.tobytes()
    )


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette", "colour key", "webp", "bmp"])
def test_alpha_that_hides_everything_is_passed_over_and_named(pictures, kind):
    picture = pictures.draw(mode="L" if kind == "LA" else "RGB")
    pixels = np.asarray(picture.convert("RGB"))
    if kind == "bmp":
        data = bitmap(pixels, 0)
    elif kind == "palette":
        palette = picture.quantize(40)
        pixels = np.asarray(palette.convert("RGB"))
        data = pictures.encode(palette, "PNG", transparency=bytes(40))
    elif kind == "colour key":
        pixels = np.full_like(pixels, 77)
        data = pictures.encode(Image.fromarray(pixels), "PNG", transparency=(77, 77, 77))
    else:
        hidden = picture.convert("LA" if kind == "LA" else "RGBA")
        hidden.putalpha(0)
        options = {"lossless": True, "exact": True} if kind == "webp" else {}
        data = pictures.encode(hidden, "WEBP" if kind == "webp" else "PNG", **options)
    facts = read_image_facts(data)
    assert [code for code, _ in facts.remarks] == ["alpha_zero"]
    np.testing.assert_array_equal(decode_rgb(data), pixels)


@pytest.mark.parametrize("place", [(0, 0), (63, 47)])
def test_one_seen_pixel_makes_alpha_count(pictures, place):
    hidden = pictures.draw(mode="RGBA")
    hidden.putalpha(0)
    hidden.putpixel(place, (1, 2, 3, 255))
    data = pictures.encode(hidden, "PNG")
    assert read_image_facts(data).remarks == ()
    pixels = decode_rgb(data)
    assert tuple(pixels[place[1], place[0]]) == (1, 2, 3)
    assert (pixels == 255).all(axis=-1).sum() == 64 * 48 - 1
    assert read_image_facts(bitmap(np.asarray(pictures.draw()), 255)).remarks == ()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))  # fmt: skip  # noqa: E501


@pytest.mark.parametrize(
    "texts",
    [
        chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(3_000_000))),
        chunk(b"tEXt", b"a\0" + b"x" * 30_000) * 30,
        chunk(b"zTXt", b"a\0\0" + b"no stream"),
    ],
    ids=["zTXt", "iTXt", "iCCP", "many", "damaged"],
)
@pytest.mark.parametrize("at_the_end", [False, True])
def test_texts_of_any_size_do_not_hide_a_picture(pictures, texts, at_the_end, monkeypatch):
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 500_000)
    sound = pictures.encode(pictures.draw(), "PNG")
    place = len(sound) - 12 if at_the_end else 33
    data = sound[:place] + texts + sound[place:]
    assert read_image_facts(data).size == ImageSize(64, 48)
    np.testing.assert_array_equal(decode_rgb(data), decode_rgb(sound))
    with pytest.raises(ImageFault, match="undecodable"):
        read_image_facts(data[: -len(sound) // 2])


def many_pages(count):
    """A TIFF of pages of one pixel."""
    entries = ((256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 1))  # fmt: skip  # noqa: E501
    page = 2 + 12 * len(entries) + 4
    pages = [b"II*\0" + struct.pack("<I", 10) + b"\x80\0"]
    for number in range(count):
        following = 10 + page * (number + 1) if number + 1 < count else 0
        fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
        pages.append(struct.pack("<H", len(entries)) + fields + struct.pack("<I", following))
    return b"".join(pages)


def test_a_tiff_of_many_pages_is_refused_at_once():
    assert read_image_facts(many_pages(1)).size == ImageSize(1, 1)
    data = many_pages(20_000)
    start = time.process_time()
    for function in (read_image_facts, decode_pixels):
        with pytest.raises(ImageFault, match="tiff with several frames"):
            function(data)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("start", [b"GIF89a", b"\x89PNG\r\n\x1a\n", b"II*\0", b"RIFF\0\0\0\0WEBP"])
def test_a_reason_is_the_same_in_every_run(start):
    with pytest.raises(ImageFault) as caught:
        read_image_facts(start + bytes(12))
    assert "0x" not in str(caught.value)
    assert "the header cannot be read" in str(caught.value)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x4f\xff\x51\0", "JPEG 2000"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"P6\n64 48\n255\n", "PNM"),
        (b"8BPS\0\1", "PSD"),
        (b"\0\0\0\x1cftypavif", "heif"),
        (b"\0\0\0\x18ftypheix", "heif"),
    ],
)
def test_a_known_format_that_is_not_read_is_called_by_its_name(head, name):
    with pytest.raises(ImageFault, match=f"image unsupported: {name}"):
        read_image_facts(head + bytes(40))
