"""Lists that are others put together, and lists that overlap although they must not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import combinations

from detflow.data.findings import Finding
from detflow.data.sources.names import SPLIT_NAMES
from detflow.text import count_noun

_ALL = frozenset({"all", "full", "total", "everything", "complete", "whole", "default"})
# A list that names what ten others name is no split at all; pairs of more would be very many.
_MAX_NAMES = 10


def find_unions(sets: Mapping[str, frozenset[str]]) -> dict[str, tuple[str, ...]]:
    """Finds lists that are others put together, such as VOC's trainval, whatever these share.

    The name tells trainval where there are train and val, and "all" and its like where there are at
    least two others. Other lists are unions if they name exactly what at least two smaller ones
    name; train, val and test never are. Without a list val, trainval is the same as train.

    Args:
        sets: What each list names.
    """
    unions: dict[str, tuple[str, ...]] = {}
    # Trainval is no part of what holds everything.
    for name in sorted(sets, key=lambda name: (name.lower() in _ALL, len(sets[name]), name)):
        others = [other for other in sets if other != name and other not in unions]
        parts = _find_parts(name, sets, others)
        if parts:
            unions[name] = tuple(sort_splits(parts))
    return {name: unions[name] for name in sets if name in unions}


def _find_parts(
    name: str, sets: Mapping[str, frozenset[str]], others: Collection[str]
) -> Collection[str]:
    members = sets[name]
    if name == "trainval":
        if sets.get("train") == members:
            return ("train",)
        if "train" in sets and "val" in sets:
            return ("train", "val")
    elif name in SPLIT_NAMES:
        return ()
    if name.lower() in _ALL:
        parts = [other for other in others if other.lower() not in _ALL]
        return parts if len(parts) >= 2 else ()
    parts = [other for other in others if sets[other] < members]
    together = frozenset[str]().union(*(sets[part] for part in parts))
    return parts if len(parts) >= 2 and together == members else ()


def describe_overlaps(
    sets: Mapping[str, frozenset[str]], paths: Mapping[str, str], pairs: Mapping[str, str]
) -> Iterator[Finding]:
    """Yields a finding for each pair of lists that name the same annotations.

    Args:
        sets: What each list names.
        paths: The file of each list.
        pairs: The image of each annotation that has one.
    """
    names_of: dict[str, list[str]] = {}
    ordered = sort_splits(sets)
    for name in ordered:
        for annotation in sets[name]:
            names_of.setdefault(annotation, []).append(name)
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    for annotation, names in names_of.items():
        for pair in combinations(names[:_MAX_NAMES], 2) if len(names) > 1 else ():
            counts[pair] += 1
            first[pair] = min(first.get(pair, annotation), annotation)
    places = {name: place for place, name in enumerate(ordered)}
    for one, other in sorted(counts, key=lambda pair: (places[pair[0]], places[pair[1]])):
        count = counts[one, other]
        example = first[one, other]
        yield Finding(
            "split_leak",
            paths[other],
            value=f"{count_noun(count, 'annotation')} in both {one} and {other}: {example}"
            + (", …" if count > 1 else ""),
            image=pairs.get(example),
            related=(paths[one],),
        )


def sort_splits(names: Iterable[str]) -> list[str]:
    """Returns the names of splits in the order in which people read them: train, val, test."""
    return sorted(names, key=_reading_order)


def _reading_order(name: str) -> tuple[int, str]:
    order = ("train", "val", "test")
    return next(
        (place for place, start in enumerate(order) if name.startswith(start)), len(order)
    ), name
