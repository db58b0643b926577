"""Measures the formats of exported folders: a table, JSON and a plot."""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

import click

from detflow.artifact import INPUT_NAME, ArtifactDir, read_canvas_sizes
from detflow.benchmarking.images import write_images
from detflow.benchmarking.measurement import Measurement
from detflow.data.records.manifest import RecordsManifest, read_manifest, resolve_split
from detflow.digests import digest_files
from detflow.errors import ArtifactError, ConfigError, DataError
from detflow.inference.formats import find_format
from detflow.inference.formats.base import EntryPoint, Format
from detflow.metrics.intervals import FEW_OBJECTS, LEVEL_TEXT
from detflow.process.libraries import require_library
from detflow.process.platform import cpu_name
from detflow.progress import show_progress
from detflow.publish import publish_directory, require_replaceable
from detflow.tables import format_interval, format_metric, print_rows
from detflow.text import count_noun

_log = logging.getLogger(__name__)

MARKER_NAME: Final = "benchmark.json"
PLOT_NAME: Final = "benchmark.png"

_FORMAT_VERSION = 1


@dataclass(frozen=True)
class BenchmarkOptions:
    """How exports are measured.

    Attributes:
        records: Folder that make-records wrote: its images are detected on, and AP is measured.
            Without it pictures are drawn, and AP is what the export's proof measured.
        split: Split of the records.
        threads: Numbers of threads to measure the latency with.
        batch: Images that go through together when throughput is measured.
        seconds: Time for latency, and as much again for throughput.
    """

    records: Path | None = None
    split: str = "test"
    threads: tuple[int, ...] = (1, os.cpu_count() or 1)
    batch: int = 8
    seconds: float = 3.0


def parse_threads(text: str) -> tuple[int, ...]:
    """Reads `1,2,4`.

    Raises:
        ConfigError: The text is anything else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise ConfigError(f"--threads {text}: expected numbers with commas between, as in 1,2")
    return tuple(int(part) for part in parts)


def benchmark_artifacts(
    artifacts: Sequence[Path], options: BenchmarkOptions, output: Path | None = None
) -> list[Measurement]:
    """Measures every format of exported folders.

    Args:
        artifacts: The folders.
        options: How they are measured.
        output: Folder to publish; a benchmark that stands there is replaced. None publishes
            nothing.

    Raises:
        ConfigError: The records have no such split or other classes, or the output folder holds
            other things.
        DataError: The split has no images.
        ArtifactError: An exported folder is damaged, or a format cannot run.
        EnvironmentFault: The disk refuses.
    """
    if output is None:
        return _measure_all(artifacts, options)
    require_library("matplotlib", "a benchmark's plot")
    require_replaceable(output, MARKER_NAME)
    with publish_directory(output) as staging:
        measurements = _measure_all(artifacts, options)
        from detflow.benchmarking.plot import draw_benchmark

        (staging / MARKER_NAME).write_text(
            json.dumps(describe_benchmark(measurements, options), indent=2) + "\n", encoding="utf-8"
        )
        (staging / PLOT_NAME).write_bytes(draw_benchmark(measurements))
    return measurements


def describe_benchmark(
    measurements: Sequence[Measurement], options: BenchmarkOptions
) -> dict[str, Any]:
    """Returns the content of benchmark.json."""
    return {
        "format_version": _FORMAT_VERSION,
        "machine": {
            "processor": cpu_name(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "options": asdict(options) | {"records": options.records and str(options.records)},
        "formats": [asdict(measurement) for measurement in measurements],
        "fastest": _describe_fastest(measurements),
    }


TABLE_KEY: Final = (
    "thr.: threads · p50, p95: ms from a JPEG file to its detections, batch 1 · "
    "net: ms of the bare network, ratio: p50 to it\n"
    "img/s: in batches · RAM: peak MB · "
    "start: s from a process' start to its first detections · MB: on disk"
)
"""The meaning of `print_benchmark`'s columns."""


def print_benchmark(measurements: Sequence[Measurement]) -> None:
    """Prints a table of at most 80 columns, and which format is the fastest.

    The table has one line for each format and number of threads.
    """
    rows = []
    for measurement in measurements:
        for threads, report in measurement.by_threads.items():
            first = report is measurement.first
            milliseconds = report["milliseconds"]
            rows.append(
                (
                    measurement.name if first else "",
                    f"{threads}",
                    f"{milliseconds['end_to_end']['p50']:.1f}",
                    f"{milliseconds['end_to_end']['p95']:.1f}",
                    f"{milliseconds['network']['p50']:.1f}",
                    f"{report['ratio']:.2f}",
                    f"{report['images_per_second']:.0f}",
                    f"{report['peak_bytes'] / 1e6:.0f}" if report["peak_bytes"] else "",
                    f"{measurement.cold_start_s:.2f}" if first else "",
                    f"{measurement.bytes / 1e6:.1f}" if first else "",
                    format_metric(measurement.ap) if first else "",
                )
            )
    print_rows(
        ("format", "thr.", "p50", "p95", "net", "ratio", "img/s", "RAM", "start", "MB", "AP"), rows
    )
    if few := _describe_few_objects(measurements):
        click.echo(few)
    fastest = _describe_fastest(measurements)
    click.echo(
        f"Fastest end to end: {fastest['format']}, {count_noun(fastest['threads'], 'thread')}: "
        f"{fastest['end_to_end_ms']:.1f} ms, {fastest['ratio']:.2f} times its bare network's "
        f"{fastest['network_ms']:.1f} ms."
    )


def _describe_few_objects(measurements: Sequence[Measurement]) -> str:
    """Returns how far the APs can be trusted where they are of few objects, else nothing.

    They are of the same images, and so alike that the range of one is that of all.
    """
    for one in measurements:
        if one.ap_objects is not None and one.ap_objects < FEW_OBJECTS and one.ap is not None:
            where = (
                f"it lies within {format_interval(one.ap_interval)} at {LEVEL_TEXT}"
                if one.ap_interval
                else "too few images to tell where it lies"
            )
            return f"AP is of only {count_noun(one.ap_objects, 'object')}: {where}."
    return ""


def _describe_fastest(measurements: Sequence[Measurement]) -> dict[str, Any]:
    """Describes the entry and number of threads with the lowest p50 from a file to detections."""
    measurement, threads, report = min(
        (
            (measurement, threads, report)
            for measurement in measurements
            for threads, report in measurement.by_threads.items()
        ),
        key=lambda item: item[2]["milliseconds"]["end_to_end"]["p50"],
    )
    return {
        "artifact": measurement.artifact,
        "format": measurement.name,
        "threads": threads,
        "end_to_end_ms": report["milliseconds"]["end_to_end"]["p50"],
        "network_ms": report["milliseconds"]["network"]["p50"],
        "ratio": report["ratio"],
    }


# --- Measuring ------------------------------------------------------------------------------------


def _measure_all(artifacts: Sequence[Path], options: BenchmarkOptions) -> list[Measurement]:
    cards = {path: ArtifactDir(path).verify() for path in artifacts}
    for path, card in cards.items():
        ArtifactDir(path).require_entries(
            card, "classes", "formats", "canvas_size", "more_canvas_sizes"
        )
    manifest = _read_truth(cards, options)
    todo = [
        (path, known, entry)
        for path, card in cards.items()
        for known, entry in _find_entries(path, card)
    ]
    todo = _leave_out_missing(todo)
    with tempfile.TemporaryDirectory() as folder, show_progress() as progress:
        images = list(write_images(Path(folder), options.records, manifest, options.split))
        measurements = []
        progress("measuring", 0, len(todo))
        for done, (path, known, entry) in enumerate(todo, start=1):
            measurements.append(
                _measure(path, cards[path], known, entry, images, options, manifest)
            )
            progress("measuring", done, len(todo))
    return measurements


def _find_entries(path: Path, card: Mapping[str, Any]) -> Iterator[tuple[Format, EntryPoint]]:
    """Yields the entries that take pixels and that the export's proof has not refused."""
    for name, described in card["formats"].items():
        known = find_format(name)
        if known is None:
            raise ArtifactError(f"the format {name} is not known here", path=path)
        for entry in known.entries:
            if entry.input_name == INPUT_NAME and entry.name in described["entries"]:
                yield known, entry


def _leave_out_missing(
    todo: Sequence[tuple[Path, Format, EntryPoint]],
) -> list[tuple[Path, Format, EntryPoint]]:
    """Returns what can be measured here, and tells of formats whose runtime is not installed."""
    there = [item for item in todo if item[1].is_installed()]
    missing = dict.fromkeys(known for _, known, _ in todo if not known.is_installed())
    if not there and missing:
        next(iter(missing)).require_installed()
    for known in missing:
        _log.warning("not measured: %s: %s is not installed", known.name, known.runtime_title)
    return there


def _read_range(path: Path, card: Mapping[str, Any]) -> dict[str, Any]:
    """Returns where the AP lies that the export's proof measured, and of how many objects it is.

    Raises:
        ArtifactError: The card has something else there.
    """
    try:
        parity = card["parity"]
        interval, objects = parity["interval"], parity["objects"]
        return {
            "ap_interval": None if interval is None else (float(interval[0]), float(interval[1])),
            "ap_objects": None if objects is None else int(objects),
        }
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise ArtifactError(
            f"it does not say where its AP lies: {type(error).__name__} {error}",
            path=ArtifactDir(path).manifest_path,
        ) from None


def _measure(
    path: Path,
    card: Mapping[str, Any],
    measured: Format,
    entry: EntryPoint,
    images: Sequence[str],
    options: BenchmarkOptions,
    manifest: RecordsManifest | None,
) -> Measurement:
    by_threads: dict[int, Mapping[str, Any]] = {}
    metrics, canvas = card["formats"][measured.name]["metrics"], card["canvas_size"]
    cold_start_s = 0.0
    accuracy = {"ap": None if metrics is None else metrics["AP"], **_read_range(path, card)}
    for threads in dict.fromkeys(options.threads):
        request = {
            "path": str(path / entry.path),
            "format": measured.name,
            "signature": entry.signature,
            "canvas_size": [canvas["height"], canvas["width"]],
            "canvas_sizes": read_canvas_sizes(card),
            "threads": threads,
            "images": images,
            "batch": options.batch,
            "seconds": options.seconds,
            "records": None,
        }
        if options.records is not None and manifest is not None and not by_threads:
            request |= {"records": str(options.records), "split": options.split}
        first_s, report = _probe(request, entry.name)
        if not by_threads:
            cold_start_s = first_s
            accuracy = {name: report.pop(name, value) for name, value in accuracy.items()}
        by_threads[threads] = report
    sizes = digest_files(path)
    num_bytes = sum(
        digest["bytes"]
        for file, digest in sizes.items()
        if file.partition("/")[0] in measured.paths
    )
    return Measurement(
        str(path),
        measured.name,
        entry.signature,
        num_bytes,
        cold_start_s,
        by_threads,
        **accuracy,
    )


def _probe(request: Mapping[str, Any], name: str) -> tuple[float, dict[str, Any]]:
    """Runs `probe`; returns the seconds until its first detections, and its report."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "detflow.benchmarking.probe", json.dumps(request)]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:  # noqa: S603
            answers = cast("IO[str]", process.stdout)
            answers.readline()
            first_s = time.perf_counter() - start
            result = answers.readline()
        errors.seek(0)
        said = errors.read().strip().splitlines()
    if process.returncode:
        reason = said[-1] if said else f"its process ended with {process.returncode}"
        raise ArtifactError(f"it cannot be measured: {reason}", path=name)
    report: dict[str, Any] = json.loads(result)
    return first_s, report


def _read_truth(
    cards: Mapping[Path, Mapping[str, Any]], options: BenchmarkOptions
) -> RecordsManifest | None:
    """Returns the records' manifest, whose classes must be those of all exports."""
    if options.records is None:
        return None
    manifest = read_manifest(options.records)
    if not sum(manifest.splits[name].images for name in resolve_split(manifest, options.split)):
        raise DataError(
            f"split {options.split} has no images",
            path=options.records,
            remedy="choose another split",
        )
    for path, card in cards.items():
        if card["classes"] != list(manifest.label_map):
            raise ConfigError(
                "the records have other classes than the model",
                path=path,
                remedy="name the model's own records",
            )
    return manifest
