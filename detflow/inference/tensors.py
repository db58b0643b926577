"""What a model file declares that it takes and gives."""

from __future__ import annotations

from typing import NamedTuple


class Tensor(NamedTuple):
    """An input or output as a file declares it; the dtype is called as NumPy calls it."""

    name: str
    dtype: str


class Tensors(NamedTuple):
    """The inputs and outputs that a file declares, in its order.

    Where a file has no order, as a graph or a signature, the order is the contract's.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
