"""`detflow init`: a configuration fitted to the data, with the reason for each value."""

from __future__ import annotations

import difflib
import itertools
import json
import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from detflow.config.schema import ModelConfig
from detflow.data.convert import ConversionOptions, convert_dataset
from detflow.data.records.manifest import MANIFEST_NAME, RecordsManifest, read_manifest
from detflow.data.records.reading import read_samples
from detflow.errors import DataError
from detflow.geometry import choose_canvas
from detflow.models.anchors import best_anchor_iou, build_anchors
from detflow.types import ImageSize, ObjectAnnotation

__all__ = ["Choice", "choose_train_split", "fit_config", "fit_source", "format_choices"]

# Canvas areas in pixels, from what trains fast on a CPU to three times that.
_CANVAS_AREAS = (49_152, 65_536, 86_016, 114_688, 147_456)
# The finest level has a cell for every 8 pixels; an object of two and a half cells is still placed
# well. On BCCD, whose smallest class has 16 pixels a side on 192x256, 1,800 steps on 256x320 were
# better than 3,000 on 192x256, which take as long.
_SMALLEST_SIDE_PX = 20.0
_STRIDE = 32
# Further canvases are of about the area of one, have a fair share of the images each, and each of
# them has to raise the mean share of its canvas that an image covers by so much. On BCCD with every
# second image turned on its side (from .75 to 1) two canvases reached AP .556 in 600 steps, one of
# the same area .531; on raccoon (from .86 to .90) .373 in 800 steps, one .376.
_MAX_CANVASES = 3
_AREA_TOLERANCE = 1 / 8
_LEAST_BUCKET = 0.15
_LEAST_GAIN = 0.1
_CANDIDATE_QUANTILES = np.linspace(0.05, 0.95, 13)
_ANCHOR_SCALES = tuple(float(scale) for scale in np.arange(2.0, 8.01, 0.5))
# The anchor takes the shape of the typical box when that is further from a square than this.
_ELONGATED = 1.5
# The clustering and the recall look at this many boxes, and the choice of canvases at this many
# images, evenly spaced among all.
_MAX_BOXES = 20_000
_MAX_IMAGES = 2_000
_BATCH_SIZE = 8
# BCCD, 205 images: 1,500 steps (59 epochs) reached AP .587 on val, 3,000 steps .605.
_EPOCHS = 120
_MIN_STEPS, _MAX_STEPS = 1_500, 20_000
_EVALUATIONS = 8
_VALIDATION_NAMES = ("val", "valid", "validation", "dev")


@dataclass(frozen=True, slots=True)
class Choice:
    """One setting of the fitted configuration: its dotted name, its value, and why."""

    name: str
    value: Any
    why: str


Canvases: TypeAlias = tuple[tuple[int, int], ...]
"""(height, width) of each."""


class _Boxes:
    """Boxes of the training split and their images.

    Attributes:
        corners: [N, 4] float64, [ymin, xmin, ymax, xmax] normalised by the image.
        image_sizes: [N, 2] float64, (height, width) of each box's image in pixels.
        names: Class of each box.
        all_sizes: [images, 2] float64, (height, width).
        most: Objects of the fullest image.
    """

    def __init__(self, samples: Iterable[tuple[ImageSize, Sequence[ObjectAnnotation]]]) -> None:
        corners, image_sizes, self.names, all_sizes, self.most = [], [], [], [], 0
        for size, objects in samples:
            all_sizes.append((size.height, size.width))
            self.most = max(self.most, len(objects))
            for item in objects:
                corners.append((item.box.ymin, item.box.xmin, item.box.ymax, item.box.xmax))
                image_sizes.append((size.height, size.width))
                self.names.append(item.name)
        every = max(1, math.ceil(len(corners) / _MAX_BOXES))
        self.corners = np.array(corners[::every], np.float64).reshape(-1, 4)
        self.image_sizes = np.array(image_sizes[::every], np.float64).reshape(-1, 2)
        self.names = self.names[::every]
        self.all_sizes = np.array(all_sizes, np.float64).reshape(-1, 2)

    def sides_px(self, canvases: Canvases) -> npt.NDArray[np.float64]:
        """Returns [N, 2], height and width of each box in pixels of the canvas that takes its image."""
        chosen, ratios = _fit_into(self.image_sizes, canvases)
        return (
            (self.corners[:, 2:] - self.corners[:, :2])
            * ratios
            * np.array(canvases, np.float64)[chosen]
        )


def choose_train_split(manifest: RecordsManifest) -> str:
    """Returns the split that is for training.

    Raises:
        DataError: There is none.
    """
    name = (
        "train"
        if "train" in manifest.splits
        else next(iter(difflib.get_close_matches("train", manifest.splits, 1)), None)
    )
    if name is None or not manifest.splits[name].objects:
        raise DataError(
            f"no split to train on among {', '.join(manifest.splits) or 'none'}",
            remedy="make-records --split-by seed",
        )
    return name


def fit_config(
    manifest: RecordsManifest,
    records: Path,
    samples: Iterable[tuple[ImageSize, Sequence[ObjectAnnotation]]],
) -> list[Choice]:
    """Chooses a configuration for a records directory.

    Args:
        manifest: Of the records.
        records: Where they are, as it shall stand in the configuration.
        samples: Size and objects of each image of the training split.

    Returns:
        The settings that depend on the data or that a user should think about, section by section.

    Raises:
        DataError: There is nothing to train on.
    """
    train = choose_train_split(manifest)
    boxes = _Boxes(samples)
    num_images = manifest.splits[train].images
    canvases, chosen = _choose_canvases(boxes)
    shape = _choose_shape(boxes, canvases)
    steps = int(np.clip(round(_EPOCHS * num_images / _BATCH_SIZE, -2), _MIN_STEPS, _MAX_STEPS))
    every = max(100, int(round(steps / _EVALUATIONS, -2)))
    return [
        Choice("data.records", str(records), "where make-records put them"),
        Choice(
            "data.train_split",
            train,
            f"{num_images:,} images, {manifest.splits[train].objects:,} objects",
        ),
        _choose_eval_split(manifest),
        Choice(
            "data.max_boxes",
            max(100, math.ceil(boxes.most / 100) * 100),
            f"the fullest image has {boxes.most:,} objects",
        ),
        *chosen,
        *shape,
        Choice(
            "train.steps",
            steps,
            f"{steps * _BATCH_SIZE / num_images:.0f} epochs; `--time-budget 12m` fits them to a clock instead",
        ),
        Choice("train.batch_size", _BATCH_SIZE, "the default recipe's"),
        Choice(
            "augment.vertical_flip",
            False,
            "true where pictures have no up and no down, as under a microscope",
        ),
        Choice(
            "evaluate.every_steps",
            every,
            f"about {_EVALUATIONS} evaluations, of which the best is exported",
        ),
        Choice("checkpoint.every_steps", every, "with each evaluation"),
    ]


def fit_source(source: Path) -> str:
    """Fits a configuration to a records directory, or to a dataset folder by way of temporary records.

    Returns:
        The configuration as YAML text.

    Raises:
        DataError: The dataset cannot be used, or there is nothing to train on.
        ArtifactError: The records are damaged.
    """
    if (source / MANIFEST_NAME).is_file():
        return _fit_records(source, source)
    with tempfile.TemporaryDirectory(prefix="detflow-init-") as folder:
        convert_dataset(source, Path(folder) / "records", ConversionOptions(report=False))
        return _fit_records(Path(folder) / "records", Path("records") / source.resolve().name)


def _fit_records(records: Path, name: Path) -> str:
    manifest = read_manifest(records)
    samples = read_samples(records, manifest, choose_train_split(manifest))
    choices = fit_config(manifest, name, ((sample.size, sample.objects) for sample in samples))
    return format_choices(
        choices,
        [
            f"Fitted to {name} by detflow init.",
            "`detflow config --explain` lists every setting.",
            "",
        ],
    )


def format_choices(choices: Sequence[Choice], header: Sequence[str]) -> str:
    """Returns the configuration as YAML text, each value below its reason."""
    lines = [f"# {line}".rstrip() for line in header]
    section = None
    for choice in choices:
        current, key = choice.name.split(".")
        if current != section:
            section = current
            lines.append(f"{section}:")
        lines += [f"  # {choice.why}", f"  {key}: {json.dumps(choice.value, ensure_ascii=False)}"]
    return "\n".join(lines) + "\n"


def _choose_eval_split(manifest: RecordsManifest) -> Choice:
    name = next(
        (
            name
            for name in _VALIDATION_NAMES
            if name in manifest.splits and manifest.splits[name].objects
        ),
        None,
    )
    if name is None:
        return Choice(
            "data.eval_split",
            None,
            "there is no validation split: the last checkpoint counts, none is best",
        )
    return Choice(
        "data.eval_split",
        name,
        f"{manifest.splits[name].images:,} images choose the best checkpoint; test stays unseen",
    )


def _choose_canvases(boxes: _Boxes) -> tuple[Canvases, list[Choice]]:
    """The smallest canvas on which small objects are large enough, and further ones where one would be padding to a good part."""
    native_height, native_width = np.median(boxes.all_sizes, 0)
    canvases: Canvases = ()
    smallest, name = 0.0, ""
    for area in _CANVAS_AREAS:
        larger = _lay_out(boxes.all_sizes, area)
        if larger == canvases:
            break
        canvases = larger
        name, smallest = _smallest_class(boxes, canvases)
        if smallest >= _SMALLEST_SIDE_PX:
            break
    first, *more = canvases
    size = Choice(
        "model.input_size",
        list(first),
        f"[height, width] of the network; images are typically {native_width:.0f}x{native_height:.0f}, "
        f"the median {name} has {smallest:.0f} pixels a side here, of all classes the fewest",
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
        for sizes in ((_typical_canvas(boxes.all_sizes, math.prod(first)),), canvases)
    )
    why = f"{takers}: they cover {several:.0%} of their canvas, and would cover {one:.0%} of a single one"
    return canvases, [
        size,
        Choice("model.more_input_sizes", [list(canvas) for canvas in more], why),
    ]


def _lay_out(sizes: npt.NDArray[np.float64], area: int) -> Canvases:
    """Returns canvases of about an area in pixels for images [N, 2], the one that takes most of them first."""
    sizes = sizes[:: max(1, math.ceil(len(sizes) / _MAX_IMAGES))]
    canvases: Canvases = (_typical_canvas(sizes, area),)
    cover = _mean_cover(sizes, canvases)
    fewest = max(_BATCH_SIZE, _LEAST_BUCKET * len(sizes))
    for count in range(2, _MAX_CANVASES + 1):
        fair = [
            some
            for some in itertools.combinations(_candidates(sizes, area), count)
            if _count(sizes, some).min() >= fewest
        ]
        best = max(fair, key=lambda some: _mean_cover(sizes, some), default=canvases)
        if _mean_cover(sizes, best) < cover + _LEAST_GAIN:
            break
        canvases, cover = best, _mean_cover(sizes, best)
    return tuple(canvases[index] for index in np.argsort(-_count(sizes, canvases), kind="stable"))


def _candidates(sizes: npt.NDArray[np.float64], area: int) -> list[tuple[int, int]]:
    """Returns canvases of about an area that have the aspects of some of the images."""
    aspects = np.exp(np.quantile(np.log(sizes[:, 1] / sizes[:, 0]), _CANDIDATE_QUANTILES))
    # No image is blown up on a canvas of its aspect and at most its area.
    area = min(area, int(np.median(sizes.prod(1))))
    rounded = {
        (_round_to_stride(math.sqrt(area / aspect)), _round_to_stride(math.sqrt(area * aspect)))
        for aspect in aspects
    }
    return sorted(
        canvas for canvas in rounded if abs(math.prod(canvas) - area) <= _AREA_TOLERANCE * area
    )


def _typical_canvas(sizes: npt.NDArray[np.float64], area: int) -> tuple[int, int]:
    """Returns the canvas of about an area that has the images' typical aspect; it does not blow them up."""
    aspect = float(np.exp(np.median(np.log(sizes[:, 1] / sizes[:, 0]))))
    height, width = np.median(sizes, 0)
    return _round_to_stride(min(math.sqrt(area / aspect), height)), _round_to_stride(
        min(math.sqrt(area * aspect), width)
    )


def _fit_into(
    sizes: npt.NDArray[np.float64], canvases: Canvases
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Returns which canvas takes each image [N], and the share [N, 2] of its height and width that the image covers."""
    chosen = choose_canvas(sizes, canvases)
    canvas = np.array(canvases, np.float64)[chosen]
    return chosen, sizes * (canvas / sizes).min(1, keepdims=True) / canvas


def _mean_cover(sizes: npt.NDArray[np.float64], canvases: Canvases) -> float:
    """Returns the mean share of its canvas that an image covers."""
    return float(_fit_into(sizes, canvases)[1].prod(1).mean())


def _count(sizes: npt.NDArray[np.float64], canvases: Canvases) -> npt.NDArray[np.intp]:
    """Returns how many images each canvas takes."""
    return np.bincount(choose_canvas(sizes, canvases), minlength=len(canvases))


def _smallest_class(boxes: _Boxes, canvases: Canvases) -> tuple[str, float]:
    """Returns the class whose median box is smallest on its canvas, and that box' side (the root of its area) in pixels."""
    sides = np.sqrt(boxes.sides_px(canvases).prod(1))
    names = np.array(boxes.names)
    medians = {
        str(name): float(np.median(sides[names == name])) for name in dict.fromkeys(boxes.names)
    }
    name = min(medians, key=lambda key: medians[key])
    return name, medians[name]


def _choose_shape(boxes: _Boxes, canvases: Canvases) -> list[Choice]:
    """One anchor a cell, of the shape and scale that fit the boxes best; and the recall that it allows."""
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
        scale: ModelConfig(
            input_size=canvases[0], anchor_scale=scale, aspect_ratios=(anchor_aspect,)
        )
        for scale in _ANCHOR_SCALES
    }
    overlaps = {scale: _mean_shape_iou(sides, model) for scale, model in candidates.items()}
    scale = max(overlaps, key=lambda key: overlaps[key])
    model = candidates[scale]
    anchor_sides = [
        f"{scale * 2**level:.0f}" for level in range(model.min_level, model.max_level + 1)
    ]
    chosen, ratios = _fit_into(boxes.image_sizes, canvases)
    corners, best = boxes.corners * np.concatenate([ratios, ratios], 1), np.zeros(len(ratios))
    for index, size in enumerate(canvases):
        best[chosen == index] = best_anchor_iou(
            corners[chosen == index], build_anchors(model, size)[0]
        )
    names = np.array(boxes.names)
    recall = ", ".join(
        f"{name} {np.mean(best[names == name] >= 0.5):.0%}" for name in sorted(set(boxes.names))
    )
    return [
        Choice(
            "model.anchor_scale",
            scale,
            f"anchors of {', '.join(anchor_sides)} pixels; boxes that one overlaps by IoU .5: {recall}",
        ),
        Choice("model.aspect_ratios", [anchor_aspect], why),
    ]


def _mean_shape_iou(sides: npt.NDArray[np.float64], model: ModelConfig) -> float:
    """Mean IoU of boxes with the nearest of the model's anchor shapes, both centred on one point."""
    root = math.sqrt(model.aspect_ratios[0])
    best = np.zeros(len(sides))
    for level in range(model.min_level, model.max_level + 1):
        side = model.anchor_scale * 2**level
        height, width = side / root, side * root
        intersection = np.minimum(sides[:, 0], height) * np.minimum(sides[:, 1], width)
        best = np.maximum(best, intersection / (sides.prod(1) + side * side - intersection))
    return float(best.mean())


def _round_to_stride(side: float) -> int:
    return max(2 * _STRIDE, round(side / _STRIDE) * _STRIDE)
