"""VOC: one XML file an image, and lists of names for the splits.

The folders are `Annotations`, `JPEGImages` and `ImageSets/Main`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from lxml import etree

from detflow.data.sinks.numbers import format_corners
from detflow.data.sinks.sink import CarriedImage, CarriedObject, ListWriter, SetPlan, Trait
from detflow.data.sources.voc.read import TOOL
from detflow.types import Box, ImageSize, ObjectAnnotation

_ANNOTATIONS, _IMAGES, _LISTS = "Annotations", "JPEGImages", "ImageSets/Main"
# What XML 1.0 cannot hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class VocSink:
    """Writes VOC."""

    name = "voc"
    title = "VOC"
    holds = frozenset(
        {
            Trait.DIFFICULT,
            Trait.TRUNCATED,
            Trait.CROWD,
            Trait.POSE,
            Trait.NEGATIVE,
            Trait.FRACTION,
            Trait.UNION,
        }
    )

    def find_fault(self, class_name: str) -> str | None:
        """See `Sink`."""
        if _NOT_XML.search(class_name):
            return "XML cannot hold such characters"
        if " ".join(class_name.split()) != class_name:
            return "white space at the ends or in a row is lost in XML"
        return None

    def place_image(self, split: str, file_name: str) -> str:
        """See `Sink`."""
        return f"{_IMAGES}/{file_name}"

    def list_folders(self, plan: SetPlan) -> Iterator[str]:
        """See `Sink`."""
        yield from (_ANNOTATIONS, _IMAGES, _LISTS)

    def write_image_files(self, target: Path, image: CarriedImage, plan: SetPlan) -> None:
        """See `Sink`."""
        xml = write_annotation(image.file_name, image.size, _to_annotations(image.objects))
        (target / _ANNOTATIONS / f"{image.name}.xml").write_bytes(xml)

    @contextmanager
    def open_lists(self, target: Path, plan: SetPlan) -> Iterator[ListWriter]:
        """See `Sink`."""
        with ExitStack() as stack:
            lists = {
                name: stack.enter_context(
                    open(target / _LISTS / f"{name}.txt", "w", encoding="utf-8")
                )
                for name in (*plan.splits, *plan.unions)
            }
            yield _Lists(lists, plan)


class _Lists:
    def __init__(self, lists: Mapping[str, IO[str]], plan: SetPlan) -> None:
        self._lists_of = {
            split: [
                lists[split],
                *(lists[union] for union, parts in plan.unions.items() if split in parts),
            ]
            for split in plan.splits
        }

    def add(self, image: CarriedImage) -> None:
        for file in self._lists_of[image.split]:
            file.write(f"{image.name}\n")


def _to_annotations(objects: Sequence[CarriedObject]) -> list[ObjectAnnotation]:
    return [
        ObjectAnnotation(
            item.name,
            Box(*item.box),
            difficult=item.difficult or item.crowd,
            truncated=item.truncated,
            pose=_NOT_XML.sub("", item.record_pose),
        )
        for item in objects
    ]


def write_annotation(filename: str, size: ImageSize, objects: Sequence[ObjectAnnotation]) -> bytes:
    """Returns a VOC file that any tool reads, and that reads back as exactly these objects.

    Args:
        filename: The image's name.
        size: The image's size.
        objects: The objects; their boxes are rounded to float32 (`records.schema.to_record_box`).
    """
    root = etree.Element("annotation")
    etree.SubElement(root, "filename").text = filename
    _add_fields(etree.SubElement(root, "source"), database=TOOL)
    _add_fields(etree.SubElement(root, "size"), width=size.width, height=size.height, depth=3)
    etree.SubElement(root, "segmented").text = "0"
    for entry in objects:
        element = etree.SubElement(root, "object")
        flags = {"truncated": int(entry.truncated), "difficult": int(entry.difficult)}
        _add_fields(element, name=entry.name, pose=entry.pose or "Unspecified", **flags)
        box = entry.box
        left, right = format_corners(box.xmin, box.xmax, size.width)
        top, bottom = format_corners(box.ymin, box.ymax, size.height)
        _add_fields(
            etree.SubElement(element, "bndbox"),
            xmin=left,
            ymin=top,
            xmax=right,
            ymax=bottom,
        )
    return etree.tostring(root, encoding="utf-8", xml_declaration=True, pretty_print=True)


def _add_fields(parent: etree._Element, **fields: object) -> None:
    for tag, value in fields.items():
        etree.SubElement(parent, tag).text = str(value)
