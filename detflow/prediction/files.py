"""What is written for each image: its entry of JSON, VOC, YOLO, overlays."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import simplejpeg

from detflow.data.images.decode import read_image_facts
from detflow.data.images.transcode import Treatment, encode_record_jpeg
from detflow.errors import ConfigError
from detflow.inference.detections import Detections
from detflow.inference.results import describe_detections
from detflow.prediction.frames import Frame

PREDICTIONS_NAME: Final = "predictions.json"
COCO_RESULTS_NAME: Final = "coco_results.json"
CSV_NAME: Final = "predictions.csv"
VOC_NAME: Final = "voc"
OVERLAYS_NAME: Final = "overlays"

YOLO_NAME: Final = "yolo"

FURTHER_FORMATS: Final = ("coco", "csv", "voc", "yolo")
"""What can be written beside predictions.json."""

_OVERLAY_QUALITY = 90
FRAME_QUALITY: Final = 95
"""The quality of a video's frames as JPEG; make-records has the same."""

# A file name has at most 255 bytes; a number and the suffix have to fit as well.
_MAX_STEM_BYTES = 200


def parse_formats(text: str) -> tuple[str, ...]:
    """Reads `csv,voc`, or nothing.

    Returns:
        Names out of `FURTHER_FORMATS`.

    Raises:
        ConfigError: There is no such format.
    """
    names = tuple(name for name in (part.strip() for part in text.split(",")) if name)
    require_formats(names)
    return names


def require_formats(names: Iterable[str]) -> None:
    """Refuses names that are not in `FURTHER_FORMATS`.

    Raises:
        ConfigError: There is no such format.
    """
    for name in names:
        if name not in FURTHER_FORMATS:
            raise ConfigError(
                f"--formats: there is no format {name!r}",
                remedy=f"choose from {', '.join(FURTHER_FORMATS)}",
            )


def describe_frame(frame: Frame, found: Detections, number: int) -> dict[str, Any]:
    """Returns the entry of predictions.json; `number` becomes its id."""
    video = {} if frame.index is None else {"frame": frame.index, "time_s": frame.time_s}
    return {
        "id": number,
        "file": frame.source,
        **video,
        "width": found.size.width,
        "height": found.size.height,
        "exif_orientation": frame.picture.orientation,
        "detections": describe_detections(found, found.size),
    }


def write_voc(folder: Path, stem: str, frame: Frame, found: Detections) -> None:
    """Writes an image with its detections as a labelling tool, or make-records, takes them.

    The image is upright, as the boxes are, and a JPEG: where it is a plain one already it is
    copied.

    Args:
        folder: Gets `JPEGImages` and `Annotations`.
        stem: The files' name without suffix.
        frame: The image.
        found: Its detections.
    """
    images, annotations = folder / "JPEGImages", folder / "Annotations"
    for path in (images, annotations):
        path.mkdir(parents=True, exist_ok=True)
    (images / f"{stem}.jpg").write_bytes(_encode(frame))
    (annotations / f"{stem}.xml").write_bytes(found.to_voc(f"{stem}.jpg"))


def write_yolo(folder: Path, stem: str, found: Detections) -> None:
    """Writes an image's detections as YOLO's text: class from 0, centre, size, score.

    Lengths are shares of the upright image. An image without detections gets an empty file.

    Args:
        folder: Gets `labels`.
        stem: The file's name without suffix.
        found: The detections.
    """
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    lines = [
        f"{one.class_id - 1} "
        + " ".join(
            f"{value:.6f}"
            for value in (
                (one.box.xmin + one.box.xmax) / 2,
                (one.box.ymin + one.box.ymax) / 2,
                one.box.xmax - one.box.xmin,
                one.box.ymax - one.box.ymin,
                one.score,
            )
        )
        for one in found
    ]
    text = "".join(f"{line}\n" for line in lines)
    (folder / "labels" / f"{stem}.txt").write_text(text, encoding="utf-8")


def write_yolo_names(folder: Path, classes: Sequence[str]) -> None:
    """Writes YOLO's `data.yaml` with the class names; JSON's texts are YAML's too."""
    folder.mkdir(exist_ok=True)
    names = "".join(
        f"  {number}: {json.dumps(name, ensure_ascii=False)}\n"
        for number, name in enumerate(classes)
    )
    (folder / "data.yaml").write_text(f"names:\n{names}", encoding="utf-8")


def write_overlay(path: Path, frame: Frame, found: Detections) -> None:
    """Writes the image with its detections drawn over it, as JPEG."""
    path.parent.mkdir(exist_ok=True)
    found.draw(frame.read_whole()).save(path, "JPEG", quality=_OVERLAY_QUALITY)


class FileNames:
    """Gives every picture a file name of its own, like its old one; folders become part of it."""

    def __init__(self) -> None:
        # The number that was last given to a name.
        self._taken: dict[str, int] = {}

    def choose(self, name: str, *, is_frame: bool = False) -> str:
        """Returns a name without suffix; the name of a video's frame has no suffix to remove."""
        stem = (name if is_frame else str(PurePosixPath(name).with_suffix(""))).replace("/", "_")
        stem = stem.encode("utf-8", "surrogateescape")[:_MAX_STEM_BYTES].decode("utf-8", "ignore")
        # Compared without case: a copy to another file system must not lose a picture.
        key = stem.casefold()
        number, candidate = self._taken.get(key, 0) + 1, stem
        while number > 1 and (candidate := f"{stem}-{number}").casefold() in self._taken:
            number += 1
        self._taken[key] = number
        if candidate is not stem:
            self._taken[candidate.casefold()] = 1
        return candidate


def _encode(frame: Frame) -> bytes:
    if frame.index is not None:
        return bytes(
            simplejpeg.encode_jpeg(
                frame.picture.pixels,
                quality=FRAME_QUALITY,
                colorspace="RGB",
                colorsubsampling="444",
            )
        )
    data = frame.file.path.read_bytes()
    facts = read_image_facts(data)
    plain = facts.is_plain_jpeg and facts.orientation == 1
    return encode_record_jpeg(data, Treatment(transcode=not plain, turn=facts.orientation))
