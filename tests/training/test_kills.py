"""SIGKILL at random moments of a real training process."""

import random
import time

import forks
import numpy as np
import pytest
import tensorflow as tf

from detflow.runs.run_dir import RunDir

pytestmark = [pytest.mark.tf, pytest.mark.slow]

STEPS = 24


def run_training(config, model_dir):
    from detflow.training.preflight import prepare_start
    from detflow.training.recipe import train

    with RunDir(model_dir).locked() as run:
        train(run, prepare_start(config, run))


def weights(model_dir):
    reader = tf.train.load_checkpoint(str(model_dir / f"ckpt-{STEPS}" / "ckpt"))
    names = [
        name
        for name in reader.get_variable_to_shape_map()
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
    ]
    return {name: reader.get_tensor(name) for name in names}


@pytest.mark.parametrize(
    "kills",
    [2, pytest.param(50, marks=[pytest.mark.soak, pytest.mark.whole_network])],
    ids=["small network", "whole network"],
)
def test_kills_at_random_moments_leave_losses_and_weights_bit_identical(
    kills, tiny_config, tmp_path
):
    config = tiny_config(train_steps=STEPS, checkpoint_every_steps=2, evaluate_every_steps=8)

    def start(name):
        return forks.start_process(run_training, config, tmp_path / name)

    whole = start("whole")
    began = time.monotonic()
    whole.join()
    duration = time.monotonic() - began
    assert whole.exitcode == 0

    chance = random.Random(7)
    for kill in range(kills):
        victim = start("killed")
        # Later and later, so that early kills hit the beginning of the run and the last ones its
        # end.
        victim.join(chance.uniform(0.0, 0.3 * duration + 0.7 * duration * kill / kills))
        victim.kill()
        victim.join()
    last = start("killed")
    last.join()
    assert last.exitcode == 0

    for name in ("losses.csv", "results.csv"):
        assert (tmp_path / "killed" / name).read_text() == (tmp_path / "whole" / name).read_text()
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
    assert not list((tmp_path / "killed").glob("*.damaged-*"))
    assert not [path for path in (tmp_path / "killed").iterdir() if ".tmp-" in path.name]
