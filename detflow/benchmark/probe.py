"""What one measurement's process does: `python -m detflow.benchmark.probe`, with a request as JSON on stdin.

It tells of its first detections on stdout as soon as it has them, and of everything else on a second line.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detflow.dataset.images import decode_upright
from detflow.errors import DetflowError
from detflow.models import load_runner

__all__ = ["main"]

_MIN_RUNS = 5


def main() -> None:
    """Measures; a fault that a user can act on goes to stderr in one line, with its exit code."""
    request = json.load(sys.stdin)
    try:
        _measure(request)
    except DetflowError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


def _measure(request: dict[str, Any]) -> None:
    path, signature, threads = Path(request["path"]), request["signature"], request["threads"]
    files = [Path(name).read_bytes() for name in request["images"]]
    run = load_runner(path, signature=signature, threads=threads)

    def detect(file: bytes) -> object:
        pixels, _ = decode_upright(file)
        return run(pixels[np.newaxis])

    detect(files[0])
    print(json.dumps({"detected": True}), flush=True)

    from detflow.benchmark.network import load_bare_network

    pixels = [decode_upright(file)[0] for file in files]
    bare = load_bare_network(path, signature, threads)
    # In turns, so that whatever else the machine does slows all of them.
    times = _time_in_turns(
        {
            "end_to_end": lambda i: detect(files[i]),
            "decode": lambda i: decode_upright(files[i]),
            "detect": lambda i: run(pixels[i][np.newaxis]),
            "network": lambda i: bare(),
        },
        len(files),
        request["seconds"],
    )
    # Kilobytes on Linux.
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    batch = np.stack([pixels[0]] * request["batch"])
    in_batches = _time_in_turns({"batch": lambda i: run(batch)}, 1, request["seconds"])["batch"]
    milliseconds = {name: {"p50": _percentile(values, 50), "p95": _percentile(values, 95)} for name, values in times.items()}
    result = {
        "milliseconds": milliseconds,
        "runs": len(times["end_to_end"]),
        "ratio": milliseconds["end_to_end"]["p50"] / milliseconds["network"]["p50"],
        "images_per_second": request["batch"] / (_percentile(in_batches, 50) / 1e3),
        "peak_bytes": peak_bytes,
    }
    print(json.dumps(result), flush=True)


def _time_in_turns(actions: dict[str, Callable[[int], object]], count: int, seconds: float) -> dict[str, Sequence[float]]:
    """Runs every action again and again, each on items 0 to count - 1 in turn; returns seconds by action."""
    for action in actions.values():
        action(0)
    times: dict[str, list[float]] = {name: [] for name in actions}
    end = time.perf_counter() + seconds
    turn = 0
    while turn < _MIN_RUNS or time.perf_counter() < end:
        for name, action in actions.items():
            start = time.perf_counter()
            action(turn % count)
            times[name].append(time.perf_counter() - start)
        turn += 1
    return {name: values for name, values in times.items()}


def _percentile(seconds: Sequence[float], share: float) -> float:
    """Milliseconds."""
    return float(np.percentile(seconds, share) * 1e3)


if __name__ == "__main__":
    main()
