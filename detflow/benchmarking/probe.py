"""The process of one measurement: `python -m detflow.benchmarking.probe REQUEST`.

The request is JSON. The process writes a line to stdout as soon as it has its first detections, and
its report as a second line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detflow.artifact import INPUT_NAME
from detflow.data.images.decode import decode_pixels
from detflow.data.images.pictures import decode_picture
from detflow.data.records.manifest import read_manifest
from detflow.data.records.reading import read_samples
from detflow.errors import ArtifactError, DetflowError
from detflow.geometry import Images
from detflow.inference.detector import Detector, Runner
from detflow.inference.formats import find_format
from detflow.metrics.coco import CocoEvaluation, EvaluatedImage
from detflow.metrics.intervals import find_range
from detflow.process.platform import peak_memory

# An action runs so many times before the next one has its turn. The first runs do not count: for a
# while after its last run the threads of the former runtime keep the cores busy, waiting for work.
_TURN_RUNS = 6
_SETTLING_RUNS = 2
_MIN_TURNS = 2


def main() -> None:
    """Measures; a fault that a user can act on is one line on stderr and an exit code."""
    request = json.loads(sys.argv[1])
    try:
        _measure(request)
    except DetflowError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)


def _measure(request: dict[str, Any]) -> None:
    path, threads = Path(request["path"]), request["threads"]
    files = [Path(name).read_bytes() for name in request["images"]]
    measured = find_format(request["format"])
    if measured is None:
        raise ArtifactError(f"the format {request['format']} is not known here", path=path)
    entry = next(
        entry
        for entry in measured.entries
        if entry.input_name == INPUT_NAME and entry.signature == request["signature"]
    )
    run = measured.load(path, entry, threads=threads)

    def decode(file: bytes) -> Images:
        return decode_pixels(file, canvas_sizes=request["canvas_sizes"]).pixels

    def detect(file: bytes) -> object:
        return run(decode(file)[np.newaxis])

    detect(files[0])
    _tell({"detected": True})

    pixels = [decode(file) for file in files]
    bare = measured.load_bare_network(path, entry, tuple(request["canvas_size"]), threads=threads)
    # The actions take turns, so that whatever else the machine does slows all of them.
    times = _time_in_turns(
        {
            "end_to_end": lambda i: detect(files[i]),
            "decode": lambda i: decode(files[i]),
            "detect": lambda i: run(pixels[i][np.newaxis]),
            "network": lambda i: bare(),
        },
        len(files),
        request["seconds"],
    )
    peak_bytes = peak_memory()
    batch = np.stack([pixels[0]] * request["batch"])
    in_batches = _time_in_turns({"batch": lambda i: run(batch)}, 1, request["seconds"])["batch"]
    milliseconds = {
        name: {"p50": _percentile(values, 50), "p95": _percentile(values, 95)}
        for name, values in times.items()
    }
    result = {
        "milliseconds": milliseconds,
        "runs": len(times["end_to_end"]),
        "ratio": milliseconds["end_to_end"]["p50"] / milliseconds["network"]["p50"],
        "images_per_second": request["batch"] / (_percentile(in_batches, 50) / 1e3),
        "peak_bytes": peak_bytes,
    }
    if request["records"] is not None:
        sizes = request["canvas_sizes"]
        result |= _measure_ap(Path(request["records"]), request["split"], run, path, sizes)
    _tell(result)


def _tell(message: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(message)}\n")
    sys.stdout.flush()


def _measure_ap(
    records: Path, split: str, run: Runner, path: Path, canvas_sizes: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """Returns AP, where it lies, and the number of objects."""
    manifest = read_manifest(records)
    detector = Detector(run, manifest.label_map, path, canvas_sizes)
    images = []
    for sample in read_samples(records, manifest, split):
        picture = decode_picture(sample.encoded, upright=False, canvas_sizes=canvas_sizes)
        (detections,) = detector.detect_pictures([picture])
        images.append(EvaluatedImage(sample.size, sample.objects, detections))
    coco = CocoEvaluation(images, manifest.label_map)
    objects, interval = find_range(coco.rankings(), manifest.label_map)
    return {"ap": coco.metrics()["AP"], "ap_interval": interval, "ap_objects": objects}


def _time_in_turns(
    actions: dict[str, Callable[[int], object]], count: int, seconds: float
) -> dict[str, Sequence[float]]:
    """Runs actions in turns until the time is up.

    Args:
        actions: Functions of an item's number.
        count: Number of items; an action takes one after the other.
        seconds: Least time.

    Returns:
        The seconds of each run that counts, by action.
    """
    for action in actions.values():
        action(0)
    times: dict[str, list[float]] = {name: [] for name in actions}
    end = time.perf_counter() + seconds
    turn = 0
    while turn < _MIN_TURNS or time.perf_counter() < end:
        for name, action in actions.items():
            for number in range(turn * _TURN_RUNS, (turn + 1) * _TURN_RUNS):
                start = time.perf_counter()
                action(number % count)
                if number >= turn * _TURN_RUNS + _SETTLING_RUNS:
                    times[name].append(time.perf_counter() - start)
        turn += 1
    return dict(times)


def _percentile(seconds: Sequence[float], share: float) -> float:
    """Returns a percentile in milliseconds."""
    return float(np.percentile(seconds, share) * 1e3)


if __name__ == "__main__":
    main()
