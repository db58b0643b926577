"""TFRecord files as a folder: for each record a file with its tf.Example, and one with its image.

So everything that works on a folder with images and annotations works on records. The path of such
a file holds the TFRecord file's path, the record's number, and the image's own name:
`train.tfrecord/000017/dog` and `train.tfrecord/000017/dog.jpg`.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from typing_extensions import override

from detflow.data.images.header import IMAGE_SUFFIXES, find_format
from detflow.data.records.example import Feature, decode_typed_example
from detflow.data.records.tfrecord import find_offsets, read_record_at, scan_records
from detflow.data.sources.names import split_extension
from detflow.digests import FileDigest
from detflow.errors import ArtifactError, DataError
from detflow.storage.interface import Entry, Folder
from detflow.storage.location import Location

_Features = dict[str, tuple["type | None", Feature]]
_MAX_NAME_CHARS = 120
_UNSAFE = re.compile(r"[\0-\x1f\x7f/\\]+")


class RecordPaths(NamedTuple):
    """The files that a record is shown as.

    Attributes:
        number: The record's place in its file, from 0.
        annotation: Where its tf.Example is.
        image: Where its image is; None where it has none.
        fault: Why neither can be read; None where they can.
    """

    number: int
    annotation: str
    image: str | None
    fault: str | None


@dataclass(frozen=True, slots=True)
class RecordFolder(Folder):
    """The view of a folder with TFRecord files.

    Attributes:
        base: The folder.
        root: Its path.
    """

    base: Folder
    root: Path

    @property
    @override
    def location(self) -> Location:
        return self.base.location

    @property
    @override
    def name(self) -> str:
        return self.base.name

    @override
    def walk(
        self,
        skip: Callable[[str], bool],
        on_error: Callable[[Entry, OSError], None] | None = None,
    ) -> Iterator[Entry]:
        return self.base.walk(skip, on_error)

    @override
    def read(self, path: str, limit: int) -> bytes:
        file, number, name = path.rsplit("/", 2)
        data = self._read_record(file, int(number))
        if split_extension(name)[1]:
            data = find_image(_decode(data)) or b""
        return data[:limit]

    @override
    def read_many(self, paths: Iterable[str], limit: int) -> Iterator[bytes]:
        return (self.read(path, limit) for path in paths)

    @override
    def fetch(self, path: str, file: Path) -> None:
        self.base.fetch(path, file)

    @override
    def digest(self, path: str) -> FileDigest | None:
        return self.base.digest(path)

    @override
    def build(self, path: str):  # type: ignore[no-untyped-def]  # noqa: ANN201
        return self.base.build(path)

    @override
    def write(self, path: str, content: bytes) -> None:
        self.base.write(path, content)

    @override
    def remove(self, path: str) -> None:
        self.base.remove(path)

    def _read_record(self, file: str, number: int) -> bytes:
        path = self.root / file
        try:
            stat = path.stat()
            offsets = _find_offsets(path, stat.st_size, stat.st_mtime_ns)
            return _read_record(path, offsets[number], stat.st_mtime_ns)
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "no such file", file) from None
        except (IndexError, ArtifactError):
            cause = "the file changed while the dataset was being read"
            raise DataError(cause, path=file, remedy="run it again") from None


def list_records(root: Path, file: str) -> Iterator[RecordPaths]:
    """Yields the files that each record of a TFRecord file is shown as.

    Every checksum is checked; what follows a record whose length cannot be trusted is not seen.

    Args:
        root: The dataset's folder.
        file: The TFRecord file's path inside.
    """
    for record in scan_records(root / file):
        start = f"{file}/{record.number:06d}"
        if record.fault is not None:
            yield RecordPaths(record.number, f"{start}/record", None, record.fault)
            continue
        features = _decode(record.data)
        image = find_image(features)
        stem, suffix = _name_image(features, image)
        path = f"{start}/{stem}"
        yield RecordPaths(record.number, path, None if image is None else path + suffix, None)


def find_image(features: _Features) -> bytes | None:
    """Returns a record's encoded image; None where it has none."""
    return first_bytes(features, "image/encoded")


def first_bytes(features: _Features, name: str) -> bytes | None:
    """Returns the first value of a field of bytes; None where there is none."""
    kind, values = features.get(name, (None, ()))
    if kind is not bytes or not values or not isinstance(values[0], bytes):
        return None
    return values[0] or None


def _name_image(features: _Features, image: bytes | None) -> tuple[str, str]:
    """Returns the image's own name and an extension."""
    written = (
        first_bytes(features, "image/filename") or first_bytes(features, "image/source_id") or b""
    )
    name = written.decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]
    stem, suffix = split_extension(_UNSAFE.sub("_", name).strip(". ")[-_MAX_NAME_CHARS:])
    image_format = find_format((image or b"")[:16])
    if IMAGE_SUFFIXES.get(suffix.lower()) != image_format or not suffix:
        suffix = next((one for one, kind in IMAGE_SUFFIXES.items() if kind == image_format), ".jpg")
    # The annotation has the name without an extension, and must not seem to have one.
    while split_extension(stem)[1]:
        stem = "_".join(stem.rsplit(".", 1))
    return stem or "record", suffix


def _decode(data: bytes) -> _Features:
    try:
        return decode_typed_example(data)
    except ValueError:
        # Whoever reads the annotation says so.
        return {}


@lru_cache(maxsize=256)
def _find_offsets(path: Path, size: int, changed: int) -> tuple[int, ...]:
    return tuple(find_offsets(path))


@lru_cache(maxsize=1)
def _read_record(path: Path, offset: int, changed: int) -> bytes:
    return read_record_at(path, offset)
