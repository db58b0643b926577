"""One small interface for folders, and the folders of a file system.

A folder is plain data and goes to other processes and machines as it is. What it is told to build
appears complete or not at all.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from detflow.publish import FileDigest, digest_file
from detflow.storage.location import Location, Url

__all__ = ["Entry", "Folder", "LocalFolder", "open_folder"]


class Entry(NamedTuple):
    """What a folder holds under a path.

    Attributes:
        path: Relative to the folder, with forward slashes.
        outside: Where it leads, if that is out of the folder: it must not be read then.
        is_folder: Whether it is a folder; of those only the ones that lead outside are told.
    """

    path: str
    outside: str | None = None
    is_folder: bool = False


class Folder(Protocol):
    """A folder that is read, or that files are built in. All paths are relative to it, with forward slashes."""

    @property
    def location(self) -> Location:
        """Where it lies."""

    @property
    def name(self) -> str:
        """Its own name."""

    def walk(self, skip: Callable[[str], bool]) -> Iterator[Entry]:
        """Yields all files below, in any order; nothing of a name, a folder's or a file's, that is to be skipped."""

    def read(self, path: str, limit: int) -> bytes:
        """Returns a file's content, or its first `limit` bytes.

        Raises:
            FileNotFoundError: There is none; its `filename` is the path.
        """

    def read_many(self, paths: Iterable[str], limit: int) -> Iterator[bytes]:
        """Yields files' contents in order; takes the paths a few ahead at most."""

    def fetch(self, path: str, file: Path) -> None:
        """Copies a file of any size to a local one; the caller knows what it should be.

        Raises:
            FileNotFoundError: As `read`.
        """

    def digest(self, path: str) -> FileDigest | None:
        """Returns the size and SHA-256 of what stands there now; None where nothing does."""

    def build(self, path: str) -> AbstractContextManager[Path]:
        """Yields where to write a file, locally; it stands under its path, complete, when the block has ended without an error."""

    def write(self, path: str, content: bytes) -> None:
        """Writes a small file, whole or not at all."""

    def remove(self, path: str) -> None:
        """Removes a file; one that is not there is no error."""


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder of a file system, this machine's or one that several share.

    Attributes:
        root: Absolute, with links resolved.
    """

    root: Path

    @classmethod
    def of(cls, path: Path) -> LocalFolder:
        """Makes one of any path."""
        return cls(path.resolve())

    @property
    def location(self) -> Path:
        """The path."""
        return self.root

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.root.name

    def walk(self, skip: Callable[[str], bool]) -> Iterator[Entry]:
        """See `Folder`. Links to folders inside are passed over: what they lead to is met anyway."""
        folders = [""]
        while folders:
            folder = folders.pop()
            with os.scandir(self.root / folder) as entries:
                for entry in entries:
                    if skip(entry.name):
                        continue
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_symlink():
                        if not Path(entry.path).resolve().is_relative_to(self.root):
                            yield Entry(path, os.readlink(entry.path), entry.is_dir())
                            continue
                        if entry.is_dir():
                            continue
                    if entry.is_dir():
                        folders.append(path)
                    elif entry.is_file():
                        yield Entry(path)

    def read(self, path: str, limit: int) -> bytes:
        """See `Folder`."""
        try:
            descriptor = os.open(f"{self.root}/{path}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
        try:
            # A read allocates what it is asked for.
            return os.read(descriptor, min(limit, os.fstat(descriptor).st_size))
        finally:
            os.close(descriptor)

    def read_many(self, paths: Iterable[str], limit: int) -> Iterator[bytes]:
        """See `Folder`. One is read at a time: the operating system reads ahead."""
        return (self.read(path, limit) for path in paths)

    def fetch(self, path: str, file: Path) -> None:
        """See `Folder`."""
        shutil.copyfile(self.root / path, file)

    def digest(self, path: str) -> FileDigest | None:
        """See `Folder`."""
        return digest_file(self.root / path) if (self.root / path).is_file() else None

    @contextmanager
    def build(self, path: str) -> Iterator[Path]:
        """See `Folder`."""
        final = self.root / path
        # On a shared file system the same file may be built twice at once: a node that was given up
        # may still be at work.
        staging = final.with_name(f".{final.name}.tmp-{uuid.uuid4().hex[:12]}")
        try:
            yield staging
            os.replace(staging, final)
        finally:
            staging.unlink(missing_ok=True)

    def write(self, path: str, content: bytes) -> None:
        """See `Folder`."""
        with self.build(path) as staging:
            staging.write_bytes(content)

    def remove(self, path: str) -> None:
        """See `Folder`."""
        (self.root / path).unlink(missing_ok=True)


def open_folder(location: Location) -> Folder:
    """Returns the folder at a path or URL, which is not looked at yet.

    Raises:
        EnvironmentFault: The library for the URL is not installed.
    """
    if isinstance(location, Url):
        from detflow.storage.objects import ObjectFolder

        return ObjectFolder.of(location)
    return LocalFolder.of(location)
