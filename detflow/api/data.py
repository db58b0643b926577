"""The front door's functions for data: judge, convert, compare, read back, fit a configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from detflow.api.choices import build_options, notes_of_problems
from detflow.api.common import Place, open_runner, progress_shown, to_location, to_path
from detflow.config.reading import parse_config
from detflow.config.schema import ExperimentConfig
from detflow.data.check import CheckResult, check_location
from detflow.data.conversion import (
    ALL_IN_ONE_SPLIT,
    Conversion,
    convert_set,
    publish_set,
    require_new,
)
from detflow.data.judging.audit import AuditOptions
from detflow.data.making import RecordOptions, publish_records
from detflow.data.records.manifest import read_manifest
from detflow.data.records.mirror import mirror_records
from detflow.data.records.reading import read_samples as read_local_samples
from detflow.data.sinks.dialects import find_sink
from detflow.data.workers.processes import open_workers
from detflow.publish import publish_new_file, require_new_file
from detflow.storage.location import Location
from detflow.types import Sample

_AUDIT = AuditOptions()
_RECORDS = RecordOptions()


def check(
    path: Place,
    *,
    dialect: str | None = None,
    decisions: Sequence[str | os.PathLike[str]] = (),
    classes: Sequence[str] | None = _AUDIT.classes,
    rename: Mapping[str, str] = _AUDIT.renames,
    split_by: str = _AUDIT.split_by.value,
    split: str | Mapping[str, float] = _AUDIT.fractions,
    seed: int = _AUDIT.seed,
    val_from: str | None = None,
    allow_leaks: bool = _AUDIT.allow_leaks,
    strict: bool = _RECORDS.strict,
    max_bad: int | str | None = None,
    max_pixels: int = _AUDIT.max_pixels,
    max_side: int | None = _AUDIT.max_side,
    corners: str | None = None,
    exif: str | None = None,
    scale_boxes: bool = False,
    max_unpacked: int = _RECORDS.max_unpacked,
    jobs: int | None = _RECORDS.jobs,
    report: str | os.PathLike[str] | None = None,
    questions: str | os.PathLike[str] | None = None,
    with_findings: bool = True,
    progress: bool = False,
) -> CheckResult:
    """Judges a dataset folder, or TFRecord files of any origin, and changes nothing.

    A dataset is judged as `make_records` would judge it. TFRecord files are judged record by
    record, and only `jobs` and `progress` apply to them. A folder may hold a dataset and sets of
    TFRecord files: then all are judged.

    Args:
        path: A dataset folder, a zip or tar file of one, a TFRecord file, or a folder of them; a
            path or a URL.
        dialect: How the annotations are written: "voc", "coco", "yolo", "csv", "cvat" or
            "tfrecord". None finds it by looking.
        decisions: Tables that `questions` has written and a person has filled in.
        classes: Class names in the order of their ids; no other may occur. None takes those that
            the dataset declares, or else those that are found, sorted.
        rename: The new name of each class that is to be renamed; classes that get one name become
            one. Every class is renamed at most once: with {"a": "b", "b": "c"}, an a becomes a b.
        split_by: Where the splits come from: "lists", "folders", "seed", or "auto".
        split: Fractions of a random split: a dict by the splits' names, or a text such as
            "train=0.8,val=0.1,test=0.1".
        seed: Seed of the random split and of the records' order.
        val_from: The share of a split that becomes a validation split where the dataset has none,
            as "train=0.1"; drawn by the seed.
        allow_leaks: Whether the same image may be in two splits.
        strict: Whether any fault that would have to be mended refuses the dataset.
        max_bad: How many annotations may be unusable: a number, or a share such as "1.5%". None
            allows half of them.
        max_pixels: Images with more pixels are refused.
        max_side: Images with a longer side, in pixels, become smaller in records. None leaves all
            as they are.
        corners: What the corners of boxes count where the dialect leaves it open: "voc" for pixels
            from 1, "zero-based" for edges from 0, "labelimg" for the same with 1 written for 0.
            None lets the evidence of the whole set decide.
        exif: Whether boxes were drawn on pictures as EXIF turns them: "follow" or "ignore". None
            lets sizes and boxes of the whole set decide.
        scale_boxes: Whether to scale boxes that were drawn on another rendition of the picture, or
            in other units than pixels, where the scale is known. Otherwise they are quarantined.
        max_unpacked: An archive whose files have more bytes together is refused.
        jobs: Number of processes; None chooses. The result never depends on it.
        report: A file to write a page to, with pictures of what was found in a dataset.
        questions: A file to write a table to, with what the evidence leaves open: a person fills it
            in, and it comes back as one of `decisions`.
        with_findings: Whether to return each finding in a dataset, and not only their numbers; a
            large dataset may have millions.
        progress: Whether to draw a progress bar on stderr, where that is a terminal.

    Returns:
        What was found: `text` for people, `content` with the same numbers for programs, `findings`
        one by one, and `refusal`, the error that `make_records` would raise, or None where the data
        can be used.

    Raises:
        ConfigError: A value cannot be chosen.
        DataError: There is nothing to judge.
        EnvironmentFault: The machine refuses: disk, permission or memory.
    """
    options = build_options(
        dialect=dialect,
        classes=classes,
        rename=rename,
        split_by=split_by,
        split=split,
        seed=seed,
        val_from=val_from,
        allow_leaks=allow_leaks,
        strict=strict,
        max_bad=max_bad,
        max_pixels=max_pixels,
        max_side=max_side,
        corners=corners,
        exif=exif,
        scale_boxes=scale_boxes,
        max_unpacked=max_unpacked,
        jobs=jobs,
        decisions=decisions,
    )
    location = to_location(path)
    page = None if report is None else to_path(report)
    table = None if questions is None else to_path(questions)
    with progress_shown(progress) as shown:
        return check_location(location, options, page, table, shown, with_findings=with_findings)


def make_records(
    dataset: Place,
    output: Place,
    *,
    dialect: str | None = None,
    decisions: Sequence[str | os.PathLike[str]] = (),
    classes: Sequence[str] | None = _AUDIT.classes,
    rename: Mapping[str, str] = _AUDIT.renames,
    split_by: str = _AUDIT.split_by.value,
    split: str | Mapping[str, float] = _AUDIT.fractions,
    seed: int = _AUDIT.seed,
    val_from: str | None = None,
    allow_leaks: bool = _AUDIT.allow_leaks,
    strict: bool = _RECORDS.strict,
    max_bad: int | str | None = None,
    max_pixels: int = _AUDIT.max_pixels,
    max_side: int | None = _AUDIT.max_side,
    corners: str | None = None,
    exif: str | None = None,
    scale_boxes: bool = False,
    max_unpacked: int = _RECORDS.max_unpacked,
    jobs: int | None = _RECORDS.jobs,
    keep_splits: str | os.PathLike[str] | None = _RECORDS.keep_splits,
    write_fixed: str | os.PathLike[str] | None = _RECORDS.write_fixed,
    runner: str = "local",
    ray_address: str | None = None,
    report: bool = _RECORDS.report,
    progress: bool = False,
) -> dict[str, Any]:
    """Checks a dataset and converts it to TFRecord shards. The originals are never touched.

    Args:
        dataset: A folder of images and annotations, a path or a URL; or a zip or tar file of one.
        output: The records directory; a path or a URL. Records that stand there are replaced as a
            whole.
        dialect: As in `check`.
        decisions: As in `check`.
        classes: As in `check`.
        rename: As in `check`.
        split_by: As in `check`.
        split: As in `check`.
        seed: As in `check`.
        val_from: As in `check`.
        allow_leaks: As in `check`.
        strict: As in `check`.
        max_bad: As in `check`.
        max_pixels: As in `check`.
        max_side: As in `check`.
        corners: As in `check`.
        exif: As in `check`.
        scale_boxes: As in `check`.
        max_unpacked: As in `check`.
        jobs: As in `check`.
        keep_splits: Earlier records of this dataset; the images that they hold stay in their
            splits.
        write_fixed: A new folder to write the mended dataset to, as VOC.
        runner: "local" for processes of this machine, or "ray" for a Ray cluster. The result is the
            same.
        ray_address: HOST:PORT of the Ray cluster's head. None takes the variable RAY_ADDRESS, or
            starts a cluster here.
        report: Whether to write report.html, a page with pictures of what was found.
        progress: Whether to draw a progress bar on stderr, where that is a terminal.

    Returns:
        The content of the published manifest.json: among others `classes`, `splits` with their
        numbers of images and objects, `repairs`, `quarantined` and `fingerprint`.

    Raises:
        ConfigError: `output` is something that must not be replaced.
        DataError: The dataset cannot be used, or not under these options; nothing is published. The
            error's notes (`__notes__`) name the files.
        EnvironmentFault: The machine refuses; nothing is published.
    """
    options = build_options(
        dialect=dialect,
        classes=classes,
        rename=rename,
        split_by=split_by,
        split=split,
        seed=seed,
        val_from=val_from,
        allow_leaks=allow_leaks,
        strict=strict,
        max_bad=max_bad,
        max_pixels=max_pixels,
        max_side=max_side,
        corners=corners,
        exif=exif,
        scale_boxes=scale_boxes,
        max_unpacked=max_unpacked,
        jobs=jobs,
        decisions=decisions,
        keep_splits=None if keep_splits is None else to_path(keep_splits),
        write_fixed=None if write_fixed is None else to_path(write_fixed),
        report=report,
    )
    source, target = to_location(dataset), to_location(output)
    with (
        open_runner(runner, ray_address, source, target, jobs) as workers,
        progress_shown(progress) as shown,
        notes_of_problems() as announce,
    ):
        return publish_records(source, target, options, shown, announce, workers)


def convert(
    source: Place,
    output: str | os.PathLike[str],
    *,
    to: str,
    dialect: str | None = None,
    decisions: Sequence[str | os.PathLike[str]] = (),
    classes: Sequence[str] | None = _AUDIT.classes,
    rename: Mapping[str, str] = _AUDIT.renames,
    split_by: str = _AUDIT.split_by.value,
    split: str | Mapping[str, float] = ALL_IN_ONE_SPLIT,
    seed: int = _AUDIT.seed,
    val_from: str | None = None,
    allow_leaks: bool = _AUDIT.allow_leaks,
    strict: bool = _RECORDS.strict,
    max_bad: int | str | None = None,
    max_pixels: int = _AUDIT.max_pixels,
    max_side: int | None = _AUDIT.max_side,
    corners: str | None = None,
    exif: str | None = None,
    scale_boxes: bool = False,
    jobs: int | None = _RECORDS.jobs,
    progress: bool = False,
) -> dict[str, Any]:
    """Writes a dataset, records or predictions in the dialect of another tool.

    A dataset is judged and mended as `make_records` does it. Images are passed on byte for byte;
    those that decoders read differently, or that EXIF turns, are encoded anew. Splits, classes and
    flags go with them as far as the dialect has a place for them; what it has none for is counted.

    Args:
        source: A dataset folder; records that `make_records` wrote; or a folder that `predict`
            wrote. A path or a URL.
        output: A new or empty folder.
        to: "voc", "coco", "yolo" or "csv".
        dialect: As in `check`.
        decisions: As in `check`.
        classes: As in `check`.
        rename: As in `check`.
        split_by: As in `check`.
        split: As in `check`, for a dataset that declares no splits; by default all its images are
            one split.
        seed: As in `check`.
        val_from: As in `check`.
        allow_leaks: As in `check`.
        strict: As in `check`.
        max_bad: As in `check`.
        max_pixels: As in `check`.
        max_side: As in `check`.
        corners: As in `check`.
        exif: As in `check`.
        scale_boxes: As in `check`.
        jobs: As in `check`.
        progress: Whether to draw a progress bar on stderr, where that is a terminal.

    Returns:
        What was written, among others `splits` with their numbers of images and objects, `renamed`
        images, and `lost`: how many flags, poses, scores and the like the dialect could not hold.

    Raises:
        ConfigError: There is no such dialect, or `output` is no new or empty folder.
        DataError: The dataset cannot be used, or the dialect cannot hold a class name; the error's
            notes (`__notes__`) name the files.
        ArtifactError: The records are damaged.
        EnvironmentFault: The machine refuses; nothing is published.
    """
    options = build_options(
        dialect=dialect,
        classes=classes,
        rename=rename,
        split_by=split_by,
        split=split,
        seed=seed,
        val_from=val_from,
        allow_leaks=allow_leaks,
        strict=strict,
        max_bad=max_bad,
        max_pixels=max_pixels,
        max_side=max_side,
        corners=corners,
        exif=exif,
        scale_boxes=scale_boxes,
        jobs=jobs,
        decisions=decisions,
    )
    return run_conversion(to_location(source), to_path(output), to, options, progress).content


def run_conversion(
    source: Location, output: Path, to: str, options: RecordOptions, shows_progress: bool
) -> Conversion:
    """Does what `convert` describes, and returns it with lines for a terminal."""
    from detflow.prediction.origin import PredictedOrigin, find_predictions

    sink = find_sink(to)
    with notes_of_problems() as announce, progress_shown(shows_progress) as shown:
        predictions = find_predictions(source) if isinstance(source, Path) else None
        if predictions is None:
            return convert_set(source, output, sink, options, shown, announce)
        require_new(output, source)
        with open_workers(options.jobs or 1) as workers:
            return publish_set(PredictedOrigin(predictions), {}, sink, output, workers, shown)


def read_samples(records: Place, split: str = "train") -> Iterator[Sample]:
    """Yields the images of a split with their objects, in the order of the records.

    Every record's checksum is checked on the way.

    Args:
        records: A folder that `make_records` wrote; a path or a URL.
        split: A split's name; "train+val" joins two.

    Yields:
        A `Sample` for each image: `encoded` holds the bytes of a JPEG file, `objects` the names and
        boxes.

    Raises:
        ConfigError: There is no such split.
        ArtifactError: The records are damaged.
        EnvironmentFault: The store or the disk refuses.
    """
    records_dir = mirror_records(to_location(records), [split])
    yield from read_local_samples(records_dir, read_manifest(records_dir), split)


def init(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    val_from: str | None = None,
    time_budget: str | float | None = None,
    start_from: str | os.PathLike[str] | None = None,
    offline: bool = False,
    probe: bool = True,
) -> ExperimentConfig:
    """Fits a configuration to the data, the weights that can be had, and this machine.

    It chooses input size, anchors, splits, initial weights, frozen parts, augmentation, length.

    Args:
        source: A folder that `make_records` wrote; or a dataset folder, which is judged as
            `make_records` does it by default. The configuration then expects the dataset's records
            in records/NAME.
        output: A YAML file to write, with the reason for each value as a comment. It must not exist
            yet.
        val_from: As in `check`; for a dataset folder.
        time_budget: How long the training may take: "5m", or seconds.
        start_from: "scratch", the name of published weights, or a file or run; None takes the best
            that can be had.
        offline: Whether no weights may be fetched.
        probe: Whether to measure this machine's speed for some seconds, which imports TensorFlow.

    Returns:
        The configuration; `train` takes it as it is.

    Raises:
        ConfigError: The file exists, no validation split can be taken, or a training cannot start
            from the weights.
        DataError: The dataset cannot be used, or there is nothing to train on.
        ArtifactError: The records or the weights are damaged.
        EnvironmentFault: The file cannot be written, or the weights that were asked for cannot be
            fetched.
    """
    from detflow.training.fit import FitOptions, fit_source, read_time_budget

    weights = None if start_from is None else os.fspath(start_from)
    path = None if output is None else to_path(output)
    folder = None if path is None else path.parent
    fit = FitOptions(read_time_budget(time_budget), weights, offline, probe, folder)
    if path is not None:
        require_new_file(path)
    text = fit_source(to_path(source), build_options(val_from=val_from, report=False), fit)
    if path is not None:
        publish_new_file(path, text)
    return parse_config(text, path=path)
