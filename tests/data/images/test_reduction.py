"""Pictures that are far larger than a canvas are read smaller; what the network sees stays."""

import io

import numpy as np
import pytest
from PIL import Image

from detflow.data.images.decode import decode_pixels
from detflow.geometry import choose_reduction, fit_to_canvas

CANVAS = ((48, 64),)


@pytest.fixture(scope="module")
def photo():
    """896 by 1,208 pixels of shapes at many scales, as photographs have them."""
    random = np.random.default_rng(2)
    pixels = np.zeros((896, 1208, 3))
    for side in (4, 12, 40, 130):
        coarse = random.normal(0, 18, (-(-896 // side), -(-1208 // side), 3))
        pixels += np.kron(coarse, np.ones((side, side, 1)))[:896, :1208]
    return Image.fromarray(np.clip(pixels + 120, 0, 255).astype(np.uint8))


def encode(image, suffix, orientation=1, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, suffix, exif=exif, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("size", "canvases", "reduction"),
    [
        ((3000, 4000), ((256, 320),), 8),
        ((4000, 3000), ((256, 320),), 8),
        ((3000, 4000), ((384, 512),), 4),
        ((3000, 4000), ((256, 320), (512, 512)), 4),
        ((3000, 4000), ((1024, 1024),), 2),
        ((480, 640), ((256, 320),), 1),
        ((3000, 4000), (), 1),
        # The side that is shown smallest decides nothing of its own.
        ((20, 65_000), ((256, 320),), 8),
    ],
)
def test_a_picture_keeps_half_as_much_again_as_the_canvas_shows(size, canvases, reduction):
    assert choose_reduction(size, canvases) == reduction


@pytest.mark.parametrize(
    ("suffix", "options"),
    [("JPEG", {"quality": 90}), ("JPEG", {"quality": 95, "subsampling": 0}), ("PNG", {})],
)
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("canvas", [(48, 64), (96, 128), (180, 240)])
def test_the_canvas_looks_the_same(suffix, options, orientation, canvas, photo):
    data = encode(photo, suffix, orientation, **options)
    whole = decode_pixels(data)
    small = decode_pixels(data, canvas_sizes=(canvas,))
    assert small.reduction == choose_reduction(whole.pixels.shape[:2], (canvas,)) > 1
    assert (small.size, small.orientation) == (whole.size, orientation)
    fitted = [fit_to_canvas(one.pixels[np.newaxis], canvas)[0] for one in (whole, small)]
    difference = np.abs(fitted[0] - fitted[1])
    # What docs/decisions states of the grey levels.
    assert difference.mean() < 1.0
    assert np.percentile(difference, 99) < 5


@pytest.mark.parametrize("suffix", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(1203, 895), (1208, 889), (1201, 890)])
def test_blocks_at_the_edge_may_be_incomplete(suffix, size, photo):
    whole = photo.crop((0, 0, *size))
    small = decode_pixels(encode(whole, suffix), canvas_sizes=CANVAS)
    assert small.reduction == 8
    assert (small.size.width, small.size.height) == size
    assert small.pixels.shape[:2] == (-(-size[1] // 8), -(-size[0] // 8))
    inside = np.asarray(whole.crop((0, 0, 1200, 880)).reduce(8)).astype(int)
    assert np.abs(small.pixels[:110, :150] - inside).mean() < 2


def test_nothing_changes_where_nobody_says_what_it_is_for(photo):
    data = encode(photo, "JPEG")
    assert decode_pixels(data).pixels.shape == (896, 1208, 3)
    assert decode_pixels(data, canvas_sizes=((600, 800),)).reduction == 1


def test_a_damaged_photo_is_refused_as_before(photo):
    from detflow.data.images.header import ImageFault

    data = encode(photo, "JPEG")
    with pytest.raises(ImageFault, match="undecodable"):
        decode_pixels(data[:-2000], canvas_sizes=CANVAS)
