"""Boxes and labels over images, for a person's eyes.

Colours follow the class id, so a class keeps its colour in every picture, table and plot of a
dataset. Colours can be told apart with any kind of colour blindness as far as that is possible, and
the label says the class in words.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from detflow.pages.colours import Rgb, class_colour
from detflow.types import Box

# Small pictures grow by at most this factor; beyond it, pixels are all that is seen.
_MAX_ENLARGEMENT = 12
_MIN_FONT_PX = 10
_SMALLEST_FONT_PX = 8


def draw_boxes(
    image: Image.Image | NDArray[np.uint8],
    boxes: Sequence[Box],
    names: Sequence[str],
    class_ids: Sequence[int],
    *,
    scores: Sequence[float] | None = None,
    style: Literal["solid", "dashed"] = "solid",
    labels: bool = True,
) -> Image.Image:
    r"""Draws boxes over a copy of an image.

    By custom of this project detections are solid and the truth is dashed; call twice for both in
    one picture. Lines and text grow with the image. A label stands above its box where there is
    room, else below or inside of it, never outside of the image. It is shortened where it does not
    fit, and left out only where the image is smaller than its text. A character that no bundled
    font has is shown as its escape (`\U0001f600`).

    Args:
        image: A Pillow image of any mode, or RGB pixels, uint8 [height, width, 3].
        boxes: The normalised boxes.
        names: The class name of each box.
        class_ids: The 1-based class id of each box; it chooses the colour.
        scores: The score of each box, in [0, 1]; it is shown with two digits, and the box with the
            highest is drawn on top.
        style: The kind of outline.
        labels: Whether to write names and scores.

    Returns:
        A new RGB image of the same size.

    Raises:
        ValueError: The sequences differ in length, or the pixels are not uint8 [height, width, 3].
    """
    if (
        not len(boxes)
        == len(names)
        == len(class_ids)
        == (len(boxes) if scores is None else len(scores))
    ):
        raise ValueError(
            f"{len(boxes)} boxes, {len(names)} names, {len(class_ids)} class ids: "
            "expected one of each for each object"
        )
    canvas = _to_rgb(image)
    side = math.sqrt(canvas.width * canvas.height)
    line_px = max(1, round(side / 180))
    order = sorted(range(len(boxes)), key=lambda i: 0.0 if scores is None else scores[i])
    draw = ImageDraw.Draw(canvas)
    corners = {i: _to_corners(boxes[i], canvas.size) for i in order}
    for i in order:
        _draw_outline(
            draw, corners[i], class_colour(class_ids[i]), line_px, dashed=style == "dashed"
        )
    if labels:
        taken = np.zeros((canvas.height, canvas.width), bool)
        font_px = max(_MIN_FONT_PX, round(side / 38))
        # The topmost box is named first, so that it gets the best place.
        for i in reversed(order):
            text = names[i] if scores is None else f"{names[i]} {scores[i]:.2f}"
            _draw_label(canvas, taken, text, corners[i], class_colour(class_ids[i]), font_px)
    return canvas


def fit_picture(picture: Image.Image, side_px: int) -> Image.Image:
    """Scales an image so that its longer side has a length, and boxes can be drawn over it.

    Small images grow, so that their boxes can be told apart.

    Args:
        picture: An image of any mode; a JPEG file that was opened but not loaded is decoded at
            about the size that is needed.
        side_px: The length of the longer side.

    Returns:
        A new RGB image; an image whose longer side is below a twelfth of `side_px` stays smaller.
    """
    factor = min(_MAX_ENLARGEMENT, side_px / max(picture.size))
    if factor < 1:
        # The decoder skips what is not needed.
        picture.draft("RGB", (round(picture.width * factor), round(picture.height * factor)))
        factor = side_px / max(picture.size)
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    return picture.convert("RGB").resize(size, Image.Resampling.BILINEAR)


def _to_rgb(image: Image.Image | NDArray[np.uint8]) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.copy() if image.mode == "RGB" else image.convert("RGB")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f"pixels are {image.dtype} {list(image.shape)}: expected uint8 [height, width, 3]"
        )
    return Image.fromarray(np.ascontiguousarray(image))


def _to_corners(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns (left, top, right, bottom) of a box in pixels, both ends included as Pillow draws.

    A box covers at least one pixel.
    """
    width, height = size
    left, top = (
        min(math.floor(box.xmin * width), width - 1),
        min(math.floor(box.ymin * height), height - 1),
    )
    return (
        left,
        top,
        max(left, math.ceil(box.xmax * width) - 1),
        max(top, math.ceil(box.ymax * height) - 1),
    )


def _draw_outline(
    draw: ImageDraw.ImageDraw,
    corners: tuple[int, int, int, int],
    colour: Rgb,
    line_px: int,
    *,
    dashed: bool,
) -> None:
    left, top, right, bottom = corners
    thick = line_px - 1
    sides = (
        (left, top, right, min(top + thick, bottom)),
        (left, max(bottom - thick, top), right, bottom),
        (left, top, min(left + thick, right), bottom),
        (max(right - thick, left), top, right, bottom),
    )
    # A dark seam keeps a bright line visible on a bright image, and a bright seam a dark line.
    seam = (0, 0, 0) if _is_bright(colour) else (255, 255, 255)
    if not dashed and min(right - left, bottom - top) > 4 * line_px:
        draw.rectangle(
            (left + line_px, top + line_px, right - line_px, bottom - line_px), outline=seam
        )
    for x0, y0, x1, y1 in sides:
        if dashed:
            # Dashes on a line of the other brightness read as dashes on any background.
            draw.rectangle((x0, y0, x1, y1), fill=seam)
            _draw_dashes(draw, (x0, y0, x1, y1), colour, 4 * line_px)
        else:
            draw.rectangle((x0, y0, x1, y1), fill=colour)


def _draw_dashes(
    draw: ImageDraw.ImageDraw, side: tuple[int, int, int, int], colour: Rgb, dash_px: int
) -> None:
    x0, y0, x1, y1 = side
    if x1 - x0 >= y1 - y0:
        for x in range(x0, x1 + 1, 2 * dash_px):
            draw.rectangle((x, y0, min(x + dash_px - 1, x1), y1), fill=colour)
    else:
        for y in range(y0, y1 + 1, 2 * dash_px):
            draw.rectangle((x0, y, x1, min(y + dash_px - 1, y1)), fill=colour)


def _draw_label(
    canvas: Image.Image,
    taken: NDArray[np.bool_],
    text: str,
    corners: tuple[int, int, int, int],
    colour: Rgb,
    font_px: int,
) -> None:
    mask = _fit_text(_to_legible(text), font_px, canvas.size)
    if mask is None:
        return
    left, top = _find_place(taken, corners, mask.size)
    right, bottom = left + mask.width, top + mask.height
    taken[top:bottom, left:right] = True
    canvas.paste(colour, (left, top, right, bottom))
    canvas.paste((0, 0, 0) if _is_bright(colour) else (255, 255, 255), (left, top), mask)


def _find_place(
    taken: NDArray[np.bool_], corners: tuple[int, int, int, int], label: tuple[int, int]
) -> tuple[int, int]:
    """Returns the top left corner of a label.

    Of the places around the box it is the first of those that cover the least of other labels.
    """
    left, top, right, bottom = corners
    width, height = label
    places = [
        (left, top - height),
        (left, bottom + 1),
        (right + 1 - width, top - height),
        (left, top),
        (right + 1 - width, bottom + 1),
        (left, bottom + 1 - height),
    ]
    rows, columns = taken.shape
    inside = [(min(max(x, 0), columns - width), min(max(y, 0), rows - height)) for x, y in places]
    # A place that had to be moved into the image lies over its own box, so it comes after those
    # that fit as they are.
    ranked = sorted(range(len(places)), key=lambda i: inside[i] != places[i])
    return min(
        (inside[i] for i in ranked),
        key=lambda place: np.count_nonzero(taken[place[1] :, place[0] :][:height, :width]),
    )


def _is_bright(colour: Rgb) -> bool:
    """Tells whether black text has more contrast (WCAG 2.1) on a colour than white text has."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (component / 255 for component in colour)
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05)


# --- Text -----------------------------------------------------------------------------------------


def _fit_text(text: str, font_px: int, size: tuple[int, int]) -> Image.Image | None:
    """Renders text that fits into an image of a (width, height): smaller or shortened if need be.

    Returns None where nothing fits.
    """
    for pixels in range(font_px, _SMALLEST_FONT_PX - 1, -1):
        mask = _render_text(text, pixels)
        if mask.width <= size[0] and mask.height <= size[1]:
            return mask
    for length in range(min(len(text) - 1, size[0] // 2), 0, -1):
        mask = _render_text(text[:length] + "..", _SMALLEST_FONT_PX)
        if mask.width <= size[0] and mask.height <= size[1]:
            return mask
    return None


# A crowded picture repeats a few texts, and Pillow unpacks its font each time that it is loaded.
@functools.lru_cache(maxsize=512)
def _render_text(text: str, font_px: int) -> Image.Image:
    """Returns how much of each pixel a text covers, as an 8-bit grey image with a margin."""
    margin, baseline, height = max(1, font_px // 5), round(font_px * 1.08), round(font_px * 1.42)
    if text.isascii():
        font = ImageFont.load_default(font_px)
        mask = Image.new("L", (math.ceil(font.getlength(text)) + 2 * margin, height))
        ImageDraw.Draw(mask).text((margin, baseline), text, fill=255, font=font, anchor="ls")
        return mask
    import cv2

    face = cv2.FontFace("sans")
    width = cv2.getTextSize((0, 0), text, (0, 0), face, font_px)[2]
    pixels = np.zeros((height, width + 2 * margin), np.uint8)
    cv2.putText(pixels, text, (margin, baseline), 255, face, font_px)
    return Image.fromarray(pixels)


def _to_legible(text: str) -> str:
    """Replaces each character that cannot be drawn by its escape."""
    return "".join(
        c if _is_drawable(c) else c.encode("unicode_escape").decode("ascii") for c in text
    )


@functools.lru_cache(maxsize=4096)
def _is_drawable(character: str) -> bool:
    """Tells whether a bundled font has the character.

    Pillow's font has ASCII only. OpenCV 5 brings a font with most living scripts; it draws a
    question mark for what the font lacks, and crashes on a lone surrogate, which is not printable.
    """
    if character.isascii() or not character.isprintable():
        return character.isprintable()
    import cv2

    if not hasattr(cv2, "FontFace"):
        return False
    face = cv2.FontFace("sans")
    drawn, unknown = np.zeros((24, 32), np.uint8), np.zeros((24, 32), np.uint8)
    cv2.putText(drawn, character, (4, 18), 255, face, 16)
    cv2.putText(unknown, "?", (4, 18), 255, face, 16)
    return not np.array_equal(drawn, unknown)
