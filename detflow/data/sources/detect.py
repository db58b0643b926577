"""Which dialect a dataset is written in: found by looking, or chosen by the user."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from detflow.data.findings import Finding
from detflow.data.images.header import IMAGE_SUFFIXES
from detflow.data.sources.coco.source import COCO, is_coco
from detflow.data.sources.csv.read import read_head
from detflow.data.sources.csv.source import CSV
from detflow.data.sources.cvat.source import CVAT
from detflow.data.sources.layout import find_files, walk_dataset
from detflow.data.sources.names import split_extension
from detflow.data.sources.source import AnnotationSource, DatasetFiles
from detflow.data.sources.tfrecord.source import TFRECORD
from detflow.data.sources.voc.source import VOC
from detflow.data.sources.yolo.source import YOLO
from detflow.errors import ConfigError
from detflow.storage.faults import read_readable
from detflow.storage.interface import Entry, Folder
from detflow.text import count_noun

DIALECTS: Mapping[str, AnnotationSource] = {
    "voc": VOC,
    "coco": COCO,
    "yolo": YOLO,
    "csv": CSV,
    "cvat": CVAT,
    "tfrecord": TFRECORD,
}
"""The dialects by the names under which users choose them."""

# Heads are read of a few files in each folder, which hold the same in all datasets that were seen.
_LOOKS_PER_FOLDER = 3
_MAX_LOOKS = 256
_HEAD_BYTES = 1 << 16
_MAX_NAMED = 3
_ROOT = re.compile(r"<(?![?!])(?:[\w.-]+:)?([\w.-]+)")
_CVAT_CHILD = re.compile(r"<(?:image|track|meta)\b")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_LABEL_LINE = re.compile(r"\s*\d+(?:\.0*)?(?:[ \t]+[-+.\deE]+){4,}[ \t]*(?:\r?\n|$)")


class Seen(NamedTuple):
    """What was seen of a dialect in a dataset.

    Attributes:
        key: The dialect's key in `DIALECTS`.
        paths: The files, sorted.
    """

    key: str
    paths: tuple[str, ...]

    def __str__(self) -> str:
        """Names the dialect and its first files, as "COCO: 2 files (train.json, val.json)" does."""
        named = ", ".join(self.paths[:_MAX_NAMED])
        more = ", …" if len(self.paths) > _MAX_NAMED else ""
        return f"{DIALECTS[self.key].name}: {count_noun(len(self.paths), 'file')} ({named}{more})"


def open_dataset_files(
    source: Folder, dialect: AnnotationSource | None, classes: Sequence[str] | None
) -> tuple[AnnotationSource, DatasetFiles]:
    """Finds the files of a dataset, and the dialect in which its annotations are written.

    Args:
        source: The dataset's folder.
        dialect: The dialect that the user chose; None looks.
        classes: The class names that the user gives; None where the dataset decides.

    Returns:
        The dialect, prepared, and the files.

    Raises:
        ConfigError: Annotations of several dialects lie together, and it is not so that VOC's speak
            of all images that the others speak of.
        DataError: What the dialect's files need to be understood is missing or contradictory.
    """
    entries = walk_dataset(source)
    others: Sequence[Seen] = ()
    if dialect is None:
        seen = find_dialects(source, entries)
        chosen = _choose(source, entries, seen)
        others = [one for one in seen if one.key != chosen]
        dialect = DIALECTS[chosen]
    dialect, files = dialect.prepare(find_files(source, dialect, entries), classes)
    notes = tuple(Finding("dialect_passed_over", one.paths[0], value=str(one)) for one in others)
    return dialect, replace(files, findings=(*files.findings, *notes))


def find_dialects(source: Folder, entries: Iterable[Entry]) -> list[Seen]:
    """Returns the dialects of which a dataset has files, in the order of `DIALECTS`.

    Args:
        source: The dataset's folder.
        entries: What `walk_dataset` has found.
    """
    by_suffix: defaultdict[str, list[str]] = defaultdict(list)
    stems: set[str] = set()
    for path, outside, _ in entries:
        if outside is not None:
            continue
        name = path.rpartition("/")[2].lower()
        suffix = name[name.rfind(".") :] if "." in name else ""
        if suffix in IMAGE_SUFFIXES:
            stems.add(_own_name(path))
        else:
            by_suffix[suffix].append(path)
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in _sample(by_suffix[".xml"]):
        text = _COMMENT.sub("", _read_text(source, path))
        root = match[1] if (match := _ROOT.search(text)) else ""
        if root == "annotation":
            found["voc"] = by_suffix[".xml"]
        elif root == "annotations" and _CVAT_CHILD.search(text):
            found["cvat"].append(path)
    for path in _sample(by_suffix[".json"], per_folder=_MAX_LOOKS):
        if is_coco(_read_head(source, path)):
            found["coco"].append(path)
    for path in _sample(by_suffix[".csv"], per_folder=_MAX_LOOKS):
        if read_head(source.read(path, _HEAD_BYTES)) is not None:
            found["csv"].append(path)
    labels = [
        path
        for path in by_suffix[".txt"]
        if YOLO.has_name(path) and ("labels" in path.split("/") or _own_name(path) in stems)
    ]
    if any(_LABEL_LINE.match(_read_text(source, path)) for path in _sample(labels)):
        found["yolo"] = labels
    found["tfrecord"] = [
        path for suffix in by_suffix for path in by_suffix[suffix] if TFRECORD.has_name(path)
    ]
    return [Seen(key, tuple(sorted(found[key]))) for key in DIALECTS if found[key]]


def _choose(source: Folder, entries: Sequence[Entry], seen: Sequence[Seen]) -> str:
    # Records hold images of their own; beside a dataset they are mostly made of it.
    seen = [one for one in seen if one.key != "tfrecord"] or list(seen)
    if len(seen) < 2:
        return seen[0].key if seen else "voc"
    if seen[0].key == "voc":
        # What scripts make of VOC's XML lies beside it in many sets; it speaks of no other image.
        names = _names_of(source, entries, seen[0])
        if all(_names_of(source, entries, other) <= names for other in seen[1:]):
            return "voc"
    keys = " or ".join(f"--dialect {one.key}" for one in seen)
    raise ConfigError(
        f"annotations of several dialects lie together: {'; '.join(map(str, seen))}",
        path=str(source.location),
        remedy=f"choose {keys}",
    )


def _names_of(source: Folder, entries: Sequence[Entry], seen: Seen) -> frozenset[str]:
    """Returns the names, without extension and case, of the images that a dialect speaks of."""
    dialect = DIALECTS[seen.key]
    if not dialect.many_images:
        return frozenset(map(_own_name, seen.paths))
    _, files = dialect.prepare(find_files(source, dialect, entries), None)
    return frozenset(
        _own_name((annotation.names.filename or "").replace("\\", "/"))
        for path in files.annotations
        for annotation in dialect.read(source.read(path, dialect.max_file_bytes + 1), path)[0]
    )


def _sample(paths: Sequence[str], per_folder: int = _LOOKS_PER_FOLDER) -> list[str]:
    """Returns the first files of each folder."""
    counts: defaultdict[str, int] = defaultdict(int)
    chosen = []
    for path in paths:
        folder = path.rpartition("/")[0]
        counts[folder] += 1
        if counts[folder] <= per_folder:
            chosen.append(path)
    return chosen[:_MAX_LOOKS]


def _read_text(source: Folder, path: str) -> str:
    return _read_head(source, path).replace(b"\0", b"").decode("utf-8", "replace")


def _read_head(source: Folder, path: str) -> bytes:
    """Returns a file's first bytes; none of a file that cannot be read, which judging names."""
    return read_readable(source, path, _HEAD_BYTES) or b""


def _own_name(path: str) -> str:
    return split_extension(path.rpartition("/")[2])[0].casefold()
