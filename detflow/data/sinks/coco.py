"""COCO: one JSON file a split (https://cocodataset.org/#format-data).

The files are `annotations/instances_SPLIT.json`, and `images/SPLIT` has the images, which the JSON
names by their file names alone. Boxes are [x, y, width, height] in pixels counted from 0. Beside
COCO's own fields an annotation has `difficult`, `truncated`, `pose` and `score` where they are set.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from detflow.data.sinks.numbers import format_origin_and_length
from detflow.data.sinks.sink import CarriedImage, CarriedObject, ListWriter, SetPlan, Trait
from detflow.types import ImageSize

_LISTS = "annotations"


class CocoSink:
    """Writes COCO."""

    name = "coco"
    title = "COCO"
    holds = frozenset(Trait) - {Trait.UNION}

    def find_fault(self, class_name: str) -> str | None:
        """See `Sink`."""
        return None

    def place_image(self, split: str, file_name: str) -> str:
        """See `Sink`."""
        return f"images/{split}/{file_name}"

    def list_folders(self, plan: SetPlan) -> Iterator[str]:
        """See `Sink`."""
        yield _LISTS
        yield from (f"images/{split}" for split in plan.splits)

    def write_image_files(self, target: Path, image: CarriedImage, plan: SetPlan) -> None:
        """See `Sink`: COCO has no such file."""

    @contextmanager
    def open_lists(self, target: Path, plan: SetPlan) -> Iterator[ListWriter]:
        """See `Sink`."""
        with ExitStack() as stack:
            files = {
                split: _SplitFile(
                    stack.enter_context(
                        open(target / _LISTS / f"instances_{split}.json", "w", encoding="utf-8")
                    ),
                    # What comes last in the file waits here, so that memory holds no image.
                    stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", dir=target)),
                    plan,
                )
                for split in plan.splits
            }
            writer = _Lists(files, plan)
            yield writer
            for file in files.values():
                file.finish()


class _SplitFile:
    """One JSON file that is written as its images come."""

    def __init__(self, file: IO[str], waiting: IO[str], plan: SetPlan) -> None:
        self._file = file
        self._waiting = waiting
        self._images = self._annotations = 0
        categories = [
            {"id": class_id, "name": name, "supercategory": ""}
            for name, class_id in plan.label_map.ids_by_name.items()
        ]
        head = {"info": {"description": "Written by detflow."}, "licenses": []}
        file.write(
            f'{json.dumps(head)[:-1]}, "categories": {json.dumps(categories)}, "images": [\n'
        )

    def add_image(self, entry: dict[str, Any]) -> None:
        self._file.write(f"{',' if self._images else ''}{json.dumps(entry)}\n")
        self._images += 1

    def add_annotation(self, text: str) -> None:
        self._waiting.write(f"{',' if self._annotations else ''}{text}\n")
        self._annotations += 1

    def finish(self) -> None:
        self._file.write('], "annotations": [\n')
        self._waiting.seek(0)
        shutil.copyfileobj(self._waiting, self._file)
        self._file.write("]}\n")


class _Lists:
    def __init__(self, files: dict[str, _SplitFile], plan: SetPlan) -> None:
        self._files = files
        self._plan = plan
        self._annotations = 0

    def add(self, image: CarriedImage) -> None:
        file = self._files[image.split]
        file.add_image(
            {
                "id": image.number,
                "file_name": image.file_name,
                "width": image.size.width,
                "height": image.size.height,
            }
        )
        for item in image.objects:
            self._annotations += 1
            head = {
                "id": self._annotations,
                "image_id": image.number,
                "category_id": self._plan.label_map.id_of(item.name),
            }
            file.add_annotation(
                f"{json.dumps(head)[:-1]}, {_format_box(item, image.size)}, "
                f"{json.dumps(_describe_traits(item))[1:]}"
            )


def _format_box(item: CarriedObject, size: ImageSize) -> str:
    """Returns bbox and area as JSON; numbers keep the digits that they need."""
    ymin, xmin, ymax, xmax = item.box
    x, width = format_origin_and_length(xmin, xmax, size.width)
    y, height = format_origin_and_length(ymin, ymax, size.height)
    return f'"bbox": [{x}, {y}, {width}, {height}], "area": {float(width) * float(height)!r}'


def _describe_traits(item: CarriedObject) -> dict[str, Any]:
    # Programs that draw masks take an annotation without this field for damaged.
    traits: dict[str, Any] = {"segmentation": [], "iscrowd": int(item.crowd)}
    # A crowd is difficult for everybody.
    if item.difficult and not item.crowd:
        traits["difficult"] = 1
    if item.truncated:
        traits["truncated"] = 1
    if item.pose:
        traits["pose"] = item.pose
    if item.score is not None:
        traits["score"] = item.score
    return traits
