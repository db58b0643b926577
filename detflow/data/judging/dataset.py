"""Judges what only the whole set shows: the same image twice, leaks, rare and absent classes."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from detflow.data.findings import Finding
from detflow.data.images.duplicates import Duplicates
from detflow.data.judging.sample import SampleSummary
from detflow.data.sources.splits import Splits
from detflow.text import find_nearest

_NEAR_MISS_RATIO = 10
_NEAR_MISS_CUTOFF = 0.85


def judge_duplicates(
    samples: Mapping[str, SampleSummary], duplicates: Duplicates, splits: Splits, allow_leaks: bool
) -> Iterator[Finding]:
    """Yields a finding for each image that an earlier one repeats.

    Args:
        samples: The usable samples by the annotations' names.
        duplicates: Which of their images are the same, or nearly.
        splits: Their splits.
        allow_leaks: Whether the same image may be in two splits.
    """
    split_of = {name: split for split, members in splits.members.items() for name in members}
    for name, first in duplicates.exact.items():
        leaks = name in split_of and first in split_of and split_of[name] != split_of[first]
        yield Finding(
            "split_leak" if leaks and not allow_leaks else "image_duplicate",
            name,
            value=f"{split_of[name]}, the other in {split_of[first]}" if leaks else "",
            image=samples[name].image,
            related=(first, samples[first].image),
        )
    for name, (other, distance) in duplicates.near.items():
        leaks = name in split_of and other in split_of and split_of[name] != split_of[other]
        where = f"; {split_of[name]}, the other in {split_of[other]}" if leaks else ""
        yield Finding(
            "split_near_leak" if leaks else "image_near_duplicate",
            name,
            value=f"{distance} of 256 bits differ{where}",
            image=samples[name].image,
            related=(other, samples[other].image),
        )


def judge_classes(
    samples: Mapping[str, SampleSummary], splits: Splits, chosen: Sequence[str] | None
) -> Iterator[Finding]:
    """Yields a finding for each class that looks mistyped, or that a split has no object of.

    Args:
        samples: The samples in the splits.
        splits: The splits.
        chosen: The classes that the user or the dataset names; None where the objects decide, so
            that a typing error would become a class.
    """
    totals: Counter[str] = Counter()
    first: dict[str, tuple[str, int]] = {}
    for annotation, summary in samples.items():
        for count in summary.class_counts:
            totals[count.name] += count.objects
            first.setdefault(count.name, (annotation, count.line))
    if chosen is None:
        for name, other in find_near_misses(totals):
            annotation, line = first[name]
            yield Finding(
                "class_near_miss",
                annotation,
                line,
                value=f"{name!r}, {totals[name]} objects",
                expected=f"perhaps {other!r}, {totals[other]} objects",
                image=samples[annotation].image,
            )
    for split, members in splits.members.items():
        if not members:
            yield Finding("split_empty", ".", value=split)
            continue
        present = {
            count.name for annotation in members for count in samples[annotation].class_counts
        }
        for name in sorted(totals.keys() - present):
            yield Finding("class_absent", first[name][0], value=f"no {name!r} in {split}")


def find_near_misses(totals: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yields (rare class, class that may be meant) where the two differ by little.

    That is by a letter, by case or by separators; and the rare class is at least 10 times rarer.
    Names that differ in digits only ("type1", "type2") are a series, not an error.

    Args:
        totals: How many objects each class has.
    """
    names = sorted(totals)
    for name in names:
        others = [other for other in names if totals[other] >= _NEAR_MISS_RATIO * totals[name]]
        plain = {_to_plain(other): other for other in others}
        if _to_plain(name) in plain:
            yield name, plain[_to_plain(name)]
            continue
        others = [other for other in others if _drop_digits(other) != _drop_digits(name)]
        nearest = find_nearest(name, others, cutoff=_NEAR_MISS_CUTOFF)
        if nearest is not None:
            yield name, nearest


def _to_plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name)).casefold()


def _drop_digits(name: str) -> str:
    return re.sub(r"\d+", "", name)
