"""The front door's functions for trained models: judge, export, detect."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from detflow.api.common import Place, progress_shown, to_location, to_path
from detflow.data.images.cost import DEFAULT_MAX_BYTES
from detflow.inference.results import DEFAULT_SCORE_THRESHOLD
from detflow.prediction.limits import DEFAULT_MAX_FRAMES
from detflow.storage.location import Location

if TYPE_CHECKING:
    from detflow.evaluation.analysis import Analysis
    from detflow.inference.detector import Detector
    from detflow.prediction.run import Predictions


@dataclass(frozen=True)
class Export:
    """A published export.

    Attributes:
        path: The exported folder.
        card: The content of its model.json, which describes the model and how it was proved.
    """

    path: Location
    card: Mapping[str, Any]

    @property
    def files(self) -> dict[str, Location]:
        """The file or folder of each published format, by the format's name."""
        return {
            name: self.path / published["paths"][0]
            for name, published in self.card["formats"].items()
        }

    @property
    def failed(self) -> dict[str, str]:
        """Why a format was not published, by its name; empty where all formats passed."""
        return {name: found["reason"] for name, found in self.card["failed"].items()}


def evaluate(
    model: Place,
    records: Place,
    *,
    split: str = "test",
    output: Place | None = None,
    score_threshold: float | None = None,
    progress: bool = False,
) -> Analysis:
    """Judges a model on a split: COCO and VOC metrics, and what each kind of error costs.

    Objects that VOC marks as difficult count neither as hits nor as misses.

    Args:
        model: A model directory (its best checkpoint), a checkpoint, or an exported folder or file;
            a path or a URL.
        records: A folder that `make_records` wrote; a path or a URL.
        split: The split to judge on; "train+val" joins two.
        output: A folder to publish evaluation.html, plots and numbers to; an evaluation that stands
            there is replaced.
        score_threshold: The threshold for precision, confusion and errors. None takes the one with
            the best F1.
        progress: Whether to draw a progress bar on stderr, where that is a terminal.

    Returns:
        The analysis: `metrics` by name, such as "AP" and "AP50", `class_metrics` by class name, and
        curves, confusion and errors.

    Raises:
        ConfigError: There is no such split, `score_threshold` is not between 0 and 1, the model has
            other classes, or `output` holds other things.
        DataError: The split has no images.
        ArtifactError: Model or records are damaged.
        EnvironmentFault: The disk refuses.
    """
    from detflow.evaluation.run import evaluate_model

    with progress_shown(progress) as shown:
        return evaluate_model(
            to_location(model),
            to_location(records),
            split,
            output=None if output is None else to_location(output),
            score_threshold=score_threshold,
            progress=shown,
        )


def export(
    checkpoint: Place,
    output: Place,
    *,
    formats: str | Sequence[str] | None = None,
    images: str | os.PathLike[str] | None = None,
    split: str | None = None,
    score_threshold: float | None = None,
    max_detections: int | None = None,
    max_ap_drop: float | None = None,
    layouts: Sequence[str] = (),
) -> Export:
    """Exports a checkpoint, and publishes each format only after it was proved in a fresh process.

    Args:
        checkpoint: A model directory (its best checkpoint) or a checkpoint; a path or a URL.
        output: The folder to publish; a path or a URL. An export that stands there is replaced.
        formats: Names of formats, such as ["frozen", "onnx"], or "all". None takes the
            frozen graph and the SavedModel.
        images: A folder of images, or of records, that the proof runs on. None takes the run's own
            records.
        split: The split of the records. None takes the one that the run was evaluated on.
        score_threshold: Detections with a lower score are dropped inside the export. None takes the
            run's own threshold.
        max_detections: The most detections of one image. None takes the run's own number.
        max_ap_drop: How much of the checkpoint's AP a format may lose. None takes 0.005, and 0.02
            for int8.
        layouts: Servers whose versioned folders are added: "triton", "tfserving".

    Returns:
        The published folder, the files of its formats, its card, and which formats failed.

    Raises:
        ConfigError: There is no such format, or `output` is something else than an export.
        DataError: There is no image to prove the export on.
        ArtifactError: The checkpoint is damaged, or no format passed.
        EnvironmentFault: The disk refuses.
    """
    from detflow.exporting.choice import DEFAULT_FORMATS
    from detflow.exporting.run import export_model

    names = DEFAULT_FORMATS if formats is None else formats
    location = to_location(output)
    card = export_model(
        str(to_location(checkpoint)),
        location,
        formats=names if isinstance(names, str) else ",".join(names),
        images=None if images is None else to_path(images),
        split=split,
        score_threshold=score_threshold,
        max_detections=max_detections,
        max_ap_drop=max_ap_drop,
        layouts=layouts,
    )
    return Export(location, card)


def predict(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    model: Place,
    output: str | os.PathLike[str] | None = None,
    *,
    score_threshold: float = DEFAULT_SCORE_THRESHOLD,
    overlays: bool = True,
    overlay_videos: bool = False,
    formats: Collection[str] = ("coco",),
    every: int = 1,
    max_memory_mb: int = DEFAULT_MAX_BYTES >> 20,
    max_frames: int = DEFAULT_MAX_FRAMES,
    keep: bool = True,
    progress: bool = False,
) -> Predictions:
    """Detects objects in the images and videos of files, folders and patterns.

    Whether a file is an image or a video is seen from its content. Files that cannot be read, or
    not to their end, are named in the result. For images in memory use `load_detector`.

    Args:
        sources: A file, a folder, a pattern such as "photos/**/*.jpg"; or several of them.
        model: A model as `load_detector` takes it.
        output: A folder to publish predictions.json, overlays and further files to; predictions
            that stand there are replaced. None writes nothing.
        score_threshold: Detections with a lower score are left out.
        overlays: Whether to write pictures with the detections drawn over them.
        overlay_videos: Whether to write each video as an MP4 with the detections drawn.
        formats: Further files to write: "coco", "csv", "voc", "yolo".
        every: 1 takes each frame of a video, 2 every second one.
        max_memory_mb: Files are passed over that take more MiB while they are read and detected on.
            The model comes on top, and up to 256 MiB for a batch of small pictures.
        max_frames: Most frames that are taken of one video; what lies behind is named in the
            result.
        keep: Whether the result has the detections of each image. Without them, memory does not
            grow with the number of images, all of which are in `output`.
        progress: Whether to draw a progress bar on stderr, where that is a terminal.

    Returns:
        The detections of each image and frame, and the files that could not be read.

    Raises:
        ConfigError: `output` holds other things than predictions.
        DataError: There is no image, or none can be read.
        ArtifactError: The model is damaged.
        EnvironmentFault: The disk refuses.
    """
    from detflow.prediction.run import predict as predict_files

    several = [sources] if isinstance(sources, str | os.PathLike) else sources
    with progress_shown(progress) as shown:
        return predict_files(
            [os.fspath(source) for source in several],
            to_location(model),
            None if output is None else to_path(output),
            score_threshold=score_threshold,
            overlays=overlays,
            overlay_videos=overlay_videos,
            formats=tuple(formats),
            every=every,
            max_bytes=max_memory_mb << 20,
            max_frames=max_frames,
            keep=keep,
            progress=shown,
        )


def load_detector(model: Place, *, threads: int = 0) -> Detector:
    """Loads a model that detects objects in images.

    Args:
        model: An exported folder, of which the first of ONNX, TFLite and OpenVINO runs that is
            there and whose runtime is installed; one of its files (model.onnx, …); a SavedModel; a
            model directory (its best checkpoint) or a checkpoint. The URL of a folder works too. Of
            exports only frozen graphs, SavedModels and Keras weights need TensorFlow.
        threads: Threads of one operation; 0 takes one for each core.

    Returns:
        The detector; see `Detector.predict`.

    Raises:
        ArtifactError: It is none of these, or it is damaged.
        EnvironmentFault: The store refuses, or a library is missing.
    """
    from detflow.inference.load import load_detector as load_local_detector
    from detflow.inference.load import local_model

    # Once a model is loaded, its files are no longer needed.
    with local_model(to_location(model)) as path:
        return load_local_detector(path, threads=threads)
