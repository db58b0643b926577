"""Settings that TensorFlow reads when it is first imported.

The rooms that may import TensorFlow call `prepare_tensorflow` in their `__init__`, so that it runs
before any of their modules.
"""

from __future__ import annotations

import gc
import os

__all__ = ["prepare_tensorflow"]

# Importing TensorFlow makes 400,000 objects that stay, and by default Python looks through all of
# them again and again meanwhile: 1.4 of 9 CPU-s, and 0.6 to 0.7 so.
_YOUNG_OBJECTS = 100_000


def prepare_tensorflow() -> None:
    """Sets the environment for TensorFlow's import; what the user has set stays."""
    # tf-models-official 2.20 builds tf_keras models; with this TensorFlow does not import Keras 3
    # as well (17.3 → 14.3 CPU-s).
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    # oneDNN's kernels train our default model 1.4× faster on CPUs where TensorFlow leaves them off.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # TensorFlow's start-up notes (its instruction set, a GPU driver that is not there) are not for
    # users of a command; what goes wrong later arrives as an exception.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    young, *older = gc.get_threshold()
    if 0 < young < _YOUNG_OBJECTS:
        gc.set_threshold(_YOUNG_OBJECTS, *older)
