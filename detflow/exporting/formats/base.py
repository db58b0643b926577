"""What an export format is to those who write it: how its files come about, and what proves them.

The other side of a format, its files as they are read and run, is the module of the same name in
`detflow.inference.formats`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Generic, TypeVar

from detflow.artifact import ArtifactDir
from detflow.exporting.proof.compare import Gate
from detflow.exporting.proof.twin import Twin
from detflow.inference.formats.base import Format
from detflow.inference.trained import TrainedModel
from detflow.types import Sample

Notes = Mapping[str, Any]
"""What a writer says of its file for the card: names, dtypes and order of its tensors, and how it
was converted."""


@dataclass(frozen=True)
class Draft:
    """What a writer has written.

    Attributes:
        notes: What it says of its files.
        twin: The same in floats; None where the files' numbers are not rounded.
    """

    notes: Notes = field(default_factory=dict)
    twin: Twin | None = None


_FormatT = TypeVar("_FormatT", bound=Format)


@dataclass(frozen=True)
class Job:
    """What a writer works on.

    Attributes:
        trained: The checkpoint.
        artifact: The folder to write into. The label map and the configuration are there already.
        training_samples: Reads the training's samples in order, from the start at each call.
        shared: What writers of several formats need and one of them has computed, by what it is.
    """

    trained: TrainedModel
    artifact: ArtifactDir
    training_samples: Callable[[], Iterator[Sample]]
    shared: dict[Any, Any] = field(default_factory=dict)


class FormatWriter(ABC, Generic[_FormatT]):
    """Writes the files of a format.

    Args:
        written: The format.
        gate: What the files have to show before they are published; None takes `own_gate`.

    Attributes:
        own_gate: The format's own gate, which a subclass sets.
        format: The format.
        gate: What the files have to show.
    """

    own_gate: Gate

    def __init__(self, written: _FormatT, gate: Gate | None = None) -> None:
        self.format = written
        self.gate = gate or self.own_gate

    @abstractmethod
    def write(self, job: Job) -> Iterator[Draft]:
        """Writes the format's files, then yields.

        Where the gate refuses the files, the writer is resumed: it writes better ones and yields
        again, or ends if it knows no further way.

        Raises:
            ArtifactError: This network cannot become the format.
            DataError: There are no images to calibrate with.
            OSError: The disk refuses.
        """


def find_writer(written: Format) -> FormatWriter[Any]:
    """Returns the writer of a format: the class `Writer` of the module that is called as its own.

    Converters are imported only here, so that a frozen graph does not wait for ONNX.
    """
    name = type(written).__module__.rpartition(".")[2]
    writer: FormatWriter[Any] = import_module(f"{__package__}.{name}").Writer(written)
    return writer
