"""Pictures → a folder with detections as JSON and, for a person's eyes, overlays."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track

from detflow.dataset.pictures import Picture, PictureFile, find_pictures, read_picture
from detflow.draw import draw_boxes
from detflow.errors import DataError
from detflow.publish import publish_directory, require_replaceable
from detflow.results import FRAME, PIXEL_DIGITS, describe_detections
from detflow.types import Detection, ImageSize

if TYPE_CHECKING:
    from detflow.runtime.detector import Detector

__all__ = ["COCO_RESULTS_NAME", "OVERLAYS_NAME", "PREDICTIONS_NAME", "Predictions", "predict"]

PREDICTIONS_NAME = "predictions.json"
COCO_RESULTS_NAME = "coco_results.json"
OVERLAYS_NAME = "overlays"

_FORMAT_VERSION = 1
_OVERLAY_QUALITY = 90
# File systems take 255 bytes; a number and the suffix are to fit as well.
_MAX_STEM_BYTES = 200


@dataclass(frozen=True)
class Predictions:
    """What was written.

    Attributes:
        num_images: Images with a result, be it none detected.
        num_detections: On all of them.
        failed: (file, reason) of each image that could not be read.
    """

    num_images: int
    num_detections: int
    failed: Sequence[tuple[str, str]]


def predict(
    sources: Sequence[str], model: Path, output: Path, *, score_threshold: float = 0.3, overlays: bool = True
) -> Predictions:
    """Detects objects in pictures and publishes the results as a folder.

    Args:
        sources: Files, folders and patterns, as `find_pictures` takes them.
        model: As `models.load_detector` takes it.
        output: The folder to publish; predictions that stand there are replaced as a whole.
        score_threshold: Detections with a lower score are left out.
        overlays: Whether to draw the detections.

    Raises:
        ConfigError: The output folder holds other things than predictions.
        DataError: There are no pictures, or none can be read.
        ArtifactError: The model is damaged.
        EnvironmentFault: The disk refuses.
    """
    files = _find_all(sources)
    require_replaceable(output, PREDICTIONS_NAME)
    # The destination is opened first: what it refuses, it refuses before TensorFlow is imported.
    with publish_directory(output) as staging:
        from detflow.models import load_detector

        detector = load_detector(model)
        failed: list[tuple[str, str]] = []
        entries: list[dict[str, Any]] = []
        overlay_names = _OverlayNames()
        for file, picture, found in _detect(detector, files, failed):
            kept = [detection for detection in found if detection.score >= score_threshold]
            entry = _describe(file, picture, kept, len(entries) + 1)
            if overlays:
                entry["overlay"] = f"{OVERLAYS_NAME}/{overlay_names.choose(file.name)}"
                _write_overlay(staging / entry["overlay"], picture, kept)
            entries.append(entry)
        if not entries:
            raise DataError(f"none of {len(files):,} images can be read; {failed[0][1]}")
        report = {
            "format_version": _FORMAT_VERSION,
            "model": str(model),
            "classes": list(detector.label_map),
            "score_threshold": score_threshold,
            "frame": FRAME,
            "images": entries,
            "failed": [{"file": name, "reason": reason} for name, reason in failed],
        }
        (staging / PREDICTIONS_NAME).write_text(json.dumps(report, indent=1) + "\n")
        (staging / COCO_RESULTS_NAME).write_text(json.dumps(list(_coco_results(entries))) + "\n")
    return Predictions(len(entries), sum(len(entry["detections"]) for entry in entries), failed)


def _find_all(sources: Sequence[str]) -> list[PictureFile]:
    """Returns the pictures of all sources, each file once."""
    return list({file.path.absolute(): file for source in sources for file in find_pictures(source)}.values())


def _detect(
    detector: Detector, files: Sequence[PictureFile], failed: list[tuple[str, str]]
) -> Iterator[tuple[PictureFile, Picture, list[Detection]]]:
    """Yields the pictures that can be read with what is on them; adds the others to `failed`."""
    ahead: deque[tuple[PictureFile, Picture]] = deque()

    def read() -> Iterator[Any]:
        for file in track(files, "detecting", console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()):
            try:
                picture = read_picture(file.path)
            except DataError as error:
                failed.append((str(file.path), str(error)))
                continue
            ahead.append((file, picture))
            yield picture.pixels

    for found in detector.detect(read()):
        yield *ahead.popleft(), found


def _describe(file: PictureFile, picture: Picture, found: Iterable[Detection], number: int) -> dict[str, Any]:
    size = _size(picture)
    return {
        "id": number,
        "file": str(file.path),
        "width": size.width,
        "height": size.height,
        "exif_orientation": picture.orientation,
        "detections": describe_detections(found, size),
    }


def _size(picture: Picture) -> ImageSize:
    height, width = picture.pixels.shape[:2]
    return ImageSize(width, height)


def _coco_results(entries: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields COCO's results format; `image_id` is the image's `id` in predictions.json."""
    for entry in entries:
        for detection in entry["detections"]:
            left, top, right, bottom = detection["box_px"]
            yield {
                "image_id": entry["id"],
                "category_id": detection["class_id"],
                "bbox": [left, top, round(right - left, PIXEL_DIGITS), round(bottom - top, PIXEL_DIGITS)],
                "score": detection["score"],
            }


def _write_overlay(path: Path, picture: Picture, found: Sequence[Detection]) -> None:
    image = draw_boxes(
        picture.pixels,
        [detection.box for detection in found],
        [detection.name for detection in found],
        [detection.class_id for detection in found],
        scores=[detection.score for detection in found],
    )
    path.parent.mkdir(exist_ok=True)
    image.save(path, "JPEG", quality=_OVERLAY_QUALITY)


class _OverlayNames:
    """Gives every picture a file name of its own, close to its old one; folders become part of the name."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def choose(self, name: str) -> str:
        stem = str(PurePosixPath(name).with_suffix("")).replace("/", "_")
        stem = stem.encode("utf-8", "surrogateescape")[:_MAX_STEM_BYTES].decode("utf-8", "ignore")
        number, candidate = 1, stem
        # Compared without case: a copy to another file system must not lose a picture.
        while candidate.casefold() in self._taken:
            number += 1
            candidate = f"{stem}-{number}"
        self._taken.add(candidate.casefold())
        return f"{candidate}.jpg"
