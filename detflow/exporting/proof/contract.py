"""What a written file says of itself, class names and tensors, against what it has to say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from detflow.errors import ArtifactError
from detflow.inference.formats.base import EntryPoint, Format
from detflow.inference.tensors import Tensor, Tensors
from detflow.label_map import LabelMap


class FileFacts(NamedTuple):
    """What a file says of itself, read back by its own runtime's means.

    Attributes:
        label_map: The classes inside; None where there are none.
        tensors: Inputs and outputs; None where the format cannot tell them.
    """

    label_map: LabelMap | None
    tensors: Tensors | None


def read_facts(known: Format, path: Path, entry: EntryPoint) -> FileFacts:
    """Reads what a file says that `Format.load` has accepted.

    Raises:
        ArtifactError, DataError: The class names are damaged.
    """
    return FileFacts(known.read_names(path), known.read_tensors(path, entry))


def require_contract(
    known: Format, entry: EntryPoint, facts: FileFacts, label_map: LabelMap
) -> None:
    """Holds what a file says of itself to the checkpoint's classes and to the contract.

    The images do not show any of it: boxes and ids stay the same whatever a class is called.

    Args:
        known: The file's format.
        entry: The way into it.
        facts: What the file says.
        label_map: The checkpoint's classes.

    Raises:
        ArtifactError: Something differs; the message says what.
    """
    found = facts.label_map
    if found != label_map and (found is not None or known.holds_names):
        raise ArtifactError(
            f"its class names are not the checkpoint's: {_tell_names(found, label_map)}",
            path=entry.name,
        )
    if facts.tensors is None:
        return
    expected = known.expected_tensors(entry)
    for what, given, asked in (
        ("inputs", facts.tensors.inputs, expected.inputs),
        ("outputs", facts.tensors.outputs, expected.outputs),
    ):
        if tuple(given) != tuple(asked):
            raise ArtifactError(
                f"its {what} are {_tell_tensors(given)}; the contract has {_tell_tensors(asked)}",
                path=entry.name,
            )


def _tell_names(found: LabelMap | None, expected: LabelMap) -> str:
    """Describes the first class that differs."""
    if found is None:
        return "there are none inside"
    for class_id in sorted({*found.ids, *expected.ids}):
        name, wanted = found.find_name(class_id), expected.find_name(class_id)
        if name != wanted:
            told, right = ("no class" if x is None else repr(x) for x in (name, wanted))
            return f"id {class_id} is {told} instead of {right}"
    raise ValueError("the label maps are equal")


def _tell_tensors(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"{tensor.name} {tensor.dtype}" for tensor in tensors) or "none"
