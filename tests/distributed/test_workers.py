"""Several processes train as one: real workers."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import forks
import numpy as np
import pytest
import tensorflow as tf

from detflow.config.reading import format_config
from detflow.distributed.topology import TF_CONFIG, format_topology
from detflow.errors import ConfigError
from detflow.runs.record import with_steps
from detflow.runs.run_dir import RunDir
from detflow.training.preflight import prepare_start
from detflow.training.recipe import train

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
    """Starts `detflow train --workers` in a folder of its own.

    (workers, name, settings) → process, model directory, log.
    """
    folder = tmp_path_factory.mktemp("workers")
    (folder / "config.yaml").write_text(format_config(config))

    def run(workers, name, *settings, options=()):
        log = folder / f"{name}.log"
        command = [
            "train",
            f"--config={folder / 'config.yaml'}",
            f"--model-dir={folder / name}",
            f"--workers={workers}",
        ]
        command += [*options, *(f"--set={setting}" for setting in settings)]
        with log.open("wb") as output:
            return (
                subprocess.Popen([sys.executable, "-m", "detflow", *command], stderr=output),
                folder / name,
                log,
            )

    run.folder = folder
    return run


def train_alone(config, model_dir):
    with RunDir(model_dir).locked() as run:
        train(run, prepare_start(config, run))
    return model_dir


@pytest.fixture(scope="module")
def alone(config, tmp_path_factory):
    return train_alone(config, tmp_path_factory.mktemp("alone") / "run")


@pytest.fixture(scope="module")
def pair(start):
    """Two workers that nothing disturbed, each started as on a machine of its own."""
    with socket.socket() as one, socket.socket() as two:
        for bound in (one, two):
            bound.bind(("127.0.0.1", 0))
        cluster = {"worker": [f"127.0.0.1:{bound.getsockname()[1]}" for bound in (one, two)]}
    command = ["train", f"--config={start.folder / 'config.yaml'}"]
    command.append(f"--model-dir={start.folder / 'two'}")
    folders = [start.folder / f"worker{index}" for index in range(2)]
    workers = []
    for index, folder in enumerate(folders):
        folder.mkdir()
        topology = {TF_CONFIG: format_topology(cluster, "worker", index)}
        workers.append(forks.start_command(command, folder, **topology))
    for worker in workers:
        worker.join(600)
        # One that waits in vain for the other.
        worker.kill()
        worker.join()
    logs = [(folder / "stderr").read_text() for folder in folders]
    assert [worker.exitcode for worker in workers] == [0, 0], logs
    assert "2 workers ended with equal weights" in logs[0]
    return start.folder / "two"


def losses(model_dir):
    with open(model_dir / "losses.csv", newline="") as file:
        return np.array([[float(value) for value in row] for row in list(csv.reader(file))[1:]])


def weights(model_dir):
    reader = tf.train.load_checkpoint(str(model_dir / f"ckpt-{STEPS}" / "ckpt"))
    names = [
        name
        for name in reader.get_variable_to_shape_map()
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
    ]
    return {name: reader.get_tensor(name) for name in names}


def workers_of(process):
    """Returns the processes that a launcher has started, in their order."""
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        return [int(pid) for pid in file.read().split()]


def wait(process, log):
    """Returns the exit code of a launcher. One that hangs is killed; its processes die with it."""
    try:
        return process.wait(600)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        pytest.fail(f"it hangs: {log.read_text()}")


def wait_for(path, process, log):
    while not path.exists():
        assert process.poll() is None, log.read_text()
        time.sleep(0.01)


def assert_same_curve(one, other):
    assert losses(one).shape == (STEPS, 5)
    np.testing.assert_allclose(losses(one), losses(other), **TOLERANCE)
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        # AdamW divides by the gradients' size: where they are all but zero it turns their rounding
        # into whole steps.
        np.testing.assert_allclose(value, second[name], rtol=1e-3, atol=2e-3, err_msg=name)


def test_two_workers_train_as_one_does(alone, pair):
    assert_same_curve(alone, pair)
    assert {path.name for path in pair.iterdir()} == {path.name for path in alone.iterdir()}


@pytest.mark.soak
@pytest.mark.whole_network
def test_two_workers_train_a_whole_network_as_one_does(config, start, tmp_path):
    process, model_dir, log = start(2, "whole")
    assert wait(process, log) == 0, log.read_text()
    assert_same_curve(train_alone(config, tmp_path / "run"), model_dir)


@pytest.mark.soak
def test_two_workers_train_as_one_does_though_one_of_them_is_killed(alone, start):
    process, model_dir, log = start(2, "killed")
    wait_for(model_dir / "ckpt-2", process, log)
    os.kill(workers_of(process)[1], signal.SIGKILL)
    assert wait(process, log) == 0, log.read_text()
    text = log.read_text()
    assert "worker 1 was killed by SIGKILL: restart 1 of 3 from the last checkpoint" in text
    assert "resuming at step" in text
    assert "2 workers ended with equal weights" in text
    assert_same_curve(alone, model_dir)
    assert {path.name for path in model_dir.iterdir()} == {path.name for path in alone.iterdir()}


@pytest.mark.soak
def test_a_killed_worker_changes_no_bit(pair, start):
    process, model_dir, log = start(2, "killed again")
    wait_for(model_dir / "ckpt-2", process, log)
    os.kill(workers_of(process)[1], signal.SIGKILL)
    assert wait(process, log) == 0, log.read_text()
    for name in ("losses.csv", "results.csv"):
        assert (model_dir / name).read_text() == (pair / name).read_text()
    for name, value in weights(pair).items():
        np.testing.assert_array_equal(value, weights(model_dir)[name], err_msg=name)


@pytest.mark.soak
def test_three_workers_train_as_one_does(alone, start):
    process, model_dir, log = start(3, "three")
    assert wait(process, log) == 0, log.read_text()
    assert "3 workers ended with equal weights" in log.read_text()
    assert_same_curve(alone, model_dir)


@pytest.mark.soak
def test_a_signal_to_one_worker_stops_all_at_the_same_step(start):
    process, model_dir, log = start(
        2,
        "stopped",
        "train.steps=100000",
        "evaluate.every_steps=1000",
        "checkpoint.every_steps=1000",
    )
    while "step 1/" not in log.read_text():
        assert process.poll() is None, log.read_text()
        time.sleep(0.01)
    os.kill(workers_of(process)[1], signal.SIGTERM)
    assert wait(process, log) == 128 + signal.SIGTERM, log.read_text()
    (saved,) = RunDir(model_dir).checkpoint_steps()
    assert f"stopped at step {saved:,}; the same command resumes" in log.read_text()
    assert "2 workers ended with equal weights" in log.read_text()


@pytest.mark.soak
def test_canvases_patience_and_a_time_budget_work_with_two_workers(
    tiny_config, mixed_records, start, tmp_path
):
    settings = {
        "data.records": str(mixed_records),
        "model.input_size": "[32, 48]",
        "model.more_input_sizes": "[[48, 32]]",
        # The number of steps does not yet matter to the first ones.
        "train.warmup_steps": 60,
        "evaluate.every_steps": 20,
        "checkpoint.every_steps": 20,
    }
    named = [f"{name}={value}" for name, value in settings.items()]
    process, model_dir, log = start(
        2, "all", *named, "train.time_budget=200s", "train.patience=1", "train.min_delta=1"
    )
    assert wait(process, log) == 0, log.read_text()
    text = log.read_text()
    assert "images by canvas: 32x48 5, 48x32 5" in text
    fits = json.loads((model_dir / "run.json").read_text())["plan"]
    assert f"the time budget comes to {fits[0][1]:,} steps" in text
    assert RunDir(model_dir).read_record().config.train.steps == fits[-1][1] > 40
    # Nothing gains as much as min_delta: the first evaluation sets the mark, the second one ends
    # the run.
    assert "stopped early: 1 evaluation without a gain" in text
    assert "2 workers ended with equal weights" in text
    assert losses(model_dir)[:, 0].tolist() == list(range(1, 41))

    overrides = {name.replace(".", "_", 1): value for name, value in settings.items()}
    alone = tiny_config(**overrides, train_steps=8, train_batch_size=6, runtime_precision="float32")
    with RunDir(tmp_path / "run").locked() as run:
        train(run, prepare_start(alone, run))
    np.testing.assert_allclose(losses(model_dir)[:8], losses(tmp_path / "run"), **TOLERANCE)


@pytest.mark.soak
@pytest.mark.parametrize("workers", [1, 2])
def test_ray_trains_as_one_process_does(workers, alone, start, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    options = ["--runner=ray", "--ray-address=local"]
    for _ in range(3):
        process, model_dir, log = start(workers, f"ray {workers}", options=options)
        code = wait(process, log)
        # Ray gives a node half a minute to start, which a loaded machine may not keep.
        if "The current node timed out during startup" not in log.read_text():
            break
    assert code == 0, log.read_text()
    assert ("2 workers ended with equal weights" in log.read_text()) == (workers == 2)
    assert_same_curve(alone, model_dir)


@pytest.mark.soak
def test_a_parameter_server_that_is_killed_ends_a_run_as_one_process_does(alone, start):
    model_dir = start.folder / "servers"
    shutil.copytree(alone, model_dir)
    for step in (3, 4, 6):
        shutil.rmtree(model_dir / f"ckpt-{step}")
    process, _, log = start(1, "servers", options=["--parameter-servers=1", "--accept-changes"])
    wait_for(model_dir / "ckpt-3", process, log)
    # After the chief.
    os.kill(workers_of(process)[1], signal.SIGKILL)
    assert wait(process, log) == 0, log.read_text()
    text = log.read_text()
    assert "resuming at step 2 of 6" in text
    assert "1 worker, 1 parameter server; the run is that of one process" in text
    assert "ps 0 was killed by SIGKILL: restart 1 of 3 from the last checkpoint" in text
    assert_same_curve(alone, model_dir)
    assert {path.name for path in model_dir.iterdir()} == {path.name for path in alone.iterdir()}
    assert json.loads((model_dir / "run.json").read_text())["asynchronous_workers"] == 1


@pytest.mark.soak
def test_two_workers_of_a_parameter_server_learn_though_one_is_killed(config, start):
    settings = ["train.steps=30", "evaluate.every_steps=15", "checkpoint.every_steps=5"]
    process, model_dir, log = start(2, "asynchronous", *settings, options=["--parameter-servers=1"])
    wait_for(model_dir / "ckpt-25", process, log)
    # It is not back before the run ends, which must not wait for it.
    os.kill(workers_of(process)[3], signal.SIGKILL)
    assert wait(process, log) == 0, log.read_text()
    text = log.read_text()
    assert "worker 1 was killed by SIGKILL: restart 1 of 3 alone: its steps are taken again" in text
    assert "resuming" not in text
    assert "no other run has the same bits" in text
    curve = losses(model_dir)
    assert curve[:, 0].tolist() == list(range(1, 31))
    assert curve[-8:, 1].mean() < 0.9 * curve[:8, 1].mean()

    # The same checkpoints, with or without.
    run_config = RunDir(model_dir).read_record().config
    longer = with_steps(run_config, 31)
    with RunDir(model_dir).locked() as run:
        with pytest.raises(ConfigError, match="asynchronous_workers was 2, now None"):
            prepare_start(run_config, run)
        assert train(run, prepare_start(longer, run, accept_changes=True)).state.step == 31
