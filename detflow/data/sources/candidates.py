"""The images that an annotation may belong to, and what speaks for each: names and folders.

Two witnesses are heard apart. What is written in the annotation (`<filename>`, `<path>`,
`<folder>`) names some images; the annotation's own name and folder name some. Mostly they agree.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from detflow.data.images.header import IMAGE_SUFFIXES
from detflow.data.sources.names import split_extension
from detflow.data.sources.nearness import (
    Nearness,
    compare_folders,
    folder_of,
    holds_renditions,
    words_of,
)

Claim = tuple[str | None, str | None, str | None, tuple[int, int] | None, bool]
"""How an annotation claims its image: the `filename`, `source_path` and `folder` of `ImageNames`,
the image's width and height as the annotation has them, and whether its own name is an image's (a
file with many annotations has a name of its own, but they have not).

Plain tuples of strings cost the garbage collector nothing, named ones do.
"""

_ANY_SEPARATORS = re.compile(r"[\\/¥₩]+")
_SEPARATORS = re.compile(r"[\\/]+")
# More paths of one name than this are not compared one by one: each file would meet all others.
_MAX_COMPARED = 64
_LEVEL_CODES = (None, "paired_by_case", "paired_by_extension", "paired_by_extension")


@dataclass(frozen=True, slots=True)
class Candidates:
    """The images that an annotation may belong to.

    Attributes:
        written: Those that are named in the annotation, as far as names and folders tell them
            apart.
        own: Those that the annotation's own name means, likewise.
        code: Under which rule the first ones were found; None where the name is exact.
        others: Images of the same names that are further away.
        lesser: Images of the same names that do not compete: masks, thumbnails, raw files.
    """

    written: tuple[str, ...]
    own: tuple[str, ...]
    code: str | None
    others: tuple[str, ...]
    lesser: tuple[str, ...]


class NameIndex:
    """Paths by their names, folded and without extension.

    Args:
        paths: In any order; those of one name are sorted.
        names: Only paths of these names are taken; None takes all.
        is_image: Whether extensions are those of images, which content may stand in for.
    """

    def __init__(
        self, paths: Iterable[str], names: Collection[str] | None = None, *, is_image: bool
    ) -> None:
        self._groups: dict[str, list[str]] = {}
        self._large: dict[str, _LargeGroup] = {}
        for path in paths:
            for key in _keys_of(path) if is_image else (own_key(path),):
                if names is None or key in names:
                    self._groups.setdefault(key, []).append(path)
        for group in self._groups.values():
            if len(group) > 1:
                group.sort()

    def find(self, key: str) -> Sequence[str]:
        """Returns all paths of a name."""
        return self._groups.get(key, ())

    def find_near(self, key: str, folder: str, hints: Sequence[str] = ()) -> tuple[list[str], bool]:
        """Returns the paths of a name that can be the nearest to a folder, and whether all are.

        Args:
            key: The folded name.
            folder: A folder's path.
            hints: Names of folders that may be meant.

        Returns:
            The paths; whether none of the others can be as near.
        """
        group = self._groups.get(key, [])
        if len(group) <= _MAX_COMPARED:
            return group, True
        if key not in self._large:
            self._large[key] = _LargeGroup(group)
        return self._large[key].find_near(folder, hints)


class _LargeGroup:
    """Many paths of one name, by what makes a folder near: `frame0001.jpg` in each of 5,000."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._first = paths[:_MAX_COMPARED]
        self._by_folder: defaultdict[object, list[str]] = defaultdict(list)
        for path in paths:
            folder = folder_of(path)
            parts = folder.split("/")
            prefixes = {"/".join(parts[:count]) for count in range(1, len(parts) + 1)}
            for trait in (*prefixes, (fold(parts[-1]),), words_of(folder)):
                self._by_folder[trait].append(path)

    def find_near(self, folder: str, hints: Sequence[str]) -> tuple[list[str], bool]:
        parts = folder.split("/")
        lasts = [(fold(name),) for name in (parts[-1], *hints)]
        prefixes = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
        deepest = next((prefix for prefix in prefixes if prefix in self._by_folder), None)
        found: dict[str, None] = {}
        for trait in (words_of(folder), *lasts, *([] if deepest is None else [deepest])):
            near = self._by_folder.get(trait, [])
            if len(near) <= _MAX_COMPARED:
                found.update(dict.fromkeys(near))
        return (list(found), True) if found else (list(self._first), False)


@dataclass(slots=True)
class CandidateFinder:
    """Finds the candidates of annotations.

    Attributes:
        images: The images by name.
        annotations: The files whose own name may be an image's, by name: as many as are asked for.
    """

    images: NameIndex
    annotations: NameIndex
    _owners: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def find(self, annotation: str, claim: Claim) -> Candidates:
        """Returns the candidates of an annotation."""
        written, code, pool, lesser = self._find_written(annotation, claim)
        own, own_pool, own_lesser = self._find_own(annotation, claim)
        if not written:
            code = "paired_by_stem"
        passed_over = dict.fromkeys((*lesser, *own_lesser))
        settled = {*written, *own, *passed_over}
        others = dict.fromkeys(image for image in (*pool, *own_pool) if image not in settled)
        return Candidates(written, own, code, tuple(others), tuple(passed_over))

    def find_owners(self, image: str) -> tuple[str, ...]:
        """Returns the annotations that have an image's name and are the nearest ones to it."""
        owners = self._owners.get(image)
        if owners is None:
            group: list[str] = []
            for key in _keys_of(image):
                near, is_all = self.annotations.find_near(key, folder_of(image))
                group += near if is_all else ()
            owners = take_best(group, lambda annotation: _own_rank(annotation, image))
            self._owners[image] = owners
        return owners

    def _find_written(
        self, annotation: str, claim: Claim
    ) -> tuple[tuple[str, ...], str | None, Sequence[str], Sequence[str]]:
        filename, source_path, _, _, _ = claim
        tail = split_path(source_path or "")[-1:]
        place = place_of(annotation, claim)
        lesser: Sequence[str] = ()
        for parts, code in ((split_path(filename or ""), None), (tail, "paired_by_path")):
            if not parts:
                continue
            name = parts[-1]
            pool, is_all = self._find_pool(annotation, split_extension(name)[0], claim)
            if not pool:
                continue
            if len(parts) > 1 and code is None:
                folders = [fold(part) for part in parts[:-1]]
                pool = [
                    image
                    for image in pool
                    if _count_same_ends(folders, _folded_folders(image)) == len(folders)
                ] or pool
            pool, lesser = _part(pool, lambda image: _is_primary(place, image))
            level, best = _take_level(name, pool)
            code = code or _LEVEL_CODES[level]
            if not is_all:
                return tuple(best), code, pool, lesser
            if level == len(_LEVEL_CODES) - 1:
                best, odd = _part(best, has_known_extension)
                lesser = (*lesser, *odd)
            best = take_best(best, lambda image: agreement(claim, image))
            best = take_best(best, lambda image: nearness(place, image))
            return best, code, pool, lesser
        return (), None, (), ()

    def _find_own(
        self, annotation: str, claim: Claim
    ) -> tuple[tuple[str, ...], Sequence[str], Sequence[str]]:
        filename, _, _, _, has_own_name = claim
        own = own_name(annotation)
        stem = split_extension(own)[0]
        pool, is_all = self._find_pool(annotation, stem, claim) if has_own_name else ((), True)
        if not pool:
            return (), (), ()
        pool, lesser = _part(pool, lambda image: _is_primary(folder_of(annotation), image))
        if stem != own:
            # `a.jpg.xml` means a.jpg and no a.png.
            pool = [image for image in pool if fold(name_of(image)) == fold(own)] or pool
        best = pool
        if len(best) > 1 and is_all:
            best, odd = _part(best, has_known_extension)
            lesser = (*lesser, *odd)
            best = [image for image in best if stem_of(image) == stem] or best
            names = split_path(filename or "")
            if names and fold(split_extension(names[-1])[0]) == fold(stem):
                best = _take_level(names[-1], best)[1]
            best = take_best(best, lambda image: nearness(folder_of(annotation), image))
            best = take_best(best, lambda image: agreement(claim, image))
        owned = tuple(image for image in best if annotation in self.find_owners(image))
        return owned, pool, lesser

    def _find_pool(self, annotation: str, stem: str, claim: Claim) -> tuple[Sequence[str], bool]:
        key = fold(stem)
        pool = self.images.find(key)
        if len(pool) <= _MAX_COMPARED:
            return pool, True
        filename, source_path, folder, _, _ = claim
        hints = [
            *split_path(filename or "")[-2:-1],
            *split_path(source_path or "")[-2:-1],
            *split_path(folder or "")[-1:],
        ]
        return self.images.find_near(key, place_of(annotation, claim), hints)


def place_of(annotation: str, claim: Claim) -> str:
    """Returns the folder that an annotation stands for.

    That is where its file lies, or what a file with many annotations is called:
    `annotations/instances_train` is about `images/train`.
    """
    if claim[4]:
        return folder_of(annotation)
    folder, slash, name = annotation.rpartition("/")
    file = name.partition("#")[0]
    return folder + slash + (file.rpartition(".")[0] or file)


def nearness(place: str, image: str) -> Nearness:
    """Returns how near an image lies to a folder that an annotation stands for."""
    return compare_folders(place, folder_of(image))


def agreement(claim: Claim, image: str) -> tuple[int, int, int]:
    """Returns how many folders are an image's.

    Those at the ends of `<filename>`, of `<path>` and of `<folder>` are counted.
    """
    filename, source_path, folder, _, _ = claim
    folders = _folded_folders(image)
    return (
        _count_same_ends(split_path(filename or "")[:-1], folders),
        _count_same_ends(split_path(source_path or "")[:-1], folders),
        _count_same_ends(split_path(folder or ""), folders),
    )


# Each path is asked for several times in a row.
@lru_cache(maxsize=256)
def split_path(path: str) -> tuple[str, ...]:
    """Returns the parts of a path from any machine."""
    return tuple(part for part in _SEPARATORS.split(path) if part not in ("", "."))


def is_unsafe(filename: str) -> bool:
    """Whether a POSIX path leaves its folder.

    A drive letter leads nowhere here; the last part behind it is a name like any other. In
    Japanese and Korean encodings the byte of the backslash is read as the sign of the currency.
    """
    return (
        filename.startswith("/")
        or "\0" in filename
        or (".." in filename and ".." in _ANY_SEPARATORS.split(filename))
    )


def name_of(path: str) -> str:
    """Returns a file's name."""
    return path.rpartition("/")[2]


def stem_of(path: str) -> str:
    """Returns a file's name without a known extension."""
    return split_extension(name_of(path))[0]


def own_name(annotation: str) -> str:
    """Returns the name of an annotation's file without the extension: `a`, or `a.jpg`."""
    return stem_of(annotation)


def own_key(annotation: str) -> str:
    """Returns the name that an annotation's image has by the annotation's own, folded."""
    return fold(split_extension(own_name(annotation))[0])


def fold(name: str) -> str:
    """Returns a name without what may differ between machines: case and Unicode form."""
    return unicodedata.normalize("NFC", name).casefold()


def has_known_extension(image: str) -> bool:
    """Whether a file is an image by its name, not by its content only."""
    return split_extension(name_of(image))[1].lower() in IMAGE_SUFFIXES


def _keys_of(image: str) -> tuple[str, ...]:
    """Returns the folded names without extension that an image goes by."""
    name = name_of(image)
    stem, suffix = split_extension(name)
    if suffix or "." not in name:
        return (fold(stem),)
    # An image by content with an unknown extension.
    return fold(name), fold(name.rpartition(".")[0])


def _is_primary(place: str, image: str) -> bool:
    return not holds_renditions(place, folder_of(image))


def _own_rank(annotation: str, image: str) -> tuple[bool, bool, Nearness]:
    own = own_name(annotation)
    stem = stem_of(image)
    # A file `a.jpg.xml` beside `a.xml` is a stranger's.
    return fold(own) == fold(stem), own == stem, nearness(folder_of(annotation), image)


def _folded_folders(path: str) -> list[str]:
    return [fold(part) for part in path.split("/")[:-1]]


def _count_same_ends(ones: Sequence[str], others: Sequence[str]) -> int:
    count = 0
    for one, other in zip(reversed(ones), reversed(others), strict=False):
        if fold(one) != other:
            break
        count += 1
    return count


def _take_level(name: str, images: Sequence[str]) -> tuple[int, Sequence[str]]:
    """Returns the images whose names are most like a name, and how they differ from it.

    0 is not at all, 1 in case or Unicode form, 2 in the spelling of the same extension, 3 in the
    extension.
    """
    if same := [image for image in images if name_of(image) == name]:
        return 0, same
    folded = fold(name)
    if same := [image for image in images if fold(name_of(image)) == folded]:
        return 1, same
    image_format = _format_of(name)
    if image_format and (same := [one for one in images if _format_of(one) == image_format]):
        return 2, same
    return 3, images


def _format_of(path: str) -> str | None:
    return IMAGE_SUFFIXES.get(split_extension(name_of(path))[1].lower())


def _part(
    paths: Sequence[str], is_better: Callable[[str], bool]
) -> tuple[Sequence[str], Sequence[str]]:
    """Returns the better paths and the others; all and none where none is better."""
    better = [path for path in paths if is_better(path)]
    if not better or len(better) == len(paths):
        return paths, ()
    return better, [path for path in paths if not is_better(path)]


def take_best(paths: Sequence[str], rank: Callable[[str], Any]) -> tuple[str, ...]:
    """Returns the paths with the greatest rank."""
    if len(paths) < 2:
        return tuple(paths)
    ranks = [rank(path) for path in paths]
    best = max(ranks)
    return tuple(path for path, its in zip(paths, ranks, strict=True) if its == best)
