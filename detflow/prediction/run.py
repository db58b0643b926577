"""A model, pictures and videos → detections, and the folder that holds them."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from detflow.data.images.cost import DEFAULT_MAX_BYTES
from detflow.data.images.pictures import Picture, PictureFile, reduce_picture
from detflow.errors import DataError
from detflow.inference.detections import COLUMNS, Detections, import_optional
from detflow.inference.results import DEFAULT_SCORE_THRESHOLD
from detflow.prediction.files import PREDICTIONS_NAME, require_formats
from detflow.prediction.folder import PredictionFolder
from detflow.prediction.frames import Frame, find_media, read_frames
from detflow.prediction.limits import DEFAULT_MAX_FRAMES, Limits, fit_frame
from detflow.prediction.streams import LiveSource, show_source
from detflow.progress import Progress
from detflow.publish import publish_directory, require_replaceable
from detflow.storage.location import Location
from detflow.text import count_noun

if TYPE_CHECKING:
    import pandas

    from detflow.inference.detector import Detector


@dataclass(frozen=True, slots=True)
class PredictedImage:
    """A picture, or a frame of a video, with what was detected on it.

    Attributes:
        file: The file.
        source: Its path as text, or the address of a camera or stream without passwords: its name
            in `Predictions.failed`, and in the files that are written.
        detections: What was detected, with the size of the upright image.
        frame: The frame's number in the video, counted from 0; None for a picture.
        time_s: Seconds from the video's first frame to this one; None for a picture.
    """

    file: Path
    source: str
    detections: Detections
    frame: int | None = None
    time_s: float | None = None


@dataclass(frozen=True)
class Predictions:
    """What was detected on all files.

    Attributes:
        images: The images and frames that could be read, in the order of the files; also those
            without detections. Empty where they were not to be kept.
        failed: (source, reason) of each file that could not be read, or not to its end.
        cut: Those of these files that were read in part.
        num_images: The number of images and frames with a result.
        num_detections: The number of detections on all images.
    """

    images: Sequence[PredictedImage]
    failed: Sequence[tuple[str, str]]
    cut: Collection[str]
    num_images: int
    num_detections: int

    def to_pandas(self) -> pandas.DataFrame:
        """Returns a pandas frame with a row for each detection.

        Returns:
            Columns file (str, the image's source) and frame (the number of a video's frame, else
            missing), followed by those of `Detections.to_pandas`.

        Raises:
            EnvironmentFault: pandas is not installed.
        """
        rows = [
            (image.source, image.frame, *row)
            for image in self.images
            for row in image.detections.to_rows()
        ]
        frame = import_optional("pandas").DataFrame(rows, columns=["file", "frame", *COLUMNS])
        return frame.astype({"frame": "Int64"})


def predict(
    sources: Sequence[str],
    model: Location,
    output: Path | None = None,
    *,
    score_threshold: float = DEFAULT_SCORE_THRESHOLD,
    overlays: bool = True,
    overlay_videos: bool = False,
    formats: Collection[str] = ("coco",),
    every: int = 1,
    max_bytes: int = DEFAULT_MAX_BYTES,
    max_frames: int = DEFAULT_MAX_FRAMES,
    keep: bool = True,
    progress: Progress = lambda what, done, total: None,
) -> Predictions:
    """Detects objects in pictures and videos, and publishes the results as a folder.

    Args:
        sources: Files, folders and patterns, as `find_media` takes them.
        model: As `load_detector` takes it; or the URL of an exported folder, a model directory or a
            checkpoint.
        output: The folder to publish; predictions that stand there are replaced as a whole. None
            writes nothing.
        score_threshold: Detections with a lower score are left out.
        overlays: Whether to draw the detections.
        overlay_videos: Whether to write each video as an MP4 with the detections drawn.
        formats: Further files, out of `FURTHER_FORMATS`.
        every: 1 takes each frame of a video, 2 every second one.
        max_bytes: A picture or video is passed over that takes more memory while it is read and
            detected on. The model, and a batch of pictures of less than a megapixel, come on top.
        max_frames: Most frames that are taken of one video.
        keep: Whether the result has the images. Without them memory does not grow with their
            number.
        progress: Told how far it is.

    Raises:
        ConfigError: The output folder holds other things than predictions, or there is no such
            format.
        DataError: There are no pictures, or none can be read.
        ArtifactError: The model is damaged.
        EnvironmentFault: The disk refuses.
    """
    require_formats(formats)
    files = find_media(sources, output)
    with contextlib.ExitStack() as stack:
        folder = None
        if output is not None:
            require_replaceable(output, PREDICTIONS_NAME)
            # The destination is opened first: what it refuses, it refuses before a runtime is
            # imported.
            folder = PredictionFolder(
                stack.enter_context(publish_directory(output)),
                overlays=overlays,
                overlay_videos=overlay_videos,
                formats=formats,
            )
            stack.callback(folder.close)
        from detflow.inference.load import load_detector, local_model

        # Once a model is loaded, its files are no longer needed.
        with local_model(model) as path:
            detector = load_detector(path)
        if folder is not None:
            folder.begin(
                model=str(model),
                classes=list(detector.label_map),
                score_threshold=score_threshold,
            )
        is_encoded = output is not None and overlay_videos
        largest_frame = fit_frame(max_bytes, is_encoded=is_encoded)
        failed: list[tuple[str, str]] = []
        images: list[PredictedImage] = []
        num_images = num_detections = 0
        cut: set[str] = set()
        # The file that the last image came from; None before the first.
        reading: PictureFile | None = None

        def fail(file: PictureFile, reason: str) -> None:
            failed.append((show_source(file), reason))
            if reading is file:
                cut.add(show_source(file))

        def read() -> Iterator[Frame]:
            nonlocal reading
            for frame in read_frames(
                files,
                fail,
                progress,
                limits=Limits(every, max_frames, largest_frame),
                max_bytes=max_bytes,
                canvas_sizes=detector.canvas_sizes,
            ):
                reading = frame.file
                yield frame

        try:
            for frame, found in _detect(detector, read()):
                kept = found.above(score_threshold)
                if folder is not None:
                    folder.add(frame, kept)
                num_images += 1
                num_detections += len(kept)
                if keep:
                    images.append(
                        PredictedImage(
                            frame.file.path, frame.source, kept, frame.index, frame.time_s
                        )
                    )
        except KeyboardInterrupt:
            # A camera never ends by itself: what was seen until then is the result.
            if not (num_images and isinstance(reading, LiveSource)):
                raise
        if not num_images:
            raise DataError(
                f"no image can be read, {count_noun(len(files), 'file')} tried; {failed[0][1]}"
            )
        if folder is not None:
            folder.finish(failed=failed)
    return Predictions(images, failed, cut, num_images, num_detections)


def _detect(detector: Detector, frames: Iterator[Frame]) -> Iterator[tuple[Frame, Detections]]:
    """Yields the frames with what is on them; the detector reads a batch ahead."""
    ahead: deque[Frame] = deque()

    def read() -> Iterator[Picture]:
        for frame in frames:
            ahead.append(frame)
            yield reduce_picture(frame.picture, detector.canvas_sizes)

    for found in detector.detect_pictures(read()):
        yield ahead.popleft(), found
