"""`detflow evaluate`: a model and records → an analysis, and the folder that shows it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from detflow.data.records.manifest import RecordsManifest, read_manifest, resolve_split
from detflow.data.records.mirror import mirror_records
from detflow.data.records.reading import read_samples, verify_shards
from detflow.errors import DataError
from detflow.evaluation.analysis import Analysis, Subject, analyse
from detflow.progress import show_progress
from detflow.storage.location import Location
from detflow.storage.publishing import publish_folder, require_replaceable
from detflow.types import Sample

__all__ = ["MARKER_NAME", "evaluate_model"]

MARKER_NAME = "evaluation.html"
"""The file that tells a folder of this kind."""


def evaluate_model(
    model: Location,
    records: Location,
    split: str,
    *,
    output: Location | None = None,
    score_threshold: float | None = None,
) -> Analysis:
    """Judges a model on a split, and publishes what was found.

    Args:
        model: As `models.load_detector` takes it, or the URL of a folder.
        records: Folder that make-records wrote.
        split: As `resolve_split` takes it.
        output: Folder to publish; an evaluation that stands there is replaced as a whole. None
            publishes nothing.
        score_threshold: As in `analyse`.

    Raises:
        ConfigError: There is no such split, the model has other classes, or the output folder holds
            other things.
        DataError: The split has no images.
        ArtifactError: Model or records are damaged.
        EnvironmentFault: The disk refuses.
    """
    records_dir = mirror_records(records, [split])
    manifest = read_manifest(records_dir)
    splits = resolve_split(manifest, split)
    if not sum(manifest.splits[name].images for name in splits):
        raise DataError(
            f"split {split} has no images to judge on",
            path=str(records),
            remedy="choose another split",
        )
    verify_shards(records_dir, manifest, splits)

    def judge() -> tuple[Analysis, list[Sample]]:
        from detflow.inference.evaluate import detect_samples
        from detflow.inference.load import load_detector, local_model

        with local_model(model) as path:
            detector = load_detector(path)
            with _shown_samples(records_dir, manifest, split) as samples:
                judged, images = detect_samples(detector, samples, manifest.label_map)
            source = _name_source(model, path, detector.source)
        subject = Subject(str(model), source, str(records), split, manifest.fingerprint)
        return analyse(images, manifest.label_map, subject, score_threshold), judged

    if output is None:
        analysis, _ = judge()
        return analysis
    require_replaceable(output, MARKER_NAME)
    # The destination is opened first: what it refuses, it refuses before TensorFlow is imported.
    with publish_folder(output, MARKER_NAME) as staging:
        analysis, samples = judge()

        from detflow.evaluation.files import write_evaluation

        write_evaluation(
            staging.path,
            MARKER_NAME,
            analysis,
            samples,
            _picture_reader(records_dir, manifest, split),
        )
    return analysis


def _name_source(model: Location, path: Path, source: Path) -> str:
    """Returns what ran, by the place where the user has it."""
    return (
        str(source) if isinstance(model, Path) else str(model / source.relative_to(path).as_posix())
    )


@contextlib.contextmanager
def _shown_samples(
    records: Path, manifest: RecordsManifest, split: str
) -> Iterator[Iterator[Sample]]:
    """Yields the samples; whoever reads them moves a bar."""
    total = sum(manifest.splits[name].images for name in resolve_split(manifest, split))
    with show_progress() as progress:

        def counted() -> Iterator[Sample]:
            for number, sample in enumerate(read_samples(records, manifest, split), start=1):
                yield sample
                progress("detecting", number, total)

        yield counted()


def _picture_reader(
    records: Path, manifest: RecordsManifest, split: str
) -> Callable[[Collection[int]], dict[int, bytes]]:
    """Returns a function from places in the split to the images' files: the records are read again for a few of them."""

    def read(wanted: Collection[int]) -> dict[int, bytes]:
        samples = enumerate(read_samples(records, manifest, split))
        return {index: sample.encoded for index, sample in samples if index in wanted}

    return read
