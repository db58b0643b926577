"""A picture: objects laid on a table, their boxes, and what a camera makes of it."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sample.sprites import DRAW, Sprite
from sample.surfaces import TABLES, Array, Light, pick, rgb, smoothstep, turned_grid

CLASSES = ("bolt", "button", "coin", "leaf")
CLASS_WEIGHTS = (0.22, 0.28, 0.28, 0.22)

# Below this visible share an object is not worth placing; below the second one it is marked
# `difficult`.
MIN_VISIBLE = 0.35
DIFFICULT_BELOW = 0.55


@dataclass
class DrawnObject:
    """One annotated object; corners are VOC's: 1-based, inclusive, (xmin, ymin, xmax, ymax)."""

    name: str
    box: tuple[int, int, int, int]
    truncated: bool
    difficult: bool


@dataclass
class Scene:
    """A picture in the making.

    `pixels` are its colours (h, w, 3); `owner` (h, w) says which object each pixel shows, -1 for
    the table.
    """

    pixels: Array
    owner: NDArray[np.int32]
    areas: list[float] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def visible(self, owner: NDArray[np.int32]) -> list[float]:
        """Returns the share of each object that can be seen."""
        counts = np.bincount(owner[owner >= 0], minlength=len(self.areas))
        return [float(count) / area for count, area in zip(counts, self.areas, strict=True)]

    def lay(self, name: str, sprite: Sprite, centre: tuple[int, int], light: Light) -> bool:
        """Puts a sprite and its shadow at (row, column), unless that hides too much of an object.

        Returns:
            Whether the sprite was placed.
        """
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
        """Darkens the table where a sprite at (top, left) keeps the light off.

        The shadow has a far soft part and a close dark seam.
        """
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

    def objects(self) -> list[DrawnObject]:
        """Returns the objects; each box encloses what is visible of its object."""
        height, width = self.owner.shape
        found = []
        for index, (name, share) in enumerate(
            zip(self.names, self.visible(self.owner), strict=True)
        ):
            left, top, wide, tall = cv2.boundingRect((self.owner == index).view(np.uint8))
            box = (left + 1, top + 1, left + wide, top + tall)
            cut = box[0] == 1 or box[1] == 1 or box[2] == width or box[3] == height
            found.append(
                DrawnObject(name, box, truncated=bool(cut), difficult=share < DIFFICULT_BELOW)
            )
        return found


def scene_size(rng: np.random.Generator, size: tuple[int, int]) -> tuple[int, int]:
    """Returns (width, height): mostly `size`, sometimes upright, sometimes flatter."""
    width, height = size
    draw = rng.random()
    if draw < 0.06:
        return height, width
    if draw < 0.10:
        return width, max(1, round(height * 0.75))
    return width, height


def scatter_crumbs(rng: np.random.Generator, scene: Scene, scale: float, light: Light) -> None:
    """Scatters grit and splinters, which nobody has labelled."""
    height, width = scene.owner.shape
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
            scene.cast_shadow(sprite, top, left, light)
            patch = scene.pixels[top : top + 2 * half + 1, left : left + 2 * half + 1]
            patch += (sprite.colour - patch) * alpha[..., None]


def photograph(rng: np.random.Generator, pixels: Array, light: Light) -> NDArray[np.uint8]:
    """Does what a camera does to the scene.

    It adds uneven light, a colour cast, exposure, a shadow across the table, lens blur and grain.
    """
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
) -> tuple[NDArray[np.uint8], list[DrawnObject]]:
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
    scene = Scene(
        np.ascontiguousarray(table(rng, height, width), np.float32),
        np.full((height, width), -1, np.int32),
    )
    scatter_crumbs(rng, scene, scale, light)
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
            if scene.lay(name, sprite, (row, column), light):
                break
    return photograph(rng, scene.pixels, light), scene.objects()


def encode_jpeg(pixels: NDArray[np.uint8], seed: int, index: int, **options: Any) -> bytes:
    """Returns a JPEG file; the quality varies from picture to picture as in a collected set."""
    quality = int(np.random.default_rng([seed, index, 1]).integers(84, 96))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, **options)
    return buffer.getvalue()
