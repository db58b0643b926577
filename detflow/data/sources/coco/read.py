"""Reads one COCO JSON file, whoever wrote it: the annotations of its images.

The format is described at https://cocodataset.org/#format-data. A box is [x, y, width, height] in
pixel edges from the image's upper left corner. A value of another type than the format has sets its
image's annotation aside; nothing is guessed.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from sys import intern
from typing import Any, NamedTuple

from detflow.data.findings import Corners, Finding
from detflow.data.sources.claims import claim_image
from detflow.data.sources.coco.outlines import box_outline, is_number
from detflow.data.sources.coco.stream import JsonStream, MalformedJson
from detflow.data.sources.entries import name_entries
from detflow.data.sources.source import CROWD_POSE, FileContent, RawAnnotation, RawObject
from detflow.text import count_noun
from detflow.types import CornerFrame

MAX_JSON_BYTES = 1_500_000_000
MAX_OBJECTS = 20_000
MAX_ELEMENTS = 10_000_000
_MAX_POSE = 200

_SECTIONS = ("images", "annotations", "categories")
_USES_ZERO = re.compile(rb'"category_id"\s*:\s*"?0(?!\.?\d)')
_Id = int | str


class Category(NamedTuple):
    """An element of `categories`: its id, its name with white space collapsed, its parent's."""

    id: int
    name: str
    parent: str


class _Image(NamedTuple):
    line: int
    id: _Id
    filename: str | None
    size: tuple[int, int] | None


class _Traits(NamedTuple):
    """COCO's flag, and the fields of detflow's own that `sinks.coco` writes beside it."""

    is_crowd: bool = False
    difficult: bool = False
    truncated: bool = False
    pose: str = ""


_NO_TRAITS = _Traits()


class _Object(NamedTuple):
    """An element of `annotations`, as small as it can be: a file may hold a million."""

    line: int
    category: int | None
    corners: Corners | None
    traits: _Traits
    is_outline: bool
    fault: str

    @property
    def is_crowd(self) -> bool:
        """COCO's own flag."""
        return self.traits.is_crowd


@dataclass(slots=True)
class _Content:
    """What a file holds, in its order."""

    images: list[_Image] = field(default_factory=list)
    objects: dict[_Id, list[_Object]] = field(default_factory=lambda: defaultdict(list))
    categories: list[Category] = field(default_factory=list)
    sections: set[str] = field(default_factory=set)
    annotation_ids: set[_Id] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)
    num_elements: int = 0

    def count(self, line: int) -> None:
        """Counts an element: the smallest take a hundred times their size of memory.

        Raises:
            MalformedJson: There are too many.
        """
        self.num_elements += 1
        if self.num_elements > MAX_ELEMENTS:
            raise MalformedJson(f"more than {MAX_ELEMENTS:,} images and objects", line)

    def refuse(self, path: str, line: int, value: str) -> None:
        """Sets an element aside that belongs to no entry."""
        entry = f"?{len(self.findings) + 1}"
        self.findings.append(Finding("entry_malformed", path, line, value=value, entry=entry))


def read_annotations(data: bytes, path: str) -> FileContent:
    """Reads a file's annotations, one for each image that it lists.

    Args:
        data: The file's bytes, in UTF-8, UTF-16 or UTF-32.
        path: The file's path inside the dataset, for findings.
    """
    if len(data) > MAX_JSON_BYTES:
        value, expected = f"{len(data):,} bytes", f"at most {MAX_JSON_BYTES:,}"
        return FileContent((), (Finding("file_too_large", path, value=value, expected=expected),))
    try:
        content = _read_sections(data, path)
    except MalformedJson as error:
        return FileContent((), (Finding("file_malformed", path, error.line, value=error.reason),))
    missing = [name for name in _SECTIONS if name not in content.sections]
    if missing:
        value = f"it has no {' and no '.join(missing)}"
        return FileContent((), (Finding("file_passed_over", path, value=value),))
    return _assemble(content, path)


def read_categories(data: bytes) -> list[Category]:
    """Returns the classes that a file declares, in its order; none where it cannot be read.

    Roboflow begins with a category that is the others' `supercategory` and that no object has: it
    is no class.
    """
    content = _Content()
    key = b'"categories"'
    try:
        if data.count(key) == 1:
            # The rest of the file may have hundreds of megabytes.
            rest = data[data.index(key) + len(key) :].lstrip()
            _read_categories(JsonStream(rest.removeprefix(b":")), content, "")
        else:
            content = _read_sections(data, "")
    except MalformedJson:
        return []
    first, *others = content.categories or [Category(1, "", "")]
    if (
        first.id == 0
        and others
        and all(other.parent == first.name for other in others)
        and not _USES_ZERO.search(data)
    ):
        return others
    return content.categories


def _read_sections(data: bytes, path: str) -> _Content:
    content = _Content()
    stream = JsonStream(data)
    readers = {"images": _read_images, "annotations": _read_objects, "categories": _read_categories}
    for key in stream.read_members():
        if key in readers and stream.is_array():
            content.sections.add(key)
            readers[key](stream, content, path)
        else:
            stream.skip_value()
    return content


def _read_categories(stream: JsonStream, content: _Content, path: str) -> None:
    for line, element in stream.read_elements():
        content.count(line)
        found = element if isinstance(element, dict) else {}
        category_id, name = _to_id(found.get("id")), found.get("name")
        if not isinstance(category_id, int) or not isinstance(name, str) or not name.strip():
            value = f"categories: id {_show(found.get('id'))}, name {_show(name)}"
            content.refuse(path, line, value)
        else:
            parent = found.get("supercategory")
            parent = " ".join(parent.split()) if isinstance(parent, str) else ""
            content.categories.append(Category(category_id, " ".join(name.split()), parent))


def _read_images(stream: JsonStream, content: _Content, path: str) -> None:
    for line, element in stream.read_elements():
        content.count(line)
        found = element if isinstance(element, dict) else {}
        image_id, filename = _to_id(found.get("id")), found.get("file_name")
        if image_id is None:
            content.refuse(path, line, f"images: id {_show(found.get('id'))}")
            continue
        if not isinstance(filename, str) or not filename.strip():
            filename = None
        content.images.append(_Image(line, image_id, filename, _read_size(found)))


def _read_size(element: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = element.get("width"), element.get("height")
    if not is_number(width) or not is_number(height) or min(width, height) < 0:
        return None
    # Some tools write 640.0.
    return round(width), round(height)


def _read_objects(stream: JsonStream, content: _Content, path: str) -> None:
    for line, element in stream.read_elements():
        content.count(line)
        found = element if isinstance(element, dict) else {}
        image_id = _to_id(found.get("image_id"))
        if image_id is None:
            content.refuse(path, line, f"annotations: image_id {_show(found.get('image_id'))}")
            continue
        content.objects[image_id].append(_read_object(line, found))
        annotation_id = _to_id(found.get("id"))
        if annotation_id is not None:
            if annotation_id in content.annotation_ids:
                value = f"annotations: id {annotation_id}"
                content.findings.append(Finding("id_twice", path, line, value=value))
            content.annotation_ids.add(annotation_id)


def _read_traits(element: Mapping[str, Any]) -> _Traits:
    pose = element.get("pose")
    is_crowd, difficult, truncated = (
        element.get(name) in (1, True) for name in ("iscrowd", "difficult", "truncated")
    )
    pose = intern(" ".join(pose.split())[:_MAX_POSE]) if isinstance(pose, str) else ""
    traits = _Traits(is_crowd, difficult, truncated, pose)
    # Nearly all objects share one value, so that a million of them cost nothing for it.
    return _NO_TRAITS if traits == _NO_TRAITS else traits


def _read_object(line: int, element: Mapping[str, Any]) -> _Object:
    category = _to_id(element.get("category_id"))
    traits = _read_traits(element)
    if not isinstance(category, int):
        fault = f"category_id {_show(element.get('category_id'))}"
        return _Object(line, None, None, traits, is_outline=False, fault=fault)
    box = element.get("bbox")
    if box:
        if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
            return _Object(
                line, category, None, traits, is_outline=False, fault=f"bbox {_show(box)}"
            )
        x, y, width, height = box
        corners = (float(x), float(y), float(x + width), float(y + height))
        return _Object(line, category, corners, traits, is_outline=False, fault="")
    hull = box_outline(element.get("segmentation"))
    return _Object(line, category, hull, traits, is_outline=True, fault="")


def _assemble(content: _Content, path: str) -> FileContent:
    findings = content.findings
    names, more = _name_categories(content, path)
    findings += more
    counts = Counter(image.id for image in content.images)
    entries = dict(zip(counts, name_entries(str(image_id) for image_id in counts), strict=True))
    annotations = {}
    seen: dict[_Id, _Image] = {}
    ambiguous: set[_Id] = set()
    for image in content.images:
        first = seen.setdefault(image.id, image)
        if first is not image:
            value = f"images: id {image.id}, as on line {first.line}"
            if image[2:] == first[2:]:
                findings.append(Finding("id_twice", path, image.line, value=value))
            elif image.id not in ambiguous:
                ambiguous.add(image.id)
                entry = entries[image.id]
                findings.append(Finding("entry_twice", path, image.line, value=value, entry=entry))
            continue
        written = content.objects.pop(image.id, [])
        annotations[image.id] = _build(image, written, names, path, entries[image.id])
    for image_id, orphans in content.objects.items():
        value = f"image_id {_show(image_id)}, {count_noun(len(orphans), 'object')}"
        entry = f"?image_id {image_id}".replace("/", "|")
        findings.append(Finding("entry_orphan", path, orphans[0].line, value=value, entry=entry))
    # Where an id stands for two images, nobody knows which one has the objects.
    usable = (found for image_id, found in annotations.items() if image_id not in ambiguous)
    return FileContent(tuple(usable), tuple(findings))


def _name_categories(content: _Content, path: str) -> tuple[dict[int, str], list[Finding]]:
    names: dict[int, str] = {}
    findings = []
    for category in content.categories:
        if category.id in names and names[category.id] != category.name:
            value = f"categories: id {category.id} is {names[category.id]!r} and {category.name!r}"
            findings.append(Finding("class_id_twice", path, value=value))
        names.setdefault(category.id, category.name)
    return names, findings


def _build(
    image: _Image, written: list[_Object], names: Mapping[int, str], path: str, entry: str
) -> RawAnnotation:
    findings: list[Finding] = []

    def note(code: str, line: int, number: int | None = None, value: str = "") -> None:
        findings.append(Finding(code, path, line, number, value, entry=entry))

    objects = []
    is_usable = len(written) <= MAX_OBJECTS
    if not is_usable:
        note("too_many_objects", image.line, value=f"{len(written):,}")
    if image.filename is None:
        is_usable = False
        note("entry_malformed", image.line, value="images: no file_name")
    for number, found in enumerate(written[:MAX_OBJECTS], start=1):
        name = None if found.category is None else names.get(found.category)
        if found.fault:
            code = "box_not_a_number" if found.fault.startswith("bbox") else "entry_malformed"
            note(code, found.line, number, found.fault)
        elif name is None:
            note("class_id_unknown", found.line, number, f"category_id {found.category}")
        elif found.corners is None:
            note("box_missing", found.line, number, name)
        else:
            objects.append(
                RawObject(
                    number,
                    found.line,
                    name,
                    found.corners,
                    found.is_crowd or found.traits.difficult,
                    found.traits.truncated,
                    CROWD_POSE if found.is_crowd else found.traits.pose,
                    found.is_crowd,
                )
            )
            continue
        is_usable = False
    for code, chosen in (
        ("outline_boxed", [found for found in written if found.is_outline and found.corners]),
        ("object_crowd", [found for found in written if found.is_crowd]),
    ):
        if chosen:
            note(code, chosen[0].line, value=f"{len(chosen)} of {len(written)} objects")
    return RawAnnotation(
        path=path,
        entry=entry,
        names=claim_image(image.filename, path),
        size=image.size,
        size_line=image.line,
        objects=tuple(objects) if is_usable else None,
        findings=tuple(findings),
        frame=CornerFrame.ZERO_BASED,
    )


def _to_id(value: Any) -> _Id | None:
    """Returns an id; None where it is neither a whole number nor a text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        return value[:200] or None
    return value if isinstance(value, int) and abs(value) < 1 << 63 else None


def _show(value: Any) -> str:
    return repr(value)[:80]
