"""Uploads an exported folder, whose README.md is a card that hubs read, to a model hub."""

from __future__ import annotations

from pathlib import Path

from detflow.artifact import MANIFEST_NAME, ArtifactDir
from detflow.exporting.layouts import LAYOUTS
from detflow.inference.formats import FORMATS
from detflow.storage.hub import parse_repository, upload_files


def push_export(path: Path, destination: str, *, private: bool = False) -> str:
    """Uploads an export in one commit; files of an export that stood there before go.

    Files that no export has are left alone. A push that is repeated sends only what the hub does
    not have yet.

    Args:
        path: The exported folder, whose files are compared with its manifest first.
        destination: `hub:owner/name`; the repository is made where there is none.
        private: Whether a repository that is made is private.

    Returns:
        The commit's address.

    Raises:
        ConfigError: The destination is no repository's name.
        ArtifactError: The folder is no export, or damaged.
        EnvironmentFault: The extra `hub` is not installed, or the hub refuses or cannot be reached.
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
