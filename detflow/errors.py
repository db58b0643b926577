"""The errors that reach a user, and the process exit codes that they carry.

An error is one line: path, place, cause, remedy. Everything that a user can meet is a
`DetflowError`; any other exception that escapes a command is a defect of detflow.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from typing import ClassVar

from detflow.text import escape_unprintable, hide_credentials


class DetflowError(Exception):
    """A fault that the user can act on.

    Passwords in URLs are left out of all that it says.

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
        cause = hide_credentials(cause)
        super().__init__(cause)
        self.cause = cause
        self.path = None if path is None else hide_credentials(fspath(path))
        self.place = hide_credentials(place) if isinstance(place, str) else place
        self.remedy = None if remedy is None else hide_credentials(remedy)

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
    errno.ELOOP: "links lead to one another in a circle",
    errno.ESTALE: "the network file system has lost the file",
    errno.ENFILE: "too many open files in the whole system",
    errno.ENOENT: "no such file or folder",
    errno.EISDIR: "it is a folder, not a file",
    errno.ENOTEMPTY: "the folder is not empty",
}
# A file that is missing, a lock that is held and a connection that ended mean something to callers.
_MEANINGFUL = (
    FileNotFoundError,
    BlockingIOError,
    ConnectionError,
    TimeoutError,
    InterruptedError,
    ChildProcessError,
    ProcessLookupError,
)


def translate_fault(
    error: Exception, path: str | PathLike[str] | None = None, remedy: str | None = None
) -> EnvironmentFault | None:
    """Returns what the machine refused, also by a number that nobody thought of; None of a defect.

    Args:
        error: What was raised.
        path: What is named where the operating system names no file.
        remedy: What the user can do.
    """
    if isinstance(error, MemoryError):
        return EnvironmentFault("out of memory", path=path, remedy=remedy)
    if isinstance(error, RuntimeError):
        # So pathlib says ELOOP before Python 3.13.
        is_circle = str(error).startswith("Symlink loop")
        error = OSError(errno.ELOOP, "", path) if is_circle else error
    if not isinstance(error, OSError):
        return None
    if error.filename is None and error.errno == errno.ENOENT and not _has_working_directory():
        return EnvironmentFault("the working directory is gone", path=path, remedy="change to one")
    # A number stands for a file that was open already.
    is_named = isinstance(error.filename, str | bytes | PathLike)
    where = error.filename if is_named else path
    cause = _MACHINE_ERRNOS.get(error.errno or 0) or (error.strerror or str(error)).strip()
    return EnvironmentFault(
        cause or type(error).__name__,
        path=None if where is None else os.fsdecode(where),
        remedy=remedy,
    )


def _has_working_directory() -> bool:
    try:
        return bool(os.getcwd())
    except OSError:
        return False


@contextmanager
def environment_faults(path: str | PathLike[str], remedy: str | None = None) -> Iterator[None]:
    """Turns what the machine refuses inside the block into `EnvironmentFault`.

    A missing file, a held lock and an ended connection pass through, as do errors of no number.

    Args:
        path: What the error names where the operating system names no file of its own.
        remedy: What the user can do.

    Raises:
        EnvironmentFault: The disk is full, a permission is missing, memory ran out, or the like.
    """
    try:
        yield
    except (OSError, RuntimeError, MemoryError) as error:
        is_plain = isinstance(error, OSError) and error.errno is None
        is_meant = isinstance(error, _MEANINGFUL) and _has_working_directory()
        fault = None if is_plain or is_meant else translate_fault(error, path, remedy)
        if fault is None:
            raise
        raise fault from error
