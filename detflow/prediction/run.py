"""`detflow predict`: a model, pictures and videos → a folder."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detflow.errors import DataError
from detflow.inference.results import FRAME
from detflow.prediction.files import (
    COCO_RESULTS_NAME,
    CSV_NAME,
    OVERLAYS_NAME,
    PREDICTIONS_NAME,
    VOC_NAME,
    FileNames,
    describe_frame,
    write_coco_results,
    write_csv,
    write_overlay,
    write_voc,
)
from detflow.prediction.frames import Frame, find_media, read_frames
from detflow.progress import show_progress
from detflow.publish import publish_directory, require_replaceable
from detflow.storage.location import Location
from detflow.types import Detection

if TYPE_CHECKING:
    from detflow.geometry import Images
    from detflow.inference.detector import Detector

__all__ = ["Predictions", "predict"]

_FORMAT_VERSION = 2


@dataclass(frozen=True)
class Predictions:
    """What was written.

    Attributes:
        num_images: Images and frames with a result, be it none detected.
        num_detections: On all of them.
        failed: (file, reason) of each file that could not be read, or not to its end.
    """

    num_images: int
    num_detections: int
    failed: Sequence[tuple[str, str]]


def predict(
    sources: Sequence[str],
    model: Location,
    output: Path,
    *,
    score_threshold: float = 0.3,
    overlays: bool = True,
    formats: Collection[str] = ("coco",),
    every: int = 1,
) -> Predictions:
    """Detects objects in pictures and videos and publishes the results as a folder.

    Args:
        sources: Files, folders and patterns, as `find_media` takes them.
        model: As `models.load_detector` takes it; or the URL of an exported folder, a model
            directory or a checkpoint.
        output: The folder to publish; predictions that stand there are replaced as a whole.
        score_threshold: Detections with a lower score are left out.
        overlays: Whether to draw the detections.
        formats: Of `files.FURTHER_FORMATS`.
        every: Of a video, every so many frames.

    Raises:
        ConfigError: The output folder holds other things than predictions.
        DataError: There are no pictures, or none can be read.
        ArtifactError: The model is damaged.
        EnvironmentFault: The disk refuses.
    """
    files = find_media(sources)
    require_replaceable(output, PREDICTIONS_NAME)
    # The destination is opened first: what it refuses, it refuses before a runtime is imported.
    with publish_directory(output) as staging:
        from detflow.inference.load import load_detector, local_model

        # What is loaded needs its files no more.
        with local_model(model) as path:
            detector = load_detector(path)
        failed: list[tuple[str, str]] = []
        entries: list[dict[str, Any]] = []
        names = FileNames()
        with show_progress() as progress:
            frames = read_frames(
                files, every, lambda path, reason: failed.append((str(path), reason)), progress
            )
            for frame, found in _detect(detector, frames):
                kept = [detection for detection in found if detection.score >= score_threshold]
                entry = describe_frame(frame, kept, len(entries) + 1)
                stem = names.choose(frame.name, is_frame=frame.index is not None)
                if overlays:
                    entry["overlay"] = f"{OVERLAYS_NAME}/{stem}.jpg"
                    write_overlay(staging / entry["overlay"], frame, kept)
                if "voc" in formats:
                    write_voc(staging / VOC_NAME, stem, frame, kept)
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
        (staging / PREDICTIONS_NAME).write_text(
            json.dumps(report, indent=1) + "\n", encoding="utf-8"
        )
        if "coco" in formats:
            write_coco_results(staging / COCO_RESULTS_NAME, entries)
        if "csv" in formats:
            write_csv(staging / CSV_NAME, entries)
    return Predictions(len(entries), sum(len(entry["detections"]) for entry in entries), failed)


def _detect(detector: Detector, frames: Iterator[Frame]) -> Iterator[tuple[Frame, list[Detection]]]:
    """Yields the frames with what is on them; the detector reads a batch ahead."""
    ahead: deque[Frame] = deque()

    def pixels() -> Iterator[Images]:
        for frame in frames:
            ahead.append(frame)
            yield frame.picture.pixels

    for found in detector.detect(pixels()):
        yield ahead.popleft(), found
