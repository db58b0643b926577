"""The splits that a dataset declares, in lists or by folders."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from detflow.data.findings import Finding
from detflow.data.sources.names import SPLIT_NAMES, split_extension
from detflow.data.sources.source import DatasetFiles
from detflow.data.sources.splits import SplitBy, Splits
from detflow.errors import ConfigError, DataError
from detflow.storage.interface import Folder

_MAX_LIST_BYTES = 1 << 30
# Some lists have classes or boxes in columns behind the name.
_NUMBERS_BEHIND = re.compile(r"(\s+[-+.,\d]+)+$")


def declared_splits(
    files: DatasetFiles, annotations: Sequence[str], pairs: Mapping[str, str], split_by: SplitBy
) -> Splits | None:
    """Returns the splits that the dataset declares, or None where the seed is to decide.

    Args:
        files: The dataset.
        annotations: The names of all annotations, usable or not, sorted.
        pairs: The image of each annotation that has one.
        split_by: What the user asked for.

    Raises:
        ConfigError: The user asked for declared splits and there are none.
    """
    # One list or folder alone divides nothing: CVAT writes a default.txt, and many sets lie in a
    # folder "train".
    needed = 2 if split_by is SplitBy.AUTO else 1
    if split_by in (SplitBy.AUTO, SplitBy.LISTS):
        declared = _read_lists(files, annotations, pairs)
        if len(declared.members) >= needed:
            return declared
    if split_by in (SplitBy.AUTO, SplitBy.FOLDERS):
        declared = _read_folders(annotations, pairs)
        if len(declared.members) >= needed:
            return declared
    if split_by in (SplitBy.LISTS, SplitBy.FOLDERS):
        cause = f"the dataset declares no splits by {split_by.value}"
        raise ConfigError(cause, path=str(files.source.location), remedy="use --split-by seed")
    return None


def _read_folders(annotations: Sequence[str], pairs: Mapping[str, str]) -> Splits:
    found: defaultdict[str, list[str]] = defaultdict(list)
    outside = []
    for annotation in annotations:
        # Annotations in one folder can have their images in several.
        folders = [*annotation.split("/")[:-1], *pairs.get(annotation, "").split("/")[:-1]]
        name = next((folder for folder in folders if folder.lower() in SPLIT_NAMES), None)
        if name is None:
            outside.append(annotation)
        else:
            found[name].append(annotation)
    findings = tuple(
        Finding("split_unassigned", path, value="in no split's folder") for path in outside
    )
    members = {name: tuple(found[name]) for name in sorted(found, key=_reading_order)}
    return Splits(SplitBy.FOLDERS, members, findings=findings)


def _read_lists(
    files: DatasetFiles, annotations: Sequence[str], pairs: Mapping[str, str]
) -> Splits:
    lists, findings = _find_members(files, annotations, pairs)
    sets = {name: frozenset(members) for name, members in lists.items() if members}
    unions = _find_unions(sets)
    written = {name: members for name, members in sets.items() if name not in unions}
    splits_of: defaultdict[str, list[str]] = defaultdict(list)
    for name, listed in written.items():
        for annotation in listed:
            splits_of[annotation].append(name)
    for annotation in annotations:
        names = splits_of[annotation]
        if not names:
            findings.append(Finding("split_unassigned", annotation, value="in no split's list"))
        elif len(names) > 1:
            value = f"listed in {', '.join(names)}"
            image = pairs.get(annotation)
            findings.append(Finding("split_leak", annotation, value=value, image=image))
    members = {name: tuple(sorted(written[name])) for name in sorted(written, key=_reading_order)}
    return Splits(SplitBy.LISTS, members, unions, tuple(findings))


def _find_members(
    files: DatasetFiles, annotations: Sequence[str], pairs: Mapping[str, str]
) -> tuple[Mapping[str, Collection[str]], list[Finding]]:
    """Returns the annotations that each list names, and what is wrong with the lists' lines."""
    finder = _EntryFinder(annotations, pairs)
    lists: defaultdict[str, dict[str, None]] = defaultdict(dict)
    lists_of_classes: defaultdict[str, dict[str, None]] = defaultdict(dict)
    findings: list[Finding] = []
    for path in files.split_lists:
        entries, has_flags = _read_entries(files.source, path)
        name = split_extension(path.rpartition("/")[2])[0]
        scope = _scope_of(path, annotations)
        split = name.rpartition("_")[2]
        if has_flags and name.lower() not in SPLIT_NAMES:
            # VOC's list of one class, `cat_train.txt`, names every image of train.
            if split.lower() in SPLIT_NAMES:
                found = (finder.find(entry, scope) for _, entry in entries)
                lists_of_classes[split].update(
                    (annotation, None) for annotation in found if annotation is not None
                )
            continue
        for line, entry in entries:
            annotation = finder.find(entry, scope)
            if annotation is None:
                findings.append(Finding("split_entry_missing", path, line=line, value=entry))
            elif annotation in lists[name]:
                findings.append(Finding("split_entry_twice", path, line=line, value=entry))
            else:
                lists[name][annotation] = None
    # VoTT writes only the lists of single classes.
    return (lists if any(lists.values()) else lists_of_classes), findings


def _scope_of(path: str, annotations: Sequence[str]) -> str:
    """Returns the folder that a split list is about, as paths in it begin.

    That is its VOC root, or else the nearest folder above it that has annotations.
    """
    folders = path.split("/")[:-1]
    if "ImageSets" in folders:
        folders = folders[: folders.index("ImageSets")]
    else:
        while folders and not any(
            annotation.startswith("/".join(folders) + "/") for annotation in annotations
        ):
            folders.pop()
    return "/".join(folders) + "/" if folders else ""


def _read_entries(source: Folder, path: str) -> tuple[list[tuple[int, str]], bool]:
    """Returns (line, entry) of a split list, and whether each line had VOC's flag for a class.

    The flag is 1, 0 or -1 behind the name.
    """
    content = source.read(path, _MAX_LIST_BYTES + 1)
    if len(content) > _MAX_LIST_BYTES:
        raise DataError(
            f"the split list has more than {_MAX_LIST_BYTES:,} bytes", path=path, remedy="divide it"
        )
    lines = content.decode("utf-8-sig", "surrogateescape").splitlines()
    entries = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    parts = [entry.rsplit(maxsplit=1) for _, entry in entries]
    if not parts or not all(len(part) == 2 and part[1] in ("1", "0", "-1") for part in parts):
        return entries, False
    return [(number, part[0]) for (number, _), part in zip(entries, parts, strict=True)], True


def _find_unions(sets: Mapping[str, frozenset[str]]) -> dict[str, tuple[str, ...]]:
    """Finds lists that are exactly others put together, such as VOC's trainval.

    Without a list val, trainval is the same as train.
    """
    unions: dict[str, tuple[str, ...]] = {}
    for name, members in sets.items():
        if name == "trainval" and sets.get("train") == members:
            unions[name] = ("train",)
            continue
        parts = [other for other, inside in sets.items() if other != name and inside < members]
        together = frozenset[str]().union(*(sets[part] for part in parts))
        if (
            len(parts) >= 2
            and together == members
            and sum(len(sets[part]) for part in parts) == len(members)
        ):
            unions[name] = tuple(sorted(parts, key=_reading_order))
    return unions


def _reading_order(name: str) -> tuple[int, str]:
    order = ("train", "val", "test")
    return next(
        (place for place, start in enumerate(order) if name.startswith(start)), len(order)
    ), name


class _EntryFinder:
    """Finds the annotation that a line of a split list means.

    The line is a stem, a file name or a path, of the annotation or of its image.
    """

    def __init__(self, annotations: Iterable[str], pairs: Mapping[str, str]) -> None:
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        for annotation in annotations:
            names = {
                split_extension(path)[0].rpartition("/")[2]
                for path in (annotation, pairs.get(annotation, annotation))
            }
            for name in names:
                self._by_name[name].append(annotation)
        self._pairs = pairs

    def find(self, entry: str, scope: str) -> str | None:
        return self._find(entry, scope) or self._find(_NUMBERS_BEHIND.sub("", entry), scope)

    def _find(self, entry: str, scope: str) -> str | None:
        stem = split_extension(entry.replace("\\", "/").removeprefix("./"))[0]
        candidates = [
            path
            for path in self._by_name.get(stem.rpartition("/")[2], [])
            if path.startswith(scope)
        ]
        if len(candidates) > 1 and "/" in stem:
            candidates = [path for path in candidates if self._has_path(path, stem)]
        return candidates[0] if len(candidates) == 1 else None

    def _has_path(self, annotation: str, stem: str) -> bool:
        paths = (annotation, self._pairs.get(annotation, annotation))
        return any(f"/{split_extension(path)[0]}".endswith(f"/{stem}") for path in paths)
