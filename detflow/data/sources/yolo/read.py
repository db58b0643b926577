"""Reads one YOLO label file: a line for each object.

A line has the class's number and either the box as centre x, centre y, width and height, or the
points of an outline x, y, x, y, …, all as fractions of the image's sides. The format is described
at https://docs.ultralytics.com/datasets/detect/ and …/segment/.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from detflow.data.findings import Corners, Finding
from detflow.data.sources.source import FileContent, ImageNames, RawAnnotation, RawObject
from detflow.types import CornerFrame

MAX_LABEL_BYTES = 32_000_000
MAX_OBJECTS = 20_000

# No tool writes more for an object that touches the image.
_MAX_FRACTION = 1.1
_BOX_VALUES = 4


class _Fault(Exception):
    """A line that cannot be read: the code of a rule, and the value."""

    def __init__(self, code: str, value: str) -> None:
        super().__init__(code, value)
        self.code = code
        self.value = value


def read_labels(
    data: bytes, path: str, names: Mapping[int, str], num_keypoint_values: int | None
) -> FileContent:
    """Reads a file.

    Args:
        data: The file's bytes; an empty file says that its image has no object.
        path: The file's path inside the dataset, for findings.
        names: The class of each number; an empty one stands for classes that nothing names.
        num_keypoint_values: How many values a line has behind the box, where the dataset is one of
            poses; None where it is not.
    """
    if len(data) > MAX_LABEL_BYTES:
        value, expected = f"{len(data):,} bytes", f"at most {MAX_LABEL_BYTES:,}"
        return FileContent((), (Finding("file_too_large", path, value=value, expected=expected),))
    objects: list[RawObject] = []
    findings: list[Finding] = []
    outlines: list[int] = []
    is_usable = True
    number = 0
    text = data.decode("utf-8-sig", "backslashreplace")
    for line_number, line in enumerate(text.splitlines(), start=1):
        if not (values := line.split()):
            continue
        number += 1
        if number > MAX_OBJECTS:
            findings.append(Finding("too_many_objects", path, value=f"over {MAX_OBJECTS:,}"))
            is_usable = False
            break
        try:
            name, corners, is_outline = _read_line(values, names, num_keypoint_values)
        except _Fault as fault:
            findings.append(Finding(fault.code, path, line_number, number, fault.value))
            is_usable = False
            continue
        if is_outline:
            outlines.append(line_number)
        objects.append(
            RawObject(number, line_number, name, corners, difficult=False, truncated=False, pose="")
        )
    if outlines:
        value = f"{len(outlines)} of {number} objects"
        findings.append(Finding("outline_boxed", path, outlines[0], value=value))
    annotation = RawAnnotation(
        path=path,
        entry="",
        names=ImageNames(None, None),
        size=None,
        size_line=None,
        objects=tuple(objects) if is_usable else None,
        findings=tuple(findings),
        frame=CornerFrame.FRACTIONS,
    )
    return FileContent((annotation,))


def _read_line(
    values: list[str], names: Mapping[int, str], num_keypoint_values: int | None
) -> tuple[str, Corners, bool]:
    class_id = _read_class(values[0])
    name = names.get(class_id) if names else str(class_id)
    if name is None:
        raise _Fault("class_id_unknown", f"class {class_id}, of {len(names)} that are named")
    numbers = [_read_number(value) for value in values[1:]]
    count = len(numbers)
    if count == _BOX_VALUES or (
        num_keypoint_values is not None and count == _BOX_VALUES + num_keypoint_values
    ):
        x, y, width, height = numbers[:_BOX_VALUES]
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        _require_fractions(numbers[:_BOX_VALUES])
        return name, corners, False
    if num_keypoint_values is None and count >= 6 and count % 2 == 0:
        xs, ys = numbers[0::2], numbers[1::2]
        _require_fractions(numbers)
        return name, (min(xs), min(ys), max(xs), max(ys)), True
    what = "6 values, as predictions have them" if count == 5 else f"{count + 1} values"
    raise _Fault("entry_malformed", what)


def _read_class(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    number = _read_number(text)
    # Some scripts write 3.0.
    if number < 0 or not number.is_integer():
        raise _Fault("entry_malformed", f"class {text[:80]!r}")
    return int(number)


def _read_number(text: str) -> float:
    try:
        # float() takes "1_000" and digits of other scripts.
        number = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _Fault("box_not_a_number", f"{text[:80]!r}")
    return number


def _require_fractions(numbers: list[float]) -> None:
    largest = max(numbers)
    if largest > _MAX_FRACTION:
        raise _Fault("box_not_normalised", f"{largest:g}")
