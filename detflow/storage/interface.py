"""The interface that all folders have, wherever they lie.

A folder is plain data and goes to other processes and machines as it is. What it is told to build
appears complete or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from detflow.digests import FileDigest
from detflow.storage.location import Location


class Entry(NamedTuple):
    """What a folder holds under a path.

    Attributes:
        path: Relative to the folder, with forward slashes.
        outside: Where it leads, if that is out of the folder; then it must not be read.
        is_folder: Whether it is a folder. Folders are told where they lead outside, and only then.
    """

    path: str
    outside: str | None = None
    is_folder: bool = False


class Folder(Protocol):
    """A folder that is read, or that files are built in.

    All paths are relative to it, with forward slashes.
    """

    @property
    def location(self) -> Location:
        """Path or URL of the folder."""

    @property
    def name(self) -> str:
        """Name of the folder."""

    def walk(
        self,
        skip: Callable[[str], bool],
        on_error: Callable[[Entry, OSError], None] | None = None,
    ) -> Iterator[Entry]:
        """Yields all files below, in any order.

        Args:
            skip: Tells by the name of a file or folder whether it is passed over.
            on_error: Told of what is there and cannot be opened: a folder without permission, a
                link that leads nowhere. Without it, the first such folder raises the error, and
                such links are passed over.
        """

    def read(self, path: str, limit: int) -> bytes:
        """Returns a file's content, or its first `limit` bytes.

        Raises:
            FileNotFoundError: There is none; its `filename` is the path.
            OSError: It is there and cannot be read, or is a link that leads nowhere.
        """

    def read_many(self, paths: Iterable[str], limit: int) -> Iterator[bytes]:
        """Yields the contents of files in order; it takes at most a few paths in advance."""

    def fetch(self, path: str, file: Path) -> None:
        """Copies a file of any size to a local one, which the caller compares with what it expects.

        Raises:
            FileNotFoundError: As `read`.
        """

    def digest(self, path: str) -> FileDigest | None:
        """Returns size and SHA-256 of what stands there now; None where nothing does."""

    def build(self, path: str) -> AbstractContextManager[Path]:
        """Yields where to write a file, locally.

        It stands under its path, complete, when the block has ended without an error.
        """

    def write(self, path: str, content: bytes) -> None:
        """Writes a small file, whole or not at all."""

    def remove(self, path: str) -> None:
        """Removes a file; it is no error if there is none."""
