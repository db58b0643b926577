"""Compares all images and objects of two sets, and counts what differs."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from detflow.data.difference.images import ImagePair, ImagePairs, name_of, pair_images
from detflow.data.difference.objects import Change, ObjectChange, compare_objects
from detflow.data.images.decode import decode_rgb
from detflow.data.sinks.origin import ImageFacts, ImageReader, Origin
from detflow.data.sinks.sink import CarriedObject
from detflow.data.workers.processes import OrderedMap
from detflow.progress import Progress
from detflow.types import ImageSize

_CHUNK = 64


class ImageChange(NamedTuple):
    """An image of both sets that differs.

    Attributes:
        old: Its place among the old set's images.
        new: Its place among the new set's images.
        is_renamed: Whether it has another name.
        is_replaced: Whether its pixels are others.
        splits: Its old split and its new one, where they differ.
        size: The new image's size.
        objects: What differs between its objects.
    """

    old: int
    new: int
    is_renamed: bool
    is_replaced: bool
    splits: tuple[str, str] | None
    size: ImageSize
    objects: tuple[ObjectChange, ...]


@dataclass(slots=True)
class SetDifference:
    """What differs between two sets.

    Attributes:
        old: The old set.
        new: The new set.
        compares_splits: Whether both sets have splits of their own.
        compares_flags: Whether both sets have a place for flags.
        removed: Places of the images that only the old set has.
        added: Places of the images that only the new set has.
        changes: The images that differ, in the order of the new set.
        old_objects: How many objects of each class the old set has.
        new_objects: How many objects of each class the new set has.
        by_class: How many objects of a class underwent each change; of relabelled ones under both
            names.
        relabelled: How many objects became of one class what they were of another.
    """

    old: Origin
    new: Origin
    compares_splits: bool
    compares_flags: bool
    removed: Sequence[int] = ()
    added: Sequence[int] = ()
    changes: list[ImageChange] = field(default_factory=list)
    old_objects: Counter[str] = field(default_factory=Counter)
    new_objects: Counter[str] = field(default_factory=Counter)
    by_class: defaultdict[str, Counter[Change]] = field(
        default_factory=lambda: defaultdict(Counter)
    )
    relabelled: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs that training or evaluation would see."""
        return (
            not (
                self.removed or self.added or self.changes or self.new_classes or self.lost_classes
            )
            and self.has_same_ids
        )

    @property
    def new_classes(self) -> list[str]:
        """Classes that only the new set has."""
        return [name for name in self.new.label_map if name not in set(self.old.label_map)]

    @property
    def lost_classes(self) -> list[str]:
        """Classes that only the old set has."""
        return [name for name in self.old.label_map if name not in set(self.new.label_map)]

    @property
    def has_same_ids(self) -> bool:
        """Whether the classes of both sets come in the same order."""
        old, new = list(self.old.label_map), list(self.new.label_map)
        both = set(old) & set(new)
        return [one for one in old if one in both] == [one for one in new if one in both]

    def count_objects(self, change: Change) -> int:
        """Returns how many objects underwent a change."""
        return sum(change in item.changes for one in self.changes for item in one.objects)


def compare_sets(
    old: Origin, new: Origin, workers: OrderedMap, progress: Progress
) -> SetDifference:
    """Compares two sets.

    Memory holds names and a digest of each image, and the objects that differ.

    Args:
        old: The old set.
        new: The new set.
        workers: Where to run.
        progress: Told how far it is.

    Raises:
        DataError: An image changed meanwhile.
        ArtifactError: Records are damaged.
    """
    old_facts = list(_describe(old, workers, progress))
    new_facts = list(_describe(new, workers, progress))
    pairs = pair_images(
        old.entries,
        new.entries,
        [facts.digest for facts in old_facts],
        [facts.digest for facts in new_facts],
    )
    pairs = _pair_by_pixels(old, new, old_facts, new_facts, pairs, workers)
    found = SetDifference(
        old, new, old.declares_splits and new.declares_splits, old.has_flags and new.has_flags
    )
    found.removed, found.added = pairs.removed, pairs.added
    for origin, places, counts in (
        (old, pairs.removed, found.old_objects),
        (new, pairs.added, found.new_objects),
    ):
        for objects in workers(origin.reader.read_objects, origin.payloads(places), chunk=_CHUNK):
            counts.update(item.name for item in objects)
    _compare_pairs(found, pairs.pairs, new_facts, workers, progress)
    return found


def _describe(origin: Origin, workers: OrderedMap, progress: Progress) -> Iterator[ImageFacts]:
    total = len(origin.entries)
    payloads = origin.payloads(range(total))
    described = workers(origin.reader.describe, payloads, chunk=_CHUNK)
    for done, facts in enumerate(described, start=1):
        progress("looking at images", done, total)
        yield facts


def _pair_by_pixels(
    old: Origin,
    new: Origin,
    old_facts: Sequence[ImageFacts],
    new_facts: Sequence[ImageFacts],
    pairs: ImagePairs,
    workers: OrderedMap,
) -> ImagePairs:
    """Pairs what has the same pixels in other bytes: with other metadata, say.

    Only images that have no partner of the same bytes are decoded, and of those only images of a
    size that both sets have.
    """
    replaced = [pair for pair in pairs.pairs if pair.is_replaced]
    olds = [*pairs.removed, *(pair.old for pair in replaced)]
    news = [*pairs.added, *(pair.new for pair in replaced)]
    sizes = {old_facts[i].size for i in olds} & {new_facts[j].size for j in news}
    old_pixels = _digest_pixels(old, [i for i in olds if old_facts[i].size in sizes], workers)
    new_pixels = _digest_pixels(new, [j for j in news if new_facts[j].size in sizes], workers)
    # Of several with the same pixels, the one under the same name comes first.
    same = {
        pair.new: pair.old
        for pair in replaced
        if pair.new in new_pixels and old_pixels.get(pair.old) == new_pixels[pair.new]
    }
    taken = set(same.values())
    free: defaultdict[bytes, deque[int]] = defaultdict(deque)
    for i, digest in old_pixels.items():
        if i not in taken:
            free[digest].append(i)
    for j, digest in new_pixels.items():
        if j not in same and free[digest]:
            same[j] = free[digest].popleft()
    taken |= set(same.values())
    kept = [pair for pair in replaced if pair.new not in same and pair.old not in taken]
    found = [ImagePair(i, j) for j, i in same.items()]
    whole = sorted(
        [*(pair for pair in pairs.pairs if not pair.is_replaced), *kept, *found],
        key=lambda pair: (pair.new, pair.old),
    )
    return ImagePairs(
        whole,
        sorted(set(olds) - {pair.old for pair in whole}),
        sorted(set(news) - {pair.new for pair in whole}),
    )


def _digest_pixels(
    origin: Origin, places: Collection[int], workers: OrderedMap
) -> dict[int, bytes]:
    places = sorted(places)
    function = partial(_digest_image, origin.reader)
    return dict(zip(places, workers(function, origin.payloads(places), chunk=_CHUNK), strict=True))


def _digest_image(reader: ImageReader, payload: Any) -> bytes:
    pixels = decode_rgb(reader.load(payload).encoded)
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()[:16]


class _PairTask(NamedTuple):
    old: Any
    new: Any
    size: ImageSize


class _PairResult(NamedTuple):
    old_names: Counter[str]
    new_names: Counter[str]
    changes: tuple[ObjectChange, ...]


def _compare_pairs(
    found: SetDifference,
    pairs: Sequence[ImagePair],
    new_facts: Sequence[ImageFacts],
    workers: OrderedMap,
    progress: Progress,
) -> None:
    old, new = found.old, found.new
    old_entries, new_entries = old.entries, new.entries
    tasks = (
        _PairTask(old_payload, new_payload, new_facts[pair.new].size)
        for pair, old_payload, new_payload in zip(
            pairs,
            old.payloads(pair.old for pair in pairs),
            new.payloads(pair.new for pair in pairs),
            strict=True,
        )
    )
    function = partial(_compare_pair, old.reader, new.reader, found.compares_flags)
    for done, (pair, result) in enumerate(
        zip(pairs, workers(function, tasks, chunk=_CHUNK), strict=True), start=1
    ):
        progress("comparing objects", done, len(pairs))
        found.old_objects.update(result.old_names)
        found.new_objects.update(result.new_names)
        before, after = old_entries[pair.old], new_entries[pair.new]
        is_moved = found.compares_splits and before.split != after.split
        change = ImageChange(
            pair.old,
            pair.new,
            name_of(before) != name_of(after),
            pair.is_replaced,
            (before.split, after.split) if is_moved else None,
            new_facts[pair.new].size,
            result.changes,
        )
        if change.is_renamed or change.is_replaced or change.splits or change.objects:
            found.changes.append(change)
            _count(found, result.changes)


def _compare_pair(
    old: ImageReader, new: ImageReader, compares_flags: bool, task: _PairTask
) -> _PairResult:
    before, after = old.read_objects(task.old), new.read_objects(task.new)
    if not compares_flags:
        before, after = map(_drop_flags, (before, after))
    return _PairResult(
        _count_names(before), _count_names(after), tuple(compare_objects(before, after, task.size))
    )


def _drop_flags(objects: Sequence[CarriedObject]) -> list[CarriedObject]:
    return [CarriedObject(item.name, item.box) for item in objects]


def _count_names(objects: Sequence[CarriedObject]) -> Counter[str]:
    return Counter(item.name for item in objects)


def _count(found: SetDifference, changes: Sequence[ObjectChange]) -> None:
    for item in changes:
        names = {one.name for one in (item.old, item.new) if one is not None}
        for name in names:
            found.by_class[name].update(item.changes)
        if Change.RELABELLED in item.changes and item.old and item.new:
            found.relabelled[item.old.name, item.new.name] += 1
