from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from detflow.engine.detector import eager_outputs
from detflow.errors import ArtifactError, EnvironmentFault

pytestmark = pytest.mark.tf


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (tf.errors.InvalidArgumentError(None, None, "shapes differ\nand more"), ArtifactError),
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"), EnvironmentFault),
    ],
)
def test_a_model_that_cannot_run_is_named(raised, expected):
    def run(values):
        raise raised

    with pytest.raises(expected, match="ckpt-7") as caught:
        eager_outputs(run, Path("ckpt-7"))(np.zeros((1, 5, 5, 3), np.uint8))
    assert "\n" not in str(caught.value)
