"""TensorFlow's own errors of reading images and of writing files, as the project's."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from os import PathLike, fspath

import tensorflow as tf

from detflow.errors import DataError
from detflow.text import first_line

# TensorFlow folds the system's errors into a few classes; these are what writing can meet.
_ERRNOS = {
    tf.errors.ResourceExhaustedError: errno.ENOSPC,
    tf.errors.PermissionDeniedError: errno.EACCES,
    tf.errors.OutOfRangeError: errno.EFBIG,
}


@contextlib.contextmanager
def decode_faults(filename: str) -> Iterator[None]:
    """Turns TensorFlow's refusal to decode an image inside the block into a DataError.

    Args:
        filename: Of the image.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        raise DataError(
            f"the image cannot be decoded: {first_line(error.message or type(error).__name__)}",
            path=filename,
        ) from None


@contextlib.contextmanager
def write_faults(path: str | PathLike[str]) -> Iterator[None]:
    """Turns TensorFlow's errors inside the block into OSErrors.

    Those are what `errors.environment_faults` understands.

    Args:
        path: What is being written.
    """
    try:
        yield
    except tuple(_ERRNOS) as error:
        raise OSError(_ERRNOS[type(error)], error.message, fspath(path)) from error
