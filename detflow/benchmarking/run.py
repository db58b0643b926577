"""`detflow benchmark`: exported folders → a table, JSON and a plot."""

from __future__ import annotations

import json
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
import numpy as np
import simplejpeg

from detflow.artifact import FORMATS, INPUT_NAME, ArtifactDir, Entry
from detflow.data.records.manifest import RecordsManifest, read_manifest, resolve_split
from detflow.data.records.reading import read_samples
from detflow.errors import ArtifactError, ConfigError, DataError
from detflow.progress import show_progress
from detflow.publish import digest_files, publish_directory, require_replaceable
from detflow.tables import format_metric, print_rows

__all__ = [
    "MARKER_NAME",
    "PLOT_NAME",
    "TABLE_KEY",
    "BenchmarkOptions",
    "Measurement",
    "benchmark_artifacts",
    "describe_benchmark",
    "parse_threads",
    "print_benchmark",
]

MARKER_NAME: Final = "benchmark.json"
PLOT_NAME: Final = "benchmark.png"

_FORMAT_VERSION = 1
_NUM_IMAGES = 32
# Where the user names no records: pictures of a usual size that compress like photographs.
_DRAWN_SIZE = (480, 640)
_DRAWN_SEED = 11


@dataclass(frozen=True)
class BenchmarkOptions:
    """How it is measured.

    Attributes:
        records: Folder that make-records wrote; its images are detected on, and AP is measured.
            Without, pictures are drawn, and AP is what the export's proof measured.
        split: Split of the records.
        threads: Numbers of threads to measure the latency with.
        batch: Images that go through together when throughput is measured.
        seconds: For each of latency and throughput.
    """

    records: Path | None = None
    split: str = "test"
    threads: tuple[int, ...] = (1, os.cpu_count() or 1)
    batch: int = 8
    seconds: float = 3.0


@dataclass(frozen=True)
class Measurement:
    """One way into a format.

    Attributes:
        artifact: The exported folder.
        format: The format's name.
        signature: The entry's, where the format has several ways in; else empty.
        bytes: Of the format's files.
        cold_start_s: From starting a process to its first detections.
        by_threads: What `probe` tells, by the number of threads.
        ap: AP; None where nobody could measure it.
    """

    artifact: str
    format: str
    signature: str
    bytes: int
    cold_start_s: float
    by_threads: Mapping[int, Mapping[str, Any]]
    ap: float | None

    @property
    def name(self) -> str:
        """For tables and plots."""
        return f"{self.format} {self.signature}".rstrip()

    @property
    def first(self) -> Mapping[str, Any]:
        """With the first of the thread numbers."""
        return next(iter(self.by_threads.values()))


def parse_threads(text: str) -> tuple[int, ...]:
    """Reads `1,2,4`.

    Raises:
        ConfigError: It is something else.
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
        options: How.
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
    require_replaceable(output, MARKER_NAME)
    with publish_directory(output) as staging:
        found = _measure_all(artifacts, options)
        from detflow.benchmarking.plot import draw_benchmark

        (staging / MARKER_NAME).write_text(
            json.dumps(describe_benchmark(found, options), indent=2) + "\n", encoding="utf-8"
        )
        (staging / PLOT_NAME).write_bytes(draw_benchmark(found))
    return found


def describe_benchmark(found: Sequence[Measurement], options: BenchmarkOptions) -> dict[str, Any]:
    """Returns what benchmark.json holds."""
    return {
        "format_version": _FORMAT_VERSION,
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "options": asdict(options) | {"records": options.records and str(options.records)},
        "formats": [asdict(one) for one in found],
        "fastest": _describe_fastest(found),
    }


TABLE_KEY: Final = (
    "thr.: threads · p50, p95: ms from a JPEG file to its detections, batch 1 · net: ms of the bare network, ratio: p50 to it\n"
    "img/s: in batches · RAM: peak MB · start: s from a process' start to its first detections · MB: on disk"
)
"""What stands in `print_benchmark`'s columns."""


def print_benchmark(found: Sequence[Measurement]) -> None:
    """Prints a table, one line a format and number of threads, narrow enough for 80 columns, and which is the fastest."""
    rows = []
    for one in found:
        for threads, told in one.by_threads.items():
            first = told is one.first
            milliseconds = told["milliseconds"]
            rows.append(
                (
                    one.name if first else "",
                    f"{threads}",
                    f"{milliseconds['end_to_end']['p50']:.1f}",
                    f"{milliseconds['end_to_end']['p95']:.1f}",
                    f"{milliseconds['network']['p50']:.1f}",
                    f"{told['ratio']:.2f}",
                    f"{told['images_per_second']:.0f}",
                    f"{told['peak_bytes'] / 1e6:.0f}",
                    f"{one.cold_start_s:.2f}" if first else "",
                    f"{one.bytes / 1e6:.1f}" if first else "",
                    format_metric(one.ap) if first else "",
                )
            )
    print_rows(
        ("format", "thr.", "p50", "p95", "net", "ratio", "img/s", "RAM", "start", "MB", "AP"), rows
    )
    fastest = _describe_fastest(found)
    click.echo(
        f"Fastest end to end: {fastest['format']}, {fastest['threads']} thread(s): {fastest['end_to_end_ms']:.1f} ms, "
        f"{fastest['ratio']:.2f} times its bare network's {fastest['network_ms']:.1f} ms."
    )


def _describe_fastest(found: Sequence[Measurement]) -> dict[str, Any]:
    """Tells which way in, with which number of threads, has the lowest p50 from a JPEG file to its detections."""
    one, threads, told = min(
        ((one, threads, told) for one in found for threads, told in one.by_threads.items()),
        key=lambda item: item[2]["milliseconds"]["end_to_end"]["p50"],
    )
    return {
        "artifact": one.artifact,
        "format": one.name,
        "threads": threads,
        "end_to_end_ms": told["milliseconds"]["end_to_end"]["p50"],
        "network_ms": told["milliseconds"]["network"]["p50"],
        "ratio": told["ratio"],
    }


# --- Measuring ------------------------------------------------------------------------------------


def _measure_all(artifacts: Sequence[Path], options: BenchmarkOptions) -> list[Measurement]:
    cards = {path: ArtifactDir(path).verify() for path in artifacts}
    manifest = _read_truth(cards, options)
    todo = [
        (path, name, entry) for path, card in cards.items() for name, entry in _entries(path, card)
    ]
    with tempfile.TemporaryDirectory() as folder, show_progress() as progress:
        images = list(_write_images(Path(folder), manifest, options))
        found = []
        for done, (path, name, entry) in enumerate(todo, start=1):
            found.append(_measure(path, cards[path], name, entry, images, options, manifest))
            progress("measuring", done, len(todo))
    return found


def _entries(path: Path, card: Mapping[str, Any]) -> Iterator[tuple[str, Entry]]:
    """Yields the ways in that take pixels; one that the export's proof refused is none."""
    for name, told in card["formats"].items():
        if name not in FORMATS:
            raise ArtifactError(f"the format {name} is not known here", path=path)
        for entry in FORMATS[name].entries:
            if entry.input_name == INPUT_NAME and entry.name in told["entries"]:
                yield name, entry


def _measure(
    path: Path,
    card: Mapping[str, Any],
    name: str,
    entry: Entry,
    images: Sequence[str],
    options: BenchmarkOptions,
    manifest: RecordsManifest | None,
) -> Measurement:
    by_threads: dict[int, Mapping[str, Any]] = {}
    metrics, canvas = card["formats"][name]["metrics"], card["canvas_size"]
    cold_start_s, ap = 0.0, None if metrics is None else metrics["AP"]
    for threads in dict.fromkeys(options.threads):
        request = {
            "path": str(path / entry.path),
            "signature": entry.signature,
            "canvas_size": [canvas["height"], canvas["width"]],
            "threads": threads,
            "images": images,
            "batch": options.batch,
            "seconds": options.seconds,
            "records": None,
        }
        if options.records is not None and manifest is not None and not by_threads:
            request |= {"records": str(options.records), "split": options.split}
        first_s, told = _probe(request, entry.name)
        if not by_threads:
            cold_start_s, ap = first_s, told.pop("ap", ap)
        by_threads[threads] = told
    sizes = digest_files(path)
    num_bytes = sum(
        digest["bytes"]
        for file, digest in sizes.items()
        if file.partition("/")[0] in FORMATS[name].paths
    )
    return Measurement(str(path), name, entry.signature, num_bytes, cold_start_s, by_threads, ap)


def _probe(request: Mapping[str, Any], name: str) -> tuple[float, dict[str, Any]]:
    """Returns the seconds from the start of a process to its first detections, and what it measured."""
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
    told: dict[str, Any] = json.loads(result)
    return first_s, told


# --- Images ---------------------------------------------------------------------------------------


def _read_truth(
    cards: Mapping[Path, Mapping[str, Any]], options: BenchmarkOptions
) -> RecordsManifest | None:
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


def _write_images(
    folder: Path, manifest: RecordsManifest | None, options: BenchmarkOptions
) -> Iterator[str]:
    """Writes the JPEG files that are detected on."""
    if manifest is None or options.records is None:
        files: Iterator[bytes] = _draw_images()
    else:
        files = (
            sample.encoded for sample in read_samples(options.records, manifest, options.split)
        )
    for number, content in zip(range(_NUM_IMAGES), files, strict=False):
        path = folder / f"{number:03}.jpg"
        path.write_bytes(content)
        yield str(path)


def _draw_images() -> Iterator[bytes]:
    """Yields seeded pictures of patches with a little noise."""
    random = np.random.default_rng(_DRAWN_SEED)
    height, width = _DRAWN_SIZE
    while True:
        coarse = random.integers(0, 256, (height // 32, width // 32, 3))
        pixels = np.kron(coarse, np.ones((32, 32, 1), np.int64)) + random.normal(
            0, 6, (height, width, 3)
        )
        content = np.clip(pixels, 0, 255).astype(np.uint8)
        yield bytes(
            simplejpeg.encode_jpeg(content, quality=90, colorspace="RGB", colorsubsampling="420")
        )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )
