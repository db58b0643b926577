"""Two devices of one process.

They need a process of their own, since devices are made before TensorFlow's first operation.
"""

import json
import subprocess
import sys

import numpy as np
import pytest

from detflow.config.reading import format_config

pytestmark = [pytest.mark.tf, pytest.mark.slow]

SCRIPT = """
import json, sys
import detflow.models
import numpy as np, tensorflow as tf, tf_keras
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
# What is compared are two ways to compute, and making either faster takes longer than its steps.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
from detflow.config.reading import parse_config
from detflow.runs.checkpoints import WeightAverage
from detflow.distributed.team import MirroredTeam, Team
from detflow.training.inputs import cache_size
from detflow.models.build import build_model
from detflow.training.optimizer import LearningRate, build_optimizer
from detflow.training.step import build_step, images_per_step

config = parse_config(sys.argv[1])
random, count = np.random.default_rng(0), images_per_step(config)
shape = (3, count, *cache_size(config.model.input_size), 3)
images = random.integers(0, 255, shape, dtype=np.uint8)
low = random.uniform(0.0, 0.5, (count, 2, 2))
boxes = np.concatenate([low, low + random.uniform(0.1, 0.5, low.shape)], -1).astype(np.float32)
classes = random.integers(-1, 2, (count, 2)).astype(np.int32)
for team in (Team(), MirroredTeam(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))):
    tf_keras.utils.set_random_seed(1)
    with team.scope():
        model = build_model(config.model, 2)
        average = WeightAverage(model.network, 0.9)
        schedule = LearningRate(config.train)
        variables = model.network.trainable_variables
        optimizer = build_optimizer(config.train, schedule, variables, "float32")
    step = build_step(model, optimizer, schedule, average, config, team)
    boxes *= (classes >= 0)[..., None]
    totals = [step(number, batch, boxes, classes).total for number, batch in enumerate(images)]
    print(json.dumps([float(total) for total in totals]))
"""


def test_two_devices_train_as_one_does(tiny_config):
    require_same_losses(tiny_config, 1)


@pytest.mark.soak
@pytest.mark.whole_network
@pytest.mark.parametrize("parts", [1, 2])
def test_two_devices_train_a_whole_network_as_one_does(parts, tiny_config):
    require_same_losses(tiny_config, parts)


def require_same_losses(tiny_config, parts):
    # Images that show each other, and batches in parts: whatever could go by the wrong rows.
    config = tiny_config(
        train_batch_size=4, train_accumulate_steps=parts, augment_mosaic=0.5, augment_mixup=0.5
    )
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, format_config(config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    one, two = (json.loads(line) for line in run.stdout.splitlines())
    assert len(set(one)) == 3
    np.testing.assert_allclose(one, two, rtol=1e-5)
