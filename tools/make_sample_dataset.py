#!/usr/bin/env python
"""Draws a dataset in Pascal VOC's layout: coins, buttons, bolts and leaves, seen from above on wood, cloth, stone, cork and paper.

    python tools/make_sample_dataset.py --output sample --images 300 --seed 1
    python tools/make_sample_dataset.py --output sample --defects
    python tools/make_sample_dataset.py --output sample --defects leak,class_typo

One seed gives the same bytes on one machine. `truth.json` beside the images holds the counts, what
a converter must arrive at, and every planted defect: its kind, its file, and what has to be done
about it.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import shutil
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]

CLASSES = ("bolt", "button", "coin", "leaf")
CLASS_WEIGHTS = (0.22, 0.28, 0.28, 0.22)
SPLIT_SHARES = {"train": 0.70, "val": 0.15, "test": 0.15}

# Below this visible share an object is not worth placing; below the second one it is marked
# `difficult`.
MIN_VISIBLE = 0.35
DIFFICULT_BELOW = 0.55


# --- Values ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Light:
    """The unit vector towards the lamp (x right, y down, z to the viewer), and how soft shadows are, in pixels."""

    direction: Array
    softness: float


@dataclass(frozen=True)
class Sprite:
    """One drawn object: colour (h, w, 3) and coverage (h, w), both 0…1, and how far it rises above the table in pixels."""

    colour: Array
    alpha: Array
    height: float


@dataclass
class VocObject:
    """One annotated object; corners are VOC's: 1-based, inclusive, (xmin, ymin, xmax, ymax)."""

    name: str
    box: tuple[int, int, int, int]
    truncated: bool
    difficult: bool


@dataclass
class Annotation:
    """What one XML file says."""

    stem: str
    filename: str
    size: tuple[int, int]
    objects: list[VocObject]

    @property
    def image_path(self) -> str:
        """The picture's path inside the dataset."""
        return f"JPEGImages/{self.stem}.jpg"

    @property
    def xml_path(self) -> str:
        """The annotation's path inside the dataset."""
        return f"Annotations/{self.stem}.xml"


# --- Noise and shading ----------------------------------------------------------------------------


def fractal(
    rng: np.random.Generator, height: int, width: int, cell: tuple[float, float], octaves: int = 4
) -> Array:
    """Returns smooth noise (height, width) of mean 0 and deviation 1; `cell` is its largest features' size as (rows, columns)."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        rows, columns = (
            max(2, int(np.ceil(n * 2**octave / c)) + 3)
            for n, c in zip((height, width), cell, strict=True)
        )
        grid = rng.standard_normal(
            (min(rows, height + 3), min(columns, width + 3)), dtype=np.float32
        )
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.55**octave
    return (total - total.mean()) / (total.std() + 1e-6)


def shade(albedo: Array, relief: Array, light: Light, gloss: float, shininess: float) -> Array:
    """Lights a surface.

    Args:
        albedo: Its colour, (h, w, 3).
        relief: Its height in pixels, (h, w).
        light: The lamp.
        gloss: Strength of the highlight, 0…1.
        shininess: The highlight's exponent.
    """
    slope_y, slope_x = np.gradient(relief)
    upward = 1 / np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)

    def facing(direction: Array) -> Array:
        return np.clip(
            (direction[2] - slope_x * direction[0] - slope_y * direction[1]) * upward, 0, 1
        )[..., None]

    halfway = light.direction + np.array([0, 0, 1], np.float32)
    diffuse = facing(light.direction)
    specular = facing(halfway / np.linalg.norm(halfway)) ** shininess
    lit: Array = albedo * (0.32 + 0.85 * diffuse) + gloss * specular
    return np.clip(lit, 0, 1.25).astype(np.float32)


def smoothstep(edge0: float, edge1: float, x: Array) -> Array:
    """Goes from 0 at `edge0` to 1 at `edge1`, flat at both ends."""
    t = np.clip((x - edge0) / (edge1 - edge0), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def rgb(*values: float) -> Array:
    """A colour from 0…255 components."""
    return np.array(values, np.float32) / 255


def pick(rng: np.random.Generator, colours: list[Array], spread: float = 0.04) -> Array:
    """One of the colours, a little off."""
    chosen = colours[int(rng.integers(len(colours)))]
    return np.clip(
        chosen * (1 + rng.normal(0, spread)) + rng.normal(0, spread / 2, 3), 0.03, 1
    ).astype(np.float32)


def turned_grid(extent: float, angle: float) -> tuple[Array, Array]:
    """Coordinates (u, v) in pixels of a square patch that holds a shape of the given half extent, turned by `angle`."""
    n = int(np.ceil(extent)) + 3
    axis = np.arange(-n, n + 1, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    return x * math.cos(angle) + y * math.sin(angle), -x * math.sin(angle) + y * math.cos(angle)


# --- The four classes -----------------------------------------------------------------------------


def draw_coin(rng: np.random.Generator, scale: float, light: Light) -> Sprite:
    """A struck metal disc: raised rim, a ring of dots, an emblem, some tarnish."""
    radius = rng.uniform(15, 31) * scale
    u, v = turned_grid(radius, rng.uniform(0, 2 * math.pi))
    metals = [
        rgb(186, 118, 74),
        rgb(205, 168, 92),
        rgb(156, 159, 166),
        rgb(150, 104, 70),
        rgb(132, 134, 138),
    ]
    metal = pick(rng, metals)
    r, theta = np.hypot(u, v) / radius, np.arctan2(v, u)
    albedo = np.broadcast_to(metal, (*r.shape, 3)).copy()
    if rng.random() < 0.2:
        core = smoothstep(0.66, 0.63, r)[..., None]
        albedo = albedo * (1 - core) + pick(rng, metals) * core
    petals, depth = int(rng.integers(3, 8)), rng.uniform(0.1, 0.45)
    emblem = smoothstep(0.06, -0.06, r - 0.42 * (1 + depth * np.cos(petals * theta)))
    emblem -= smoothstep(0.05, -0.05, r - 0.16)
    dots = smoothstep(0.35, 0.95, np.cos(theta * int(rng.integers(18, 34)))) * smoothstep(
        0.07, 0.03, np.abs(r - 0.76)
    )
    rim = smoothstep(0.085, 0.04, np.abs(r - 0.925))
    relief = radius * (0.075 * emblem + 0.05 * dots + 0.085 * rim)
    tarnish = fractal(rng, *r.shape, cell=(radius / 2, radius / 2), octaves=3)
    albedo *= (1 - 0.07 * tarnish - 0.16 * smoothstep(0.8, 1, r) * (1 - rim))[..., None]
    colour = shade(albedo, relief, light, gloss=rng.uniform(0.1, 0.32), shininess=18)
    return Sprite(colour, np.clip((1 - r) * radius + 0.5, 0, 1), height=2.0 * scale)


def draw_button(rng: np.random.Generator, scale: float, light: Light) -> Sprite:
    """A sewing button: a dished disc or rounded square with two or four holes."""
    radius = rng.uniform(11, 23) * scale
    u, v = turned_grid(radius * 1.15, rng.uniform(0, 2 * math.pi))
    squarish = rng.random() < 0.15
    r = (
        (np.abs(u) ** 4 + np.abs(v) ** 4) ** 0.25 / (radius * 0.92)
        if squarish
        else np.hypot(u, v) / radius
    )
    plastics = [
        *(
            rgb(178, 42, 48),
            rgb(36, 66, 130),
            rgb(232, 224, 205),
            rgb(34, 34, 38),
            rgb(40, 122, 108),
            rgb(226, 168, 52),
        ),
        *(
            rgb(128, 74, 44),
            rgb(196, 112, 150),
            rgb(236, 236, 238),
            rgb(110, 84, 150),
            rgb(205, 176, 140),
            rgb(92, 132, 60),
        ),
    ]
    plastic = pick(rng, plastics)
    swirl = fractal(rng, *r.shape, cell=(radius, radius / 3), octaves=2)
    albedo = plastic * (1 + rng.uniform(0, 0.09) * swirl)[..., None]
    holes, reach = (4, 0.26) if rng.random() < 0.6 else (2, 0.24)
    angles = [2 * math.pi * i / holes for i in range(holes)]
    nearest = np.min(
        [
            np.hypot(u / radius - reach * math.cos(a), v / radius - reach * math.sin(a))
            for a in angles
        ],
        axis=0,
    )
    hole = smoothstep(0.125, 0.085, nearest.astype(np.float32))
    relief = radius * (
        0.16 * smoothstep(0.2, 0.06, np.abs(r - 0.84)) - 0.05 * smoothstep(0.72, 0.4, r)
    )
    colour = shade(albedo, relief, light, gloss=rng.uniform(0.1, 0.5), shininess=30)
    colour *= (1 - 0.82 * hole)[..., None]
    return Sprite(colour, np.clip((1 - r) * radius + 0.5, 0, 1), height=2.6 * scale)


def draw_bolt(rng: np.random.Generator, scale: float, light: Light) -> Sprite:
    """A hexagon-head bolt lying on its side; the shaft is threaded for a part of its length."""
    shaft = rng.uniform(4.2, 7.5) * scale
    length = shaft * rng.uniform(6.5, 13)
    head_length, head = shaft * 1.35, shaft * 1.85
    u, v = turned_grid(np.hypot(length / 2 + head_length, head), rng.uniform(0, 2 * math.pi))
    steel = pick(
        rng,
        [
            rgb(150, 154, 162),
            rgb(128, 132, 140),
            rgb(66, 66, 70),
            rgb(186, 150, 82),
            rgb(160, 156, 144),
        ],
    )
    along = u + length / 2  # 0 where the head meets the shaft, `length` at the tip.
    thread_from = length * rng.uniform(0.1, 0.5)
    pitch = max(2.6, shaft * 0.55)
    phase = np.cos(2 * math.pi * (along / pitch + 0.18 * v / shaft))
    threaded = smoothstep(thread_from - 2, thread_from + 2, along)
    half_width = shaft * (1 - 0.07 * threaded * (1 - phase)) - 0.6 * np.clip(
        along - (length - shaft * 0.7), 0, None
    )
    shaft_in = np.minimum(np.minimum(half_width - np.abs(v), along + 1), length - along)
    head_in = np.minimum(
        head - np.abs(v) - 0.25 * np.clip(-along - head_length * 0.75, 0, None),
        np.minimum(-along, along + head_length),
    )
    is_head = along < 0
    round_relief = (
        np.sqrt(np.clip(shaft**2 - v**2, 0, None)) * 0.8 + threaded * phase * shaft * 0.13
    )
    flats = (
        head * 0.55 * np.clip(1.55 - 1.5 * np.abs(v) / head, 0, 1)
    )  # Seen from the side: one face, and two that fall away.
    relief = np.where(is_head, flats, round_relief)
    albedo = steel * (1 + 0.06 * fractal(rng, *u.shape, cell=(6, 6), octaves=2))[..., None]
    albedo *= (1 - 0.35 * threaded * ~is_head * smoothstep(0.2, -0.9, phase))[..., None]
    colour = shade(
        albedo, relief.astype(np.float32), light, gloss=rng.uniform(0.15, 0.45), shininess=10
    )
    alpha = np.clip(np.where(is_head, head_in, shaft_in) + 0.5, 0, 1)
    return Sprite(colour, alpha.astype(np.float32), height=4.5 * scale)


def draw_leaf(rng: np.random.Generator, scale: float, light: Light) -> Sprite:
    """A bent leaf with a serrated edge, a midrib and side veins."""
    length = rng.uniform(48, 96) * scale
    width = length * rng.uniform(0.3, 0.52)
    stem = length * rng.uniform(0.1, 0.25)
    bend = rng.uniform(-0.3, 0.3) / length
    extent = length / 2 + stem + abs(bend) * length**2 / 2
    u, v = turned_grid(extent, rng.uniform(0, 2 * math.pi))
    v = v - bend * u**2
    t = (u + length / 2) / length
    inside = np.clip(t, 0, 1)
    profile = inside**0.62 * (1 - inside) ** 0.85
    teeth = length / rng.uniform(4, 7)
    serration = (1 + 0.09 * rng.random() * ((inside * teeth) % 1)) if scale > 0.5 else 1.0
    half_width = width / 2 * profile / 0.39 * serration
    blade = half_width - np.abs(v)
    stalk = np.where((t < 0.05) & (u > -length / 2 - stem), 1.1 * scale + 0.4 - np.abs(v), -1.0)
    across = np.abs(v) / (width / 2)
    midrib = smoothstep(1.5 * scale + 0.5, 0.2, np.abs(v))
    veins = smoothstep(
        0.72, 0.98, np.cos(2 * math.pi * (inside - 0.24 * across) * int(rng.integers(6, 10)))
    ) * (1 - midrib)
    tones = [
        rgb(86, 128, 52),
        rgb(58, 100, 46),
        rgb(150, 160, 62),
        rgb(198, 138, 44),
        rgb(184, 86, 40),
        rgb(152, 52, 42),
        rgb(126, 96, 58),
    ]
    first, second = pick(rng, tones), pick(rng, tones)
    mix = (
        rng.uniform(0, 0.45)
        * smoothstep(
            -0.5, 1.6, fractal(rng, *u.shape, cell=(length / 3, length / 3), octaves=3) + across
        )[..., None]
    )
    albedo = first * (1 - mix) + second * mix
    albedo *= (1 + 0.05 * fractal(rng, *u.shape, cell=(4, 4), octaves=2))[..., None]
    ridges = (0.5 * midrib + 0.22 * veins)[..., None]
    albedo = albedo * (1 - ridges) + np.clip(albedo * 1.35 + 0.07, 0, 1) * ridges
    relief = width * (0.16 * np.sin(np.clip(across, 0, 1) * math.pi / 2)) - 0.6 * scale * (
        midrib + 0.8 * veins
    )
    colour = shade(
        albedo.astype(np.float32),
        relief.astype(np.float32),
        light,
        gloss=rng.uniform(0.02, 0.14),
        shininess=8,
    )
    alpha = np.clip(np.maximum(blade, stalk) + 0.5, 0, 1)
    return Sprite(colour, alpha.astype(np.float32), height=rng.uniform(2, 5) * scale)


DRAW: dict[str, Callable[[np.random.Generator, float, Light], Sprite]] = {
    "bolt": draw_bolt,
    "button": draw_button,
    "coin": draw_coin,
    "leaf": draw_leaf,
}


# --- Tables to lay them on ------------------------------------------------------------------------


def wood(rng: np.random.Generator, height: int, width: int) -> Array:
    """Planks with grain; upright in a half of the cases."""
    upright = bool(rng.random() < 0.5)
    rows, columns = (width, height) if upright else (height, width)
    tone = pick(
        rng,
        [
            rgb(176, 130, 84),
            rgb(122, 84, 54),
            rgb(204, 168, 122),
            rgb(150, 128, 108),
            rgb(96, 68, 50),
        ],
    )
    plank = rng.uniform(0.28, 0.6) * min(height, width)
    y = np.arange(rows, dtype=np.float32)[:, None] + rng.uniform(0, plank)
    index = (y // plank).astype(int)
    shift = rng.normal(0, 0.07, index.max() + 1).astype(np.float32)[index]
    grain = fractal(rng, rows, columns, cell=(rows / 18, columns * 1.6), octaves=4)
    rings = np.sin(
        fractal(rng, rows, columns, cell=(plank, columns * 0.9), octaves=2) * 5
        + np.float32(1.7) * index.astype(np.float32)
    )
    value = 1 + shift + 0.08 * grain + 0.05 * rings
    gap = np.minimum(y % plank, plank - y % plank)
    value = value * (1 - 0.55 * smoothstep(1.6, 0.3, gap))
    board = tone * value[..., None] + np.array([0.02, 0, -0.02], np.float32) * rings[..., None]
    return np.ascontiguousarray(board.transpose(1, 0, 2) if upright else board)


def cloth(rng: np.random.Generator, height: int, width: int) -> Array:
    """Linen; checked or striped in a part of the cases; with a few soft folds."""
    tone = pick(
        rng,
        [
            rgb(206, 198, 182),
            rgb(94, 112, 138),
            rgb(168, 96, 88),
            rgb(120, 130, 104),
            rgb(70, 74, 84),
            rgb(220, 212, 206),
        ],
    )
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    pitch = rng.uniform(2.6, 4.2)
    weave = np.cos(2 * math.pi * x / pitch) * np.cos(2 * math.pi * y / pitch)
    threads = fractal(rng, height, width, (2, 40), 2) + fractal(rng, height, width, (40, 2), 2)
    folds = fractal(rng, height, width, (height * 0.9, width * 0.35), 2)
    value = 1 + 0.045 * weave + 0.035 * threads + 0.06 * folds
    pattern = rng.random()
    if pattern < 0.5:
        period, band = (
            rng.uniform(28, 60),
            pick(rng, [rgb(150, 52, 52), rgb(48, 74, 120), rgb(70, 100, 70), rgb(90, 80, 74)]),
        )
        stripes = smoothstep(-0.06, 0.06, np.sin(2 * math.pi * x / period))
        if pattern < 0.25:
            stripes = (stripes + smoothstep(-0.06, 0.06, np.sin(2 * math.pi * y / period))) / 2
        mix = (rng.uniform(0.25, 0.6) * stripes)[..., None]
        return (tone * (1 - mix) + band * mix) * value[..., None]
    return tone * value[..., None]


def stone(rng: np.random.Generator, height: int, width: int) -> Array:
    """Slate, concrete or veined marble."""
    tone = pick(
        rng,
        [
            rgb(138, 138, 136),
            rgb(84, 90, 98),
            rgb(214, 210, 204),
            rgb(160, 150, 138),
            rgb(112, 116, 112),
        ],
    )
    clouds = fractal(rng, height, width, (height / 2, width / 2), 6)
    grit = rng.standard_normal((height, width), dtype=np.float32)
    veins = smoothstep(
        0.16, 0.0, np.abs(fractal(rng, height, width, (height / 1.5, width / 1.5), 5))
    )
    depth = (0.0, 0.16, -0.2)[int(rng.integers(3))]
    return (
        tone
        * (1 + 0.075 * clouds + 0.045 * cv2.GaussianBlur(grit, (0, 0), 0.7) * 1.6 - depth * veins)[
            ..., None
        ]
    )


def cork(rng: np.random.Generator, height: int, width: int) -> Array:
    """Pressed cork: grains of several tones."""
    tone = pick(rng, [rgb(190, 144, 98), rgb(166, 122, 84), rgb(206, 166, 122)])
    coarse = fractal(rng, height, width, (7, 7), 2)
    fine = fractal(rng, height, width, (3, 3), 2)
    flecks = smoothstep(1.35, 2.1, fractal(rng, height, width, (8, 8), 2))
    return tone * (1 + 0.09 * coarse + 0.06 * fine - 0.4 * flecks)[..., None]


def paper(rng: np.random.Generator, height: int, width: int) -> Array:
    """A cutting mat or squared paper."""
    ground, ink = [
        (rgb(52, 104, 92), rgb(150, 186, 160)),
        (rgb(228, 228, 222), rgb(150, 176, 206)),
        (rgb(54, 66, 92), rgb(150, 164, 190)),
    ][int(rng.integers(3))]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle, pitch = rng.normal(0, 0.12), rng.uniform(13, 24)
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    lines = np.zeros_like(x)
    for axis in (u, v):
        for period, strength in ((pitch, 0.35), (pitch * 5, 0.7)):
            offset = np.abs((axis + period / 2) % period - period / 2)
            lines = np.maximum(lines, strength * smoothstep(1.0, 0.3, offset))
    wear = fractal(rng, height, width, (height / 2, width / 2), 5)
    mix = (lines * 0.8)[..., None]
    return (ground * (1 - mix) + ink * mix) * (1 + 0.035 * wear)[..., None]


TABLES = (wood, cloth, stone, cork, paper)


# --- A scene --------------------------------------------------------------------------------------


@dataclass
class Canvas:
    """A picture in the making: colours (h, w, 3), and which object each pixel shows (-1 for the table)."""

    pixels: Array
    owner: NDArray[np.int32]
    areas: list[float] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def visible(self, owner: NDArray[np.int32]) -> list[float]:
        """The share of each object that can be seen."""
        counts = np.bincount(owner[owner >= 0], minlength=len(self.areas))
        return [float(count) / area for count, area in zip(counts, self.areas, strict=True)]

    def lay(self, name: str, sprite: Sprite, centre: tuple[int, int], light: Light) -> bool:
        """Puts a sprite and its shadow at (row, column), unless that hides too much of an object; says whether it did."""
        half = sprite.alpha.shape[0] // 2
        top, left = centre[0] - half, centre[1] - half
        height, width = self.owner.shape
        rows, columns = (
            slice(max(0, top), min(height, top + 2 * half + 1)),
            slice(max(0, left), min(width, left + 2 * half + 1)),
        )
        part = (
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )
        solid = sprite.alpha > 0.5
        owner = self.owner.copy()
        owner[rows, columns][solid[part]] = len(self.areas)
        self.areas.append(float(solid.sum()))
        if min(self.visible(owner)) < MIN_VISIBLE:
            self.areas.pop()
            return False
        self.owner = owner
        self.names.append(name)
        self.cast_shadow(sprite, top, left, light)
        alpha = sprite.alpha[part][..., None]
        self.pixels[rows, columns] = (
            self.pixels[rows, columns] * (1 - alpha) + sprite.colour[part] * alpha
        )
        return True

    def cast_shadow(self, sprite: Sprite, top: int, left: int, light: Light) -> None:
        """Darkens the table where a sprite at (top, left) keeps the light off: a far soft shadow and a close dark seam."""
        reach = sprite.height / max(float(light.direction[2]), 0.25)
        dx, dy = -light.direction[:2] * reach
        margin = int(np.ceil(reach + 3 * light.softness)) + 1
        shape = cv2.copyMakeBorder(
            sprite.alpha, margin, margin, margin, margin, cv2.BORDER_CONSTANT
        )
        move = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
        far = cv2.GaussianBlur(
            cv2.warpAffine(shape, move, shape.shape[::-1]), (0, 0), light.softness
        )
        near = cv2.GaussianBlur(shape, (0, 0), 1.2)
        shadow = np.maximum(0.55 * far, 0.35 * near)
        height, width = self.owner.shape
        y, x = top - margin, left - margin
        rows = slice(max(0, y), min(height, y + shape.shape[0]))
        columns = slice(max(0, x), min(width, x + shape.shape[1]))
        self.pixels[rows, columns] *= (
            1
            - shadow[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x][
                ..., None
            ]
        )

    def objects(self) -> list[VocObject]:
        """The annotations: each box encloses what is visible of its object."""
        height, width = self.owner.shape
        found = []
        for index, (name, share) in enumerate(
            zip(self.names, self.visible(self.owner), strict=True)
        ):
            left, top, wide, tall = cv2.boundingRect((self.owner == index).view(np.uint8))
            box = (left + 1, top + 1, left + wide, top + tall)
            cut = box[0] == 1 or box[1] == 1 or box[2] == width or box[3] == height
            found.append(
                VocObject(name, box, truncated=bool(cut), difficult=share < DIFFICULT_BELOW)
            )
        return found


def scene_size(rng: np.random.Generator, size: tuple[int, int]) -> tuple[int, int]:
    """Most pictures have the asked size; some stand upright, some are wider."""
    width, height = size
    draw = rng.random()
    if draw < 0.06:
        return height, width
    if draw < 0.10:
        return width, max(1, round(height * 0.75))
    return width, height


def scatter_crumbs(rng: np.random.Generator, canvas: Canvas, scale: float, light: Light) -> None:
    """Grit and splinters that no one has labelled."""
    height, width = canvas.owner.shape
    for _ in range(int(rng.poisson(4))):
        radius = rng.uniform(0.8, 2.6) * scale + 0.5
        u, v = turned_grid(radius * 2.2, rng.uniform(0, 2 * math.pi))
        alpha = np.clip(radius - np.hypot(u / rng.uniform(0.8, 2.2), v) + 0.5, 0, 1).astype(
            np.float32
        )
        colour = np.broadcast_to(
            pick(rng, [rgb(90, 70, 50), rgb(180, 170, 150), rgb(50, 50, 50)]), (*alpha.shape, 3)
        )
        sprite = Sprite(np.ascontiguousarray(colour), alpha, 1.0)
        half = alpha.shape[0] // 2
        if height > 2 * half + 2 and width > 2 * half + 2:
            top, left = (
                int(rng.integers(0, height - 2 * half)),
                int(rng.integers(0, width - 2 * half)),
            )
            canvas.cast_shadow(sprite, top, left, light)
            patch = canvas.pixels[top : top + 2 * half + 1, left : left + 2 * half + 1]
            patch += (sprite.colour - patch) * alpha[..., None]


def photograph(rng: np.random.Generator, pixels: Array, light: Light) -> NDArray[np.uint8]:
    """The camera: uneven light, colour cast, exposure, a shadow across the table, lens blur, grain."""
    height, width = pixels.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    falloff = (
        1
        + rng.uniform(0.02, 0.24) * (x * light.direction[0] + y * light.direction[1])
        - rng.uniform(0, 0.16) * (x * x + y * y)
    )
    if rng.random() < 0.2:
        angle, where = rng.uniform(0, 2 * math.pi), rng.uniform(-0.4, 0.5)
        edge = smoothstep(-0.08, 0.08, x * math.cos(angle) + y * math.sin(angle) - where)
        falloff = falloff * (1 - rng.uniform(0.2, 0.42) * edge)
    warmth = rng.normal(0, 0.06)
    cast = np.array([1 + warmth, 1 + rng.normal(0, 0.012), 1 - warmth], np.float32)
    exposed = pixels * falloff[..., None] * cast * math.exp(rng.normal(0.02, 0.15))
    if rng.random() < 0.4:
        exposed = cv2.GaussianBlur(exposed, (0, 0), rng.uniform(0.4, 0.9))
    grain = rng.standard_normal(exposed.shape, dtype=np.float32) * np.float32(
        rng.uniform(0.004, 0.022)
    )
    # A soft shoulder keeps highlights from clipping flat.
    exposed = np.clip(exposed, 0, None)
    exposed = (
        np.where(exposed > 0.8, 0.8 + 0.2 * (1 - np.exp(-(exposed - 0.8) / 0.2)), exposed) + grain
    )
    return (np.clip(exposed, 0, 1) * 255 + 0.5).astype(np.uint8)


def render(
    seed: int, index: int, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], list[VocObject]]:
    """Draws picture number `index`: a pure function of its arguments.

    Returns:
        The picture, uint8 RGB (h, w, 3), and its objects.
    """
    rng = np.random.default_rng([seed, index])
    width, height = scene_size(rng, size)
    scale = min(width, height) / 240
    azimuth, elevation = rng.uniform(0, 2 * math.pi), rng.uniform(0.6, 1.15)
    direction = np.array(
        [
            math.cos(azimuth) * math.cos(elevation),
            math.sin(azimuth) * math.cos(elevation),
            math.sin(elevation),
        ],
        np.float32,
    )
    light = Light(direction, softness=rng.uniform(1.2, 4.5) * max(scale, 0.3))
    table = TABLES[int(rng.integers(len(TABLES)))]
    canvas = Canvas(
        np.ascontiguousarray(table(rng, height, width), np.float32),
        np.full((height, width), -1, np.int32),
    )
    scatter_crumbs(rng, canvas, scale, light)
    wanted = 0 if rng.random() < 0.02 else int(rng.integers(3, 14))
    zoom = scale * math.exp(rng.normal(0, 0.12))
    cluster = rng.uniform(0.15, 0.85, 2)
    spread = rng.uniform(0.18, 0.5)
    for _ in range(wanted):
        name = str(rng.choice(CLASSES, p=CLASS_WEIGHTS))
        sprite = DRAW[name](rng, zoom, light)
        for _ in range(8):
            centre = (
                rng.normal(cluster, spread) if rng.random() < 0.5 else rng.uniform(0.02, 0.98, 2)
            )
            row, column = (
                int(c * n)
                for c, n in zip(np.clip(centre, 0.02, 0.98), (height, width), strict=True)
            )
            if canvas.lay(name, sprite, (row, column), light):
                break
    return photograph(rng, canvas.pixels, light), canvas.objects()


def encode_jpeg(pixels: NDArray[np.uint8], seed: int, index: int, **options: Any) -> bytes:
    """A JPEG file's bytes; the quality varies from picture to picture as in a collected set."""
    quality = int(np.random.default_rng([seed, index, 1]).integers(84, 96))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, **options)
    return buffer.getvalue()


# --- Writing VOC ----------------------------------------------------------------------------------


def to_xml(
    annotation: Annotation, *, size: tuple[int, int] | None = None, prologue: str = ""
) -> str:
    """The annotation as LabelImg lays it out; `size` overrides what `<size>` says."""
    root = ET.Element("annotation")
    ET.SubElement(root, "folder").text = "JPEGImages"
    ET.SubElement(root, "filename").text = annotation.filename
    ET.SubElement(ET.SubElement(root, "source"), "database").text = "detflow sample"
    width, height = size or annotation.size
    element = ET.SubElement(root, "size")
    for tag, number in (("width", width), ("height", height), ("depth", 3)):
        ET.SubElement(element, tag).text = str(number)
    ET.SubElement(root, "segmented").text = "0"
    for item in annotation.objects:
        element = ET.SubElement(root, "object")
        ET.SubElement(element, "name").text = item.name
        ET.SubElement(element, "pose").text = "Unspecified"
        ET.SubElement(element, "truncated").text = str(int(item.truncated))
        ET.SubElement(element, "difficult").text = str(int(item.difficult))
        box = ET.SubElement(element, "bndbox")
        for tag, number in zip(("xmin", "ymin", "xmax", "ymax"), item.box, strict=True):
            ET.SubElement(box, tag).text = str(number)
    ET.indent(root, "\t")
    return prologue + ET.tostring(root, encoding="unicode") + "\n"


def split_names(stems: list[str], seed: int) -> dict[str, list[str]]:
    """Deals the stems out; each split has at least one where there are enough."""
    order = [stems[i] for i in np.random.default_rng([seed, 2]).permutation(len(stems))]
    splits: dict[str, list[str]] = {}
    start = 0
    for position, (name, share) in enumerate(SPLIT_SHARES.items()):
        left = len(SPLIT_SHARES) - position - 1
        count = (
            len(order) - start
            if not left
            else min(max(1, round(share * len(order))), max(0, len(order) - start - left))
        )
        splits[name] = sorted(order[start : start + count])
        start += count
    return splits


# --- Defects --------------------------------------------------------------------------------------
#
# `handling` is what a converter has to arrive at:
#   repair      every object of the file is used, after the stated mending
#   drop        one object is set aside, the rest of the file is used
#   quarantine  the picture or the annotation is set aside as a whole
#   report      nothing changes, but it must be named
#   fail        the run must refuse by default


@dataclass
class Dataset:
    """What is on the disk, so that a defect can be planted in it and its consequence be counted."""

    root: Path
    seed: int
    size: tuple[int, int]
    annotations: dict[str, Annotation]
    splits: dict[str, list[str]]
    untouched: list[str]
    lost_images: set[str] = field(default_factory=set)
    planted: list[dict[str, Any]] = field(default_factory=list)

    def take(self, wanted: Callable[[Annotation], float] = lambda annotation: 1.0) -> Annotation:
        """The best annotation with no defect yet: the highest `wanted`, which must be above 0; it is then taken."""
        scores = [wanted(self.annotations[stem]) for stem in self.untouched]
        if not scores or max(scores) <= 0:
            raise SystemExit(
                "make_sample_dataset: too few pictures for these defects; ask for more with --images"
            )
        stem = self.untouched.pop(int(np.argmax(scores)))
        return self.annotations[stem]

    def write_xml(self, annotation: Annotation, text: str | None = None) -> None:
        """Replaces an annotation's file."""
        (self.root / annotation.xml_path).write_text(text or to_xml(annotation), encoding="utf-8")

    def write_image(self, annotation: Annotation, content: bytes) -> None:
        """Replaces a picture's file."""
        (self.root / annotation.image_path).write_bytes(content)

    def pixels(self, annotation: Annotation) -> NDArray[np.uint8]:
        """Draws a picture again."""
        return render(self.seed, self._index(annotation), self.size)[0]

    def jpeg(self, annotation: Annotation, pixels: NDArray[np.uint8], **options: Any) -> bytes:
        """Encodes pixels as the picture was."""
        return encode_jpeg(pixels, self.seed, self._index(annotation), **options)

    def note(self, kind: str, annotation: Annotation, file: str, **details: object) -> None:
        """Writes a planted defect down."""
        defect = DEFECTS[kind]
        split = next(
            (name for name, stems in self.splits.items() if annotation.stem in stems), None
        )
        entry = {
            "kind": kind,
            "file": file,
            "stem": annotation.stem,
            "split": split,
            "handling": defect.handling,
            "expect": defect.expect,
        }
        self.planted.append({**entry, **details})

    @staticmethod
    def _index(annotation: Annotation) -> int:
        return int(annotation.stem.rsplit("_", 1)[1])


def has_objects(annotation: Annotation) -> float:
    """For `Dataset.take`: any picture with two or more sound objects."""
    return float(len(annotation.objects) >= 2)


def plant_encoding(kind: str, encoding: str) -> Callable[[Dataset], None]:
    """Makes a planter that stores a picture in another format under its .jpg name."""

    def plant(data: Dataset) -> None:
        victim = data.take(has_objects)
        buffer = io.BytesIO()
        options = {"lossless": True} if encoding == "WEBP" else {}
        Image.fromarray(data.pixels(victim)).save(buffer, encoding, **options)
        data.write_image(victim, buffer.getvalue())
        data.note(kind, victim, victim.image_path)

    return plant


def plant_stale_filename(data: Dataset) -> None:
    """`<filename>` has the name from before someone renamed the file."""
    victim = data.take(has_objects)
    stale = f"IMG_{4000 + len(data.planted)}.JPG"
    data.write_xml(replace(victim, filename=stale))
    data.note("stale_filename", victim, victim.xml_path, filename=stale)


def plant_filename_without_extension(data: Dataset) -> None:
    """`<filename>` lacks its extension."""
    victim = data.take(has_objects)
    data.write_xml(replace(victim, filename=victim.stem))
    data.note("filename_without_extension", victim, victim.xml_path, filename=victim.stem)


def plant_inverted_box(data: Dataset) -> None:
    """One box was drawn from right to left: its x corners are exchanged."""
    victim = data.take(has_objects)
    xmin, ymin, xmax, ymax = victim.objects[0].box
    bad = (xmax, ymin, xmin, ymax)
    data.write_xml(with_box(victim, 0, bad))
    data.note(
        "inverted_box", victim, victim.xml_path, object=0, before=bad, after=victim.objects[0].box
    )


def plant_zero_area_box(data: Dataset) -> None:
    """A stray click left one more object whose corners coincide."""
    victim = data.take(has_objects)
    x, y = victim.size[0] // 2, victim.size[1] // 2
    stray = VocObject(victim.objects[0].name, (x, y, x, y), truncated=False, difficult=False)
    data.write_xml(replace(victim, objects=[*victim.objects, stray]))
    data.note(
        "zero_area_box", victim, victim.xml_path, object=len(victim.objects), before=stray.box
    )


def plant_box_outside(data: Dataset) -> None:
    """The labeller guessed on beyond the picture's edge."""

    def edge_distance(item: VocObject, size: tuple[int, int]) -> int:
        return min(item.box[0] - 1, item.box[1] - 1, size[0] - item.box[2], size[1] - item.box[3])

    def closeness(annotation: Annotation) -> float:
        return 1 / (
            1
            + min(
                (edge_distance(item, annotation.size) for item in annotation.objects),
                default=1 << 30,
            )
        )

    victim = data.take(closeness)
    index = min(
        range(len(victim.objects)), key=lambda i: edge_distance(victim.objects[i], victim.size)
    )
    box = list(victim.objects[index].box)
    limits = (1, 1, *victim.size)
    side = min(range(4), key=lambda i: abs(box[i] - limits[i]))
    box[side] = limits[side]
    fitted = (box[0], box[1], box[2], box[3])
    box[side] += 9 if side >= 2 else -9
    bad = (box[0], box[1], box[2], box[3])
    data.write_xml(with_box(victim, index, bad))
    data.note("box_outside", victim, victim.xml_path, object=index, before=bad, after=fitted)


def plant_duplicate_object(data: Dataset) -> None:
    """One object was saved twice."""
    victim = data.take(has_objects)
    data.write_xml(replace(victim, objects=[*victim.objects, victim.objects[-1]]))
    data.note(
        "duplicate_object",
        victim,
        victim.xml_path,
        object=len(victim.objects),
        before=victim.objects[-1].box,
    )


def plant_zero_size(data: Dataset) -> None:
    """`<size>` holds zeros."""
    victim = data.take(has_objects)
    data.write_xml(victim, to_xml(victim, size=(0, 0)))
    data.note("zero_size", victim, victim.xml_path, before=(0, 0), after=victim.size)


def plant_swapped_size(data: Dataset) -> None:
    """`<size>` has width and height exchanged."""
    victim = data.take(
        lambda annotation: has_objects(annotation) * (annotation.size[0] != annotation.size[1])
    )
    data.write_xml(victim, to_xml(victim, size=victim.size[::-1]))
    data.note("swapped_size", victim, victim.xml_path, before=victim.size[::-1], after=victim.size)


def plant_truncated_jpeg(data: Dataset) -> None:
    """A download broke off: the last third of the file is missing."""
    victim = data.take(has_objects)
    content = data.jpeg(victim, data.pixels(victim))
    data.write_image(victim, content[: len(content) * 2 // 3])
    data.lost_images.add(victim.stem)
    data.note("truncated_jpeg", victim, victim.image_path)


def plant_exif_rotated(data: Dataset) -> None:
    """A phone stored the picture lying, with EXIF orientation 6; the annotation fits the picture as it is shown."""
    victim = data.take(
        lambda annotation: has_objects(annotation) * (annotation.size[0] != annotation.size[1])
    )
    exif = Image.Exif()
    exif[0x0112] = (
        6  # To show it, turn it by 90 degrees clockwise; so it is stored turned the other way.
    )
    data.write_image(
        victim,
        data.jpeg(victim, np.ascontiguousarray(np.rot90(data.pixels(victim))), exif=exif.tobytes()),
    )
    data.note(
        "exif_rotated", victim, victim.image_path, stored_size=victim.size[::-1], after=victim.size
    )


def plant_unlabelled_image(data: Dataset) -> None:
    """A picture whose annotation was never written; no split lists it."""
    index = len(data.annotations) + len(data.planted)  # No other picture has this number.
    pixels, objects = render(data.seed, index, data.size)
    extra = Annotation(f"unlabelled_{index:05d}", "", (pixels.shape[1], pixels.shape[0]), objects)
    data.write_image(extra, encode_jpeg(pixels, data.seed, index))
    data.note("unlabelled_image", extra, extra.image_path)


def plant_annotation_without_image(data: Dataset) -> None:
    """An annotation whose picture is gone."""
    victim = data.take(has_objects)
    (data.root / victim.image_path).unlink()
    data.lost_images.add(victim.stem)
    data.note("annotation_without_image", victim, victim.xml_path)


def plant_leak(data: Dataset) -> None:
    """A training picture, and its annotation, stand in the test split again under another name."""
    train = set(data.splits["train"])
    source = data.take(lambda annotation: has_objects(annotation) * (annotation.stem in train))
    stem = f"copy_of_{source.stem}"
    twin = replace(source, stem=stem, filename=f"{stem}.jpg")
    shutil.copyfile(data.root / source.image_path, data.root / twin.image_path)
    data.write_xml(twin)
    data.annotations[stem] = twin
    data.splits["test"] = sorted([*data.splits["test"], stem])
    data.note("leak", twin, twin.image_path, same_as=source.image_path)


def plant_class_typo(data: Dataset) -> None:
    """One `button` is spelt `buton`."""

    def buttons(annotation: Annotation) -> float:
        return float(sum(item.name == "button" for item in annotation.objects))

    victim = data.take(buttons)
    index = next(i for i, item in enumerate(victim.objects) if item.name == "button")
    objects = list(victim.objects)
    objects[index] = replace(objects[index], name="buton")
    data.write_xml(replace(victim, objects=objects))
    data.note("class_typo", victim, victim.xml_path, object=index, before="buton", after="button")


def plant_doctype(data: Dataset) -> None:
    """An annotation declares an entity that stands for a file of the machine."""
    victim = data.take(has_objects)
    prologue = '<?xml version="1.0"?>\n<!DOCTYPE annotation [<!ENTITY leak SYSTEM "file:///etc/hostname">]>\n'
    data.write_xml(victim, to_xml(victim, prologue=prologue))
    data.note("doctype", victim, victim.xml_path)


def plant_filename_outside(data: Dataset) -> None:
    """`<filename>` points out of the dataset."""
    victim = data.take(has_objects)
    data.write_xml(replace(victim, filename=f"../../{victim.stem}.jpg"))
    data.note("filename_outside", victim, victim.xml_path)


def with_box(annotation: Annotation, index: int, box: tuple[int, int, int, int]) -> Annotation:
    """The annotation with one box exchanged."""
    objects = list(annotation.objects)
    objects[index] = replace(objects[index], box=box)
    return replace(annotation, objects=objects)


@dataclass(frozen=True)
class Defect:
    """A kind of defect: how to plant it, and what a converter has to do about it."""

    plant: Callable[[Dataset], None]
    handling: str
    expect: str
    only_when_named: bool = False


DEFECTS: dict[str, Defect] = {
    "png_named_jpg": Defect(
        plant_encoding("png_named_jpg", "PNG"),
        "repair",
        "told by its first bytes and transcoded to JPEG",
    ),
    "bmp_named_jpg": Defect(
        plant_encoding("bmp_named_jpg", "BMP"),
        "repair",
        "told by its first bytes and transcoded to JPEG",
    ),
    "webp_named_jpg": Defect(
        plant_encoding("webp_named_jpg", "WEBP"),
        "repair",
        "told by its first bytes and transcoded to JPEG",
    ),
    "exif_rotated": Defect(
        plant_exif_rotated, "repair", "the size in the XML decides: the pixels are turned upright"
    ),
    "truncated_jpeg": Defect(
        plant_truncated_jpeg,
        "quarantine",
        "found by a full decode; the sample is set aside with its reason",
    ),
    "stale_filename": Defect(plant_stale_filename, "repair", "paired by the annotation's own name"),
    "filename_without_extension": Defect(
        plant_filename_without_extension, "repair", "paired by the name without extension"
    ),
    "zero_size": Defect(plant_zero_size, "repair", "the size is taken from the pixels"),
    "swapped_size": Defect(plant_swapped_size, "repair", "the size is taken from the pixels"),
    "inverted_box": Defect(plant_inverted_box, "repair", "the corners are put in order"),
    "box_outside": Defect(plant_box_outside, "repair", "the box is clipped to the picture"),
    "zero_area_box": Defect(
        plant_zero_area_box, "drop", "the object is set aside; the others of the file are used"
    ),
    "duplicate_object": Defect(
        plant_duplicate_object, "drop", "the second of the two equal objects is set aside"
    ),
    "unlabelled_image": Defect(plant_unlabelled_image, "report", "listed; it becomes no sample"),
    "annotation_without_image": Defect(
        plant_annotation_without_image, "quarantine", "listed; it becomes no sample"
    ),
    "leak": Defect(
        plant_leak, "fail", "the two files are named; allowed only on request", only_when_named=True
    ),
    "class_typo": Defect(
        plant_class_typo,
        "report",
        "named with the nearest class; refused where classes are given",
        only_when_named=True,
    ),
    "doctype": Defect(
        plant_doctype,
        "fail",
        "refused with file and line; no file and no address is opened",
        only_when_named=True,
    ),
    "filename_outside": Defect(
        plant_filename_outside,
        "fail",
        "refused; nothing outside the dataset is opened",
        only_when_named=True,
    ),
}
MENDABLE = tuple(kind for kind, defect in DEFECTS.items() if not defect.only_when_named)


# --- The whole ------------------------------------------------------------------------------------


def make_dataset(
    output: Path,
    num_images: int,
    seed: int,
    size: tuple[int, int],
    kinds: tuple[str, ...] = (),
    progress: bool = False,
) -> dict[str, Any]:
    """Writes the dataset.

    Args:
        output: A folder that does not exist yet, or is empty.
        num_images: How many pictures, before defects add or remove some.
        seed: Everything follows from it.
        size: Width and height in pixels of most pictures.
        kinds: Names from `DEFECTS`.
        progress: Show a counter on stderr.

    Returns:
        The content of truth.json.
    """
    if output.exists() and any(output.iterdir()):
        raise SystemExit(
            f"make_sample_dataset: {output} is not empty; name another folder or remove it"
        )
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (output / name).mkdir(parents=True, exist_ok=True)
    stems = [f"table_{index:05d}" for index in range(num_images)]
    data = Dataset(output, seed, size, {}, split_names(stems, seed), [])
    for index, stem in enumerate(stems):
        pixels, objects = render(seed, index, size)
        annotation = Annotation(stem, f"{stem}.jpg", (pixels.shape[1], pixels.shape[0]), objects)
        data.annotations[stem] = annotation
        data.write_image(annotation, encode_jpeg(pixels, seed, index))
        data.write_xml(annotation)
        if progress and (index + 1) % 25 == 0:
            print(f"\r{index + 1}/{num_images} pictures", end="", file=sys.stderr, flush=True)
    if progress:
        print(file=sys.stderr)
    data.untouched = [stems[i] for i in np.random.default_rng([seed, 3]).permutation(num_images)]
    for kind in kinds:
        for _ in range(max(1, num_images // 150)):
            DEFECTS[kind].plant(data)
    for name, members in data.splits.items():
        (output / "ImageSets/Main" / f"{name}.txt").write_text(
            "".join(f"{stem}\n" for stem in members), encoding="utf-8"
        )
    truth = tell_truth(data)
    (output / "truth.json").write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")
    return truth


def tell_truth(data: Dataset) -> dict[str, Any]:
    """What a converter must arrive at once it has mended what can be mended, and the planted defects."""
    splits = {}
    for name, stems in data.splits.items():
        usable = [data.annotations[stem] for stem in stems if stem not in data.lost_images]
        counts = Counter(item.name for annotation in usable for item in annotation.objects)
        splits[name] = {
            "images": len(usable),
            "objects": sum(counts.values()),
            "objects_per_class": {class_name: counts[class_name] for class_name in CLASSES},
        }
    return {
        "seed": data.seed,
        "size": list(data.size),
        "classes": list(CLASSES),
        "annotations_found": len(data.annotations),
        "images_found": sum(1 for _ in (data.root / "JPEGImages").iterdir()),
        "usable": splits,
        "defects": data.planted,
    }


def parse_size(text: str) -> tuple[int, int]:
    """Reads WIDTHxHEIGHT."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) >= 64 and int(height) >= 64):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected WIDTHxHEIGHT in pixels, each at least 64, such as 320x240"
        )
    return int(width), int(height)


def parse_kinds(text: str) -> tuple[str, ...]:
    """Reads a comma-separated list of defect kinds."""
    kinds = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    unknown = [kind for kind in kinds if kind not in DEFECTS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"no such kind: {', '.join(unknown)}; there are {', '.join(DEFECTS)}"
        )
    return kinds


def parse_count(text: str) -> int:
    """Reads a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number above 0")
    return int(text)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line."""
    kinds = "\n".join(
        f"  {kind:27} {defect.handling}: {defect.expect}" for kind, defect in DEFECTS.items()
    )
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"kinds of defects, and what a converter has to do about them (the last four are planted only when named):\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="a folder that does not exist yet, or is empty",
    )
    parser.add_argument(
        "--images",
        type=parse_count,
        default=300,
        metavar="N",
        help="number of pictures (default 300)",
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="S", help="everything follows from it (default 1)"
    )
    parser.add_argument(
        "--size",
        type=parse_size,
        default=(320, 240),
        metavar="WxH",
        help="size of most pictures (default 320x240)",
    )
    parser.add_argument(
        "--defects",
        type=parse_kinds,
        nargs="?",
        const=MENDABLE,
        default=(),
        metavar="KINDS",
        help="plant all defects that a converter can live with, or a comma-separated list of kinds; one of each per 150 pictures",
    )
    options = parser.parse_args(arguments)
    if options.seed < 0:
        parser.error("--seed: expected 0 or more")
    truth = make_dataset(
        options.output,
        options.images,
        options.seed,
        options.size,
        options.defects,
        sys.stderr.isatty(),
    )
    summarise(options.output, truth)


def summarise(output: Path, truth: dict[str, Any]) -> None:
    """Prints what was made, on a few lines."""
    print(f"{output}: {truth['images_found']} pictures, {truth['annotations_found']} annotations")
    for name, split in truth["usable"].items():
        per_class = ", ".join(
            f"{count} {class_name}" for class_name, count in split["objects_per_class"].items()
        )
        print(
            f"  {name:5} {split['images']:5} usable pictures, {split['objects']:6} objects: {per_class}"
        )
    counts = Counter(defect["kind"] for defect in truth["defects"])
    if counts:
        print(
            f"  {counts.total()} defects planted: "
            + ", ".join(f"{kind} {count}" for kind, count in counts.items())
        )
    print(f"  what was planted where, and what must come of it: {output / 'truth.json'}")


if __name__ == "__main__":
    main()
