"""TensorFlow's own errors of images, checkpoints and files, as the project's."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from os import PathLike, fspath

import tensorflow as tf
from google.protobuf.message import DecodeError

from detflow.errors import ArtifactError, DataError
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
def checkpoint_faults(path: str | PathLike[str], cause: str) -> Iterator[None]:
    """Turns what TensorFlow raises of a checkpoint inside the block into an ArtifactError.

    Args:
        path: The checkpoint.
        cause: What is wrong then; TensorFlow's reason follows behind a colon.
    """
    try:
        yield
    except (
        tf.errors.OpError,
        AssertionError,
        DecodeError,
        IndexError,
        TypeError,
        ValueError,
    ) as error:
        raise ArtifactError(f"{cause}: {first_line(error)}", path=path) from None


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
