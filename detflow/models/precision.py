"""Which number format training computes in, and whether the machine has it.

TensorFlow is imported only where it has to be asked.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, Literal

from detflow.process.platform import cpu_flags

Precision = Literal["float32", "bfloat16", "float16"]

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
# Least compute capability of a GPU whose tensor cores take the format (CUDA programming guide,
# "Compute Capabilities").
_GPU_CAPABILITY = {"bfloat16": (8, 0), "float16": (7, 0)}
# Device files of NVIDIA's driver, of AMD's, and of either inside WSL.
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
# CPU flags, as Linux names them, that oneDNN's kernels of the format need.
_CPU_FLAGS = {"bfloat16": {"avx512_bf16", "amx_bf16"}, "float16": {"avx512_fp16", "amx_fp16"}}


def resolve_precision(setting: Literal["float32", "bfloat16", "float16", "auto"]) -> Precision:
    """Returns what `runtime.precision` means on this machine.

    `auto` is bfloat16 where the GPU or the CPU computes in it natively, else float16 where a GPU
    does, else float32. float16 has a narrow range and needs loss scaling, so that auto does not
    take it on a CPU.
    """
    if setting != "auto":
        return setting
    if is_native("bfloat16"):
        return "bfloat16"
    return "float16" if _gpu_capability() and is_native("float16") else "float32"


def is_native(precision: Precision) -> bool:
    """Tells whether the device that trains has instructions for the format."""
    if precision == "float32":
        return True
    capability = _gpu_capability()
    if capability is not None:
        return capability >= _GPU_CAPABILITY[precision]
    # Without oneDNN TensorFlow's own kernels emulate the format, many times slower.
    return uses_onednn() and bool(cpu_flags() & _CPU_FLAGS[precision])


def uses_onednn() -> bool:
    """Tells whether TensorFlow runs oneDNN's kernels where there are any (docs/decisions/0003)."""
    return os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1") != "0"


@contextlib.contextmanager
def network_precision(precision: Precision) -> Iterator[None]:
    """Lets networks that are built inside the block compute in the format.

    Their variables stay float32, so that checkpoints, averages and the optimiser are not concerned.
    Their outputs have the format: losses and boxes are computed from `as_float32` of them.
    """
    import tf_keras

    tf_keras.mixed_precision.set_global_policy(_POLICIES[precision])
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")


def as_float32(outputs: Any) -> Any:
    """Casts the outputs of a network, in any structure; float32 is passed on as it is."""
    import tensorflow as tf

    return tf.nest.map_structure(lambda output: tf.cast(output, tf.float32), outputs)


def count_gpus() -> int:
    """Returns how many GPUs TensorFlow sees."""
    # A GPU that TensorFlow can use has one of these files. Asking TensorFlow costs its import, and
    # the checks before a training do without that.
    if not any(os.path.exists(device) for device in _GPU_DEVICES):
        return 0
    import tensorflow as tf

    return len(tf.config.list_physical_devices("GPU"))


def _gpu_capability() -> tuple[int, int] | None:
    """Returns the compute capability of the first GPU.

    It is (0, 0) for a GPU that states none, and None where there is no GPU.
    """
    if not count_gpus():
        return None
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU")
    capability: tuple[int, int] = tf.config.experimental.get_device_details(devices[0]).get(
        "compute_capability", (0, 0)
    )
    return capability
