"""EfficientNet-Lite0's convolutions out of the state dict that its PyPI package brings.

This file imports no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detflow.errors import ArtifactError
from detflow.models.weights.convolutions import Floats, NormedConvolution, take_own_input
from detflow.models.weights.torch_file import read_state_dict

# The network takes (pixel - 127) / 128.
_CENTRE, _SCALE = 127.0, 128.0
_EPSILON = 1e-3
_NUM_BLOCKS = 16


def read_lite0(path: Path) -> list[NormedConvolution]:
    """Reads the convolutions from the stem to the last one before the classifier.

    Args:
        path: The state dict; its names are those of the package `efficientnet_lite_pytorch`.

    Returns:
        49 convolutions in the order of the computation, the first for detflow's preprocessing.

    Raises:
        ArtifactError: The file is damaged, or holds another network.
        EnvironmentFault: The disk refuses.
    """
    state = read_state_dict(path)
    found = [_take(state, path, *names) for names in _names(state)]
    return [take_own_input(found[0], _CENTRE, _SCALE), *found[1:]]


def _names(state: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yields the names of each convolution and of its norm, in the order of the computation."""
    yield "_conv_stem", "_bn0"
    for number in range(_NUM_BLOCKS):
        block = f"_blocks.{number}"
        # The first block does not widen its input.
        if f"{block}._expand_conv.weight" in state:
            yield f"{block}._expand_conv", f"{block}._bn0"
        yield f"{block}._depthwise_conv", f"{block}._bn1"
        yield f"{block}._project_conv", f"{block}._bn2"
    yield "_conv_head", "_bn1"


def _take(
    state: Mapping[str, npt.NDArray[Any]], path: Path, convolution: str, norm: str
) -> NormedConvolution:
    def take(name: str, rank: int) -> Floats:
        value = state.get(name)
        if value is None or value.ndim != rank or value.dtype.kind != "f":
            raise ArtifactError(
                f"no EfficientNet-Lite0: {name} is not there, or not as it is there", path=path
            )
        return value.astype(np.float32)

    # From (out, in, height, width); a convolution of each channel by itself has one input channel.
    is_depthwise = convolution.endswith("_depthwise_conv")
    order = (2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0)
    return NormedConvolution(
        take(f"{convolution}.weight", 4).transpose(order),
        take(f"{norm}.weight", 1),
        take(f"{norm}.bias", 1),
        take(f"{norm}.running_mean", 1),
        take(f"{norm}.running_var", 1) + np.float32(_EPSILON),
    )
