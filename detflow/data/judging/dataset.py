"""Judges what only the whole set shows: the same image twice, leaks, rare and absent classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from detflow.data.findings import Finding
from detflow.data.images.duplicates import Duplicates
from detflow.data.judging.classes import KnownClasses
from detflow.data.judging.nearest import find_near_misses
from detflow.data.judging.sample import SampleSummary
from detflow.data.sources.splits import VALIDATION_NAMES, Splits
from detflow.text import count_noun


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
        code = "split_leak_allowed" if allow_leaks else "split_leak"
        yield Finding(
            code if leaks else "image_duplicate",
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


def judge_splits(splits: Splits) -> Iterator[Finding]:
    """Yields a finding where a set is to be trained and tested on, and has nothing to validate on.

    Args:
        splits: The splits.
    """
    names = [name for name, members in splits.members.items() if members]
    has_both = all(any(name.startswith(role) for name in names) for role in ("train", "test"))
    if has_both and not any(name in VALIDATION_NAMES for name in names):
        yield Finding("split_no_validation", ".", value=f"the splits are {', '.join(names)}")


def judge_renames(
    renames: Mapping[str, str], made: Collection[str], samples: Mapping[str, SampleSummary]
) -> Iterator[Finding]:
    """Yields a finding for each class that was to be renamed and that no usable sample has.

    Args:
        renames: What was to be renamed.
        made: What was renamed.
        samples: The usable samples.
    """
    wanted = sorted(renames.keys() - made)
    if not wanted:
        return
    names = {count.name for summary in samples.values() for count in summary.class_counts}
    known = KnownClasses(sorted({*names, *made}))
    for name in wanted:
        nearest = known.find_nearest(name)
        expected = f"perhaps {nearest!r}" if nearest else ""
        yield Finding("class_rename_unused", ".", value=repr(name), expected=expected)


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
                value=f"{name!r}, {count_noun(totals[name], 'object')}",
                expected=f"perhaps {other!r}, {count_noun(totals[other], 'object')}",
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
