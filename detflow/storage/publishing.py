"""Publishing a folder wherever it is to lie.

On a file system `publish.publish_directory` does it: one rename. An object store has no rename, so
there the file that marks a folder of its kind, the manifest, is written last: without it nothing
that detflow reads is there. Where it stood before it is removed first, so that at no moment it is
about other files than those that it lists. A lease keeps others away meanwhile.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from detflow import publish
from detflow.errors import ConfigError
from detflow.publish import publish_directory
from detflow.storage.folders import LocalFolder, open_folder
from detflow.storage.interface import Folder
from detflow.storage.lease import LEASE_NAME, Lease
from detflow.storage.location import Location, Url

# Prefix, below the URL that is being published, of what a later run of the same request needs; the
# name of the request follows.
_UNFINISHED = ".unfinished-"
_NOTES_DIR = "work"


@dataclass(slots=True)
class Staging:
    """Where a folder is being built.

    Attributes:
        path: A local folder; what is in it when the block ends is published.
        scratch: A local folder for what is not published.
        files: Takes files of the final folder that other processes and machines build, under their
            final names.
        notes: Takes what a later run needs in order to use those files again. It is gone when the
            folder is published.
        marker: The file that marks a folder of this kind.
        names: All files of the folder, where some of them are not in `path`; whatever else is found
            beside them is removed.
        lease: The right to change what lies at a URL; None on a file system, which has locks.
    """

    path: Path
    scratch: Path
    files: Folder
    notes: Folder
    marker: str
    names: frozenset[str] | None = None
    lease: Lease | None = None

    def withdraw(self) -> None:
        """Hides what was published before, where it cannot stay whole while `files` are built.

        Raises:
            Locked: Another process has taken over at the URL.
        """
        if self.lease is not None:
            self.lease.require()
            self.files.remove(self.marker)


@contextmanager
def publish_folder(output: Location, marker: str, resume: str | None = None) -> Iterator[Staging]:
    """Yields where to build a folder, and publishes it when the block ends without an error.

    Args:
        output: The destination. What stands there is replaced; at a URL the marker is gone in
            between.
        marker: The file that marks a folder of this kind, without which a reader takes it for none.
        resume: As in `publish_directory`.

    Raises:
        EnvironmentFault: The disk or the store refuses.
        Locked: Another process is building the same folder, on this machine or, at a URL,
            anywhere. `storage.lease` says what can be known there.
    """
    if isinstance(output, Path):
        with publish_directory(output, resume) as path:
            notes = path / _NOTES_DIR
            notes.mkdir(exist_ok=True)
            staging = Staging(path, notes, LocalFolder(path), LocalFolder(notes), marker)
            yield staging
            shutil.rmtree(notes)
            if staging.names is not None:
                _remove_others(staging.files, staging.names)
        return
    lease = Lease(output)
    files, notes_url = open_folder(output), output / f"{_UNFINISHED}{resume or 'run'}"
    with (
        lease.held(),
        tempfile.TemporaryDirectory(prefix="detflow-") as folder,
        tempfile.TemporaryDirectory(prefix="detflow-") as scratch,
    ):
        path = Path(folder)
        staging = Staging(path, Path(scratch), files, open_folder(notes_url), marker, lease=lease)
        yield staging
        built = sorted(
            file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()
        )
        staging.withdraw()
        for name in built:
            if name != marker:
                lease.require()
                _upload(files, name, path)
        names = (staging.names or frozenset(built)) | {LEASE_NAME}
        _remove_others(files, names, lease, but=_UNFINISHED)
        lease.require()
        _upload(files, marker, path)
        _remove_others(files, names, lease)


def _upload(files: Folder, name: str, source: Path) -> None:
    with files.build(name) as file:
        shutil.copyfile(source / name, file)


def _remove_others(
    files: Folder, names: frozenset[str], lease: Lease | None = None, but: str | None = None
) -> None:
    for entry in list(files.walk(lambda name: False)):
        if (
            entry.outside is None
            and entry.path not in names
            and not (but and entry.path.startswith(but))
        ):
            if lease is not None:
                lease.require()
            files.remove(entry.path)


def require_replaceable(final: Location, marker: str) -> None:
    """Refuses to publish a folder over anything that detflow did not make.

    Args:
        final: The destination.
        marker: As in `publish_folder`.

    Raises:
        ConfigError: The destination holds something and not the marker, or is a whole bucket.
        EnvironmentFault: The store refuses, or there is no such bucket.
    """
    if not isinstance(final, Url):
        publish.require_replaceable(final, marker)
        return
    if not final.has_prefix:
        raise ConfigError(
            "the URL names a whole bucket",
            path=str(final),
            remedy=f"name a prefix inside it, as in {final / 'records'}",
        )
    entries = open_folder(final).walk(lambda name: False)
    # Whose lease lies there is asked where it is taken.
    found = [entry.path for entry in entries if entry.path != LEASE_NAME]
    if found and marker not in found and not any(path.startswith(_UNFINISHED) for path in found):
        raise ConfigError(
            f"the prefix is not empty and holds no {marker}",
            path=str(final),
            remedy="choose another one",
        )
