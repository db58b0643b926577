"""What the report counts: findings, and histograms over every object of the dataset."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detflow.data.findings import Finding
from detflow.data.judging.audit import Audit
from detflow.data.rules import Action

SHARE_BINS, SHARE_BINS_PER_OCTAVE, FIRST_SHARE_OCTAVE = 32, 4, -8
"""Width and height of boxes as shares of the image, from 1/256 to 1."""

SIDE_BINS, SIDE_BINS_PER_OCTAVE = 36, 3
"""Square roots of the boxes' areas, from 1 to 4,096 pixels."""

ASPECT_BINS, ASPECT_BINS_PER_OCTAVE, FIRST_ASPECT_OCTAVE = 32, 4, -4
"""Width of boxes to height, from 1:16 to 16:1."""

CENTRE_BINS = 24
"""Centres of boxes, as shares of the image on either axis."""

OBJECTS_EDGES = (0, 1, 2, 3, 5, 9, 17, 33, 65, 129)
"""The least number of objects of an image that each bin stands for."""

_ROWS_AT_A_TIME = 50_000


@dataclass(slots=True)
class Findings:
    """Findings by their codes.

    Attributes:
        counts: How many there are.
        examples: The first ones.
        left_out: How many objects of usable annotations are not in the records.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: defaultdict[str, list[Finding]] = field(default_factory=lambda: defaultdict(list))
    left_out: int = 0


def collect_findings(audit: Audit, max_examples: int) -> Findings:
    """Counts all findings of an audit, and keeps the first `max_examples` of each code."""
    found = Findings()
    for finding in audit.findings():
        found.counts[finding.code] += 1
        examples = found.examples[finding.code]
        if len(examples) < max_examples:
            examples.append(finding)
        is_left_out = (
            finding.action is Action.REPAIRED
            and finding.before is not None
            and finding.after is None
        )
        found.left_out += is_left_out and finding.annotation in audit.samples
    return found


def _zeros(*shape: int) -> NDArray[np.int64]:
    return np.zeros(shape, np.int64)


@dataclass(slots=True)
class Measured:
    """Histograms over all usable annotations.

    Attributes:
        shares: [height, width] of boxes as shares of the image, in bins of one size in octaves.
        sides: Square roots of the boxes' areas in pixels, in bins of one size in octaves.
        aspects: Width of boxes to height, in bins of one size in octaves.
        centres: [row, column] of the boxes' centres; row 0 is at the bottom of the image.
        objects: How many images have a number of objects, by `OBJECTS_EDGES`.
        class_sides: As `sides`, for each class.
        class_images: How many images have a class.
        sizes: How many images have a (width, height) in pixels.
    """

    shares: NDArray[np.int64] = field(default_factory=lambda: _zeros(SHARE_BINS, SHARE_BINS))
    sides: NDArray[np.int64] = field(default_factory=lambda: _zeros(SIDE_BINS))
    aspects: NDArray[np.int64] = field(default_factory=lambda: _zeros(ASPECT_BINS))
    centres: NDArray[np.int64] = field(default_factory=lambda: _zeros(CENTRE_BINS, CENTRE_BINS))
    objects: NDArray[np.int64] = field(default_factory=lambda: _zeros(len(OBJECTS_EDGES)))
    class_sides: defaultdict[str, NDArray[np.int64]] = field(
        default_factory=lambda: defaultdict(lambda: _zeros(SIDE_BINS))
    )
    class_images: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)


def measure_audit(audit: Audit) -> Measured:
    """Reads every sample's line once; memory does not grow with the number of samples."""
    measured = Measured()
    names: list[str] = []
    rows: list[tuple[float, ...]] = []
    for sample in audit.read_samples():
        width, height = sample.size.width, sample.size.height
        measured.sizes[width, height] += 1
        measured.objects[bisect_right(OBJECTS_EDGES, len(sample.columns.names)) - 1] += 1
        names += sample.columns.names
        rows += [(*box, width, height) for box in sample.columns.boxes_yxyx]
        if len(rows) > _ROWS_AT_A_TIME:
            _add_objects(measured, names, rows)
            names, rows = [], []
    if rows:
        _add_objects(measured, names, rows)
    for summary in audit.samples.values():
        measured.class_images.update(count.name for count in summary.class_counts if count.objects)
    return measured


def _add_objects(
    measured: Measured, names: Sequence[str], rows: Sequence[tuple[float, ...]]
) -> None:
    """Adds objects to the histograms.

    Args:
        measured: The histograms.
        names: The class of each object.
        rows: For each object ymin, xmin, ymax, xmax as shares of the image, then the image's width
            and height in pixels.
    """
    ymin, xmin, ymax, xmax, width, height = np.array(rows, np.float64).T
    box_width, box_height = xmax - xmin, ymax - ymin
    width_px, height_px = box_width * width, box_height * height
    share_bins = [
        _to_bins(share, FIRST_SHARE_OCTAVE, SHARE_BINS_PER_OCTAVE, SHARE_BINS)
        for share in (box_height, box_width)
    ]
    np.add.at(measured.shares, tuple(share_bins), 1)
    sides = _to_bins(np.sqrt(width_px * height_px), 0, SIDE_BINS_PER_OCTAVE, SIDE_BINS)
    np.add.at(measured.sides, sides, 1)
    aspects = _to_bins(
        width_px / height_px, FIRST_ASPECT_OCTAVE, ASPECT_BINS_PER_OCTAVE, ASPECT_BINS
    )
    np.add.at(measured.aspects, aspects, 1)
    from_top = np.minimum(((ymin + ymax) / 2 * CENTRE_BINS).astype(int), CENTRE_BINS - 1)
    columns = np.minimum(((xmin + xmax) / 2 * CENTRE_BINS).astype(int), CENTRE_BINS - 1)
    np.add.at(measured.centres, (CENTRE_BINS - 1 - from_top, columns), 1)
    for (name, place), number in Counter(zip(names, sides.tolist(), strict=True)).items():
        measured.class_sides[name][place] += number


def _to_bins(
    values: NDArray[np.float64], first_octave: int, bins_per_octave: int, count: int
) -> NDArray[np.int64]:
    """Returns the bin of each value; values beyond either end are in the bin at that end."""
    places = np.floor((np.log2(values) - first_octave) * bins_per_octave)
    bins: NDArray[np.int64] = np.clip(places, 0, count - 1).astype(np.int64)
    return bins
