"""What a folder is, where it is not what a command takes, and the command that is meant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal["records", "run", "checkpoint", "export", "evaluation", "predictions"]
"""What detflow writes."""

# The files by which a folder is recognised; those that own these names are in the rooms above.
_MARKERS: Final[tuple[tuple[Kind, str], ...]] = (
    ("records", "manifest.json"),
    ("run", "run.json"),
    ("checkpoint", "state.json"),
    ("export", "model.json"),
    ("evaluation", "evaluation.html"),
    ("predictions", "predictions.json"),
)
_TITLES: Final = {
    "records": "these are records",
    "run": "this is a model directory",
    "checkpoint": "this is a checkpoint",
    "export": "this is an exported folder",
    "evaluation": "this is an evaluation",
    "predictions": "these are predictions",
    "dataset": "this looks like a dataset",
    "": "there is nothing of detflow in it",
}
_WANTED: Final = {
    "records": "records",
    "run": "a model directory or checkpoint",
    "export": "an exported folder",
    "model": "a model directory, checkpoint or exported folder",
    "configuration": "a configuration file",
}
_NAMES = frozenset({"annotations", "images", "jpegimages", "imagesets", "labels", "data.yaml"})
_SUFFIXES = frozenset({".xml", ".jpg", ".jpeg", ".png", ".txt", ".csv", ".json"})
# So many entries of a folder are looked at.
_MAX_ENTRIES = 1_000


def find_kind(path: Path) -> Kind | Literal["dataset", ""]:
    """Returns what a folder is by the names of its files; empty for anything else."""
    if not path.is_dir():
        return ""
    for kind, marker in _MARKERS:
        if (path / marker).is_file():
            return kind
    with os.scandir(path) as entries:
        for _, entry in zip(range(_MAX_ENTRIES), entries, strict=False):
            name = entry.name.lower()
            if name in _NAMES or os.path.splitext(name)[1] in _SUFFIXES:
                return "dataset"
    return ""


def describe_mistake(
    path: Path, wanted: Literal["records", "run", "export", "model", "configuration"]
) -> tuple[str, str | None]:
    """Returns what a path is instead of what a command takes, and what to do.

    Args:
        path: What was named, and is not what is wanted.
        wanted: What the command takes.

    Returns:
        The cause and the remedy of an error; no remedy where none is known.
    """
    if not os.path.lexists(path):
        return "no such file or folder", None
    kind = find_kind(path)
    cause = f"{_TITLES[kind] if path.is_dir() else 'this is a file'}, not {_WANTED[wanted]}"
    return cause, _find_remedy(path, kind, wanted)


def _find_remedy(path: Path, kind: str, wanted: str) -> str | None:
    name = path.resolve().name.partition(".")[0] or "NAME"
    if wanted == "records" and kind == "dataset":
        return f"detflow make-records {path} --output records/{name}"
    if wanted == "configuration" and kind in ("records", "dataset"):
        return f"detflow init {path} --output {name}.yaml"
    if wanted == "configuration" and kind == "run":
        return f"name the file that it was started with, and --model-dir {path}"
    if wanted == "export" and kind in ("run", "checkpoint"):
        return f"detflow export --ckpt {path} --output exports/{name}"
    if wanted == "run" and kind == "export":
        return "name the model directory that it was made of"
    return f"name {_WANTED[wanted]}"
