"""The corners of an object's box, in whatever form a tool wrote them.

`<bndbox>` with four children is VOC's form. Corners as attributes, or without a `<bndbox>` around
them, mean the same. An object that has an outline and no box, as LabelMe and roLabelImg write it,
gets the outline's axis-aligned hull, as COCO's boxes are made of its outlines. What is not in VOC's
form has a finding, whether it is read or not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from lxml import etree

from detflow.data.findings import Corners, Finding
from detflow.data.sources.voc.fields import (
    Field,
    find_line,
    read_fields,
    read_number,
    read_text,
)
from detflow.data.sources.voc.parse import line_of
from detflow.data.sources.voc.tags import CORNERS, fold

_NOTHING = frozenset({"", "nan", "none", "null", "na", "n/a"})
_ROTATED = ("cx", "cy", "w", "h", "angle")
_NUMBERED = re.compile(r"([xy])([0-9]{1,5})")
_MIN_POINTS = 3


class BoxReader:
    """Reads the box of one object, and notes what it finds.

    Args:
        element: The object.
        fields: Its fields.
        name: Its class.
        index: Its number in the file, from 1.
        path: The file inside the dataset.
        findings: What was found is added here.
    """

    def __init__(
        self,
        element: etree._Element,
        fields: Mapping[str, Field],
        name: str,
        index: int,
        path: str,
        findings: list[Finding],
    ) -> None:
        self._element = element
        self._fields = fields
        self._name = name
        self._index = index
        self._path = path
        self._findings = findings

    def read(self) -> Corners | None:
        """Returns the corners; None after a finding that quarantines the annotation.

        Raises:
            Unreadable: A field of the box stands twice or has children.
        """
        box = self._fields.get("bndbox")
        texts = {} if box is None or isinstance(box, str) else read_fields(box, self._path)
        if all(tag in texts for tag in CORNERS):
            return self._read_numbers(texts)
        if not any(tag in texts for tag in CORNERS):
            for form, others in self._find_other_forms(box):
                if all(tag in others for tag in CORNERS):
                    self._note("box_form", self._element, f"{self._name}: {form}")
                    return self._read_numbers(others)
            if box is None and ("robndbox" in self._fields or "polygon" in self._fields):
                return self._read_outline()
        missing = ", ".join(f"<{tag}>" for tag in CORNERS if tag not in texts)
        found = sorted(fold(tag) for tag in texts)[:8]
        value = f"{self._name}: no <bndbox>" if box is None else f"{self._name}: no {missing}"
        if found:
            value += f", but {', '.join(f'<{tag}>' for tag in found)}"
        self._note("box_missing", self._element, value)
        return None

    def _find_other_forms(self, box: Field | None) -> list[tuple[str, Mapping[str, Field]]]:
        element = self._element.find("bndbox")
        if element is not None:
            return [("corners are attributes of <bndbox>", _fold_attributes(element))]
        return [
            ("corners are children of <object>", self._fields),
            ("corners are attributes of <object>", _fold_attributes(self._element)),
        ]

    def _read_numbers(self, texts: Mapping[str, Field]) -> Corners | None:
        corners = []
        for tag in CORNERS:
            text = read_text(texts, tag, self._path)
            corner = read_number(text)
            if corner is None:
                self._note_no_number(texts, tag, text)
                return None
            corners.append(corner)
        xmin, ymin, xmax, ymax = corners
        return xmin, ymin, xmax, ymax

    def _note_no_number(self, texts: Mapping[str, Field], tag: str, text: str) -> None:
        line = find_line(self._element.find("bndbox"), tag) or line_of(self._element)
        written = [read_text(texts, corner, self._path).strip() for corner in CORNERS]
        if all(corner.lower() in _NOTHING for corner in written):
            code, value = "box_empty", f"{self._name}: {', '.join(map(repr, written))}"
        else:
            code, value = "box_not_a_number", f"{self._name}: {tag} {text.strip()[:40]!r}"
        self._findings.append(
            Finding(code, self._path, line=line, object_index=self._index, value=value)
        )

    def _read_outline(self) -> Corners | None:
        """Reads the hull of an outline, or notes why it cannot be read."""
        rotated = self._fields.get("robndbox")
        if rotated is not None:
            element = self._element.find("robndbox")
            corners = None if isinstance(rotated, str) else self._read_rotated(rotated)
            form, expected = "<robndbox>", "cx, cy, w, h, and an angle in radians"
        else:
            element = self._element.find("polygon")
            corners = _read_polygons(self._element.findall("polygon"), self._path)
            form, expected = "<polygon>", f"{_MIN_POINTS} points or more"
        if corners is None:
            value = f"{self._name}: no <bndbox>, and a {form} in a form that is not read"
            self._note("box_missing", element, value, expected)
            return None
        self._findings.append(
            Finding(
                "box_from_outline",
                self._path,
                line=line_of(self._element),
                object_index=self._index,
                value=f"{self._name}: {form}",
                after=corners,
            )
        )
        return corners

    def _read_rotated(self, box: etree._Element) -> Corners | None:
        """Returns the hull of roLabelImg's rotated box.

        Its angle is in radians; larger ones than a whole turn are degrees of another tool. The hull
        is the same whichever way the angle counts.
        """
        fields = read_fields(box, self._path)
        values = [read_number(read_text(fields, tag, self._path)) for tag in _ROTATED]
        if any(value is None for value in values):
            return None
        x, y, width, height, angle = (value for value in values if value is not None)
        if width <= 0 or height <= 0 or abs(angle) > 2 * math.pi:
            return None
        cosine, sine = abs(math.cos(angle)), abs(math.sin(angle))
        half_width = (width * cosine + height * sine) / 2
        half_height = (width * sine + height * cosine) / 2
        corners = x - half_width, y - half_height, x + half_width, y + half_height
        xmin, ymin, xmax, ymax = (round(corner, 6) for corner in corners)
        return xmin, ymin, xmax, ymax

    def _note(
        self, code: str, element: etree._Element | None, value: str, expected: str = ""
    ) -> None:
        line = line_of(self._element if element is None else element)
        self._findings.append(
            Finding(code, self._path, line, self._index, value=value, expected=expected)
        )


def _fold_attributes(element: etree._Element) -> dict[str, Field]:
    return {fold(str(key)): str(value) for key, value in element.attrib.items()}


def _read_polygons(polygons: list[etree._Element], path: str) -> Corners | None:
    """Returns the hull of all polygons of an object; None where one of them cannot be read."""
    xs: list[float] = []
    ys: list[float] = []
    for polygon in polygons:
        points = _read_points(polygon, path)
        if len(points) < _MIN_POINTS or any(x is None or y is None for x, y in points):
            return None
        xs += [x for x, _ in points if x is not None]
        ys += [y for _, y in points if y is not None]
    return min(xs), min(ys), max(xs), max(ys)


def _read_points(polygon: etree._Element, path: str) -> list[tuple[float | None, float | None]]:
    """Returns a polygon's points, written as `<pt><x/><y/></pt>` or as `<x1/><y1/><x2/>…`."""
    numbered: dict[tuple[str, str], float | None] = {}
    points: list[tuple[float | None, float | None]] = []
    for child in polygon:
        match = _NUMBERED.fullmatch(fold(child.tag))
        if match is not None:
            numbered.setdefault((match[1], match[2]), read_number(child.text or ""))
        elif fold(child.tag) in ("pt", "point"):
            fields = {fold(tag): text for tag, text in read_fields(child, path).items()}
            x, y = (read_number(read_text(fields, axis, path)) for axis in "xy")
            points.append((x, y))
    numbers = dict.fromkeys(number for _, number in numbered)
    points += [(numbered.get(("x", number)), numbered.get(("y", number))) for number in numbers]
    return points
