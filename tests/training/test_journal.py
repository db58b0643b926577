"""What comes back of a curve that was removed, with TensorBoard's real files."""

import os

import numpy as np
import pytest

from detflow.runs.run_dir import RunDir
from detflow.training.journal import Journal

pytestmark = pytest.mark.tf


def test_a_lost_curve_comes_back_from_tensorboard_bit_by_bit_or_stays_empty(tmp_path):
    run = RunDir(tmp_path)
    journal = Journal(run, 0, ["box"], ["AP"])
    # As TensorFlow gives them: float32.
    for step in range(1, 41):
        losses = [float(np.float32(value)) for value in (step / 3, 1 / (3 * step))]
        journal.step(step, losses, float(np.float32(1 / 3)))
    journal.evaluated(40, {"AP": 1 / 3}, [])
    journal.flush()
    written = run.losses_path.read_text().splitlines()
    events = next(run.tensorboard_dir.iterdir())
    os.truncate(events, events.stat().st_size - 3)

    run.losses_path.unlink()
    run.results_path.unlink()
    again = Journal(run, 39, ["box"], ["AP"], [(30, {"AP": 1 / 3})])
    assert again.notes == [
        "losses.csv lacked 39 steps of 39: 1 come from TensorBoard's events, 38 stay empty",
        "results.csv lacked 1 evaluation of 1: the newest checkpoint remembers them",
    ]
    found = run.losses_path.read_text().splitlines()
    assert found[20] == written[20]
    assert found[19] == "19,,,"
    assert run.results_path.read_text().splitlines()[1] == f"30,{1 / 3!r}"
