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

from typing_extensions import override

from detflow.publish import FileDigest, digest_file
from detflow.storage.location import Location, Url


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

    def walk(self, skip: Callable[[str], bool]) -> Iterator[Entry]:
        """Yields all files below, in any order.

        Args:
            skip: Tells by the name of a file or folder whether it is passed over.
        """

    def read(self, path: str, limit: int) -> bytes:
        """Returns a file's content, or its first `limit` bytes.

        Raises:
            FileNotFoundError: There is none; its `filename` is the path.
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


@dataclass(frozen=True, slots=True)
class LocalFolder(Folder):
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
    @override
    def location(self) -> Path:
        return self.root

    @property
    @override
    def name(self) -> str:
        return self.root.name

    @override
    def walk(self, skip: Callable[[str], bool]) -> Iterator[Entry]:
        # Links to folders inside are passed over: what they lead to is met anyway.
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

    @override
    def read(self, path: str, limit: int) -> bytes:
        try:
            descriptor = os.open(f"{self.root}/{path}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
        try:
            # A read allocates what it is asked for.
            return os.read(descriptor, min(limit, os.fstat(descriptor).st_size))
        finally:
            os.close(descriptor)

    @override
    def read_many(self, paths: Iterable[str], limit: int) -> Iterator[bytes]:
        # One is read at a time: the operating system reads ahead.
        return (self.read(path, limit) for path in paths)

    @override
    def fetch(self, path: str, file: Path) -> None:
        shutil.copyfile(self.root / path, file)

    @override
    def digest(self, path: str) -> FileDigest | None:
        return digest_file(self.root / path) if (self.root / path).is_file() else None

    @override
    @contextmanager
    def build(self, path: str) -> Iterator[Path]:
        final = self.root / path
        # On a shared file system a file may be built twice at once: a node that was given up may
        # still be at work.
        staging = final.with_name(f".{final.name}.tmp-{uuid.uuid4().hex[:12]}")
        try:
            yield staging
            os.replace(staging, final)
        finally:
            staging.unlink(missing_ok=True)

    @override
    def write(self, path: str, content: bytes) -> None:
        with self.build(path) as staging:
            staging.write_bytes(content)

    @override
    def remove(self, path: str) -> None:
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
