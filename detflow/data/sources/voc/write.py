"""Writes a VOC XML file that any tool reads."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from lxml import etree

from detflow.data.sources.voc.read import TOOL
from detflow.types import ImageSize, ObjectAnnotation


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
        _add_fields(
            etree.SubElement(element, "bndbox"),
            xmin=_shortest(box.xmin, size.width, first=1),
            ymin=_shortest(box.ymin, size.height, first=1),
            xmax=_shortest(box.xmax, size.width, first=0),
            ymax=_shortest(box.ymax, size.height, first=0),
        )
    return etree.tostring(root, encoding="utf-8", xml_declaration=True, pretty_print=True)


def _add_fields(parent: etree._Element, **fields: object) -> None:
    for tag, value in fields.items():
        etree.SubElement(parent, tag).text = str(value)


def _shortest(edge: float, side: int, first: int) -> str:
    """Returns the shortest decimal, in VOC pixels, that gives a box's edge as a float32 again.

    Args:
        edge: As a share of the side, rounded to float32.
        side: The image's side in pixels.
        first: What VOC counts the first pixel as: 1 for a minimum, 0 for a maximum (see
            `Box.from_voc`).
    """
    wanted = struct.pack("<f", edge)
    exact = edge * side + first
    for digits in range(18):
        text = f"{exact:.{digits}f}"
        if struct.pack("<f", (float(text) - first) / side) == wanted:
            return text
    return repr(exact)
