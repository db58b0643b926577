"""The files that detections are written to: JSON, COCO's results, CSV, VOC, and overlays."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import simplejpeg

from detflow.data.images.decode import read_image_facts
from detflow.data.images.transcode import Treatment, encode_record_jpeg
from detflow.data.records.schema import to_record_box
from detflow.data.sources.voc.write import write_annotation
from detflow.errors import ConfigError
from detflow.inference.results import PIXEL_DIGITS, describe_detections
from detflow.pages.draw import draw_boxes
from detflow.prediction.frames import Frame
from detflow.types import Box, Detection, ImageSize, ObjectAnnotation

__all__ = [
    "COCO_RESULTS_NAME",
    "CSV_NAME",
    "FURTHER_FORMATS",
    "OVERLAYS_NAME",
    "PREDICTIONS_NAME",
    "VOC_NAME",
    "FileNames",
    "describe_frame",
    "parse_formats",
    "write_coco_results",
    "write_csv",
    "write_overlay",
    "write_voc",
]

PREDICTIONS_NAME: Final = "predictions.json"
COCO_RESULTS_NAME: Final = "coco_results.json"
CSV_NAME: Final = "predictions.csv"
VOC_NAME: Final = "voc"
OVERLAYS_NAME: Final = "overlays"

FURTHER_FORMATS: Final = ("coco", "csv", "voc")
"""What can be written beside predictions.json."""

_OVERLAY_QUALITY = 90
# Frames become JPEGs as `dataset.images` makes them.
_FRAME_QUALITY = 95
# File systems take 255 bytes; a number and the suffix are to fit as well.
_MAX_STEM_BYTES = 200
_CSV_COLUMNS = (
    "file",
    "frame",
    "time_s",
    "width",
    "height",
    "name",
    "class_id",
    "score",
    "left",
    "top",
    "right",
    "bottom",
)


def parse_formats(text: str) -> tuple[str, ...]:
    """Reads `csv,voc`, or nothing; returns names of `FURTHER_FORMATS`.

    Raises:
        ConfigError: There is no such format.
    """
    names = tuple(name for name in (part.strip() for part in text.split(",")) if name)
    for name in names:
        if name not in FURTHER_FORMATS:
            raise ConfigError(
                f"--formats {text}: there is no format {name!r}",
                remedy=f"choose from {', '.join(FURTHER_FORMATS)}",
            )
    return names


def describe_frame(frame: Frame, found: Iterable[Detection], number: int) -> dict[str, Any]:
    """Returns the entry of predictions.json; `number` becomes its id."""
    size = _size(frame)
    video = {} if frame.index is None else {"frame": frame.index, "time_s": frame.time_s}
    return {
        "id": number,
        "file": str(frame.file.path),
        **video,
        "width": size.width,
        "height": size.height,
        "exif_orientation": frame.picture.orientation,
        "detections": describe_detections(found, size),
    }


def write_coco_results(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Writes COCO's results format; `image_id` is the image's `id` in predictions.json."""
    path.write_text(json.dumps(list(_coco_results(entries))) + "\n", encoding="utf-8")


def write_csv(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Writes one line a detection; an image without any has none. Boxes are in pixels."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _CSV_COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        for entry in entries:
            for detection in entry["detections"]:
                sides = zip(("left", "top", "right", "bottom"), detection["box_px"], strict=True)
                writer.writerow({**entry, **detection, **dict(sides)})


def write_voc(folder: Path, stem: str, frame: Frame, found: Sequence[Detection]) -> None:
    """Writes an image with its detections as a labelling tool, or make-records, takes them.

    VOC counts whole pixels, so boxes are rounded to them. The image is upright, as the boxes are,
    and a JPEG: where it is a plain one already it is copied.

    Args:
        folder: Gets `JPEGImages` and `Annotations`.
        stem: The files' name without suffix.
        frame: The image.
        found: Its detections.
    """
    images, annotations = folder / "JPEGImages", folder / "Annotations"
    for path in (images, annotations):
        path.mkdir(parents=True, exist_ok=True)
    size = _size(frame)
    objects = [
        ObjectAnnotation(one.name, to_record_box(_whole_pixels(one.box, size))) for one in found
    ]
    (images / f"{stem}.jpg").write_bytes(_encode(frame))
    (annotations / f"{stem}.xml").write_bytes(write_annotation(f"{stem}.jpg", size, objects))


def write_overlay(path: Path, frame: Frame, found: Sequence[Detection]) -> None:
    """Writes the image with its detections drawn over it, as JPEG."""
    image = draw_boxes(
        frame.picture.pixels,
        [detection.box for detection in found],
        [detection.name for detection in found],
        [detection.class_id for detection in found],
        scores=[detection.score for detection in found],
    )
    path.parent.mkdir(exist_ok=True)
    image.save(path, "JPEG", quality=_OVERLAY_QUALITY)


class FileNames:
    """Gives every picture a file name of its own, close to its old one; folders become part of the name."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def choose(self, name: str, *, is_frame: bool = False) -> str:
        """Returns a name without suffix; a frame's name has none that could be taken off."""
        stem = (name if is_frame else str(PurePosixPath(name).with_suffix(""))).replace("/", "_")
        stem = stem.encode("utf-8", "surrogateescape")[:_MAX_STEM_BYTES].decode("utf-8", "ignore")
        number, candidate = 1, stem
        # Compared without case: a copy to another file system must not lose a picture.
        while candidate.casefold() in self._taken:
            number += 1
            candidate = f"{stem}-{number}"
        self._taken.add(candidate.casefold())
        return candidate


def _coco_results(entries: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        for detection in entry["detections"]:
            left, top, right, bottom = detection["box_px"]
            yield {
                "image_id": entry["id"],
                "category_id": detection["class_id"],
                "bbox": [
                    left,
                    top,
                    round(right - left, PIXEL_DIGITS),
                    round(bottom - top, PIXEL_DIGITS),
                ],
                "score": detection["score"],
            }


def _size(frame: Frame) -> ImageSize:
    height, width = frame.picture.pixels.shape[:2]
    return ImageSize(width, height)


def _whole_pixels(box: Box, size: ImageSize) -> Box:
    """Returns the box with its corners on whole pixels, at least one pixel wide and high."""
    left, top, right, bottom = (round(value) for value in box.to_pixels(size))
    left, top = min(left, size.width - 1), min(top, size.height - 1)
    return Box.from_voc(left + 1, top + 1, max(right, left + 1), max(bottom, top + 1), size)


def _encode(frame: Frame) -> bytes:
    if frame.index is not None:
        return bytes(
            simplejpeg.encode_jpeg(
                frame.picture.pixels,
                quality=_FRAME_QUALITY,
                colorspace="RGB",
                colorsubsampling="444",
            )
        )
    data = frame.file.path.read_bytes()
    facts = read_image_facts(data)
    plain = facts.is_plain_jpeg and facts.orientation == 1
    return encode_record_jpeg(data, Treatment(transcode=not plain, turn=facts.orientation))
