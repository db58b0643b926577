"""The four classes: how a bolt, a button, a coin and a leaf are drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sample.surfaces import Array, Light, fractal, pick, rgb, shade, smoothstep, turned_grid


@dataclass(frozen=True)
class Sprite:
    """One drawn object.

    `colour` (h, w, 3) and the coverage `alpha` (h, w) lie in 0…1; `height` is how many pixels the
    object rises above the table.
    """

    colour: Array
    alpha: Array
    height: float


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
