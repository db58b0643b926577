"""Sound files to begin with: annotations as several tools write them, pictures in many formats."""

from __future__ import annotations

import io
import random

import numpy as np
from PIL import Image

_SIZE = (96, 64)
_NAMES = ("cat", "dog", "猫", "Straße", "traffic light", "a&b", "x<y")


def build_xml(rng: random.Random, image: str) -> str:
    """Returns an annotation as one of several tools writes it, with a box at the edge at times."""
    objects = "".join(build_object(rng) for _ in range(rng.choice((0, 1, 1, 2, 3, 8))))
    size = f"<size><width>{_SIZE[0]}</width><height>{_SIZE[1]}</height><depth>3</depth></size>"
    path = rng.choice(("", f"<path>C:\\photos\\{image}</path>", f"<path>/home/me/{image}</path>"))
    extra = rng.choice(
        (
            "",
            "<source><database>Unknown</database></source><segmented>0</segmented>",
            "<folder>images</folder>",
        )
    )
    parts = [f"<filename>{image}</filename>", path, size, extra, objects]
    if rng.random() < 0.2:
        rng.shuffle(parts)
    declaration = rng.choice(
        ("", '<?xml version="1.0"?>\n', '<?xml version="1.0" encoding="utf-8"?>\n')
    )
    joint = rng.choice(("", "\n", "\n\t"))
    attribute = rng.choice(("", " verified='yes'"))
    return f"{declaration}<annotation{attribute}>{joint}{joint.join(parts)}{joint}</annotation>"


def build_object(rng: random.Random) -> str:
    """Returns an object with a box inside the picture."""
    x, y = (
        sorted(rng.sample(range(1, _SIZE[0] + 1), 2)),
        sorted(rng.sample(range(1, _SIZE[1] + 1), 2)),
    )
    numbers = [
        rng.choice(
            (
                str,
                lambda n: f"{n}.0",
                lambda n: f"{n + rng.random() * 0.9:.3f}" if n < 60 else str(n),
            )
        )(n)
        for n in (*x, *y)
    ]
    xmin, xmax, ymin, ymax = numbers
    corners = {"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax}
    order = rng.choice((("xmin", "ymin", "xmax", "ymax"), ("xmin", "xmax", "ymin", "ymax")))
    box = "".join(f"<{tag}>{corners[tag]}</{tag}>" for tag in order)
    name = rng.choice(_NAMES).replace("&", "&amp;").replace("<", "&lt;")
    extra = rng.choice(
        (
            "",
            "<pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>",
            "<truncated>1</truncated><difficult>1</difficult><occluded>0</occluded>",
            "<attributes><attribute><name>colour</name><value>red</value></attribute></attributes>",
            "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>",
        )
    )
    return f"<object><name>{name}</name>{extra}<bndbox>{box}</bndbox></object>"


def build_image(rng: random.Random) -> tuple[bytes, str]:
    """Returns a sound picture in one of many formats, and the extension that belongs to it."""
    coarse = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize(_SIZE, Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = rng.randint(1, 8)
    kinds: list[tuple[str, str, str, dict[str, object]]] = [
        (
            "JPEG",
            "RGB",
            ".jpg",
            {"quality": rng.choice((40, 75, 92)), "subsampling": rng.choice((0, 1, 2))},
        ),
        ("JPEG", "RGB", ".jpg", {"quality": 85}),
        ("JPEG", "RGB", ".jpeg", {"progressive": True}),
        ("JPEG", "RGB", ".jpg", {"exif": exif.tobytes()}),
        ("JPEG", "RGB", ".jpg", {"restart_marker_rows": 1}),
        ("JPEG", "L", ".jpg", {}),
        ("JPEG", "CMYK", ".jpg", {}),
        ("PNG", rng.choice(("RGB", "RGBA", "P", "L", "LA", "1", "I;16")), ".png", {}),
        ("WEBP", "RGB", ".webp", {"lossless": rng.random() < 0.5}),
        ("BMP", rng.choice(("RGB", "L", "P")), ".bmp", {}),
        (
            "TIFF",
            rng.choice(("RGB", "L", "RGBA")),
            ".tif",
            {"compression": rng.choice((None, "tiff_lzw", "tiff_deflate"))},
        ),
        ("GIF", "P", ".gif", {}),
    ]
    image_format, mode, suffix, options = rng.choice(kinds)
    buffer = io.BytesIO()
    converted = picture.convert("L").convert("I;16") if mode == "I;16" else picture.convert(mode)
    if mode in ("RGBA", "LA") and rng.random() < 0.5:
        converted.putalpha(0)
    converted.save(
        buffer, image_format, **{key: value for key, value in options.items() if value is not None}
    )
    return buffer.getvalue(), suffix


def _draw_sound_image() -> bytes:
    buffer = io.BytesIO()
    coarse = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(_SIZE, Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


SOUND_IMAGE = _draw_sound_image()
