"""Reads one CSV file with a row for each object: filename, width, height, class, corners.

`xml_to_csv.py` of the TF Object Detection API's tutorials writes it so; keras-retinanet has rows of
path, x1, y1, x2, y2, class without a header. Columns are found by their names, whatever their
order.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from sys import intern

from detflow.data.findings import Corners, Finding
from detflow.data.sources.claims import claim_image
from detflow.data.sources.entries import name_entries
from detflow.data.sources.source import FileContent, RawAnnotation, RawObject
from detflow.types import CornerFrame

MAX_CSV_BYTES = 256_000_000
MAX_OBJECTS = 20_000
MAX_ROWS = 5_000_000

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_NEEDED = ("filename", "class", *_CORNERS)
_NAMES = {
    "filename": (
        *("filename", "file", "filepath", "image", "imagename", "imagepath", "imageid"),
        *("img", "imgname", "imgpath", "path"),
    ),
    "width": ("width", "imagewidth", "imgwidth"),
    "height": ("height", "imageheight", "imgheight"),
    "class": ("class", "classname", "label", "labelname", "category", "categoryname"),
    "xmin": ("xmin", "x1", "left"),
    "ymin": ("ymin", "y1", "top"),
    "xmax": ("xmax", "x2", "right"),
    "ymax": ("ymax", "y2", "bottom"),
}
_FIELDS = {name: field for field, names in _NAMES.items() for name in names}
_BARE = dict(zip(("filename", *_CORNERS, "class"), range(6), strict=True))
_DELIMITERS = (",", ";", "\t")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,20}(?:\.[0-9]*)?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?")


@dataclass(slots=True)
class _Image:
    """The rows of one image."""

    line: int
    objects: list[RawObject] = field(default_factory=list)
    number: int = 0
    sizes: dict[tuple[int, int] | None, int] = field(default_factory=dict)
    faults: list[tuple[str, int, int | None, str]] = field(default_factory=list)
    is_usable: bool = True


def find_columns(first_row: Sequence[str]) -> Mapping[str, int] | None:
    """Returns which column has which field, by a file's first row; None where it is no such file.

    A file without a header has six columns: path, x1, y1, x2, y2, class.
    """
    found: dict[str, int] = {}
    for place, name in enumerate(first_row):
        known = _FIELDS.get(re.sub(r"[\W_]+", "", name).lower())
        if known is not None:
            found.setdefault(known, place)
    if all(name in found for name in _NEEDED):
        return found
    is_bare = len(first_row) == 6 and bool(first_row[0].strip())
    values = [value.strip() for value in first_row[1:]]
    if is_bare and (
        not any(values) or (bool(values[4]) and all(map(_NUMBER.fullmatch, values[:4])))
    ):
        return _BARE
    return None


def read_head(head: bytes) -> tuple[str, Mapping[str, int]] | None:
    """Returns a file's delimiter and columns by its beginning; None where it is no such file."""
    text = _decode(head, errors="replace")
    line = text.lstrip("\r\n").split("\n")[0].rstrip("\r")
    for delimiter in _DELIMITERS:
        try:
            row = next(csv.reader([line], delimiter=delimiter), [])
        except csv.Error:
            continue
        columns = find_columns(row)
        if columns is not None:
            return delimiter, columns
    return None


def read_table(data: bytes, path: str) -> FileContent:
    """Reads a file's annotations, one for each image that it names.

    Args:
        data: The file's bytes, in UTF-8 or UTF-16.
        path: The file's path inside the dataset, for findings.
    """
    if len(data) > MAX_CSV_BYTES:
        value, expected = f"{len(data):,} bytes", f"at most {MAX_CSV_BYTES:,}"
        return FileContent((), (Finding("file_too_large", path, value=value, expected=expected),))
    head = read_head(data[: 1 << 16])
    if head is None:
        value = "it has no columns for filename, class and corners"
        return FileContent((), (Finding("file_passed_over", path, value=value),))
    delimiter, columns = head
    try:
        text = _decode(data, errors="strict")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        value = f"not {error.encoding} text"
        return FileContent((), (Finding("file_malformed", path, line, value=value),))
    images: dict[str, _Image] = {}
    findings: list[Finding] = []
    try:
        rows = _read_rows(text, delimiter, skip_first=columns is not _BARE)
        for number, (line, row) in enumerate(rows, start=1):
            if number > MAX_ROWS:
                raise csv.Error(f"line {line}: more than {MAX_ROWS:,} rows")
            filename = row[columns["filename"]].strip() if len(row) > columns["filename"] else ""
            if not filename:
                entry = f"?line {line}"
                findings.append(
                    Finding("entry_malformed", path, line, value="no filename", entry=entry)
                )
                continue
            _add_row(images.setdefault(filename, _Image(line)), line, row, columns)
    except csv.Error as error:
        # What stands above the fault may be half of an image's rows.
        return FileContent((), (Finding("file_malformed", path, value=str(error)[:200]),))
    frame = _find_frame(images)
    entries = name_entries(images)
    annotations = tuple(
        _build(path, entry, filename, image, frame)
        for entry, (filename, image) in zip(entries, images.items(), strict=True)
    )
    return FileContent(annotations, tuple(findings))


def _decode(data: bytes, errors: str) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors)
    return data.decode("utf-8-sig", errors)


def _read_rows(text: str, delimiter: str, *, skip_first: bool) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    is_first = True
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise csv.Error(f"line {line}: {error}") from None
        if any(value.strip() for value in row):
            if not (is_first and skip_first):
                yield line, row
            is_first = False


def _add_row(image: _Image, line: int, row: Sequence[str], columns: Mapping[str, int]) -> None:
    values = {
        name: row[place].strip() if place < len(row) else "" for name, place in columns.items()
    }
    size = _read_size(values)
    image.sizes.setdefault(size, line)
    written = [values[corner] for corner in _CORNERS]
    if not any(written) and not values["class"]:
        # A row without an object says that the image has none.
        return
    image.number += 1
    name = " ".join(row[columns["class"]].split()) if columns["class"] < len(row) else ""
    corners = _read_corners(written)
    if image.number > MAX_OBJECTS:
        if image.number == MAX_OBJECTS + 1:
            image.faults.append(("too_many_objects", line, None, f"over {MAX_OBJECTS:,}"))
    elif not name:
        image.faults.append(("name_missing", line, image.number, ""))
    elif corners is None:
        value = ", ".join(
            f"{corner} {value[:40]!r}" for corner, value in zip(_CORNERS, written, strict=True)
        )
        code = "box_not_a_number" if all(written) else "box_missing"
        image.faults.append((code, line, image.number, value))
    else:
        image.objects.append(
            RawObject(
                image.number, line, intern(name), corners, difficult=False, truncated=False, pose=""
            )
        )
        return
    image.is_usable = False


def _read_size(values: Mapping[str, str]) -> tuple[int, int] | None:
    sides = [values.get(side, "") for side in ("width", "height")]
    if not all(map(_NUMBER.fullmatch, sides)):
        return None
    width, height = (round(min(float(side), 1e9)) for side in sides)
    return (width, height) if min(width, height) >= 0 else None


def _read_corners(written: Sequence[str]) -> Corners | None:
    if not all(map(_NUMBER.fullmatch, written)):
        return None
    xmin, ymin, xmax, ymax = map(float, written)
    return (xmin, ymin, xmax, ymax) if math.isfinite(xmin + ymin + xmax + ymax) else None


def _find_frame(images: Mapping[str, _Image]) -> CornerFrame | None:
    """Returns what the corners count where the whole file tells it.

    No file has boxes of a pixel only: where every corner is at most 1, they are fractions.
    """
    corners = [raw.corners for image in images.values() for raw in image.objects]
    if corners and all(min(box) >= 0.0 and max(box) <= 1.0 for box in corners):
        return CornerFrame.FRACTIONS
    return None


def _build(
    path: str, entry: str, filename: str, image: _Image, frame: CornerFrame | None
) -> RawAnnotation:
    findings = [
        Finding(code, path, line, number, value, entry=entry)
        for code, line, number, value in image.faults
    ]
    if len(image.sizes) > 1:
        (one, _), (other, line) = list(image.sizes.items())[:2]
        value = f"width and height {_show(one)} and {_show(other)}"
        findings.append(Finding("entry_malformed", path, line, value=value, entry=entry))
    is_usable = image.is_usable and len(image.sizes) == 1
    return RawAnnotation(
        path=path,
        entry=entry,
        names=claim_image(filename, path),
        size=next(iter(image.sizes)) if len(image.sizes) == 1 else None,
        size_line=image.line,
        objects=tuple(image.objects) if is_usable else None,
        findings=tuple(findings),
        frame=frame,
    )


def _show(size: tuple[int, int] | None) -> str:
    return "missing" if size is None else f"{size[0]}x{size[1]}"
