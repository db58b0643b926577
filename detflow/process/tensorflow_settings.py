"""Settings of TensorFlow that hold for the whole process. Importing this does not import TensorFlow.

The rooms that may import TensorFlow call `prepare_tensorflow` in their `__init__`, so that it runs
before any of their modules. The other settings are made where a training step is built
(docs/decisions/0005-order-of-sums.md).
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator

# Importing TensorFlow makes 400,000 objects that stay, and by default Python's garbage collector
# looks through all of them again and again meanwhile: that takes 1.4 of 9 CPU-s, and with this
# threshold 0.6 to 0.7.
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


def set_threads(number: int) -> None:
    """Sets TensorFlow's threads, which it takes only before its first operation.

    Args:
        number: Of an operation, and of operations at a time; 0 leaves both to TensorFlow, which
            takes one a core.
    """
    if number:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(number)
        tf.config.threading.set_inter_op_parallelism_threads(number)


def fix_order_of_sums() -> None:
    """Turns off the pass of TensorFlow's optimiser of graphs that makes one AddN of several sums.

    AddN adds first whichever terms are ready first, so that the last bits of its sum differ from
    run to run. A training step is no slower without the pass.
    """
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})


@contextlib.contextmanager
def sums_of_two() -> Iterator[None]:
    """Adds the gradients that are taken inside the block two at a time.

    That holds in conditions and functions of the graph as well. A tape, and TensorFlow by default, adds the gradients of a tensor that three and more operations
    read by AddN, whose last bits depend on which of them is done first.
    """
    import tensorflow as tf

    # An argument of tf.gradients would not reach conditions and functions: they take the default.
    default = tf.AggregationMethod.DEFAULT
    tf.AggregationMethod.DEFAULT = tf.AggregationMethod.EXPERIMENTAL_TREE
    try:
        yield
    finally:
        tf.AggregationMethod.DEFAULT = default
