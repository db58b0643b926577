"""`detflow evaluate`: judges a model on records, and publishes a folder that shows the result."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from detflow.errors import ConfigError
from detflow.evaluation.analysis import Analysis, Subject, analyse
from detflow.evaluation.seen import find_warnings
from detflow.evaluation.splits import SplitReader, open_split
from detflow.metrics.coco import EvaluatedImage
from detflow.process.libraries import require_library
from detflow.progress import Progress, tell_status
from detflow.storage.location import Location
from detflow.storage.publishing import publish_folder, require_replaceable
from detflow.types import Sample

MARKER_NAME = "evaluation.html"
"""The file by which a folder of this kind is recognised."""


def evaluate_model(
    model: Location,
    records: Location,
    split: str,
    *,
    output: Location | None = None,
    score_threshold: float | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Analysis:
    """Judges a model on a split, and publishes what was found.

    Args:
        model: What `load_detector` takes, or the URL of a folder.
        records: A folder that make-records wrote.
        split: Name of a split, or of a union of splits.
        output: The folder to publish. An evaluation that stands there is replaced as a whole; None
            publishes nothing.
        score_threshold: Least score of a detection for confusion, errors and pictures; None takes
            the threshold with the best F1 over all classes.
        progress: Told how far it is.

    Raises:
        ConfigError: There is no such split, the score threshold is not between 0 and 1, the model
            has other classes, or the output folder holds other things.
        DataError: The split has no images.
        ArtifactError: Model or records are damaged.
        EnvironmentFault: The disk refuses.
    """
    # NaN fails every comparison.
    if score_threshold is not None and not 0.0 <= score_threshold <= 1.0:
        raise ConfigError(f"score threshold {score_threshold}: expected 0 to 1")
    if output is not None:
        require_library("matplotlib", "an evaluation's page")
    reader = open_split(records, split)
    label_map, fingerprint = reader.manifest.label_map, reader.manifest.fingerprint

    def judge() -> tuple[Analysis, list[Sample]]:
        total = reader.num_images
        samples = reader.read_counted(lambda number: progress("detecting", number, total))
        source, warnings, judged, images = _detect(model, samples, reader)
        subject = Subject(str(model), source, str(records), split, fingerprint, warnings)
        return analyse(images, label_map, subject, score_threshold), judged

    if output is None:
        analysis, _ = judge()
        return analysis
    require_replaceable(output, MARKER_NAME)
    # The destination is opened first, so that it can refuse before TensorFlow is imported.
    with publish_folder(output, MARKER_NAME) as staging:
        analysis, samples = judge()

        tell_status("drawing the page")
        from detflow.evaluation.files import write_evaluation

        write_evaluation(
            staging.path,
            MARKER_NAME,
            analysis,
            samples,
            reader.read_places(samples),
            lambda wanted: reader.read_pictures(samples, wanted),
        )
    return analysis


def _detect(
    model: Location, samples: Iterable[Sample], reader: SplitReader
) -> tuple[str, tuple[str, ...], list[Sample], list[EvaluatedImage]]:
    """Returns the place of what was run, what flatters it, and what `detect_samples` returns."""
    from detflow.inference.evaluate import detect_samples
    from detflow.inference.load import load_detector, local_model

    with local_model(model) as path:
        detector = load_detector(path)
        judged, images = detect_samples(detector, samples, reader.manifest.label_map)
        tell_status("computing the metrics")
        source = name_source(model, path, detector.source)
        return source, find_warnings(detector.source, reader), judged, images


def name_source(model: Location, path: Path, source: Path) -> str:
    """Returns the place of what ran as the user would name it: inside a URL's folder, as a URL."""
    return (
        str(source) if isinstance(model, Path) else str(model / source.relative_to(path).as_posix())
    )
