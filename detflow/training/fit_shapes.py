"""Canvases and anchors that fit the images and boxes of a training split.

What the constants were measured on: docs/decisions/0007-fitted-configuration.md.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from detflow.config.schema import ModelConfig
from detflow.geometry import choose_canvas, pairwise_iou
from detflow.training.fit_text import Choice
from detflow.training.small_boxes import describe_small_boxes
from detflow.types import ImageSize, ObjectAnnotation

# Canvas areas in pixels, from what trains fast on a CPU to three times that.
_CANVAS_AREAS = (49_152, 65_536, 86_016, 114_688, 147_456)
# Least side of a class's median box; the finest level has a cell for every 8 pixels.
_SMALLEST_SIDE_PX = 20.0
# Where a clock allows few images, it may be so much less. In 5 minutes of a slow core chess had AP
# .60 and AP50 .86 on 288x288, .61 and .90 on 224x224; BCCD .55 on 256x352, .53 on 192x256.
_LEAST_SIDE_PX = 16.0
# Further canvases have about the area of one, a fair share of the images each, and each of them
# raises the mean share of its canvas that an image covers by so much.
_MAX_CANVASES = 3
_AREA_TOLERANCE = 1 / 8
_LEAST_BUCKET = 0.15
_LEAST_GAIN = 0.1
# Images of a bucket that fill a batch at least.
_LEAST_IMAGES = 8
_CANDIDATE_QUANTILES = np.linspace(0.05, 0.95, 13)
_ANCHOR_SCALES = tuple(float(scale) for scale in np.arange(2.0, 8.01, 0.5))
# The anchor takes the shape of the typical box when that is further from a square than this.
_ELONGATED = 1.5
# The scale of the anchors is judged on this many boxes, and canvases on this many images. They are
# drawn: every tenth box may be of one class, since tools write the objects of all images in one
# order.
_MAX_BOXES = 20_000
_MAX_IMAGES = 2_000

Canvases: TypeAlias = tuple[tuple[int, int], ...]
"""(height, width) of each."""


class Boxes:
    """Boxes of the training split and their images.

    Attributes:
        corners: [N, 4] float64, [ymin, xmin, ymax, xmax] normalised by the image.
        image_sizes: [N, 2] float64, (height, width) of each box's image in pixels.
        names: Class of each box.
        all_sizes: [images, 2] float64, (height, width).
        most: Number of objects in the fullest image.
        image_shares: Share of the images that have each class, by its name.
    """

    def __init__(self, samples: Iterable[tuple[ImageSize, Sequence[ObjectAnnotation]]]) -> None:
        corners, image_sizes, self.names, all_sizes, self.most = [], [], [], [], 0
        images_of = Counter[str]()
        for size, objects in samples:
            all_sizes.append((size.height, size.width))
            images_of.update(dict.fromkeys((item.name for item in objects), 1))
            self.most = max(self.most, len(objects))
            for item in objects:
                corners.append((item.box.ymin, item.box.xmin, item.box.ymax, item.box.xmax))
                image_sizes.append((size.height, size.width))
                self.names.append(item.name)
        self.image_shares = {name: count / len(all_sizes) for name, count in images_of.items()}
        self.corners = np.array(corners, np.float64).reshape(-1, 4)
        self.image_sizes = np.array(image_sizes, np.float64).reshape(-1, 2)
        self.all_sizes = np.array(all_sizes, np.float64).reshape(-1, 2)

    def sides_px(self, canvases: Canvases) -> npt.NDArray[np.float64]:
        """Returns [N, 2]: height and width of each box in pixels of its image's canvas."""
        chosen, ratios = _fit_into(self.image_sizes, canvases)
        return (
            (self.corners[:, 2:] - self.corners[:, :2])
            * ratios
            * np.array(canvases, np.float64)[chosen]
        )


def choose_canvases(
    boxes: Boxes, model: ModelConfig, affordable: float = math.inf
) -> tuple[Canvases, list[Choice]]:
    """Chooses the smallest canvas on which small objects are large enough.

    Further canvases are added where a good part of a single one would be padding.

    Args:
        boxes: Of the training split.
        model: What is known of the model: its coarsest level is a divisor of each side, and some
            networks take one canvas alone.
        affordable: Area in pixels beyond which the clock allows too few images; objects may be
            smaller then.
    """
    native_height, native_width = np.median(boxes.all_sizes, 0)
    stride = 2**model.max_level
    canvases: Canvases = ()
    smallest, name = 0.0, ""
    is_held = False
    for area in _CANVAS_AREAS:
        larger = _lay_out(boxes.all_sizes, area, stride)
        if model.takes_one_canvas:
            larger = larger[:1]
        if larger == canvases:
            continue
        if area > affordable and smallest >= _LEAST_SIDE_PX:
            is_held = True
            break
        canvases = larger
        name, smallest = _smallest_class(boxes, canvases)
        if smallest >= _SMALLEST_SIDE_PX:
            break
    first, *more = canvases
    size = Choice(
        "model.input_size",
        list(first),
        "[height, width] of the network; images are typically "
        f"{native_width:.0f}x{native_height:.0f}, and the median {name}, the smallest class, has "
        f"{smallest:.0f} pixels a side here"
        + ("; the clock allows too few images on a larger canvas" if is_held else ""),
    )
    if not more:
        return canvases, [size]
    shares = _count(boxes.all_sizes, canvases) / len(boxes.all_sizes)
    takers = ", ".join(
        f"{share:.0%} of the images in {rows}x{columns}"
        for share, (rows, columns) in zip(shares, canvases, strict=True)
    )
    one, several = (
        _mean_cover(boxes.all_sizes, sizes)
        for sizes in ((_typical_canvas(boxes.all_sizes, math.prod(first), stride),), canvases)
    )
    why = (
        f"{takers}: images cover {several:.0%} of their canvas, and would cover {one:.0%} of a "
        "single one"
    )
    return canvases, [
        size,
        Choice("model.more_input_sizes", [list(canvas) for canvas in more], why),
    ]


def _lay_out(sizes: npt.NDArray[np.float64], area: int, stride: int) -> Canvases:
    """Returns canvases for images, the one that takes most of them first.

    Args:
        sizes: [N, 2], (height, width) of the images.
        area: Of each canvas in pixels, about.
        stride: Divides each side.
    """
    sizes = _draw(sizes, _MAX_IMAGES)
    canvases: Canvases = (_typical_canvas(sizes, area, stride),)
    cover = _mean_cover(sizes, canvases)
    fewest = max(_LEAST_IMAGES, _LEAST_BUCKET * len(sizes))
    for count in range(2, _MAX_CANVASES + 1):
        fair = [
            some
            for some in itertools.combinations(_candidates(sizes, area, stride), count)
            if _count(sizes, some).min() >= fewest
        ]
        best = max(fair, key=lambda some: _mean_cover(sizes, some), default=canvases)
        if _mean_cover(sizes, best) < cover + _LEAST_GAIN:
            break
        canvases, cover = best, _mean_cover(sizes, best)
    return tuple(canvases[index] for index in np.argsort(-_count(sizes, canvases), kind="stable"))


def _candidates(sizes: npt.NDArray[np.float64], area: int, stride: int) -> list[tuple[int, int]]:
    """Returns canvases of about an area that have the aspects of some of the images."""
    aspects = np.exp(np.quantile(np.log(sizes[:, 1] / sizes[:, 0]), _CANDIDATE_QUANTILES))
    # No image is blown up on a canvas of its aspect and at most its area.
    area = min(area, int(np.median(sizes.prod(1))))
    rounded = {
        (_round(math.sqrt(area / aspect), stride), _round(math.sqrt(area * aspect), stride))
        for aspect in aspects
    }
    return sorted(
        canvas for canvas in rounded if abs(math.prod(canvas) - area) <= _AREA_TOLERANCE * area
    )


def _typical_canvas(sizes: npt.NDArray[np.float64], area: int, stride: int) -> tuple[int, int]:
    """Returns the canvas of about an area that has the images' typical aspect.

    It is no larger than the typical image.
    """
    aspect = float(np.exp(np.median(np.log(sizes[:, 1] / sizes[:, 0]))))
    height, width = np.median(sizes, 0)
    return _round(min(math.sqrt(area / aspect), height), stride), _round(
        min(math.sqrt(area * aspect), width), stride
    )


def _fit_into(
    sizes: npt.NDArray[np.float64], canvases: Canvases
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Fits images into canvases.

    Returns:
        Which canvas takes each image, [N], and the share of its height and width that the image
        covers, [N, 2].
    """
    chosen = choose_canvas(sizes, canvases)
    canvas = np.array(canvases, np.float64)[chosen]
    return chosen, sizes * (canvas / sizes).min(1, keepdims=True) / canvas


def _mean_cover(sizes: npt.NDArray[np.float64], canvases: Canvases) -> float:
    """Returns the mean share of its canvas that an image covers."""
    return float(_fit_into(sizes, canvases)[1].prod(1).mean())


def _count(sizes: npt.NDArray[np.float64], canvases: Canvases) -> npt.NDArray[np.intp]:
    """Returns how many images each canvas takes."""
    return np.bincount(choose_canvas(sizes, canvases), minlength=len(canvases))


def _smallest_class(boxes: Boxes, canvases: Canvases) -> tuple[str, float]:
    """Returns the class whose median box is smallest on its canvas.

    With it comes that box's side in pixels, which is the root of its area.
    """
    sides = np.sqrt(boxes.sides_px(canvases).prod(1))
    numbers = {name: number for number, name in enumerate(dict.fromkeys(boxes.names))}
    classes = np.fromiter((numbers[name] for name in boxes.names), np.intp, len(sides))
    ends = np.cumsum(np.bincount(classes))[:-1]
    of_classes = np.split(sides[np.argsort(classes, kind="stable")], ends)
    medians = dict(zip(numbers, (float(np.median(some)) for some in of_classes), strict=True))
    name = min(medians, key=lambda key: medians[key])
    return name, medians[name]


def choose_anchor(boxes: Boxes, canvases: Canvases, model: ModelConfig) -> list[Choice]:
    """Chooses one anchor a cell, of the shape and scale that fit the boxes best.

    The reason says which boxes are small for the finest level of the model.
    """
    sides = boxes.sides_px(canvases)
    aspect = float(np.exp(np.median(np.log(sides[:, 1] / sides[:, 0]))))
    if 1 / _ELONGATED < aspect < _ELONGATED:
        anchor_aspect, why = (
            1.0,
            f"the typical box is {aspect:.2f} times as wide as high: square anchors",
        )
    else:
        anchor_aspect = round(aspect, 2)
        why = f"the typical box is {aspect:.2f} times as wide as high, and so is the anchor"
    candidates = {
        scale: model.model_copy(update={"anchor_scale": scale, "aspect_ratios": (anchor_aspect,)})
        for scale in _ANCHOR_SCALES
    }
    drawn = _draw(sides, _MAX_BOXES)
    overlaps = {scale: _mean_shape_iou(drawn, model) for scale, model in candidates.items()}
    scale = max(overlaps, key=lambda key: overlaps[key])
    model = candidates[scale]
    anchor_sides = [
        f"{scale * 2**level:.0f}" for level in range(model.min_level, model.max_level + 1)
    ]
    return [
        Choice(
            "model.anchor_scale",
            scale,
            f"anchors of {', '.join(anchor_sides)} pixels fit the boxes best; "
            f"{describe_small_boxes(sides, boxes.names, model.min_level)}",
        ),
        Choice("model.aspect_ratios", [anchor_aspect], why),
    ]


def _mean_shape_iou(sides: npt.NDArray[np.float64], model: ModelConfig) -> float:
    """Returns the mean IoU of boxes with the nearest anchor shape, both centred on one point.

    Args:
        sides: [N, 2], height and width of the boxes in pixels.
        model: Says which anchor shapes there are.
    """
    root = math.sqrt(model.aspect_ratios[0])
    levels = np.arange(model.min_level, model.max_level + 1)
    anchors = model.anchor_scale * 2.0 ** levels[:, np.newaxis] * np.array([1 / root, root])
    return float(pairwise_iou(_centred(sides), _centred(anchors)).max(1).mean())


def _draw(rows: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.float64]:
    """Returns at most so many rows, the same ones each time."""
    if len(rows) <= most:
        return rows
    return rows[np.random.default_rng(0).permutation(len(rows))[:most]]


def _centred(sides: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns boxes [N, 4] of the given sides [N, 2] around the origin."""
    return np.concatenate([-sides / 2, sides / 2], 1)


def _round(side: float, stride: int) -> int:
    return max(2 * stride, round(side / stride) * stride)
