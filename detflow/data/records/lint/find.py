"""Which files of a folder are TFRecord files, and which split and shard their names mean."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from detflow.data.records.manifest import MANIFEST_NAME
from detflow.data.records.tfrecord import scan_records

_SHARD_NAME = re.compile(
    r"(?P<head>.+?)-(?P<index>\d{5})-of-(?P<count>\d{5})(?P<tail>\.[A-Za-z]+)?"
)
_RECORD_NAME = re.compile(
    r".+\.(tfrecords?|record|records|tfrec)(-\d{5}-of-\d{5})?(\.gz)?", re.IGNORECASE
)
# Almost no name in a dataset has one of these, and looking for them is quick.
_HINT = re.compile(r"\.(?:tf)?rec|-of-", re.IGNORECASE)
_SPLIT_FOLDERS = frozenset(
    {"train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval"}
)


def find_record_files(path: Path) -> list[Path]:
    """Returns the TFRecord files that a path means, sorted.

    Args:
        path: A file, which is one by its name or by its content; or a folder, whose files are
            chosen by their names. Where it has no manifest, the files in its folders that are
            called like splits belong to it: Roboflow exports `train/`, `valid/` and `test/`.
    """
    if path.is_file():
        return [path] if is_record_name(path.name) or _begins_with_a_record(path) else []
    if not path.is_dir():
        return []
    files, _, parts = _look_into(path)
    return sorted([*files, *(file for part in parts for file in _look_into(part)[0])])


def find_record_folders(root: Path) -> Iterator[Path]:
    """Yields the folders at or below a folder that `find_record_files` finds files in, sorted.

    Files that belong together are in one of them. Hidden folders and links to folders are passed
    over.
    """
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        files, others, parts = _look_into(folder)
        if files or parts or (folder == root and (folder / MANIFEST_NAME).is_file()):
            yield folder
        waiting += sorted(others, reverse=True)


def _look_into(folder: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Returns a folder's TFRecord files, its folders, and those with parts of the same set."""
    files: list[Path] = []
    folders: list[Path] = []
    is_described = False
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(folder / entry.name)
            elif is_record_name(entry.name) and entry.is_file():
                files.append(folder / entry.name)
            is_described |= entry.name == MANIFEST_NAME
    if is_described:
        return files, folders, []
    parts = [part for part in folders if part.name.lower() in _SPLIT_FOLDERS and _is_part(part)]
    return files, [other for other in folders if other not in parts], parts


def _is_part(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_file()]
    return MANIFEST_NAME not in names and any(map(is_record_name, names))


def is_record_name(name: str) -> bool:
    """Whether a file is a TFRecord file by its name."""
    if name.startswith(".") or not _HINT.search(name):
        return False
    shard = _SHARD_NAME.fullmatch(name)
    return bool(_RECORD_NAME.fullmatch(name)) or (shard is not None and shard["tail"] is None)


def _begins_with_a_record(path: Path) -> bool:
    first = next(scan_records(path), None)
    return first is not None and first.fault is None


def read_split_name(file_name: str) -> str:
    """Returns what a file's name says of its split.

    For example, "coco_train" for `coco_train.record-00000-of-00010` and "train" for
    `train-00000-of-00002.tfrecord`.
    """
    match = _SHARD_NAME.fullmatch(file_name.removesuffix(".gz"))
    head = match["head"] if match else file_name.removesuffix(".gz")
    return re.sub(r"\.(tfrecords?|records?|tfrec)$", "", head, flags=re.IGNORECASE)


def find_missing_shards(files: Sequence[Path], limit: int) -> Iterator[str]:
    """Yields the names of shards that the names of others promise.

    Args:
        files: The files of one folder.
        limit: The most names for each set of shards: a file's name may promise millions.
    """
    sets: defaultdict[tuple[str, str, str], set[int]] = defaultdict(set)
    for file in files:
        if match := _SHARD_NAME.fullmatch(file.name):
            sets[match["head"], match["count"], match["tail"] or ""].add(int(match["index"]))
    for (head, count, tail), indices in sets.items():
        for index in sorted(set(range(min(int(count), len(indices) + limit))) - indices):
            yield f"{head}-{index:05d}-of-{count}{tail}"
