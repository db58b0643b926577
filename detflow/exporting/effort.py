"""How long a training took, as its TensorBoard events tell."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import tensorflow as tf


def count_minutes(folder: Path, step: int) -> float | None:
    """Returns the minutes of steps and evaluations up to a step; None where nothing tells.

    Each process wrote a file of its own; what lies between two processes is no training.

    Args:
        folder: The run's folder of events.
        step: Of the checkpoint.
    """
    seconds, is_told = 0.0, False
    for path in sorted(folder.glob("events.out.tfevents.*")):
        times = []
        # The last event of a process that was killed may be torn.
        with contextlib.suppress(tf.errors.OpError):
            for event in tf.compat.v1.train.summary_iterator(os.fspath(path)):
                if event.step <= step and event.HasField("summary"):
                    times.append(event.wall_time)
        if times:
            seconds += max(times) - min(times)
            is_told = True
    return seconds / 60 if is_told else None
