"""YOLO: one text file an image, and `data.yaml`, which names the splits and the classes.

`images/SPLIT` has the images and `labels/SPLIT` the text files: a line an object with the class's
number from 0, and the box's centre, width and height as shares of the image. A text file without a
line says that the image has no objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from detflow.data.sinks.numbers import format_centre_and_length
from detflow.data.sinks.sink import CarriedImage, CarriedObject, ListWriter, SetPlan, Trait


class YoloSink:
    """Writes YOLO's text files."""

    name = "yolo"
    title = "YOLO"
    holds = frozenset(
        {
            Trait.NEGATIVE,
            Trait.FRACTION,
            Trait.THIN,
            Trait.SPARE_CLASS,
            Trait.CLASS_ORDER,
            Trait.UNION,
        }
    )

    def find_fault(self, class_name: str) -> str | None:
        """See `Sink`."""
        try:
            is_held = yaml.safe_load(_to_yaml({0: class_name})) == {0: class_name}
        except (yaml.YAMLError, UnicodeError):
            is_held = False
        return None if is_held else "YAML cannot hold such characters"

    def place_image(self, split: str, file_name: str) -> str:
        """See `Sink`."""
        return f"images/{split}/{file_name}"

    def list_folders(self, plan: SetPlan) -> Iterator[str]:
        """See `Sink`."""
        for split in plan.splits:
            yield f"images/{split}"
            yield f"labels/{split}"

    def write_image_files(self, target: Path, image: CarriedImage, plan: SetPlan) -> None:
        """See `Sink`."""
        lines = [_format_line(item, plan) for item in image.objects]
        (target / "labels" / image.split / f"{image.name}.txt").write_text(
            "".join(lines), encoding="utf-8"
        )

    @contextmanager
    def open_lists(self, target: Path, plan: SetPlan) -> Iterator[ListWriter]:
        """See `Sink`."""
        places: dict[str, object] = {split: f"images/{split}" for split in plan.splits}
        for union, parts in plan.unions.items():
            places[union] = [f"images/{part}" for part in parts]
        content = {**places, "nc": len(plan.label_map), "names": dict(enumerate(plan.label_map))}
        yield _NoLists()
        (target / "data.yaml").write_text(_to_yaml(content), encoding="utf-8")


class _NoLists:
    def add(self, image: CarriedImage) -> None:
        """Each image has its own file, and data.yaml names folders."""


def _format_line(item: CarriedObject, plan: SetPlan) -> str:
    ymin, xmin, ymax, xmax = item.box
    x, width = format_centre_and_length(xmin, xmax)
    y, height = format_centre_and_length(ymin, ymax)
    return f"{plan.index_of(item.name)} {x} {y} {width} {height}\n"


def _to_yaml(content: object) -> str:
    # A line that is never folded: readers of other languages fold otherwise.
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=2**31)
