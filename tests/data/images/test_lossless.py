import pytest
from PIL import Image, PngImagePlugin

from detflow.data.images.lossless import find_lossless_suffix


def exif_png(images):
    exif = Image.Exif()
    exif[0x0112] = 6
    return images.encode(images.draw(), "PNG", exif=exif)


def text_png(images, keyword):
    info = PngImagePlugin.PngInfo()
    info.add_text(keyword, "text")
    return images.encode(images.draw(), "PNG", pnginfo=info)


CASES = {
    "rgb png": (lambda i: i.encode(i.draw(), "PNG"), ".png"),
    "grey png": (lambda i: i.encode(i.draw(mode="L"), "PNG"), ".png"),
    "text": (lambda i: text_png(i, "Comment"), ".png"),
    "bmp": (lambda i: i.encode(i.draw(), "BMP"), ".bmp"),
    "exif as text": (lambda i: text_png(i, "Raw profile type exif"), None),
    "exif": (exif_png, None),
    "alpha": (lambda i: i.encode(i.draw(mode="RGBA"), "PNG"), None),
    "palette": (lambda i: i.encode(i.draw(mode="P"), "PNG"), None),
    "transparent colour": (lambda i: i.encode(i.draw(), "PNG", transparency=(1, 2, 3)), None),
    "16 bit": (lambda i: i.encode(i.draw().convert("I;16"), "PNG"), None),
    "bmp with palette": (lambda i: i.encode(i.draw(mode="P"), "BMP"), None),
    "jpeg": (lambda i: i.encode(i.draw()), None),
    "webp": (lambda i: i.encode(i.draw(), "WEBP", lossless=True), None),
}


@pytest.mark.parametrize("name", CASES)
def test_only_what_every_decoder_reads_alike_is_passed_on(voc_set, name):
    build, suffix = CASES[name]
    assert find_lossless_suffix(build(voc_set)) == suffix
