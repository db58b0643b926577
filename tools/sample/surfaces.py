"""Noise, light, colours and the tables that the objects lie on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Light:
    """The lamp.

    `direction` is the unit vector towards it (x right, y down, z to the viewer); `softness` is how
    many pixels the edges of shadows are blurred by.
    """

    direction: Array
    softness: float


def fractal(
    rng: np.random.Generator, height: int, width: int, cell: tuple[float, float], octaves: int = 4
) -> Array:
    """Returns smooth noise (height, width) of mean 0 and deviation 1.

    `cell` is the size of its largest features as (rows, columns).
    """
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
    """Returns a colour in 0…1 from components in 0…255."""
    return np.array(values, np.float32) / 255


def pick(rng: np.random.Generator, colours: list[Array], spread: float = 0.04) -> Array:
    """Returns one of the colours, slightly changed."""
    chosen = colours[int(rng.integers(len(colours)))]
    return np.clip(
        chosen * (1 + rng.normal(0, spread)) + rng.normal(0, spread / 2, 3), 0.03, 1
    ).astype(np.float32)


def turned_grid(extent: float, angle: float) -> tuple[Array, Array]:
    """Returns coordinates (u, v) of a square patch that is turned by `angle`, in pixels.

    The patch is large enough for a shape of the given half extent.
    """
    n = int(np.ceil(extent)) + 3
    axis = np.arange(-n, n + 1, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    return x * math.cos(angle) + y * math.sin(angle), -x * math.sin(angle) + y * math.cos(angle)


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
