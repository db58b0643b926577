"""Pascal VOC's annotation files and lists of splits."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass

import numpy as np

from sample.scene import DrawnObject

SPLIT_SHARES = {"train": 0.70, "val": 0.15, "test": 0.15}


@dataclass
class VocFile:
    """What one XML file says."""

    stem: str
    filename: str
    size: tuple[int, int]
    objects: list[DrawnObject]

    @property
    def image_path(self) -> str:
        """The picture's path inside the dataset."""
        return f"JPEGImages/{self.stem}.jpg"

    @property
    def xml_path(self) -> str:
        """The annotation's path inside the dataset."""
        return f"Annotations/{self.stem}.xml"


def to_xml(annotation: VocFile, *, size: tuple[int, int] | None = None, prologue: str = "") -> str:
    """Returns the XML as LabelImg lays it out; `size` overrides what `<size>` says."""
    root = ET.Element("annotation")
    ET.SubElement(root, "folder").text = "JPEGImages"
    ET.SubElement(root, "filename").text = annotation.filename
    ET.SubElement(ET.SubElement(root, "source"), "database").text = "detflow sample"
    width, height = size or annotation.size
    element = ET.SubElement(root, "size")
    for tag, number in (("width", width), ("height", height), ("depth", 3)):
        ET.SubElement(element, tag).text = str(number)
    ET.SubElement(root, "segmented").text = "0"
    for item in annotation.objects:
        element = ET.SubElement(root, "object")
        ET.SubElement(element, "name").text = item.name
        ET.SubElement(element, "pose").text = "Unspecified"
        ET.SubElement(element, "truncated").text = str(int(item.truncated))
        ET.SubElement(element, "difficult").text = str(int(item.difficult))
        box = ET.SubElement(element, "bndbox")
        for tag, number in zip(("xmin", "ymin", "xmax", "ymax"), item.box, strict=True):
            ET.SubElement(box, tag).text = str(number)
    ET.indent(root, "\t")
    return prologue + ET.tostring(root, encoding="unicode") + "\n"


def split_names(stems: list[str], seed: int) -> dict[str, list[str]]:
    """Deals the stems out to the splits; each has at least one where there are enough."""
    order = [stems[i] for i in np.random.default_rng([seed, 2]).permutation(len(stems))]
    splits: dict[str, list[str]] = {}
    start = 0
    for position, (name, share) in enumerate(SPLIT_SHARES.items()):
        left = len(SPLIT_SHARES) - position - 1
        count = (
            len(order) - start
            if not left
            else min(max(1, round(share * len(order))), max(0, len(order) - start - left))
        )
        splits[name] = sorted(order[start : start + count])
        start += count
    return splits
