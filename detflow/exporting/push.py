"""Uploads an exported folder, whose README.md is a card that hubs read, to a model hub."""

from __future__ import annotations

from pathlib import Path

from detflow.artifact import MANIFEST_NAME, ArtifactDir
from detflow.exporting.layouts import LAYOUTS
from detflow.inference.formats import FORMATS
from detflow.storage.hub import parse_repository, upload_files


def push_export(path: Path, destination: str, *, private: bool = False) -> str:
    """Does what `detflow.push` says, for a local folder.

    Files of an export that stood in the repository before go; files that no export has stay.
    """
    repository = parse_repository(destination)
    artifact = ArtifactDir(path)
    card = artifact.verify()
    files = {name: path / name for name in (*artifact.list_files(card), MANIFEST_NAME)}
    return upload_files(
        repository, files, _is_of_an_export, f"Upload {path.resolve().name}", private=private
    )


def _is_of_an_export(name: str) -> bool:
    """Tells whether a file in a repository is one that only an export has."""
    folders = {path for known in FORMATS for path in known.paths}
    folders |= {layout.name for layout in LAYOUTS}
    return name.partition("/")[0] in folders
