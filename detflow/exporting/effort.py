"""How long a training took, as its TensorBoard events tell."""

from __future__ import annotations

import contextlib
from pathlib import Path

from detflow.data.records.tfrecord import read_records
from detflow.errors import ArtifactError


def count_minutes(folder: Path, step: int) -> float | None:
    """Returns the minutes of steps and evaluations up to a step; None where nothing tells.

    Each process wrote a file of its own; what lies between two processes is no training.

    Args:
        folder: The run's folder of events.
        step: Of the checkpoint.
    """
    seconds, is_told = 0.0, False
    for path in sorted(folder.glob("events.out.tfevents.*")):
        times = _read_times(path, step)
        if times:
            seconds += max(times) - min(times)
            is_told = True
    return seconds / 60 if is_told else None


def _read_times(path: Path, step: int) -> list[float]:
    """Returns when the events of the steps up to one were written, in seconds."""
    from tensorboard.compat.proto.event_pb2 import Event

    times = []
    # The last event of a process that was killed may be torn; those before it stand.
    with contextlib.suppress(ArtifactError):
        for _, data in read_records(path):
            event = Event.FromString(data)
            if event.HasField("summary") and event.step <= step:
                times.append(event.wall_time)
    return times
