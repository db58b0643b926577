"""Reads the files of a dataset that is being judged or converted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import tee

from detflow.data.findings import Finding
from detflow.data.images.header import MAX_IMAGE_BYTES
from detflow.data.images.transcode import encode_record_jpeg
from detflow.data.judging.sample import AuditedSample
from detflow.data.sources.source import AnnotationSource, FileContent
from detflow.errors import DataError
from detflow.storage.faults import is_fault_of_file, name_fault
from detflow.storage.interface import Folder


@dataclass(frozen=True, slots=True)
class UnreadableFile:
    """Stands for the content of a file that is there and cannot be read.

    Attributes:
        reason: Why, the same in every run.
    """

    reason: str


def read_files(
    source: Folder, paths: Iterable[str], limit: int
) -> Iterator[bytes | UnreadableFile]:
    """Yields files' contents; one byte more than `limit` of a file that is larger.

    Raises:
        DataError: A file was removed meanwhile.
    """
    remaining = iter(paths)
    is_done = False
    while not is_done:
        # A folder of this machine reads a path when its content is asked for, so that those behind
        # a path that failed remain. A store's errors are the machine's, and end the reading.
        contents = source.read_many(remaining, limit + 1)
        try:
            with removed_files():
                yield from contents
            is_done = True
        except OSError as error:
            if not is_fault_of_file(error):
                raise
            yield UnreadableFile(name_fault(error))


def read_content(
    dialect: AnnotationSource, data: bytes | UnreadableFile, path: str
) -> tuple[FileContent, bytes]:
    """Returns what a file of annotations holds, and its SHA-256, 32 bytes.

    Args:
        dialect: How the file is read.
        data: Its content, or why there is none.
        path: Its path inside the dataset.
    """
    if isinstance(data, UnreadableFile):
        finding = Finding("file_unreadable", path, value=data.reason)
        return FileContent((), (finding,)), hashlib.sha256(b"").digest()
    return dialect.read(data, path), hashlib.sha256(data).digest()


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
    for audited, content in zip(samples, contents, strict=True):
        data = _require_unchanged(audited, content)
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
    [content] = read_files(source, [audited.image], MAX_IMAGE_BYTES)
    return _require_unchanged(audited, content)


def _require_unchanged(audited: AuditedSample, content: bytes | UnreadableFile) -> bytes:
    if (
        isinstance(content, UnreadableFile)
        or hashlib.sha256(content).hexdigest() != audited.image_sha256
    ):
        raise DataError(
            "the image changed while the dataset was being converted",
            path=audited.image,
            remedy="run it again",
        )
    return content
