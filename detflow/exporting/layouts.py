"""Folders as model servers want them, inside an export: versioned, and linked to its files.

A server's layout holds the files of the export once more. They are links to the same bytes where
the disk has links, so that they take no room, and digests of `model.json` cover them like all
others.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from detflow.artifact import (
    CLASS_NAMES_NODE,
    CONTRACT,
    INPUT_NAME,
    OUTPUT_NAMES,
    SAVED_MODEL_NAME,
    ArtifactDir,
)
from detflow.errors import ConfigError
from detflow.inference.formats.base import Format
from detflow.label_map import LabelMap

_OPEN: Final = -1
_TRITON_TYPES: Final = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}


@dataclass(frozen=True)
class Served:
    """A model as a server is to know it.

    Attributes:
        name: Its name in requests.
        version: Its version: the checkpoint's step. Servers take the highest one.
        label_map: The classes.
        max_detections: Length K of the outputs.
    """

    name: str
    version: int
    label_map: LabelMap
    max_detections: int


class Layout(ABC):
    """A server's idea of a folder of models.

    Attributes:
        name: Its name in `detflow export --layout`, and of the folder.
        formats: Names of the formats that the server runs.
    """

    name: str
    formats: tuple[str, ...]

    @abstractmethod
    def write(self, artifact: ArtifactDir, served: Served, formats: Sequence[str]) -> list[str]:
        """Writes the layout into an export.

        Args:
            artifact: The export, with the formats' files.
            served: What is served.
            formats: Those of the layout's formats that are there.

        Returns:
            The names of the models that the server finds.

        Raises:
            OSError: The disk refuses.
        """


class Triton(Layout):
    """NVIDIA Triton's model repository: a model of its own for each format, with a config.pbtxt."""

    name = "triton"
    formats = ("onnx", SAVED_MODEL_NAME)

    @override
    def write(self, artifact: ArtifactDir, served: Served, formats: Sequence[str]) -> list[str]:
        models = []
        for known in formats:
            source, target, platform = _TRITON_FILES[known]
            model = f"{served.name}_{known}"
            folder = artifact.path / self.name / model
            link(artifact.path / source, folder / str(served.version) / target)
            text = format_triton_config(model, platform, served)
            (folder / "config.pbtxt").write_text(text, encoding="utf-8")
            models.append(model)
        return models


# The export's file, its name in Triton's folder of a version, and what Triton runs it with.
_TRITON_FILES: Final = {
    "onnx": ("model.onnx", "model.onnx", "onnxruntime_onnx"),
    SAVED_MODEL_NAME: (SAVED_MODEL_NAME, "model.savedmodel", "tensorflow_savedmodel"),
}


class TfServing(Layout):
    """TensorFlow Serving's base path of a model: a folder for each version."""

    name = "tfserving"
    formats = (SAVED_MODEL_NAME,)

    @override
    def write(self, artifact: ArtifactDir, served: Served, formats: Sequence[str]) -> list[str]:
        folder = artifact.path / self.name / served.name
        link(artifact.path / SAVED_MODEL_NAME, folder / str(served.version))
        return [served.name]


LAYOUTS: Final[tuple[Layout, ...]] = (Triton(), TfServing())
"""All layouts."""


def choose_layouts(names: Sequence[str], formats: Sequence[Format]) -> tuple[Layout, ...]:
    """Finds layouts by their names.

    Raises:
        ConfigError: There is no such layout, or its server runs none of the formats.
    """
    known = {layout.name: layout for layout in LAYOUTS}
    for name in names:
        if name not in known:
            raise ConfigError(
                f"--layout {name}: there is no such layout",
                remedy=f"choose from {', '.join(known)}",
            )
        if not {written.name for written in formats} & set(known[name].formats):
            wanted = " or ".join(known[name].formats)
            raise ConfigError(
                f"--layout {name}: its server runs {wanted}, and --formats has none of them",
                remedy=f"add {known[name].formats[0]} to --formats",
            )
    return tuple(layout for layout in LAYOUTS if layout.name in names)


def write_layouts(
    artifact: ArtifactDir, layouts: Sequence[Layout], served: Served, formats: Sequence[str]
) -> dict[str, list[str]]:
    """Writes layouts into an export.

    Args:
        artifact: The export.
        layouts: The layouts.
        served: What is served.
        formats: Names of the formats that are in the export.

    Returns:
        The models of each layout by its name; a layout whose formats all failed is left out.
    """
    written = {}
    for layout in layouts:
        if usable := [name for name in layout.formats if name in formats]:
            written[layout.name] = layout.write(artifact, served, usable)
    return written


def to_model_name(text: str) -> str:
    """Returns a name that servers take in addresses, made of a folder's."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("._") or "detector"


def format_triton_config(model: str, platform: str, served: Served) -> str:
    """Returns a config.pbtxt: the contract, with every side of the shapes, the batch among them."""
    sides = {"K": served.max_detections}
    names = json.dumps(list(served.label_map))
    parts = [
        f"name: {_quote(model)}",
        f"platform: {_quote(platform)}",
        # The sides below are the whole shapes; images of one size share a batch.
        "max_batch_size: 0",
        _describe("input", INPUT_NAME, CONTRACT["inputs"][INPUT_NAME], sides),
        *(_describe("output", name, CONTRACT["outputs"][name], sides) for name in OUTPUT_NAMES),
        "version_policy { latest { num_versions: 1 } }",
        f"parameters {{ key: {_quote(CLASS_NAMES_NODE)}",
        f"  value {{ string_value: {_quote(names)} }} }}",
    ]
    return "\n".join(parts) + "\n"


def _describe(part: str, name: str, tensor: Mapping[str, Any], sides: Mapping[str, int]) -> str:
    """Describes an input or output; sides that are not fixed are open."""
    dims = ", ".join(
        str(side if isinstance(side, int) else sides.get(side, _OPEN)) for side in tensor["shape"]
    )
    return (
        f"{part} {{ name: {_quote(name)} data_type: {_TRITON_TYPES[tensor['dtype']]} "
        f"dims: [{dims}] }}"
    )


def _quote(text: str) -> str:
    """Returns a string of protobuf's text form; JSON's escapes of ASCII are among its own."""
    return json.dumps(text)


def link(source: Path, target: Path) -> None:
    """Links a file, or every file of a folder, under another name; copies where that fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link_file)
    else:
        _link_file(source, target)


def _link_file(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # A file system without links, or one that refuses more of them.
        shutil.copy2(source, target)
