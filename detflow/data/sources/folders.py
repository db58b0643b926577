"""The splits that a dataset declares by its folders."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from detflow.data.findings import Finding
from detflow.data.sources.names import find_split_word, is_split_name
from detflow.data.sources.splits import SplitBy, Splits
from detflow.data.sources.unions import sort_splits
from detflow.text import count_noun

_Folders = tuple[str, ...]
_Place = tuple[_Folders, _Folders | None]
"""The folders of an annotation and of its image; None where it has no image."""


class _Kind(NamedTuple):
    """The split that a place declares: its name, the folder, and whether that says nothing else."""

    word: str
    folder: str
    is_exact: bool


def read_folders(
    annotations: Sequence[str], pairs: Mapping[str, str]
) -> tuple[Splits, tuple[Finding, ...]]:
    """Reads the splits that folders declare, those of the annotations before the images'.

    A folder that is named like a split declares one. One that has such a name among its words, as
    "train_images" or "val2017", does so if at least two folders are named like splits, or if it and
    its like hold all annotations: "test_tubes" beside "bottles" is no split. Folders that hold
    everything divide nothing.

    Args:
        annotations: The names of all annotations, sorted.
        pairs: The image of each annotation that has one.

    Returns:
        The splits, and what is to be told where they are not used.
    """
    # Annotations of one folder share one place: a large set would fill the memory otherwise.
    known: dict[tuple[str, str | None], _Place] = {}
    places = []
    for name in annotations:
        own, theirs = _folder_of(name), _folder_of(pairs[name]) if name in pairs else None
        place = known.get((own, theirs))
        if place is None:
            place = _split(own), None if theirs is None else _split(theirs)
            known[own, theirs] = place
        places.append(place)
    counts = Counter(places)
    named = _name_places(counts)
    exact = {kind.word for kind in named.values() if kind.is_exact}
    used = named
    if len(exact) < 2 and len(named) < len(counts):
        used = {place: kind for place, kind in named.items() if kind.is_exact}
    found: defaultdict[str, list[str]] = defaultdict(list)
    outside: list[str] = []
    for annotation, place in zip(annotations, places, strict=True):
        kind = used.get(place)
        (found[kind.word] if kind else outside).append(annotation)
    members = {name: tuple(found[name]) for name in sort_splits(found)}
    findings = tuple(
        Finding("split_unassigned", path, value="in no split's folder") for path in outside
    )
    return Splits(SplitBy.FOLDERS, members, findings=findings), _name_unused(named, counts)


def _name_places(places: Collection[_Place]) -> Mapping[_Place, _Kind]:
    """Returns what those places declare that declare a split."""
    shared = _shared_start([own for own, _ in places])
    shared_by_images = _shared_start([theirs for _, theirs in places if theirs is not None])
    for skipped in ((shared, shared_by_images), (0, 0)):
        kinds = {place: _name_place(place, skipped) for place in places}
        named = {place: kind for place, kind in kinds.items() if kind is not None}
        if named:
            return named
    return {}


def _name_place(place: _Place, skipped: tuple[int, int]) -> _Kind | None:
    own, theirs = place
    folders = [
        (name, "/".join(path[: depth + 1]))
        for path, start in zip((own, theirs or ()), skipped, strict=True)
        for depth, name in enumerate(path)
        if depth >= start
    ]
    kinds = [
        _Kind(word, folder, is_split_name(name))
        for name, folder in folders
        if (word := find_split_word(name)) is not None
    ]
    return next((kind for kind in kinds if kind.is_exact), kinds[0] if kinds else None)


def _name_unused(
    named: Mapping[_Place, _Kind], counts: Mapping[_Place, int]
) -> tuple[Finding, ...]:
    held = sum(counts[place] for place in named)
    total = sum(counts.values())
    if not named or held == total:
        return ()
    folders = sorted({kind.folder for kind in named.values()})
    others = f" and {count_noun(len(folders) - 1, 'other folder')}" if len(folders) > 1 else ""
    words = ", ".join(sort_splits({kind.word for kind in named.values()}))
    value = (
        f"{folders[0]}{others} (by name: {words}): {held:,} of {count_noun(total, 'annotation')}"
    )
    return (Finding("split_unused", folders[0], value=value),)


def _folder_of(path: str) -> str:
    return path.rpartition("/")[0]


def _split(folder: str) -> _Folders:
    return tuple(folder.split("/")) if folder else ()


def _shared_start(paths: Collection[_Folders]) -> int:
    """Returns how many first folders all paths share."""
    if not paths:
        return 0
    first, last = min(paths), max(paths)
    same = [one == other for one, other in zip(first, last, strict=False)]
    return same.index(False) if False in same else len(same)
