import pytest
import tensorflow as tf

from detflow.label_map import LabelMap
from detflow.training import probe

pytestmark = pytest.mark.tf


def test_a_machine_s_speed_is_that_of_its_steps(tiny_config, monkeypatch):
    monkeypatch.setattr(probe, "_MOST_STEPS", 3)
    config = tiny_config(train_init_from="nowhere", train_freeze=["backbone.statistics"])
    speed = probe.measure_speed(config, LabelMap(("a", "b")), objects=3)
    # A network of this size takes milliseconds a step, its graph seconds.
    assert 1 < speed.images_per_second < 1e5
    assert 0.1 < speed.start_seconds < 600
    assert 1 < speed.evaluated_per_second < 1e5
    # Nothing of it is left behind for the training that may follow in this process.
    assert tf.keras.mixed_precision.global_policy().name == "float32"
