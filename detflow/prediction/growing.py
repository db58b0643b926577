"""Files that grow with every image, so that memory does not."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from detflow.inference.detections import SIDES, Detections

_CSV_COLUMNS: Final = (
    "file",
    "frame",
    "time_s",
    "width",
    "height",
    "name",
    "class_id",
    "score",
    *SIDES,
)


class GrowingFile:
    """A text file of items, written as they come.

    Args:
        path: The file.
        head: What stands before the first item.
        separator: What stands between two items.

    Attributes:
        length: How many bytes have been written.
    """

    def __init__(self, path: Path, head: str, separator: str = "") -> None:
        self._file = open(path, "wb")  # noqa: SIM115  Closed by `close`.
        self._separator = separator
        self._has_items = False
        self.length = 0
        self._write(head)

    def append(self, item: str) -> None:
        """Writes an item; an empty one leaves no trace.

        Raises:
            OSError: The disk refuses.
        """
        if item:
            self._write(self._separator + item if self._has_items else item)
            self._has_items = True

    def finish(self, length: int, tail: str) -> None:
        """Cuts the file at a length, where an item may have been interrupted, and ends it.

        Raises:
            OSError: The disk refuses.
        """
        self._file.seek(length)
        self._file.truncate()
        self._write(tail)
        self._file.close()

    def close(self) -> None:
        """Ends writing."""
        self._file.close()

    def _write(self, text: str) -> None:
        # A name that is no text would make the whole file unreadable.
        data = text.encode("utf-8", "backslashreplace")
        self._file.write(data)
        self.length += len(data)


def begin_report(path: Path, head: Mapping[str, Any]) -> GrowingFile:
    """Begins a JSON object of which the list `images` grows; `format_entry` makes its items."""
    return GrowingFile(path, f'{_format_fields(head)},\n "images": [\n  ', ",\n  ")


def end_report(tail: Mapping[str, Any]) -> str:
    """Returns what ends such a file."""
    return "\n ]," + _format_fields(tail).removeprefix("{") + "\n}\n"


def format_entry(entry: Mapping[str, Any]) -> str:
    """Returns an image's entry as an item of `begin_report`."""
    return json.dumps(entry, indent=1).replace("\n", "\n  ")


def begin_coco_results(path: Path) -> GrowingFile:
    """Begins COCO's results format; `format_coco_results` makes its items."""
    return GrowingFile(path, "[", ", ")


def format_coco_results(found: Detections, number: int) -> str:
    """Returns an image's detections; `number` is its `id` in predictions.json."""
    return json.dumps(found.to_coco(number))[1:-1]


def begin_csv(path: Path) -> GrowingFile:
    """Begins a table of detections; `format_rows` makes its items."""
    return GrowingFile(path, _format_csv([dict(zip(_CSV_COLUMNS, _CSV_COLUMNS, strict=True))]))


def format_rows(entry: Mapping[str, Any]) -> str:
    """Returns one line a detection; an image without any has none. Boxes are in pixels."""
    return _format_csv(
        {**entry, **detection, **dict(zip(SIDES, detection["box_px"], strict=True))}
        for detection in entry["detections"]
    )


def _format_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, _CSV_COLUMNS, restval="", extrasaction="ignore").writerows(rows)
    return text.getvalue()


def _format_fields(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, indent=1).removesuffix("\n}")
