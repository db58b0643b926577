"""Finds names that resemble others among many: what cannot be alike is left out unread.

`difflib` compares two names in microseconds, and thousands with thousands in minutes. No two names
share more characters in the same order than in any order, which is counted for all of them at once;
only those that may be alike are compared. Hostile names are cut, and the comparisons are bounded.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

_RATIO = 10
_CUTOFF = 0.85
_MAX_CHARS = 100
_EPSILON = 1e-9
_BUCKETS = 32
# Pairs of names whose characters are counted, and pairs of characters that difflib may look at:
# each takes some tenths of a second. Sets of some hundred classes never come near them.
_MAX_PAIRS = 4_000_000
_MAX_CELLS = 1_000_000
# How many known names are compared with one that is not known.
_MAX_COMPARED = 8


def find_near_misses(totals: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yields (class, class that may be meant instead) where the two names differ by little.

    By case or by what stands between words, whatever the numbers: the rarer one is yielded. By a
    letter or by any separator: a class that is at least 10 times rarer. Names that differ in digits
    only ("type1", "type2") are a series, not an error. With many thousands of classes, rare ones
    are compared with the most frequent ones only.

    Args:
        totals: How many objects each class has.
    """
    variants = _Groups(totals, _to_variant)
    # In many sets no class is rare enough for what follows to find anything.
    is_even = not totals or max(totals.values()) < _count_enough(min(totals.values()))
    plain = _Groups({} if is_even else totals, _to_plain)
    alike = {} if is_even else _find_alike(totals)
    for name in sorted(totals):
        other: str | None = variants.find_first(name)
        if other == name:
            other = plain.find_last(name, _count_enough(totals[name])) or alike.get(name)
        if other is not None:
            yield name, other


class NearestNames:
    """Finds the known name that is most like another one.

    Among many names, only those are compared that share the most characters with it.

    Args:
        names: The known names, at least one.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._cut = [name[:_MAX_CHARS] for name in names]
        self._longest = max(map(len, self._cut))
        self._bags = _Bags(self._cut)
        self._found: dict[str, str] = {}

    def find(self, name: str) -> str:
        """Returns the known name that is most like another; empty where the search is given up."""
        cut = name[:_MAX_CHARS]
        if cut not in self._found:
            self._found[cut] = self._find(cut)
        return self._found[cut]

    def _find(self, name: str) -> str:
        bounds = self._bags.bound(name, len(self._names))
        cells = _MAX_COMPARED * len(name) * self._longest
        index, _ = _find_most_alike(name, self._cut, bounds, 0.0, cells)
        return "" if index is None else self._names[index]


class _Groups:
    """Classes whose names are the same in some form, the most frequent first."""

    def __init__(self, totals: Mapping[str, int], to_form: Callable[[str], str]) -> None:
        self._forms = {name: to_form(name) for name in totals}
        self._names: defaultdict[str, list[str]] = defaultdict(list)
        self._ranks: defaultdict[str, list[int]] = defaultdict(list)
        for name in sorted(totals, key=lambda name: (-totals[name], name)):
            self._names[self._forms[name]].append(name)
            self._ranks[self._forms[name]].append(-totals[name])
        self._last = {form: list(accumulate(names, max)) for form, names in self._names.items()}

    def find_first(self, name: str) -> str:
        """Returns the most frequent one of a class's group."""
        return self._names[self._forms[name]][0]

    def find_last(self, name: str, least: int) -> str | None:
        """Returns the last by name of those that have at least so many objects."""
        form = self._forms.get(name)
        count = 0 if form is None else bisect_right(self._ranks[form], -least)
        return self._last[form][count - 1] if form is not None and count else None


class _Bags:
    """How often each character is in each name, in few classes of characters.

    Args:
        names: The names, of at most `_MAX_CHARS` characters.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._lengths = np.array([len(name) for name in names], np.int64)
        self._bags = np.stack([_count_chars(name) for name in names], axis=1)

    def bound(self, name: str, count: int) -> npt.NDArray[np.float64]:
        """Returns what `difflib`'s ratio of a name and each of the first names is at most.

        Args:
            name: The name.
            count: How many names to look at.

        Returns:
            [count].
        """
        own = _count_chars(name)
        used = np.flatnonzero(own)
        shared = np.minimum(self._bags[used, :count], own[used, None]).sum(axis=0, dtype=np.int64)
        ratios: npt.NDArray[np.float64] = 2.0 * shared / (self._lengths[:count] + len(name) + 1e-12)
        return ratios


def _count_chars(name: str) -> npt.NDArray[np.uint8]:
    points = np.frombuffer(name.encode("utf-32-le", "surrogatepass"), np.uint32)
    return np.bincount(points % _BUCKETS, minlength=_BUCKETS).astype(np.uint8)


def _find_alike(totals: Mapping[str, int]) -> dict[str, str]:
    """Returns for each rare class the frequent one that is most like it, where one is."""
    names = [name for name in totals if len(name) <= _MAX_CHARS]
    names.sort(key=lambda name: (-totals[name], name))
    ranks = [-totals[name] for name in names]
    enough = {name: bisect_right(ranks, -_count_enough(totals[name])) for name in names}
    rare = {name: count for name, count in enough.items() if count}
    if not rare:
        return {}
    frequent = names[: min(max(rare.values()), max(1, _MAX_PAIRS // len(rare)))]
    bags = _Bags(frequent)
    series: dict[str, int] = {}
    series_of = np.array(
        [series.setdefault(_drop_digits(name), len(series)) for name in frequent], np.int64
    )
    found = {}
    left = _MAX_CELLS
    for name, count in rare.items():
        bounds = bags.bound(name, count)
        # Names that are the same but for digits are a series.
        bounds[series_of[:count] == series.get(_drop_digits(name), -1)] = -1.0
        cells = min(left, max(_MAX_CELLS // len(rare), len(name) * _MAX_CHARS))
        index, spent = _find_most_alike(name, frequent, bounds, _CUTOFF, cells)
        left -= spent
        if index is not None:
            found[name] = frequent[index]
    return found


def _find_most_alike(
    name: str, others: Sequence[str], bounds: npt.NDArray[np.float64], cutoff: float, cells: int
) -> tuple[int | None, int]:
    """Finds what `difflib.get_close_matches` would, the likeliest first, within a cost.

    Args:
        name: The name.
        others: What may be like it.
        bounds: What the ratio with each of the first others is at most.
        cutoff: The least ratio.
        cells: How many pairs of characters may be looked at.

    Returns:
        The place of the name with the highest ratio, or None; and how many pairs were looked at.
    """
    possible = np.flatnonzero(bounds >= cutoff - _EPSILON)
    matcher = difflib.SequenceMatcher(None, "", name)
    best_ratio, best_name, best, spent = cutoff, "", None, 0
    for index in possible[np.argsort(-bounds[possible], kind="stable")]:
        other = others[index]
        spent += len(name) * len(other)
        if bounds[index] < best_ratio - _EPSILON or spent > cells:
            break
        matcher.set_seq1(other)
        ratio = matcher.ratio()
        if (ratio, other) >= (best_ratio, best_name):
            best_ratio, best_name, best = ratio, other, int(index)
    return best, min(spent, cells)


def _count_enough(total: int) -> int:
    return max(1, _RATIO * total)


def _to_variant(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name)).casefold()


def _to_plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name)).casefold()


def _drop_digits(name: str) -> str:
    return re.sub(r"\d+", "", name)
