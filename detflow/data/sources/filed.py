"""Splits that a dataset declares by the files that hold its annotations, whatever the dialect."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from detflow.data.findings import Finding
from detflow.data.sources.declared import declared_splits
from detflow.data.sources.entries import find_file
from detflow.data.sources.names import find_split_word, split_extension
from detflow.data.sources.source import DatasetFiles
from detflow.data.sources.splits import SplitBy, Splits


def find_file_split(path: str) -> str | None:
    """Returns the split that a file of annotations names; None where it names none.

    The file's own name counts ("instances_train2017.json", "test_labels.csv"), or else the nearest
    folder's ("valid/_annotations.coco.json").
    """
    *folders, name = path.split("/")
    for part in (split_extension(name)[0], *reversed(folders)):
        if word := find_split_word(part):
            return word
    return None


def declare_filed_splits(
    files: DatasetFiles,
    annotations: Sequence[str],
    images: Mapping[str, str],
    split_by: SplitBy,
    members: Mapping[str, str | None] | None = None,
) -> Splits | None:
    """Returns the splits that files of annotations declare; else those of lists and folders.

    Args:
        files: The dataset.
        annotations: The names of all annotations, usable or not, sorted.
        images: The image of each annotation that has one.
        split_by: What the user asked for.
        members: The split of each annotation by its name, where the dialect knows better than the
            files' names do.

    Raises:
        ConfigError: The user asked for declared splits and there are none.
    """
    if split_by in (SplitBy.AUTO, SplitBy.LISTS):
        declared = _divide(files, annotations, members)
        if len(declared.members) >= (2 if split_by is SplitBy.AUTO else 1):
            return declared
    return declared_splits(files, annotations, images, split_by)


def _divide(
    files: DatasetFiles, annotations: Sequence[str], members: Mapping[str, str | None] | None
) -> Splits:
    paths = frozenset(files.annotations)
    split_of_file = {path: find_file_split(path) for path in paths}
    found: defaultdict[str, list[str]] = defaultdict(list)
    findings = []
    for annotation in annotations:
        if members is not None:
            split = members.get(annotation)
        else:
            split = split_of_file.get(find_file(annotation, paths))
        if split is None:
            value = "in no split's file"
            findings.append(Finding("split_unassigned", annotation, value=value))
        else:
            found[split].append(annotation)
    order = sorted(found, key=_reading_order)
    return Splits(
        SplitBy.LISTS, {split: tuple(found[split]) for split in order}, findings=tuple(findings)
    )


def _reading_order(name: str) -> tuple[int, str]:
    order = ("train", "val", "test")
    return next(
        (place for place, start in enumerate(order) if name.startswith(start)), len(order)
    ), name
