"""The errors that reach a user, and the process exit codes that they carry.

An error is one line: path, place, cause, remedy. Everything that a user can meet is a
`DetflowError`; any other exception that escapes a command is a defect of detflow.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from typing import ClassVar

from detflow.text import escape_unprintable


class DetflowError(Exception):
    """A fault that the user can act on.

    Args:
        cause: What is wrong, with the value and what was expected.
        path: The file or folder that is at fault.
        place: Where in the file: a line number, `record 12`, `train.steps`.
        remedy: What the user can do.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        cause: str,
        *,
        path: str | PathLike[str] | None = None,
        place: str | int | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.path = None if path is None else fspath(path)
        self.place = place
        self.remedy = remedy

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.path, self.place) if part is not None)
        text = f"{where}: {self.cause}" if where else self.cause
        if self.remedy:
            text += f"; {self.remedy}"
        # File names may hold line breaks and what terminals obey; the error stays one line.
        return escape_unprintable(text)


class ConfigError(DetflowError):
    """The configuration or the command line is wrong."""

    exit_code = 2


class DataError(DetflowError):
    """The input data cannot be used."""

    exit_code = 3


class ArtifactError(DetflowError):
    """Something that detflow or another tool wrote is damaged, or did not pass its gate."""

    exit_code = 4


class EnvironmentFault(DetflowError):
    """The machine refused: the disk, a permission, or memory."""

    exit_code = 5


class Locked(DetflowError):
    """Another process holds what this one needs."""

    exit_code = 6


_MACHINE_ERRNOS = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would exceed the size limit",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
    errno.EIO: "the device reported an input/output error",
    errno.EMFILE: "too many open files",
    errno.ENOMEM: "out of memory",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a file of that name is in the way",
    errno.ENAMETOOLONG: "the name is too long",
}


@contextmanager
def environment_faults(path: str | PathLike[str], remedy: str | None = None) -> Iterator[None]:
    """Turns what the machine refuses inside the block into `EnvironmentFault`.

    Other errors pass through.

    Args:
        path: What the error names where the operating system names no file of its own.
        remedy: What the user can do.

    Raises:
        EnvironmentFault: The disk is full, a permission is missing, memory ran out, or the like.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _MACHINE_ERRNOS:
            raise
        raise EnvironmentFault(
            _MACHINE_ERRNOS[error.errno], path=error.filename or path, remedy=remedy
        ) from error
    except MemoryError as error:
        raise EnvironmentFault("out of memory", path=path, remedy=remedy) from error
