"""Files that are there and cannot be read: the fault of one file, not of the machine."""

from __future__ import annotations

import errno

from detflow.storage.interface import Folder

_FAULTS = {
    errno.EACCES: "permission denied",
    errno.EPERM: "operation not permitted",
    errno.EIO: "the device reported an input/output error",
    errno.ELOOP: "the link leads nowhere",
    errno.EISDIR: "it is a folder",
}


def read_readable(source: Folder, path: str, limit: int) -> bytes | None:
    """Returns a file's first bytes; None of a file that is there and cannot be read."""
    try:
        return source.read(path, limit)
    except OSError as error:
        if is_fault_of_file(error):
            return None
        raise


def is_fault_of_file(error: OSError) -> bool:
    """Whether an error is about the one file, so that others may be read all the same."""
    return error.errno in _FAULTS


def name_fault(error: OSError) -> str:
    """Says what is wrong with the file: the same words on every machine."""
    return _FAULTS.get(error.errno or 0, "it cannot be opened")
