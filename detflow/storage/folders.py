"""Opens a folder wherever it lies; the folders of a file system."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from detflow.digests import FileDigest, digest_file
from detflow.process.platform import open_to_read
from detflow.storage.interface import Entry, Folder
from detflow.storage.location import Location, Url


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
        return cls(Path(os.path.realpath(path)))

    @property
    @override
    def location(self) -> Path:
        return self.root

    @property
    @override
    def name(self) -> str:
        return self.root.name

    @override
    def walk(
        self,
        skip: Callable[[str], bool],
        on_error: Callable[[Entry, OSError], None] | None = None,
    ) -> Iterator[Entry]:
        # Links to folders inside are passed over: what they lead to is met anyway.
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                scan = os.scandir(self.root / folder)
            except PermissionError as error:
                if on_error is None or not folder:
                    raise
                on_error(Entry(folder, is_folder=True), error)
                continue
            with scan as entries:
                for entry in entries:
                    if skip(entry.name):
                        continue
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_symlink():
                        # Unlike Path.resolve, this goes on where links lead in a circle.
                        target = Path(os.path.realpath(entry.path))
                        if not target.is_relative_to(self.root):
                            yield Entry(path, os.readlink(entry.path), os.path.isdir(entry.path))
                            continue
                        if not os.path.exists(entry.path) and on_error is not None:
                            on_error(Entry(path), _leads_nowhere(path))
                        if not os.path.isfile(entry.path):
                            continue
                    if entry.is_dir():
                        folders.append(path)
                    elif entry.is_file():
                        yield Entry(path)

    @override
    def read(self, path: str, limit: int) -> bytes:
        try:
            descriptor = open_to_read(f"{self.root}/{path}")
        except FileNotFoundError:
            if os.path.islink(f"{self.root}/{path}"):
                raise _leads_nowhere(path) from None
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


def _leads_nowhere(path: str) -> OSError:
    return OSError(errno.ELOOP, "the link leads nowhere", path)


def open_folder(location: Location) -> Folder:
    """Returns the folder at a path or URL, which is not looked at yet.

    Raises:
        EnvironmentFault: The library for the URL is not installed.
    """
    if isinstance(location, Url):
        from detflow.storage.objects import ObjectFolder

        return ObjectFolder.of(location)
    return LocalFolder.of(location)
