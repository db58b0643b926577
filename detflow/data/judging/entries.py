"""Annotations of files that hold many: read once, kept on disk until their images are known."""

from __future__ import annotations

import hashlib
import pickle
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from detflow.data.findings import Finding
from detflow.data.judging.reading import read_content, read_files
from detflow.data.sources.filed import find_file_split
from detflow.data.sources.source import AnnotationSource, DatasetFiles, ImageNames, RawAnnotation

# A set of one of these names holds what others hold too.
_UNIONS = (None, "trainval")
_LENGTH = struct.Struct("<Q")


class EntryFile(NamedTuple):
    """What was read of a file with many annotations.

    Attributes:
        path: The file inside the dataset.
        digest: Its SHA-256, 32 bytes.
        claims: How each annotation claims its image, the image's width and height as written, and
            where the store keeps it, by its entry.
        findings: What is wrong with the file, or with entries that are no annotations.
        contents: A digest of what each annotation says.
    """

    path: str
    digest: bytes
    claims: Mapping[str, tuple[ImageNames, tuple[int, int] | None, int]]
    findings: tuple[Finding, ...]
    contents: frozenset[bytes]


class EntryStore:
    """Annotations in a file on disk.

    A file of COCO's may have hundreds of megabytes: it is parsed once, by one process, and each
    annotation goes from here to whichever process judges it with its image.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def add(self, annotation: RawAnnotation) -> int:
        """Keeps an annotation; returns its place."""
        place = self._file.seek(0, 2)
        data = pickle.dumps(annotation, pickle.HIGHEST_PROTOCOL)
        self._file.write(_LENGTH.pack(len(data)) + data)
        return place

    def take(self, place: int) -> bytes:
        """Returns what `restore_annotation` reads."""
        self._file.seek(place)
        [length] = _LENGTH.unpack(self._file.read(_LENGTH.size))
        return self._file.read(length)


@contextmanager
def open_store(work_dir: Path) -> Iterator[EntryStore]:
    """Yields a store in a folder; its file is gone behind the block."""
    path = work_dir / "annotations.bin"
    try:
        with open(path, "w+b") as file:
            yield EntryStore(file)
    finally:
        path.unlink(missing_ok=True)


def restore_annotation(data: bytes) -> RawAnnotation:
    """Returns an annotation that this run has kept."""
    annotation: RawAnnotation = pickle.loads(data)  # noqa: S301  Nobody else writes the file.
    return annotation


def read_entries(
    files: DatasetFiles, dialect: AnnotationSource, store: EntryStore
) -> Iterator[EntryFile]:
    """Yields what each file of a dataset holds, in their order; the store keeps the annotations.

    Args:
        files: The dataset.
        dialect: How its files are read.
        store: Where annotations go.
    """
    contents = read_files(files.source, files.annotations, dialect.max_file_bytes)
    for path, data in zip(files.annotations, contents, strict=True):
        content, digest = read_content(dialect, data, path)
        yield EntryFile(
            path,
            digest,
            {raw.entry: (raw.names, raw.size, store.add(raw)) for raw in content.annotations},
            content.findings,
            frozenset(map(_digest_content, content.annotations)),
        )


def find_repeats(files: Sequence[EntryFile]) -> dict[str, tuple[str, ...]]:
    """Returns the files of which other files hold every annotation, each with those.

    Scripts write `labels.csv` beside `train_labels.csv` and `test_labels.csv`, and people keep
    copies. What a file of one split shares with one of another is a leak and no repetition.
    """
    kept = {file.path: file for file in files if file.contents}
    split_of = {path: find_file_split(path) for path in kept}
    repeats: dict[str, tuple[str, ...]] = {}
    # The largest first: it is the union of the others. Of equal copies the first one counts.
    ordered = sorted(kept.values(), key=lambda one: (len(one.contents), one.path), reverse=True)
    for file in ordered:
        split = split_of[file.path]
        sharing = [
            other
            for path, other in kept.items()
            if path != file.path
            and (split in _UNIONS or split == split_of[path])
            and not file.contents.isdisjoint(other.contents)
        ]
        if sharing and file.contents <= frozenset().union(*(other.contents for other in sharing)):
            del kept[file.path]
            repeats[file.path] = tuple(other.path for other in sharing)
    return repeats


def _digest_content(annotation: RawAnnotation) -> bytes:
    name = (annotation.names.filename or "").replace("\\", "/").rpartition("/")[2]
    objects = sorted((raw.name, raw.corners) for raw in annotation.objects or ())
    said = repr((name, annotation.size, annotation.objects is None, objects))
    return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=12).digest()
