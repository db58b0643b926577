"""Whether a TFLite file is its twin in floats with every number rounded, and nothing else.

What 8 bits cost in scores and boxes is as much as a wrong weight costs, so outputs alone cannot
tell one from the other. Number by number they are told apart: both files have the same operations
in the same order, and a constant of the file may be half a step of its own scale away from the
twin's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from detflow.errors import ArtifactError

# Measured on networks of three kinds: 0.5000 steps, and for biases, whose steps are small beside a
# float's last bit, 1e-7 of the largest value.
_MAX_STEPS: Final = 0.51
_MAX_SHARE: Final = 1e-6
# Half of float16's last bit, and of the smallest number that it has.
_FLOAT16: Final = (2.0**-11, 2.0**-25)

_OPERATIONS: Final = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")
}
_DTYPES: Final = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.UINT8: np.uint8,
    schema.TensorType.INT16: np.int16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
    schema.TensorType.BOOL: np.bool_,
}
_CHANGES_TYPE: Final = ("QUANTIZE", "DEQUANTIZE")


@dataclass(frozen=True)
class Rounding:
    """How a file's numbers differ from its twin's.

    Attributes:
        constants: Tensors compared.
        numbers: Numbers in them.
        max_steps: Largest distance of a rounded number, in steps of its scale.
    """

    constants: int
    numbers: int
    max_steps: float


class _Constant(NamedTuple):
    """A constant tensor: its values, and the steps that broadcast to them, 0 for floats."""

    values: npt.NDArray[Any]
    steps: npt.NDArray[np.float64]


class _Operation(NamedTuple):
    name: str
    constants: list[_Constant]


def require_rounded(path: Path, twin: bytes) -> Rounding:
    """Compares every constant of a file with its twin's.

    Args:
        path: A TFLite file that its runtime has loaded.
        twin: The same network, converted in floats.

    Raises:
        ArtifactError: It has other operations, or a number that is further away than rounding
            explains.
    """
    operations, wanted = (list(_read_operations(content)) for content in (path.read_bytes(), twin))
    names, wanted_names = ([one.name for one in some] for some in (operations, wanted))
    if names != wanted_names:
        raise ArtifactError(
            f"its operations are not those of the network in floats: {len(names)} instead of "
            f"{len(wanted_names)}, or in another order",
            path=path.name,
        )
    constants, numbers, max_steps = 0, 0, 0.0
    for place, (one, other) in enumerate(zip(operations, wanted, strict=True)):
        if len(one.constants) != len(other.constants):
            raise ArtifactError(
                f"operation {place}, {one.name}, has other constants than in floats", path=path.name
            )
        for found, exact in zip(one.constants, other.constants, strict=True):
            steps = _measure_steps(found, exact)
            if steps > _MAX_STEPS:
                if found.values.shape != exact.values.shape:
                    amount = "it has another shape"
                elif np.isinf(steps):
                    amount = "it differs, and has no scale or is not finite"
                else:
                    amount = f"{steps:.3g} steps away, rounding explains {_MAX_STEPS:g}"
                raise ArtifactError(
                    f"a constant of operation {place}, {one.name}, is not the rounded number of "
                    f"the network in floats: {amount}",
                    path=path.name,
                )
            constants, numbers = constants + 1, numbers + exact.values.size
            max_steps = max(max_steps, steps)
    return Rounding(constants, numbers, max_steps)


def _measure_steps(found: _Constant, exact: _Constant) -> float:
    """Returns the largest distance of two constants, in steps that rounding goes in."""
    if found.values.shape != exact.values.shape:
        return np.inf
    if not exact.values.size:
        return 0.0
    distances = np.abs(found.values.astype(np.float64) - exact.values)
    if found.values.dtype == np.float16:
        relative, least = _FLOAT16
        steps = 2.0 * np.maximum(relative * np.abs(exact.values), least)
    else:
        steps = found.steps
    # A float's own last bits are no rounding of the file's.
    distances = np.maximum(distances - _MAX_SHARE * np.abs(exact.values).max(), 0.0)
    ratios = np.divide(
        distances, steps, out=np.where(distances > 0.0, np.inf, 0.0), where=steps > 0.0
    )
    largest = float(ratios.max())
    return np.inf if np.isnan(largest) else largest


def _read_operations(content: bytes) -> Iterator[_Operation]:
    """Yields the operations of a file with their constants.

    Those that only change a type are passed over; a constant that went through one counts as the
    constant of the operation that takes it.
    """
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    (graph,) = model.subgraphs
    sources: dict[int, int] = {}
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        # Old readers know 127 operations, by a field of their own.
        name = _OPERATIONS[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if name in _CHANGES_TYPE:
            sources[int(operator.outputs[0])] = int(operator.inputs[0])
            continue
        places = [sources.get(int(place), int(place)) for place in operator.inputs]
        read = (_read_constant(model, graph.tensors[place]) for place in places if place >= 0)
        yield _Operation(name, [constant for constant in read if constant is not None])


def _read_constant(model: Any, tensor: Any) -> _Constant | None:
    """Returns a tensor's values; None where it is computed."""
    data = model.buffers[tensor.buffer].data
    if data is None or len(data) == 0:
        return None
    shape = tuple(tensor.shape) if tensor.shape is not None else ()
    values = np.frombuffer(bytes(data), _DTYPES[tensor.type]).reshape(shape)
    scale = getattr(tensor.quantization, "scale", None)
    if scale is None or len(scale) == 0:
        return _Constant(values, np.zeros(()))
    steps, zeros = np.array(scale, np.float64), np.array(tensor.quantization.zeroPoint, np.float64)
    if len(steps) > 1:
        sides = [1] * values.ndim
        sides[tensor.quantization.quantizedDimension] = -1
        steps, zeros = steps.reshape(sides), zeros.reshape(sides)
    return _Constant((values - zeros) * steps, steps)
