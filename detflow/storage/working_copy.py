"""A folder at a URL that one process at a time works in.

The process holds a lease, works in a local copy, and uploads what has changed.
"""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from pathlib import Path

from detflow.storage.folders import open_folder
from detflow.storage.lease import Lease
from detflow.storage.location import Url


class WorkingCopy:
    """The local copy of a folder at a URL. Hidden files stay where they are, on both sides.

    Args:
        url: The folder.
        path: The local folder; it exists when it is used.
        marker: The file that completes a folder inside: it is uploaded after all other files, and
            removed before them.
        lease: The right to change what lies at the URL.
    """

    def __init__(self, url: Url, path: Path, marker: str, lease: Lease) -> None:
        self._url = url
        self._path = path
        self._marker = marker
        self._lease = lease
        # Size and time of change of each file when it was last the same at the URL.
        self._shared: dict[str, tuple[int, int]] = {}

    def leased(self) -> AbstractContextManager[None]:
        """Returns a block in which no other process works at the URL; see `Lease.held`."""
        return self._lease.held()

    def download(self) -> None:
        """Makes the local folder what the URL has."""
        for entry in self._path.iterdir():
            if not entry.name.startswith("."):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        folder = open_folder(self._url)
        for path, outside, _ in folder.walk(_is_hidden):
            if outside is None:
                target = self._path / path
                target.parent.mkdir(parents=True, exist_ok=True)
                folder.fetch(path, target)
        self._shared = self._find_files()

    def upload(self) -> None:
        """Makes the URL what the local folder has.

        Raises:
            Locked: Another process has taken the lease; nothing is changed any more.
            EnvironmentFault: The store refuses.
        """
        remedy = f"what was not uploaded is in {self._path}"
        self._lease.require(remedy)
        folder, present = open_folder(self._url), self._find_files()
        changed = [name for name, state in present.items() if self._shared.get(name) != state]
        for name in sorted(changed, key=self._is_marker):
            self._lease.require(remedy)
            with folder.build(name) as file:
                shutil.copyfile(self._path / name, file)
            self._shared[name] = present[name]
        for name in sorted(self._shared.keys() - present.keys(), key=self._is_marker, reverse=True):
            self._lease.require(remedy)
            folder.remove(name)
            del self._shared[name]

    def _is_marker(self, name: str) -> bool:
        return name.rpartition("/")[2] == self._marker

    def _find_files(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in sorted(self._path.rglob("*")):
            name = path.relative_to(self._path).as_posix()
            if path.is_file() and not any(map(_is_hidden, name.split("/"))):
                status = path.stat()
                found[name] = (status.st_size, status.st_mtime_ns)
        return found


def _is_hidden(name: str) -> bool:
    return name.startswith(".")
