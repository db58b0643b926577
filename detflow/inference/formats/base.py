"""What an export format is to those who read it: its name, its files, and how they are run.

A format has two sides. This one, `detflow.inference.formats`, says everything about exported files
and imports a runtime only when a file is loaded. The other side, which writes the files, is the
module of the same name in `detflow.exporting.formats`.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from detflow.artifact import CONTRACT, LABEL_MAP_NAME
from detflow.errors import ArtifactError, EnvironmentFault
from detflow.inference.detector import MAX_BATCH_PIXELS, Runner
from detflow.inference.tensors import Tensor, Tensors
from detflow.label_map import LabelMap, read_label_map
from detflow.process.libraries import describe_install

_log = logging.getLogger(__name__)

_MAX_NAMED = 5

Canvas: TypeAlias = Literal["all", "first"]
"""What a format fits an image into: all canvases of the model, in floats, or the first canvas
alone, in whole grey levels."""

TENSORFLOW: Final = "tensorflow"
"""The runtime that takes seconds to import; all others but `MODEL_GARDEN` must run without it."""

MODEL_GARDEN: Final = "tf-models-official"
"""TensorFlow with what builds a network; every other runtime must run without it."""


@dataclass(frozen=True)
class EntryPoint:
    """One way into a format's files.

    Attributes:
        path: The file or folder that a runtime loads, relative to the exported folder.
        input_name: The input of the serving contract that it takes; see `artifact.CONTRACT`.
        signature: Its name among several entries of one file; empty where there is one.
        is_optional: Whether the format is published although this entry fails; the card then tells
            so.
    """

    path: str
    input_name: str
    signature: str = ""
    is_optional: bool = False

    @property
    def name(self) -> str:
        """The entry's name in messages and in the card."""
        return f"{self.path} {self.signature}".rstrip()


class Format(ABC):
    """What an exported folder holds for one kind of runtime.

    Attributes:
        name: Its name in `detflow export --formats` and in the card.
        runtime: The runtime's name in the card; formats of one runtime are proved in one process.
        runtime_title: The runtime's name for a person.
        entries: Its entries; the first one takes pixels and is the preferred one.
        suffixes: Suffixes that tell a file of this format when it is named by itself.
        is_default: Whether it is exported where no format is asked for.
        needs_one_stage: Whether it takes networks of one stage only.
        canvas: What it fits an image into.
        max_batch_pixels: How many pixels go through it together where there are many images.
        holds_names: Whether its files hold the class names; an export without them is refused.
        extra: The extra of this package that its runtime belongs to; empty for one that is always
            there.
    """

    name: str
    runtime: str
    runtime_title: str
    entries: tuple[EntryPoint, ...]
    suffixes: tuple[str, ...] = ()
    is_default: bool = False
    needs_one_stage: bool = False
    canvas: Canvas = "all"
    max_batch_pixels: int = MAX_BATCH_PIXELS
    holds_names: bool = False
    extra: str = ""

    @property
    def paths(self) -> tuple[str, ...]:
        """Its files and folders, relative to the exported folder."""
        return tuple(dict.fromkeys(entry.path.partition("/")[0] for entry in self.entries))

    def is_installed(self) -> bool:
        """Tells whether its runtime is installed."""
        return True

    def require_installed(self) -> None:
        """Raises EnvironmentFault where its runtime is not installed."""
        if not self.is_installed():
            raise EnvironmentFault(
                f"{self.runtime_title} is not installed",
                remedy=describe_install(self.extra),
            )

    def find(self, path: Path) -> Path | None:
        """Returns what `load` takes where a person names this path; None if it takes nothing."""
        return path if path.suffix in self.suffixes else None

    @abstractmethod
    def load(self, path: Path, entry: EntryPoint, *, threads: int = 0) -> Runner:
        """Loads a file or folder of this format.

        Args:
            path: The file or folder.
            entry: The way into it.
            threads: Threads of one operation; 0 takes one a core.

        Returns:
            A function from a batch of what the entry's input takes (for pixels [N, height, width,
            3] uint8 of any size, for files N byte strings) to the outputs of the serving contract.

        Raises:
            ArtifactError: It is damaged, or not a detector of the contract.
            EnvironmentFault: Its runtime is not installed.
        """

    @abstractmethod
    def load_bare_network(
        self, path: Path, entry: EntryPoint, canvas_size: tuple[int, int], *, threads: int = 0
    ) -> Callable[[], object]:
        """Loads the part between the normalised canvas and the boxes and scores of all anchors.

        Args:
            path: The file or folder.
            entry: The way into it.
            canvas_size: (height, width) in pixels.
            threads: Threads of one operation; 0 takes one a core.

        Returns:
            A function that runs the part once, on a black canvas.
        """

    def read_labels(self, path: Path) -> LabelMap:
        """Reads the class names of a file that `load` has accepted.

        Names inside the file win over a label map beside it or beside its folder, which may belong
        to another model; one that differs is warned of.

        Raises:
            ArtifactError: There are none, or they are damaged.
        """
        inside = self.read_names(path)
        beside_path = find_label_map(path.parent, path.parent.parent)
        beside = read_label_map(beside_path) if beside_path.is_file() else None
        if inside is None:
            if beside is None:
                raise ArtifactError(
                    "the label map is missing, and there are no class names inside",
                    path=path,
                    remedy=f"put {LABEL_MAP_NAME} beside it",
                )
            return beside
        if beside is not None and beside != inside:
            _log.warning(
                "%s has other classes than %s holds: %s instead of %s; those inside count",
                beside_path,
                path.name,
                _list_names(beside),
                _list_names(inside),
            )
        return inside

    def read_names(self, path: Path) -> LabelMap | None:
        """Reads the class names inside a file that `load` has accepted; None where it has none.

        Raises:
            ArtifactError: They are damaged. Files of most formats hold names.
        """
        return None

    def read_tensors(self, path: Path, entry: EntryPoint) -> Tensors | None:
        """Reads what a file that `load` has accepted declares; None where that is not known."""
        return None

    def expected_tensors(self, entry: EntryPoint) -> Tensors:
        """Returns what `read_tensors` has to read."""
        inputs, outputs = CONTRACT["inputs"], CONTRACT["outputs"]
        return Tensors(
            (Tensor(entry.input_name, inputs[entry.input_name]["dtype"]),),
            tuple(Tensor(name, tensor["dtype"]) for name, tensor in outputs.items()),
        )

    def snippet(self, entry: EntryPoint) -> str | None:
        """Returns a few lines of Python that run an entry on photo.jpg; None shows none.

        They run as they stand, inside the exported folder, and print what `detflow predict` finds:
        of each detection its class name, its score, and its box in the frame of the upright photo.
        """
        return None


def _list_names(label_map: LabelMap) -> str:
    names = label_map.names[:_MAX_NAMED]
    more = f", and {len(label_map) - len(names)} more" if len(label_map) > len(names) else ""
    return ", ".join(map(repr, names)) + more


def find_label_map(*folders: Path) -> Path:
    """Returns the label map of the first folder that has one; where none has, that of the first."""
    places = [folder / LABEL_MAP_NAME for folder in folders]
    return next((place for place in places if place.is_file()), places[0])
