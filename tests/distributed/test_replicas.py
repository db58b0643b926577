"""Two devices of one process.

They need a process of their own, since devices are made before TensorFlow's first operation.
"""

import json

import forks
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detflow.distributed.team import MirroredTeam, Team
from detflow.models.build import build_model
from detflow.runs.checkpoints import WeightAverage
from detflow.training.inputs import cache_size
from detflow.training.optimizer import LearningRate, build_optimizer
from detflow.training.step import build_step, images_per_step

pytestmark = [pytest.mark.tf, pytest.mark.slow]


def write_losses(config, output):
    """Writes the losses of three steps: of one device, then of two."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    # What is compared are two ways to compute, and making either faster takes longer than its
    # steps.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    random, count = np.random.default_rng(0), images_per_step(config)
    shape = (3, count, *cache_size(config.model.input_size), 3)
    images = random.integers(0, 255, shape, dtype=np.uint8)
    low = random.uniform(0.0, 0.5, (count, 2, 2))
    boxes = np.concatenate([low, low + random.uniform(0.1, 0.5, low.shape)], -1)
    classes = random.integers(-1, 2, (count, 2)).astype(np.int32)
    boxes = (boxes * (classes >= 0)[..., np.newaxis]).astype(np.float32)
    losses = []
    for team in (Team(), MirroredTeam(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))):
        tf_keras.utils.set_random_seed(1)
        with team.scope():
            model = build_model(config.model, 2)
            average = WeightAverage(model.network, 0.9)
            schedule = LearningRate(config.train)
            variables = model.network.trainable_variables
            optimizer = build_optimizer(config.train, schedule, variables, "float32")
        step = build_step(model, optimizer, schedule, average, config, team)
        totals = [step(number, batch, boxes, classes).total for number, batch in enumerate(images)]
        losses.append([float(total) for total in totals])
    output.write_text(json.dumps(losses))


def test_two_devices_train_as_one_does(tiny_config, tmp_path):
    require_same_losses(tiny_config, 1, tmp_path)


@pytest.mark.soak
@pytest.mark.whole_network
@pytest.mark.parametrize("parts", [1, 2])
def test_two_devices_train_a_whole_network_as_one_does(parts, tiny_config, tmp_path):
    require_same_losses(tiny_config, parts, tmp_path)


def require_same_losses(tiny_config, parts, folder):
    # Images that show each other, and batches in parts: whatever could go by the wrong rows.
    config = tiny_config(
        train_batch_size=4, train_accumulate_steps=parts, augment_mosaic=0.5, augment_mixup=0.5
    )
    process = forks.start_process(write_losses, config, folder / "losses.json")
    process.join()
    assert process.exitcode == 0
    one, two = json.loads((folder / "losses.json").read_text())
    assert len(set(one)) == 3
    np.testing.assert_allclose(one, two, rtol=1e-5)
