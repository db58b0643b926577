"""CSV as the `xml_to_csv` scripts write it: one file a split, a row an object.

`SPLIT_labels.csv` has the columns filename, width, height, class, xmin, ymin, xmax and ymax, the
corners as VOC counts them and, as the scripts have them, in whole pixels: fractions would be taken
for another way of counting. `images/SPLIT` has the images. An image without objects has no row.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from detflow.data.sinks.numbers import format_corners
from detflow.data.sinks.sink import CarriedImage, CarriedObject, ListWriter, SetPlan, Trait
from detflow.types import ImageSize

_COLUMNS = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax")


class CsvSink:
    """Writes CSV."""

    name = "csv"
    title = "CSV"
    holds: frozenset[Trait] = frozenset()

    def find_fault(self, class_name: str) -> str | None:
        """See `Sink`."""
        try:
            class_name.encode("utf-8")
        except UnicodeEncodeError:
            return "UTF-8 cannot hold such characters"
        return None

    def place_image(self, split: str, file_name: str) -> str:
        """See `Sink`."""
        return f"images/{split}/{file_name}"

    def list_folders(self, plan: SetPlan) -> Iterator[str]:
        """See `Sink`."""
        yield from (f"images/{split}" for split in plan.splits)

    def write_image_files(self, target: Path, image: CarriedImage, plan: SetPlan) -> None:
        """See `Sink`: CSV has no such file."""

    @contextmanager
    def open_lists(self, target: Path, plan: SetPlan) -> Iterator[ListWriter]:
        """See `Sink`."""
        with ExitStack() as stack:
            writers = {}
            for split in plan.splits:
                path = target / f"{split}_labels.csv"
                file = stack.enter_context(open(path, "w", encoding="utf-8", newline=""))
                writers[split] = csv.writer(file, lineterminator="\n")
                writers[split].writerow(_COLUMNS)
            yield _Lists(writers)


class _Lists:
    def __init__(self, writers: dict[str, Any]) -> None:
        self._writers = writers

    def add(self, image: CarriedImage) -> None:
        self._writers[image.split].writerows(
            (
                image.file_name,
                image.size.width,
                image.size.height,
                item.name,
                *_format_corners(item, image.size),
            )
            for item in image.objects
        )


def _format_corners(item: CarriedObject, size: ImageSize) -> tuple[str, str, str, str]:
    """Returns xmin, ymin, xmax, ymax as VOC counts them; a box has two pixels or more."""
    ymin, xmin, ymax, xmax = item.box
    left, right = format_corners(*_round_edges(xmin, xmax, size.width), size.width)
    top, bottom = format_corners(*_round_edges(ymin, ymax, size.height), size.height)
    return left, top, right, bottom


def _round_edges(low: float, high: float, side: int) -> tuple[float, float]:
    """Returns whole pixels, two or more where the image has them.

    Nothing in CSV says how corners count, and a box of one pixel, whose corners are equal, has no
    area to readers that count from 0.
    """
    least = min(2, side)
    first = min(round(low * side), side - least)
    return first / side, max(round(high * side), first + least) / side
