"""The folder of predictions while it is filled, image by image."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detflow.inference.detections import Detections
from detflow.inference.results import FRAME
from detflow.prediction.files import (
    COCO_RESULTS_NAME,
    CSV_NAME,
    OVERLAYS_NAME,
    PREDICTIONS_NAME,
    VOC_NAME,
    YOLO_NAME,
    FileNames,
    describe_frame,
    write_coco_results,
    write_csv,
    write_overlay,
    write_voc,
    write_yolo,
    write_yolo_names,
)
from detflow.prediction.frames import Frame
from detflow.prediction.overlay_video import OverlayVideo

_FORMAT_VERSION = 2


class PredictionFolder:
    """Writes what was detected, image by image.

    Args:
        path: The folder, which is empty.
        overlays: Whether to write pictures and frames with their detections drawn.
        overlay_videos: Whether to write each video with its detections drawn.
        formats: Further files, out of `files.FURTHER_FORMATS`.
    """

    def __init__(
        self, path: Path, *, overlays: bool, overlay_videos: bool, formats: Collection[str]
    ) -> None:
        self.path = path
        self._overlays = overlays
        self._overlay_videos = overlay_videos
        self._formats = formats
        self._names = FileNames()
        self._entries: list[dict[str, Any]] = []
        self._found: list[Detections] = []
        self._videos: list[dict[str, Any]] = []
        self._open: tuple[Path, OverlayVideo] | None = None

    def add(self, frame: Frame, found: Detections) -> None:
        """Appends an image.

        Raises:
            EnvironmentFault: No video can be encoded here.
            OSError: The disk refuses.
        """
        self._found.append(found)
        entry = describe_frame(frame, found, len(self._found))
        self._entries.append(entry)
        stem = self._names.choose(frame.name, is_frame=frame.index is not None)
        if self._overlays:
            entry["overlay"] = f"{OVERLAYS_NAME}/{stem}.jpg"
            write_overlay(self.path / entry["overlay"], frame, found)
        if self._overlay_videos and frame.index is not None:
            self._add_to_video(frame, found)
        if "voc" in self._formats:
            write_voc(self.path / VOC_NAME, stem, frame, found)
        if "yolo" in self._formats:
            write_yolo(self.path / YOLO_NAME, stem, found)

    def finish(
        self,
        *,
        model: str,
        classes: Sequence[str],
        score_threshold: float,
        failed: Sequence[tuple[str, str]],
    ) -> None:
        """Writes the files that describe all images.

        Args:
            model: The model, as the user named it.
            classes: The names of its classes.
            score_threshold: The least score of the detections.
            failed: (file, reason) of what was not read, or not to its end.

        Raises:
            OSError: The disk refuses.
        """
        self.close()
        report = {
            "format_version": _FORMAT_VERSION,
            "model": model,
            "classes": list(classes),
            "score_threshold": score_threshold,
            "frame": FRAME,
            "images": self._entries,
            "videos": self._videos,
            "failed": [{"file": name, "reason": reason} for name, reason in failed],
        }
        (self.path / PREDICTIONS_NAME).write_text(
            json.dumps(report, indent=1) + "\n", encoding="utf-8"
        )
        if "coco" in self._formats:
            write_coco_results(self.path / COCO_RESULTS_NAME, self._found)
        if "csv" in self._formats:
            write_csv(self.path / CSV_NAME, self._entries)
        if "yolo" in self._formats:
            write_yolo_names(self.path / YOLO_NAME, classes)

    def close(self) -> None:
        """Ends the video that is being written, if one is."""
        if self._open is not None:
            _, video = self._open
            self._open = None
            video.close()

    def _add_to_video(self, frame: Frame, found: Detections) -> None:
        size = found.size.width, found.size.height
        # A video whose frames change their size goes on in a file of its own.
        if self._open is None or (self._open[0], self._open[1].size) != (frame.file.path, size):
            self.close()
            name = f"{OVERLAYS_NAME}/{self._names.choose(frame.file.name, is_frame=True)}.mp4"
            self._videos.append({"file": frame.source, "overlay_video": name})
            (self.path / name).parent.mkdir(exist_ok=True)
            self._open = frame.file.path, OverlayVideo(self.path / name, size)
        drawn = np.asarray(found.draw(frame.picture.pixels))
        self._open[1].add(drawn, frame.time_s or 0.0)
