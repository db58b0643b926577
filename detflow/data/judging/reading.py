"""Reads the files of a dataset that is being judged or converted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import tee

from detflow.data.images.header import MAX_IMAGE_BYTES
from detflow.data.images.transcode import encode_record_jpeg
from detflow.data.judging.sample import AuditedSample
from detflow.errors import DataError
from detflow.storage.interface import Folder


def read_files(source: Folder, paths: Iterable[str], limit: int) -> Iterator[bytes]:
    """Yields files' contents; one byte more than `limit` of a file that is larger.

    Raises:
        DataError: A file was removed meanwhile.
    """
    with removed_files():
        yield from source.read_many(paths, limit + 1)


@contextmanager
def removed_files() -> Iterator[None]:
    """Turns the error about a file that is not there any more into one for the user.

    Raises:
        DataError: A file was removed meanwhile.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(
            "the file was removed while the dataset was being read",
            path=error.filename,
            remedy="run it again",
        ) from None


def read_record_images(
    source: Folder, samples: Iterable[AuditedSample]
) -> Iterator[tuple[AuditedSample, bytes, str]]:
    """Yields each sample with its record's JPEG and the JPEG's SHA-256 in hexadecimal.

    Raises:
        DataError: An image is not the one that was audited.
    """
    samples, named = tee(samples)
    contents = read_files(source, (audited.image for audited in named), MAX_IMAGE_BYTES)
    for audited, data in zip(samples, contents, strict=True):
        _require_unchanged(audited, data)
        encoded = encode_record_jpeg(data, audited.treatment)
        is_unchanged = encoded is data
        yield (
            audited,
            encoded,
            audited.image_sha256 if is_unchanged else hashlib.sha256(encoded).hexdigest(),
        )


def read_audited_image(source: Folder, audited: AuditedSample) -> bytes:
    """Returns the image file of a sample.

    Raises:
        DataError: It is not the one that was audited.
    """
    [data] = read_files(source, [audited.image], MAX_IMAGE_BYTES)
    _require_unchanged(audited, data)
    return data


def _require_unchanged(audited: AuditedSample, data: bytes) -> None:
    if hashlib.sha256(data).hexdigest() != audited.image_sha256:
        raise DataError(
            "the image changed while the dataset was being converted",
            path=audited.image,
            remedy="run it again",
        )
