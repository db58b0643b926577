from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from detflow.errors import ArtifactError, EnvironmentFault
from detflow.inference import tensorflow as detector
from detflow.inference.tensorflow import eager_outputs

pytestmark = pytest.mark.tf


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (tf.errors.InvalidArgumentError(None, None, "shapes differ\nand more"), ArtifactError),
        (
            tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"),
            EnvironmentFault,
        ),
    ],
)
def test_a_model_that_cannot_run_is_named(raised, expected):
    def run(values):
        raise raised

    with pytest.raises(expected, match="ckpt-7") as caught:
        eager_outputs(run, Path("ckpt-7"), has_variables=False)(np.zeros((1, 5, 5, 3), np.uint8))
    assert "\n" not in str(caught.value)


class Recorder:
    """A function of the serving contract that counts the images of each call."""

    def __init__(self):
        self.counts = []

    def __call__(self, images):
        self.counts.append(len(images))
        means = tf.reduce_mean(tf.cast(images, tf.float32), [1, 2])
        return {"detection_scores": means, "num_detections": means[:, 0]}


@pytest.mark.parametrize(
    ("flags", "onednn", "has_variables", "expected"),
    [
        ({"avx2"}, "1", True, [2, 1, 2]),
        ({"avx2"}, "0", True, [1, 1, 2]),
        ({"avx2"}, "1", False, [1, 1, 2]),
        ({"avx2", "avx512f"}, "1", True, [1, 1, 2]),
        (set(), "1", True, [1, 1, 2]),
    ],
)
def test_a_single_image_runs_as_two_where_onednn_is_slow_with_one(
    flags, onednn, has_variables, expected, monkeypatch
):
    monkeypatch.setattr(detector, "cpu_flags", lambda: flags)
    monkeypatch.setattr(detector, "count_gpus", lambda: 0)
    monkeypatch.setattr(detector, "_MAX_DOUBLED_PIXELS", 35)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", onednn)
    # What this machine is stays remembered for the other tests.
    monkeypatch.setattr(
        detector, "_single_images_are_slow", detector._single_images_are_slow.__wrapped__
    )
    run = Recorder()
    outputs = eager_outputs(run, Path("ckpt-7"), has_variables=has_variables)
    for shape in ((1, 5, 7, 3), (1, 6, 6, 3), (2, 5, 7, 3)):
        images = np.random.default_rng(3).integers(0, 256, shape, np.uint8)
        found = outputs(images)
        np.testing.assert_allclose(found["detection_scores"], images.mean((1, 2)), rtol=1e-5)
        assert found["num_detections"].shape == (shape[0],)
    assert run.counts == expected
