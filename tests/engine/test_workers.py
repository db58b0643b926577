"""Several processes train as one: real workers, started by the command."""

import csv
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from detflow.config import format_config
from detflow.engine.preflight import prepare_start
from detflow.engine.train import train
from detflow.rundir import RunDir

pytestmark = [pytest.mark.tf, pytest.mark.slow]

STEPS = 6
# Sums over a batch are taken in another order; the differences grow a little with each step.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def config(tiny_config):
    return tiny_config(
        train_steps=STEPS,
        train_batch_size=6,
        checkpoint_every_steps=2,
        checkpoint_max_to_keep=9,
        evaluate_every_steps=3,
        runtime_precision="float32",
    )


@pytest.fixture(scope="module")
def start(config, tmp_path_factory):
    """Starts `detflow train --workers` in a folder of its own: (workers, name, settings) → process, model directory, log."""
    folder = tmp_path_factory.mktemp("workers")
    (folder / "config.yaml").write_text(format_config(config))

    def run(workers, name, *settings):
        log = folder / f"{name}.log"
        command = ["train", f"--config={folder / 'config.yaml'}", f"--model-dir={folder / name}", f"--workers={workers}"]
        command += [f"--set={setting}" for setting in settings]
        with log.open("wb") as output:
            return subprocess.Popen([sys.executable, "-m", "detflow", *command], stderr=output), folder / name, log

    return run


@pytest.fixture(scope="module")
def alone(config, tmp_path_factory):
    model_dir = tmp_path_factory.mktemp("alone") / "run"
    with RunDir(model_dir).locked() as run:
        train(run, prepare_start(config, run))
    return model_dir


@pytest.fixture(scope="module")
def pair(start):
    process, model_dir, log = start(2, "two")
    assert process.wait() == 0, log.read_text()
    assert "2 workers ended with equal weights" in log.read_text()
    return model_dir


def losses(model_dir):
    with open(model_dir / "losses.csv", newline="") as file:
        return np.array([[float(value) for value in row] for row in list(csv.reader(file))[1:]])


def weights(model_dir):
    reader = tf.train.load_checkpoint(str(model_dir / f"ckpt-{STEPS}" / "ckpt"))
    names = [name for name in reader.get_variable_to_shape_map() if name != "_CHECKPOINTABLE_OBJECT_GRAPH"]
    return {name: reader.get_tensor(name) for name in names}


def workers_of(process):
    """Returns the processes that a launcher has started, in their order."""
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        return [int(pid) for pid in file.read().split()]


def assert_same_curve(one, other):
    assert losses(one).shape == (STEPS, 5)
    np.testing.assert_allclose(losses(one), losses(other), **TOLERANCE)
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        # AdamW divides by the gradients' size: where they are all but zero it turns their rounding into whole steps.
        np.testing.assert_allclose(value, second[name], rtol=1e-3, atol=2e-3, err_msg=name)


def test_two_workers_train_as_one_does(alone, pair):
    assert_same_curve(alone, pair)
    assert {path.name for path in pair.iterdir()} == {path.name for path in alone.iterdir()}


def test_three_workers_train_as_one_does(alone, start):
    process, model_dir, log = start(3, "three")
    assert process.wait() == 0, log.read_text()
    assert "3 workers ended with equal weights" in log.read_text()
    assert_same_curve(alone, model_dir)


def test_a_killed_worker_changes_nothing_about_the_end(pair, start):
    process, model_dir, log = start(2, "killed")
    while not (model_dir / "ckpt-2").exists():
        assert process.poll() is None, log.read_text()
        time.sleep(0.01)
    os.kill(workers_of(process)[1], signal.SIGKILL)
    assert process.wait() == 0, log.read_text()
    assert "a worker was killed by SIGKILL: restart 1 of 3" in log.read_text()
    assert "resuming at step" in log.read_text()
    for name in ("losses.csv", "results.csv"):
        assert (model_dir / name).read_text() == (pair / name).read_text()
    for name, value in weights(pair).items():
        np.testing.assert_array_equal(value, weights(model_dir)[name], err_msg=name)


def test_a_signal_to_one_worker_stops_all_at_the_same_step(start):
    process, model_dir, log = start(2, "stopped", "train.steps=100000", "evaluate.every_steps=1000", "checkpoint.every_steps=1000")
    while "step 1/" not in log.read_text():
        assert process.poll() is None, log.read_text()
        time.sleep(0.01)
    os.kill(workers_of(process)[1], signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM, log.read_text()
    (saved,) = RunDir(model_dir).checkpoint_steps()
    assert f"stopped at step {saved:,}; the same command resumes" in log.read_text()
    assert "2 workers ended with equal weights" in log.read_text()
