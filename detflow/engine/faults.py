"""TensorFlow's own errors of writing, told as the operating system would."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from os import PathLike, fspath

import tensorflow as tf

__all__ = ["write_faults"]

# TensorFlow folds the system's errors into a few classes; these are what writing can meet.
_ERRNOS = {
    tf.errors.ResourceExhaustedError: errno.ENOSPC,
    tf.errors.PermissionDeniedError: errno.EACCES,
    tf.errors.OutOfRangeError: errno.EFBIG,
}


@contextlib.contextmanager
def write_faults(path: str | PathLike[str]) -> Iterator[None]:
    """Turns TensorFlow's errors inside the block into the OSError that `errors.environment_faults` understands.

    Args:
        path: What is being written.
    """
    try:
        yield
    except tuple(_ERRNOS) as error:
        raise OSError(_ERRNOS[type(error)], error.message, fspath(path)) from error
