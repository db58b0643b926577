#!/usr/bin/env python3
"""Measures how make-records scales: over processes, on Ray, and in what its driver holds.

The parts are:

- processes: the conversion with 1, 2 and 4 processes, without their start and imports. Efficiency
  is against one process; processes beyond the machine's cores cannot add to it.
- ray: the same conversion by the local runner with one process a core, and on a Ray cluster of as
  many cores that is started here. The cluster's start and a first small conversion, which makes
  every process import what it needs, are left out for both.
- plan: audit and plan of so many synthetic images. The driver's own code runs and the workers'
  answers are made up, so that it shows what one process has to hold and to do whatever the number
  of workers; the last column is computed from it.

Each runs in a process of its own, ROUNDS times in turn; the median counts. Run it on an idle
machine.

    tools/bench_scale.py ../shared/data/bccd --copies 10
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from bench_records import repeat_dataset

_PROCESSES = (1, 2, 4)
_EXTRAPOLATED = 10_000_000
_WARM_UP_COPIES = 1


def time_local(dataset: Path, small: Path, output: Path, jobs: int) -> dict[str, float]:
    """Times the local runner with its processes at work already."""
    from detflow.data.making import RecordOptions, publish_records
    from detflow.data.workers.processes import open_workers

    options = RecordOptions(report=False)
    with open_workers(jobs, "detflow.data.making") as workers:
        publish_records(small, output, options, workers=workers)
        began = time.perf_counter()
        publish_records(dataset, output, options, workers=workers)
        return {"wall": time.perf_counter() - began}


def time_ray(dataset: Path, small: Path, output: Path, jobs: int) -> dict[str, float]:
    """Times the Ray runner on a cluster of this machine; `start` is the time of its start."""
    from detflow.data.making import RecordOptions, publish_records
    from detflow.data.workers.ray import open_cluster

    options = RecordOptions(report=False)
    began = time.perf_counter()
    with open_cluster("local", jobs) as workers:
        started = time.perf_counter()
        publish_records(small, output, options, workers=workers)
        warm = time.perf_counter()
        publish_records(dataset, output, options, workers=workers)
        return {"start": started - began, "wall": time.perf_counter() - warm}


class SyntheticFolder:
    """A dataset of names only; see `detflow.storage.folders.Folder`."""

    name = "synthetic"
    location = Path("/synthetic")

    def __init__(self, count: int) -> None:
        self._count = count

    def walk(self, skip: Callable[[str], bool]) -> Iterator[Any]:
        """Yields an annotation and an image for each number, in folders of ten thousand."""
        from detflow.storage.interface import Entry

        for number in range(self._count):
            yield Entry(f"annotations/{number // 10_000:05}/{number:09}.xml")
            yield Entry(f"images/{number // 10_000:05}/{number:09}.jpg")


class SyntheticWorkers:
    """Answers as workers would, without having read anything.

    The images have 100 kB, and 1 to 9 objects of up to 3 of 20 classes.
    """

    def __init__(self) -> None:
        self._random = random.Random(0)  # noqa: S311
        self.line_bytes = 0

    def __call__(self, function: Any, items: Iterable[Any], chunk: int) -> Iterator[Any]:
        """Takes a `BatchJudge` for audits, and the function that writes a shard."""
        from detflow.data.judging.batch import BatchJudge

        return map(self._read if isinstance(function, BatchJudge) else self._write, items)

    def _read(self, batch: Any) -> Any:
        from detflow.data.judging.batch import BatchReading
        from detflow.data.judging.testimony import Group, Tally

        counts = len(batch.tasks)
        tallies = {Group("annotations", ""): Tally(annotations=counts, undecided=5 * counts)}
        return BatchReading(self._read_all(batch.tasks), tallies)

    def _read_all(self, tasks: list[Any]) -> list[Any]:
        return [self._read_one(task.path, task.image) for task in tasks]

    def _read_one(self, annotation: str, image: str) -> Any:
        from detflow.data.images.transcode import Treatment
        from detflow.data.judging.batch import AnnotationReading, FileReading, Judgement
        from detflow.data.judging.provisional import Basis, Look
        from detflow.data.judging.rulings import Rest, Rulings
        from detflow.data.judging.sample import AuditedSample, ClassCount
        from detflow.data.judging.testimony import Group
        from detflow.data.records.schema import ObjectColumns
        from detflow.data.sources.source import ImageNames
        from detflow.types import ImageSize

        draw = self._random
        classes = sorted(draw.sample(range(20), draw.randint(1, 3)))
        counts = tuple(
            ClassCount(f"class {number}", draw.randint(1, 3), draw.randint(5, 60))
            for number in classes
        )
        names = [count.name for count in counts for _ in range(count.objects)]
        zeros, box = [0] * len(names), (0.125, 0.25, 0.5, 0.75)
        columns = ObjectColumns(
            names, [box] * len(names), zeros, zeros, ["Unspecified"] * len(names), zeros
        )
        sha256 = draw.randbytes(32)
        line = AuditedSample(
            annotation, image, 100_000, sha256.hex(), ImageSize(1280, 720), Treatment(), columns
        ).to_json()
        self.line_bytes += len(line)
        look = Look("jpeg", "jpeg colour", 1, is_plain_jpeg=True)
        rest = Rest.PATTERN | Rest.FRAME
        basis = Basis(
            Group("annotations", ""), Rulings().find(Group("", "")), rest, look, 1280, 720
        )
        judgement = Judgement(
            annotation, image, 100_000, sha256, draw.randbytes(32), counts, line, (), basis
        )
        names = ImageNames(image.rpartition("/")[2], None)
        reading = AnnotationReading(names, None, judgement)
        return FileReading(draw.randbytes(32), (reading,), ())

    def _write(self, task: Any) -> Any:
        from detflow.data.records.manifest import ShardInfo
        from detflow.data.shards import ShardResult

        return ShardResult(
            ShardInfo(task.name, len(task.lines), 100_000 * len(task.lines), "0" * 64), {}, ""
        )


def time_plan(count: int) -> dict[str, float]:
    """Audits and plans so many synthetic images; returns what the driver held and took.

    The time that it takes to make up the answers is left out.
    """
    from detflow.data.judging.audit import AuditOptions, audit_dataset
    from detflow.data.shards import write_shards
    from detflow.data.sources.voc.source import VOC
    from detflow.storage.folders import LocalFolder
    from detflow.storage.publishing import Staging

    def nothing(what: str, done: int, total: int) -> None:
        """Progress goes nowhere."""

    made_up = SyntheticWorkers()
    began = time.process_time()
    for number in range(count // 10):
        made_up._read_one(f"annotations/{number:09}.xml", f"images/{number:09}.jpg")
    answering = 10 * (time.process_time() - began)
    workers: Any = SyntheticWorkers()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        began = time.process_time()
        audit = audit_dataset(
            SyntheticFolder(count), AuditOptions(dialect=VOC), path, workers, nothing
        )  # type: ignore[arg-type]
        audited = time.process_time() - began - answering
        began = time.process_time()
        staging = Staging(path, path, LocalFolder(path), LocalFolder(path), "manifest.json")
        splits = write_shards(audit, 0, staging, workers, nothing)
        planned = time.process_time() - began
    return {
        "shards": sum(len(split.shards) for split in splits.values()),
        "memory": 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before),
        "plan_bytes": workers.line_bytes,
        "audit_cpu": audited,
        "shards_cpu": planned,
    }


def run_in_process(part: str, *arguments: object) -> dict[str, float]:
    """Runs a part in a process of its own and returns what it printed."""
    command = [sys.executable, __file__, "--part", part, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(result.stderr)
    measured: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return measured


def run_part(part: str, arguments: list[str]) -> None:
    """Runs a part in this process and prints what it took."""
    if part == "plan":
        print(json.dumps(time_plan(int(arguments[0]))))
        return
    dataset, small, jobs = Path(arguments[0]), Path(arguments[1]), int(arguments[2])
    with tempfile.TemporaryDirectory(dir=dataset.parent) as folder:
        measure = {"local": time_local, "ray": time_ray}[part]
        print(json.dumps(measure(dataset, small, Path(folder) / "out", jobs)))


def measure_medians(parts: dict[str, tuple[Any, ...]], rounds: int) -> dict[str, dict[str, float]]:
    """Runs parts in turn, several times; returns the median of each figure."""
    found = [
        {name: run_in_process(*arguments) for name, arguments in parts.items()}
        for _ in range(rounds)
    ]
    return {
        name: {key: statistics.median(one[name][key] for one in found) for key in found[0][name]}
        for name in parts
    }


def print_runners(count: int, rows: dict[str, dict[str, float]], cores: int) -> None:
    """Prints the conversions."""
    one = rows["1 process"]["wall"]
    print(f"{'':16}{'conversion s':>14}{'images/s':>12}{'efficiency':>12}")
    for name, row in rows.items():
        processes = cores if name == "ray" else int(name.split()[0])
        print(
            f"{name:16}{row['wall']:14.2f}{count / row['wall']:12,.0f}"
            f"{one / row['wall'] / processes:12.0%}"
        )
    local = rows[_name(cores)]["wall"]
    print(
        f"ray against {_name(cores)}: {rows['ray']['wall'] / local:.2f}; "
        f"the cluster took {rows['ray']['start']:.1f} s to start"
    )


def print_plan(count: int, row: dict[str, float]) -> None:
    """Prints what the driver holds."""
    factor = _EXTRAPOLATED / count
    print(f"{'':34}{f'{count:,} images':>20}{'an image':>14}{f'{_EXTRAPOLATED:,} (computed)':>24}")
    for name, key, unit, scale in (
        ("shards", "shards", "", 1.0),
        ("plan on the disk", "plan_bytes", " MB", 1e6),
        ("driver's memory at its peak", "memory", " MB", 1e6),
        ("driver's CPU: audit", "audit_cpu", " s", 1.0),
        ("driver's CPU: handing out shards", "shards_cpu", " s", 1.0),
    ):
        value = row[key]
        each = (
            f"{value / count * (1e6 if unit == ' s' else 1):,.0f} {'µs' if unit == ' s' else 'B'}"
            if unit
            else ""
        )
        print(
            f"{name:34}{f'{value / scale:,.1f}{unit}':>20}{each:>14}"
            f"{f'{value * factor / scale:,.0f}{unit}':>24}"
        )


def _name(processes: int) -> str:
    return f"{processes} process{'es' if processes > 1 else ''}"


def main() -> None:
    """Reads the command line, measures and prints tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path, nargs="?", help="a folder of VOC XML and JPEGs")
    parser.add_argument(
        "--copies", type=int, default=10, help="how many times the dataset is repeated (default 10)"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="how often each conversion runs (default 3)"
    )
    parser.add_argument(
        "--plan",
        type=int,
        default=300_000,
        metavar="N",
        help="synthetic images of the plan (default 300,000)",
    )
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        run_part(arguments.part[0], arguments.part[1:])
        return
    if arguments.dataset is None:
        parser.error("name a dataset")
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder) / "large", Path(folder) / "small"
        count = repeat_dataset(arguments.dataset, large, arguments.copies)
        repeat_dataset(arguments.dataset, small, _WARM_UP_COPIES)
        print(f"{count:,} images, {cores} cores, median of {arguments.rounds}")
        parts = {
            _name(jobs): ("local", large, small, jobs) for jobs in sorted({*_PROCESSES, cores})
        }
        print_runners(
            count,
            measure_medians({**parts, "ray": ("ray", large, small, cores)}, arguments.rounds),
            cores,
        )
    print_plan(arguments.plan, run_in_process("plan", arguments.plan))


if __name__ == "__main__":
    main()
