"""Which image of one set is which image of another set: by its name and by its bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import NamedTuple

from detflow.data.sinks.origin import OriginEntry
from detflow.data.sources.names import split_extension


class ImagePair(NamedTuple):
    """An image that both sets have.

    Attributes:
        old: Its place among the old set's images.
        new: Its place among the new set's images.
        is_replaced: Whether the two have a name in common, but other bytes.
    """

    old: int
    new: int
    is_replaced: bool = False


class ImagePairs(NamedTuple):
    """How the images of two sets belong together; places as in `ImagePair`.

    Attributes:
        pairs: What both have, in the order of the new set.
        removed: What only the old set has.
        added: What only the new set has.
    """

    pairs: Sequence[ImagePair]
    removed: Sequence[int]
    added: Sequence[int]


def pair_images(
    old: Sequence[OriginEntry],
    new: Sequence[OriginEntry],
    old_digests: Sequence[bytes],
    new_digests: Sequence[bytes],
) -> ImagePairs:
    """Pairs images.

    The same bytes make a pair, those under the same name first; then the same name does, with other
    bytes. A name is the key, or else the image's own, where no other image has it.

    Args:
        old: The images of the old set.
        new: The images of the new set.
        old_digests: A digest of each old image.
        new_digests: A digest of each new image.
    """
    matcher = _Matcher(len(old), len(new))
    keys = [entry.key for entry in old], [entry.key for entry in new]
    stems = [name_of(entry) for entry in old], [name_of(entry) for entry in new]
    for names in (keys, stems):
        matcher.match(
            list(zip(old_digests, names[0], strict=True)).__getitem__,
            list(zip(new_digests, names[1], strict=True)).__getitem__,
        )
    matcher.match(old_digests.__getitem__, new_digests.__getitem__)
    same = set(matcher.pairs)
    matcher.match(keys[0].__getitem__, keys[1].__getitem__, only_single=True)
    matcher.match(stems[0].__getitem__, stems[1].__getitem__, only_single=True)
    pairs = [ImagePair(i, j, (i, j) not in same) for i, j in matcher.pairs]
    return ImagePairs(
        sorted(pairs, key=lambda pair: (pair.new, pair.old)),
        sorted(matcher.lone_old),
        sorted(matcher.lone_new),
    )


def name_of(entry: OriginEntry) -> str:
    """Returns an image's own name: without folders and suffix."""
    return split_extension(entry.image.rpartition("/")[2])[0]


class _Matcher:
    def __init__(self, num_old: int, num_new: int) -> None:
        self.pairs: list[tuple[int, int]] = []
        self.lone_old = set(range(num_old))
        self.lone_new = set(range(num_new))

    def match(
        self,
        old_key: Callable[[int], Hashable],
        new_key: Callable[[int], Hashable],
        *,
        only_single: bool = False,
    ) -> None:
        """Pairs what has no partner yet and the same key, in order.

        Args:
            old_key: The key of an old image.
            new_key: The key of a new image.
            only_single: Whether a key must be unique in both sets.
        """
        olds, news = _group(self.lone_old, old_key), _group(self.lone_new, new_key)
        for key, places in olds.items():
            others = news.get(key, [])
            if only_single and (len(places) > 1 or len(others) > 1):
                continue
            for i, j in zip(places, others, strict=False):
                self.pairs.append((i, j))
                self.lone_old.remove(i)
                self.lone_new.remove(j)


def _group(places: Collection[int], key: Callable[[int], Hashable]) -> dict[Hashable, list[int]]:
    groups: defaultdict[Hashable, list[int]] = defaultdict(list)
    for place in sorted(places):
        groups[key(place)].append(place)
    return groups
