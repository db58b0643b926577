"""The folder of predictions while it is filled, image by image."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

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
    write_overlay,
    write_voc,
    write_yolo,
    write_yolo_names,
)
from detflow.prediction.frames import Frame
from detflow.prediction.growing import (
    GrowingFile,
    begin_coco_results,
    begin_csv,
    begin_report,
    end_report,
    format_coco_results,
    format_entry,
    format_rows,
)
from detflow.prediction.overlay_video import OverlayVideo

_FORMAT_VERSION = 2


class _Growing(NamedTuple):
    """A file that every image adds to, how the image is written in it, and what ends it."""

    file: GrowingFile
    format: Callable[[dict[str, Any], Detections], str]
    end: str = ""


class PredictionFolder:
    """Writes what was detected, image by image; of an image that was written it keeps the name.

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
        self._has_names = overlays or overlay_videos or bool({"voc", "yolo"} & {*formats})
        self._classes: Sequence[str] = ()
        self._growing: list[_Growing] = []
        # How many images were written to all files, and how long each file was after the last.
        self._complete: tuple[int, tuple[int, ...]] = 0, ()
        self._videos: list[dict[str, Any]] = []
        self._open: tuple[Path, OverlayVideo] | None = None
        self._stack = ExitStack()

    def begin(self, *, model: str, classes: Sequence[str], score_threshold: float) -> None:
        """Begins the files that describe all images.

        Args:
            model: The model, as the user named it.
            classes: The names of its classes.
            score_threshold: The least score of the detections.

        Raises:
            OSError: The disk refuses.
        """
        self._classes = classes
        head = {
            "format_version": _FORMAT_VERSION,
            "model": model,
            "classes": list(classes),
            "score_threshold": score_threshold,
            "frame": FRAME,
        }
        report = begin_report(self.path / PREDICTIONS_NAME, head)
        self._grow(report, lambda entry, found: format_entry(entry))
        if "coco" in self._formats:
            results = begin_coco_results(self.path / COCO_RESULTS_NAME)
            self._grow(results, lambda entry, found: format_coco_results(found, entry["id"]), "]\n")
        if "csv" in self._formats:
            table = begin_csv(self.path / CSV_NAME)
            self._grow(table, lambda entry, found: format_rows(entry))

    def _grow(
        self,
        file: GrowingFile,
        write: Callable[[dict[str, Any], Detections], str],
        end: str = "",
    ) -> None:
        self._stack.callback(file.close)
        self._growing.append(_Growing(file, write, end))

    def add(self, frame: Frame, found: Detections) -> None:
        """Appends an image.

        Raises:
            EnvironmentFault: No video can be encoded here.
            OSError: The disk refuses.
        """
        number = self._complete[0] + 1
        entry = describe_frame(frame, found, number)
        is_frame = frame.index is not None
        stem = self._names.choose(frame.name, is_frame=is_frame) if self._has_names else ""
        if self._overlays:
            entry["overlay"] = f"{OVERLAYS_NAME}/{stem}.jpg"
            write_overlay(self.path / entry["overlay"], frame, found)
        if self._overlay_videos and is_frame:
            self._add_to_video(frame, found)
        if "voc" in self._formats:
            write_voc(self.path / VOC_NAME, stem, frame, found)
        if "yolo" in self._formats:
            write_yolo(self.path / YOLO_NAME, stem, found)
        for growing in self._growing:
            growing.file.append(growing.format(entry, found))
        self._complete = number, tuple(growing.file.length for growing in self._growing)

    def finish(self, *, failed: Sequence[tuple[str, str]]) -> None:
        """Ends the files that describe all images. One that was interrupted is in none of them.

        Args:
            failed: (file, reason) of what was not read, or not to its end.

        Raises:
            OSError: The disk refuses.
        """
        self._end_video()
        tail = {
            "videos": self._videos,
            "failed": [{"file": name, "reason": reason} for name, reason in failed],
        }
        # The report comes first.
        ends = [end_report(tail), *(growing.end for growing in self._growing[1:])]
        for growing, length, end in zip(self._growing, self._complete[1], ends, strict=True):
            growing.file.finish(length, end)
        if "yolo" in self._formats:
            write_yolo_names(self.path / YOLO_NAME, self._classes)

    def close(self) -> None:
        """Ends the files that are being written."""
        with self._stack:
            self._end_video()

    def _end_video(self) -> None:
        """Ends the video that is being written, if one is."""
        if self._open is not None:
            _, video = self._open
            self._open = None
            video.close()

    def _add_to_video(self, frame: Frame, found: Detections) -> None:
        size = found.size.width, found.size.height
        # A video whose frames change their size goes on in a file of its own.
        if self._open is None or (self._open[0], self._open[1].size) != (frame.file.path, size):
            self._end_video()
            name = f"{OVERLAYS_NAME}/{self._names.choose(frame.file.name, is_frame=True)}.mp4"
            self._videos.append({"file": frame.source, "overlay_video": name})
            (self.path / name).parent.mkdir(exist_ok=True)
            self._open = frame.file.path, OverlayVideo(self.path / name, size)
        drawn = np.asarray(found.draw(frame.picture.pixels))
        self._open[1].add(drawn, frame.time_s or 0.0)
