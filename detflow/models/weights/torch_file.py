"""Reads the arrays of a PyTorch state dict in the format before 1.6, without PyTorch.

The file is four pickles (a magic number, the version, the machine, the dict), a fifth with the keys
of the storages, and then of each storage its number of items and the items. A pickle is a program:
this reader admits the few instructions that such a dict needs, and lets it name nothing but the
types of storages, the function that makes a tensor, and the ordered dict. None of them is PyTorch's
own: they only write down what is asked for.

This file imports no TensorFlow.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from detflow.errors import ArtifactError, environment_faults

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_MAX_BYTES = 1 << 30
_MAX_INSTRUCTIONS = 1_000_000
_MAX_TENSORS = 100_000
_MAX_RANK = 8
_ZIP = b"PK\x03\x04"

# What the pickles of such files consist of. Without what makes objects, and what copies the top of
# the stack, a program of so many bytes makes no more than as many values.
_INSTRUCTIONS = """
PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINUNICODE TUPLE TUPLE1 TUPLE2
TUPLE3 EMPTY_TUPLE EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS GLOBAL REDUCE BUILD BINPUT
LONG_BINPUT BINGET LONG_BINGET BINPERSID
"""
_ADMITTED = frozenset(_INSTRUCTIONS.split())
_TYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}
# What a program of admitted instructions can fail with.
_FAULTS = (
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


def read_state_dict(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Reads the tensors of a state dict; what else it holds is left out.

    Args:
        path: The file, from wherever: nothing of it is run, and memory is bounded by its size.

    Returns:
        The tensors by name, in the file's order, as read-only views of the file's bytes where they
        can be.

    Raises:
        ArtifactError: It is no such file, is cut or damaged, or asks for something else.
        EnvironmentFault: The disk refuses.
    """
    with environment_faults(path):
        if (size := path.stat().st_size) > _MAX_BYTES:
            raise ArtifactError(f"{size:,} bytes, more than {_MAX_BYTES:,}", path=path)
        content = path.read_bytes()
    if content.startswith(_ZIP):
        raise ArtifactError(
            "a ZIP, as PyTorch 1.6 and later write; the format before it is read",
            path=path,
            remedy=(
                "save it again with torch.save(…, _use_new_zipfile_serialization=False), or "
                "choose other weights"
            ),
        )
    try:
        return _read(content)
    except _FAULTS as error:
        raise ArtifactError(
            f"not a state dict of PyTorch as it was written before 1.6: {error}", path=path
        ) from None


class _Storage(NamedTuple):
    """Where the items of tensors lie: the key of the storage, and their type."""

    key: str
    dtype: str


class _Tensor(NamedTuple):
    """A tensor as the pickle describes it, in items."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Inert:
    """A name that a pickle may say. It has no attributes, and takes none."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: str = "") -> None:
        self.dtype = dtype

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("a name is given a state")


class _RebuildTensor(_Inert):
    __slots__ = ()

    def __call__(
        self,
        storage: object,
        offset: object,
        shape: object,
        strides: object,
        *_: object,
    ) -> _Tensor:
        """Takes what `torch._utils._rebuild_tensor_v2` takes; gradients and hooks are left out."""
        if not isinstance(storage, _Storage):
            raise pickle.UnpicklingError("a tensor has no storage")
        numbers = [_whole_numbers(value) for value in ((offset,), shape, strides)]
        if len(numbers[1]) != len(numbers[2]) or len(numbers[1]) > _MAX_RANK:
            raise pickle.UnpicklingError("a tensor's shape and strides do not go together")
        return _Tensor(storage, numbers[0][0], numbers[1], numbers[2])


class _OrderedDict(dict[str, object]):
    """Stands for `collections.OrderedDict`; dicts keep their order."""

    def __setstate__(self, state: object) -> None:
        """Leaves out what PyTorch writes beside the tensors: versions of its modules."""


class _Unpickler(pickle.Unpickler):
    @override
    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _RebuildTensor()
        if (module, name) == ("collections", "OrderedDict"):
            return _OrderedDict
        if module == "torch" and name in _TYPES:
            return _Inert(_TYPES[name])
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no weights need")

    @override
    def persistent_load(self, pid: Any, /) -> _Storage:
        match pid:
            case ("storage", _Inert(dtype=str(dtype)), str(key), str(), int(), None) if dtype:
                return _Storage(key, dtype)
        raise pickle.UnpicklingError("a storage is described in a way that is not known")


def _whole_numbers(values: object) -> tuple[int, ...]:
    if not isinstance(values, tuple) or not all(
        type(value) is int and value >= 0 for value in values
    ):
        raise pickle.UnpicklingError("a tensor's shape is not whole numbers")
    return values


def _read(content: bytes) -> dict[str, npt.NDArray[Any]]:
    file = io.BytesIO(content)
    if _load(file) != _MAGIC or _load(file) != _VERSION:
        raise ValueError("it does not begin as one")
    system = _load(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("it is not of a machine with little-endian numbers")
    state, keys = _load(file), _load(file)
    if not isinstance(state, dict) or not isinstance(keys, list):
        raise ValueError("no dict and its storages")
    tensors = {name: value for name, value in state.items() if isinstance(value, _Tensor)}
    if not all(isinstance(name, str) for name in tensors) or len(tensors) > _MAX_TENSORS:
        raise ValueError("its tensors have no names")
    types = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
    storages = _read_storages(content, file.tell(), keys, types)
    return {name: _view(name, tensor, storages) for name, tensor in tensors.items()}


def _load(file: io.BytesIO) -> Any:
    """Runs one pickle, whose instructions have been looked at before."""
    start = file.tell()
    for count, (instruction, argument, _) in enumerate(pickletools.genops(file)):
        if instruction.name not in _ADMITTED:
            raise pickle.UnpicklingError(f"the instruction {instruction.name} is not admitted")
        # The memo is a list as long as the largest number.
        if instruction.name == "LONG_BINPUT" and int(argument or 0) > _MAX_INSTRUCTIONS:
            raise pickle.UnpicklingError(f"it remembers a value at place {argument}")
        if count > _MAX_INSTRUCTIONS:
            raise pickle.UnpicklingError(f"more than {_MAX_INSTRUCTIONS:,} instructions")
    end = file.tell()
    file.seek(start)
    value = _Unpickler(io.BytesIO(file.read(end - start))).load()
    file.seek(end)
    return value


def _read_storages(
    content: bytes, start: int, keys: Sequence[object], types: Mapping[str, str]
) -> dict[str, npt.NDArray[Any]]:
    """Returns the items of each storage, as a view of the file's bytes."""
    storages: dict[str, npt.NDArray[Any]] = {}
    for key in keys:
        if not isinstance(key, str) or key not in types or key in storages:
            raise ValueError(f"the storage {key!r} belongs to no tensor, or is there twice")
        (count,) = struct.unpack_from("<q", content, start)
        start += 8
        dtype = np.dtype(types[key])
        if not 0 <= count <= (len(content) - start) // dtype.itemsize:
            raise ValueError(f"the file ends inside storage {key}")
        storages[key] = np.frombuffer(content, dtype, count, start)
        start += count * dtype.itemsize
    return storages


def _view(name: str, tensor: _Tensor, storages: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    items = storages.get(tensor.storage.key)
    if items is None:
        raise ValueError(f"the items of {name} are not there")
    if not (size := math.prod(tensor.shape)):
        return np.empty(tensor.shape, items.dtype)
    last = tensor.offset + sum(
        (side - 1) * stride for side, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    # A stride of zero would repeat an item as often as a hostile shape says.
    if size > len(items) or last >= len(items):
        raise ValueError(f"{name} reaches out of its storage")
    return np.lib.stride_tricks.as_strided(
        items[tensor.offset :],
        tensor.shape,
        [stride * items.itemsize for stride in tensor.strides],
        writeable=False,
    )
