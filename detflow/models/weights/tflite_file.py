"""A MobileNetV2's convolutions out of a float TFLite file of a TF1 detector.

A TFLite file is a FlatBuffer, where every place is a number in the file: a hostile one points
anywhere. Only what is asked for is looked at, each count is held against a bound before it is
believed, and what points out of the file is an error.

This file imports no TensorFlow.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from detflow.errors import ArtifactError, environment_faults
from detflow.models.weights.convolutions import Floats, NormedConvolution, take_own_input

# The network takes (pixel - 127.5) / 127.5.
_CENTRE = _SCALE = 127.5
_MAX_BYTES = 1 << 28
_MAX_ENTRIES = 10_000
_MAX_RANK = 8
_IDENTIFIER = b"TFL3"
_EXTRACTOR = "FeatureExtractor/MobilenetV2/"
_NUM_CONVOLUTIONS = 52
_TYPES = {schema.TensorType.FLOAT32: "<f4", schema.TensorType.FLOAT16: "<f2"}
# What an offset that leads nowhere ends in.
_FAULTS = (struct.error, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def read_mobilenet_v2(path: Path) -> list[NormedConvolution]:
    """Reads the convolutions from the stem to the last one of the feature extractor.

    Args:
        path: A detector of the TF1 Object Detection API with a MobileNetV2, as a TFLite file with
            float weights, which may have 16 bits. The norms were folded into the kernels.

    Returns:
        52 convolutions in the order of the computation, the first for detflow's preprocessing. The
        detector's own layers behind them are left out.

    Raises:
        ArtifactError: The file is damaged, or holds another network.
        EnvironmentFault: The disk refuses.
    """
    with environment_faults(path):
        if (size := path.stat().st_size) > _MAX_BYTES:
            raise ArtifactError(f"{size:,} bytes, more than {_MAX_BYTES:,}", path=path)
        content = path.read_bytes()
    if content[4:8] != _IDENTIFIER:
        raise ArtifactError("no TFLite file", path=path)
    try:
        found = list(_read_convolutions(content))
    except _FAULTS as error:
        raise ArtifactError(f"the TFLite file is damaged: {error}", path=path) from None
    if len(found) < _NUM_CONVOLUTIONS:
        raise ArtifactError(
            f"{len(found)} float convolutions of a MobileNetV2 in it, not {_NUM_CONVOLUTIONS}",
            path=path,
        )
    first, *rest = found[:_NUM_CONVOLUTIONS]
    return [take_own_input(first, _CENTRE, _SCALE), *rest]


class _Graph:
    """The first subgraph of a model, its counts within bounds."""

    def __init__(self, content: bytes) -> None:
        self._model = schema.Model.GetRootAs(content, 0)
        _bounded(self._model.SubgraphsLength())
        self._graph = self._model.Subgraphs(0)
        self.num_operators = _bounded(self._graph.OperatorsLength())
        self._num_tensors = _bounded(self._graph.TensorsLength())
        self._num_buffers = _bounded(self._model.BuffersLength())
        self._num_codes = _bounded(self._model.OperatorCodesLength())

    def operator(self, index: int) -> tuple[int, list[int], list[int]]:
        """Returns an operator's builtin code and the numbers of its inputs and outputs."""
        operator = self._graph.Operators(index)
        code = self._model.OperatorCodes(_below(operator.OpcodeIndex(), self._num_codes))
        _bounded(operator.InputsLength() + operator.OutputsLength())
        inputs, outputs = (
            [int(number) for number in numbers]
            for numbers in (operator.InputsAsNumpy(), operator.OutputsAsNumpy())
        )
        # Files before the 128th operator have it in the older field alone.
        return max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), inputs, outputs

    def name(self, index: int) -> str:
        """Returns a tensor's name."""
        return str(self._tensor(index).Name().decode("utf-8", "replace"))

    def values(self, index: int) -> Floats:
        """Returns a constant tensor of floats."""
        tensor = self._tensor(index)
        buffer = self._model.Buffers(_below(tensor.Buffer(), self._num_buffers))
        if not buffer.DataLength() or tensor.ShapeLength() > _MAX_RANK:
            raise ValueError(f"{self.name(index)} is no constant")
        dtype = _TYPES.get(tensor.Type())
        if dtype is None:
            raise ValueError(f"{self.name(index)} is not of floats")
        data = buffer.DataAsNumpy().tobytes()
        shape = [int(side) for side in tensor.ShapeAsNumpy()]
        return np.frombuffer(data, dtype).reshape(shape).astype(np.float32)

    def _tensor(self, index: int) -> Any:
        return self._graph.Tensors(_below(index, self._num_tensors))


def _read_convolutions(content: bytes) -> Iterator[NormedConvolution]:
    graph = _Graph(content)
    # Weights of 16 bits pass an operator that makes 32 of them.
    sources: dict[int, int] = {}
    for number in range(graph.num_operators):
        code, inputs, outputs = graph.operator(number)
        if code == schema.BuiltinOperator.DEQUANTIZE:
            sources[outputs[0]] = inputs[0]
        elif code in (
            schema.BuiltinOperator.CONV_2D,
            schema.BuiltinOperator.DEPTHWISE_CONV_2D,
        ) and _EXTRACTOR in graph.name(outputs[0]):
            kernel, bias = (graph.values(sources.get(index, index)) for index in inputs[1:3])
            # From (out, height, width, in), or (1, height, width, channels).
            is_depthwise = code == schema.BuiltinOperator.DEPTHWISE_CONV_2D
            order = (1, 2, 3, 0)
            if kernel.ndim != len(order) or bias.shape != (kernel.shape[3 if is_depthwise else 0],):
                raise ValueError(f"{graph.name(outputs[0])} has kernel and bias of other shapes")
            yield NormedConvolution.from_bias(kernel.transpose(order), bias)


def _bounded(count: int) -> int:
    if count > _MAX_ENTRIES:
        raise ValueError(f"{count:,} entries, more than {_MAX_ENTRIES:,}")
    return int(count)


def _below(index: int, count: int) -> int:
    if not 0 <= index < count:
        raise IndexError(f"entry {index:,} of {count:,}")
    return int(index)
