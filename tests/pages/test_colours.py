import re
from dataclasses import asdict, fields
from importlib.resources import files

import cv2
import numpy as np
import pytest

from detflow.pages.colours import DARK, LIGHT, Theme, class_colour, format_css, to_hex


def test_a_colour_belongs_to_a_class_id():
    assert class_colour(1) == class_colour(1)
    assert len({class_colour(i) for i in range(1, 12)}) == 11
    assert class_colour(12) == class_colour(1)


# Machado, Oliveira and Fernandes (2009), severity 1.0, in linear RGB.
BLINDNESS = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


@pytest.mark.parametrize("kind", BLINDNESS)
def test_the_first_seven_colours_differ_for_colour_blind_eyes(kind):
    colours = np.array([class_colour(i) for i in range(1, 8)]) / 255
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(BLINDNESS[kind]).T, 0, 1)
    srgb = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055).astype(
        np.float32
    )
    lab = cv2.cvtColor(srgb[None], cv2.COLOR_RGB2LAB)[0]
    apart = [np.linalg.norm(lab[i] - lab[j]) for i in range(7) for j in range(i)]
    assert min(apart) > 9  # A difference of 2.3 is just noticeable.


def test_a_colour_is_written_in_six_digits():
    assert to_hex((255, 0, 10)) == "#ff000a"


@pytest.mark.parametrize(
    ("package", "name"), [("detflow.pages", "page.css"), ("detflow.serving", "page/page.css")]
)
def test_a_style_sheet_takes_its_colours_from_the_table(package, name):
    style = files(package).joinpath(name).read_text("utf-8")
    used = set(re.findall(r"var\(--([\w-]+)\)", style))
    # The server's page sets the colour of a box and of the text on it by script.
    own = {"colour", "on"} if package == "detflow.serving" else set()
    assert used <= {field.name for field in fields(Theme)} | own
    literal = set(re.findall(r"#[0-9a-f]{3,8}\b", style))
    # Outlines lie over photographs, whatever the theme.
    assert literal <= {"#000", "#fff"}


def test_both_themes_are_variables():
    style = format_css()
    bright, dark = style.split("@media (prefers-color-scheme: dark)")
    for block, theme in ((bright, LIGHT), (dark, DARK)):
        assert dict(re.findall(r"--(\w+): (#\w+);", block)) == asdict(theme)


def luminance(colour):
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(
    "text", ["ink", "soft", "accent", "used", "repaired", "quarantined", "refused", "noted"]
)
def test_text_can_be_read_on_either_ground(theme, text):
    for ground in (theme.ground, theme.card):
        low, high = sorted((luminance(getattr(theme, text)), luminance(ground)))
        # WCAG 2.1, level AA.
        assert (high + 0.05) / (low + 0.05) >= 4.5
