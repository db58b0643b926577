"""Which files of a folder are TFRecord files, and which split and shard their names mean."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from detflow.data.records.tfrecord import scan_records

_SHARD_NAME = re.compile(
    r"(?P<head>.+?)-(?P<index>\d{5})-of-(?P<count>\d{5})(?P<tail>\.[A-Za-z]+)?"
)
_RECORD_NAME = re.compile(
    r".+\.(tfrecords?|record|records|tfrec)(-\d{5}-of-\d{5})?(\.gz)?", re.IGNORECASE
)


def find_record_files(path: Path) -> list[Path]:
    """Returns the TFRecord files that a path means, sorted.

    Args:
        path: A file, which is one by its name or by its content; or a folder, whose files are
            chosen by their names.
    """
    if path.is_file():
        return [path] if _is_record_name(path.name) or _begins_with_a_record(path) else []
    if not path.is_dir():
        return []
    return sorted(
        entry for entry in path.iterdir() if _is_record_name(entry.name) and entry.is_file()
    )


def _is_record_name(name: str) -> bool:
    if name.startswith("."):
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
