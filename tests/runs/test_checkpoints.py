import contextlib
import dataclasses
import json
import logging
import multiprocessing
import os
import random
import shutil
import time

import forks
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detflow.config.reading import parse_config
from detflow.errors import ArtifactError, EnvironmentFault
from detflow.label_map import LabelMap
from detflow.runs.checkpoints import Checkpoints, WeightAverage
from detflow.runs.plan import Plan
from detflow.runs.record import RunRecord
from detflow.runs.run_dir import RunDir
from detflow.runs.states import read_state, resolve_checkpoint

pytestmark = pytest.mark.tf


CONFIG = parse_config("data: {records: x}", ["checkpoint.max_to_keep=2"])


def build_record(config, classes=("cat", "dog"), **changes):
    machine = {"threads": 2}
    record = RunRecord(config, LabelMap(classes), "0" * 64, machine, Plan.fixed(9), detflow="1")
    return dataclasses.replace(record, **changes)


class Saved:
    """A run whose whole state is one vector, equal to the step."""

    def __init__(self, model_dir, config=CONFIG, record=None):
        model_dir.mkdir(exist_ok=True)
        self.run = RunDir(model_dir)
        self.vector = tf.Variable(tf.zeros([5000]))
        tracked = {"network": tf.Module(), "vector": self.vector}
        self.checkpoints = Checkpoints(self.run, tracked, config, record or build_record(config))

    def save(self, step, metrics=None):
        self.vector.assign(tf.fill([5000], float(step)))
        return self.checkpoints.save(step, metrics or {})


@pytest.fixture
def saved(tmp_path):
    return Saved(tmp_path / "run")


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "data truncated": lambda folder: os.truncate(folder / "ckpt.data-00000-of-00001", 100),
    "data flipped": lambda folder: flip(folder / "ckpt.data-00000-of-00001"),
    "data missing": lambda folder: (folder / "ckpt.data-00000-of-00001").unlink(),
    "data linked elsewhere": lambda folder: (
        shutil.move(folder / "ckpt.data-00000-of-00001", folder.parent / "elsewhere"),
        (folder / "ckpt.data-00000-of-00001").symlink_to(folder.parent / "elsewhere"),
    ),
    "index flipped": lambda folder: flip(folder / "ckpt.index"),
    "state missing": lambda folder: (folder / "state.json").unlink(),
    "state empty": lambda folder: (folder / "state.json").write_text(""),
    "state cut": lambda folder: os.truncate(folder / "state.json", 40),
    "state foreign": lambda folder: (folder / "state.json").write_text(
        '{"step": 2, "files": {"../../x": {"bytes": 1, "sha256": ""}}}'
    ),
    "state of another type": lambda folder: (folder / "state.json").write_text(
        "[" * 5000 + "]" * 5000
    ),
}


def keep(model_dir, *settings, best=None):
    """Saves steps 10 to 60, and returns those that stay."""
    rules = ["checkpoint.every_steps=10", "checkpoint.max_to_keep=2", *settings]
    saved = Saved(model_dir, parse_config("data: {records: x}", rules))
    for step in range(10, 70, 10):
        saved.save(step, {"AP": 0.5 if step == best else 0.1} if best else None)
    return saved.run.checkpoint_steps()


def test_every_so_many_steps_a_checkpoint_stays_for_good(tmp_path):
    assert keep(tmp_path / "a") == [50, 60]
    assert keep(tmp_path / "b", "checkpoint.keep_every=20") == [20, 40, 50, 60]


def test_a_byte_budget_takes_the_oldest_but_neither_the_newest_nor_the_best(tmp_path):
    keep(tmp_path / "a")
    size = RunDir(tmp_path / "a").checkpoint_bytes(60)
    rules = ("checkpoint.keep_every=10",)
    # Metrics make a state a little longer.
    assert keep(tmp_path / "b", *rules, f"checkpoint.max_bytes={3 * size + size // 2}") == [
        40,
        50,
        60,
    ]
    assert keep(
        tmp_path / "c", *rules, f"checkpoint.max_bytes={3 * size + size // 2}", best=20
    ) == [20, 50, 60]
    assert keep(tmp_path / "d", *rules, "checkpoint.max_bytes=1", best=20) == [20, 60]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_kept_aside_and_the_one_before_is_used(saved, caplog, damage):
    saved.save(1)
    saved.save(2)
    DAMAGES[damage](saved.run.checkpoint_path(2))
    again = Saved(saved.run.path)
    with caplog.at_level(logging.WARNING):
        assert again.checkpoints.restore_latest().step == 1
    assert again.vector.numpy()[0] == 1.0
    assert "ckpt-2 is damaged and kept as ckpt-2.damaged-1" in caplog.text
    assert (saved.run.path / "ckpt-2.damaged-1").is_dir()
    assert again.save(2).step == 2


def test_when_all_are_damaged_nothing_starts_from_zero(saved):
    saved.save(1)
    saved.save(2)
    for step in (1, 2):
        flip(saved.run.checkpoint_path(step) / "ckpt.index")
    for _ in range(2):
        with pytest.raises(ArtifactError, match="none can be restored") as caught:
            Saved(saved.run.path).checkpoints.restore_latest()
        assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    "content", [None, "", 'model_checkpoint_path: "../../../etc/x"\n', 'model_checkpoint_path: "ck']
)
def test_tensorflows_pointer_is_written_and_never_believed(saved, content):
    saved.save(1)
    saved.save(2)
    pointer = saved.run.checkpoint_pointer_path
    assert tf.train.latest_checkpoint(str(saved.run.path)) == str(
        saved.run.path / "ckpt-2" / "ckpt"
    )
    pointer.unlink() if content is None else pointer.write_text(content)
    again = Saved(saved.run.path)
    assert again.checkpoints.restore_latest().step == 2
    again.save(3)
    assert pointer.read_text() == 'model_checkpoint_path: "ckpt-3/ckpt"\n'


def test_a_new_run_has_nothing_to_restore(saved):
    assert saved.checkpoints.restore_latest() is None


def test_the_newest_and_the_best_stay(saved):
    for step, value in enumerate([0.1, 0.9, 0.3, 0.2, 0.4], start=1):
        saved.save(step, {"AP": value})
    assert saved.run.checkpoint_steps() == [2, 4, 5]
    assert resolve_checkpoint("best", saved.run).name == "ckpt-2"
    assert resolve_checkpoint("last", saved.run).name == "ckpt-5"


def test_best_is_remembered_across_resumes(saved):
    saved.save(1, {"AP": 0.9})
    for step in range(2, 6):
        again = Saved(saved.run.path)
        again.checkpoints.restore_latest()
        state = again.save(step, {"AP": 0.1 * step})
        assert (state.best_step, state.best_value) == (1, 0.9)
    assert saved.run.checkpoint_steps() == [1, 4, 5]


def test_of_two_equals_the_later_is_best_and_what_cannot_be_measured_is_never_best(saved):
    assert saved.save(1, {"AP": None}).best_step is None
    assert saved.save(2, {"AP": 0.0}).best_step == 2
    assert saved.save(3, {"AP": 0.0}).best_step == 3
    assert saved.save(4, {"AP": None}).best_step == 3
    assert resolve_checkpoint("best", saved.run).name == "ckpt-3"


def test_best_without_evaluations_is_the_last(saved):
    saved.save(1)
    saved.save(2)
    assert resolve_checkpoint("best", saved.run).name == "ckpt-2"


def test_a_damaged_best_is_passed_over(saved):
    saved.save(1, {"AP": 0.5})
    saved.save(2, {"AP": 0.9})
    flip(saved.run.checkpoint_path(2) / "ckpt.index")
    assert resolve_checkpoint("best", saved.run).name == "ckpt-1"
    flip(saved.run.checkpoint_path(1) / "ckpt.index")
    with pytest.raises(ArtifactError, match="no checkpoint that can be restored"):
        resolve_checkpoint("best", saved.run)


def test_a_checkpoint_of_another_network_is_refused_and_left_in_place(saved):
    saved.save(1)
    other = Checkpoints(
        saved.run, {"vector": tf.Variable(tf.zeros([7]))}, CONFIG, build_record(CONFIG)
    )
    with pytest.raises(ArtifactError, match="does not fit the model"):
        other.restore_latest()
    assert saved.run.checkpoint_steps() == [1]


def test_a_full_disk_leaves_the_checkpoints_from_before(saved, monkeypatch):
    saved.save(1)

    def refuse(self, prefix):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tf.train.Checkpoint, "write", refuse)
        with pytest.raises(EnvironmentFault, match=r"ckpt-2: no space left") as caught:
            saved.save(2)
    assert caught.value.exit_code == 5
    assert Saved(saved.run.path).checkpoints.restore_latest().step == 1
    assert not [path for path in saved.run.path.iterdir() if ".tmp-" in path.name]


def test_the_same_step_can_be_saved_twice(saved):
    saved.save(1)
    saved.save(1, {"AP": 0.5})
    assert json.loads((saved.run.checkpoint_path(1) / "state.json").read_text())["metrics"] == {
        "AP": 0.5
    }
    assert read_state(saved.run.checkpoint_path(1)).best_step == 1


def save_for_ever(model_dir, pipe):
    """Restores, tells the step, then saves and acknowledges until its process is killed."""
    with RunDir(model_dir).locked() as run:
        saved = Saved(run.path)
        state = saved.checkpoints.restore_latest()
        step = state.step if state else 0
        pipe.send(step if saved.vector.numpy()[0] == step else -1)
        while True:
            step += 1
            saved.save(step, {"AP": 1.0 / step})
            pipe.send(step)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [8, pytest.param(200, marks=pytest.mark.soak)])
def test_kills_while_saving_never_cost_an_acknowledged_checkpoint(kills, tmp_path):
    chance = random.Random(0)
    acknowledged, longest = 0, 0.0
    for kill in range(kills):
        reader, writer = multiprocessing.Pipe(duplex=False)
        victim = forks.start_process(save_for_ever, tmp_path / "run", writer)
        writer.close()
        restored = reader.recv()
        assert restored >= acknowledged
        if kill == 0:
            # How long two saves take on this machine, with what else it does.
            began = time.monotonic()
            acknowledged = max(reader.recv(), reader.recv())
            longest = 3.0 * (time.monotonic() - began)
        # This hits every part of a save.
        victim.join(chance.uniform(0.0, longest))
        victim.kill()
        victim.join()
        acknowledged = max(acknowledged, restored)
        with contextlib.suppress(EOFError):
            while True:
                acknowledged = reader.recv()
    assert acknowledged > kills // 4
    with RunDir(tmp_path / "run").locked() as run:
        assert not [
            path for path in run.path.iterdir() if ".tmp-" in path.name or "damaged" in path.name
        ]
        assert run.checkpoint_steps()[-1] >= acknowledged


def test_the_average_forgets_the_first_steps_soon_and_ends_at_its_decay():
    network = tf_keras.Sequential(
        [tf_keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", input_shape=(1,))]
    )
    average = WeightAverage(network, 0.9)
    (weight,) = network.variables
    expected = 0.0
    for step in range(100):
        weight.assign([[float(step)]])
        average.update(tf.constant(step))
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    np.testing.assert_allclose(average.averages[0].numpy(), [[expected]], rtol=1e-5)
    with average.applied():
        np.testing.assert_allclose(weight.numpy(), [[expected]], rtol=1e-5)
    assert weight.numpy() == [[99.0]]


def test_a_decay_of_zero_follows_the_weights():
    network = tf_keras.Sequential([tf_keras.layers.Dense(1, use_bias=False, input_shape=(1,))])
    average = WeightAverage(network, 0.0)
    network.variables[0].assign([[5.0]])
    average.update(tf.constant(3))
    assert average.averages[0].numpy() == [[5.0]]


class Block(tf_keras.layers.Layer):
    """Lists its statistics last, and where they stand once it is frozen."""

    def __init__(self):
        super().__init__()
        self.norm, self.dense = tf_keras.layers.BatchNormalization(), tf_keras.layers.Dense(4)

    def call(self, inputs):
        return self.dense(self.norm(inputs))


def test_averages_find_their_variables_after_a_block_is_frozen():
    network = tf_keras.Sequential([tf_keras.layers.Input([3]), Block()])
    average = WeightAverage(network, 0.5)
    network.layers[0].trainable = False
    before = [variable.numpy() for variable in network.variables]
    with average.applied():
        for variable, value in zip(network.variables, before, strict=True):
            np.testing.assert_array_equal(variable, value)
