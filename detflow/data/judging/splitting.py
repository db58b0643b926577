"""Puts the usable samples into splits: those that the dataset declares, or by a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from detflow.data.images.duplicates import Duplicates
from detflow.data.judging.sample import SampleSummary
from detflow.data.sources.names import split_extension
from detflow.data.sources.splits import (
    SplitBy,
    Splits,
    ValidationShare,
    seeded_splits,
    take_validation,
)


@dataclass(frozen=True, slots=True)
class SplitChoice:
    """What the user may choose about splits.

    Attributes:
        fractions: The share of each split by its name, where a seed decides.
        seed: The seed.
        val_from: What the validation split is taken from, where the dataset has none.
        allow_leaks: Whether the same image may be in two splits.
        kept: The split of keys in an earlier run, which the seed does not move.
    """

    fractions: Mapping[str, float]
    seed: int
    val_from: ValidationShare | None
    allow_leaks: bool
    kept: Mapping[str, str]


def split_samples(
    declared: Splits | None,
    samples: Mapping[str, SampleSummary],
    duplicates: Duplicates,
    choice: SplitChoice,
) -> Splits:
    """Returns the splits of the usable samples.

    Args:
        declared: What the dataset declares; None, or the rule SEED, where the seed is to decide.
        samples: The usable samples by the annotations' names.
        duplicates: Which of their images are the same, or nearly.
        choice: What the user chose.

    Raises:
        ConfigError: No validation split can be taken from what the user named.
    """
    is_seeded = declared is None or declared.rule is SplitBy.SEED
    if declared is not None and not is_seeded:
        splits = _keep_usable(declared, samples, choice.allow_leaks)
        if choice.val_from is None:
            return splits
    classes = _classes_of(samples)
    kept = {
        name: split
        for name in samples
        if choice.kept and (split := choice.kept.get(split_extension(name)[0]))
    }
    groups = duplicates.groups
    if is_seeded:
        splits = seeded_splits(groups, classes, choice.fractions, choice.seed, kept)
        splits = replace(splits, findings=declared.findings if declared else ())
    if choice.val_from is None:
        return splits
    return take_validation(splits, choice.val_from, groups, classes, choice.seed, kept)


def _classes_of(samples: Mapping[str, SampleSummary]) -> dict[str, tuple[str, ...]]:
    # Most samples share their set of classes: they all share one tuple.
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    classes = {}
    for name, summary in samples.items():
        present = tuple(count.name for count in summary.class_counts)
        classes[name] = known.setdefault(present, present)
    return classes


def _keep_usable(
    declared: Splits, samples: Mapping[str, SampleSummary], allow_leaks: bool
) -> Splits:
    """Returns declared splits without what is not usable, and with the leaks that are allowed."""
    members = {
        split: tuple(name for name in names if name in samples)
        for split, names in declared.members.items()
    }
    # What is quarantined for another reason needs no split.
    findings = [
        finding
        for finding in declared.findings
        if finding.code != "split_unassigned" or finding.path in samples
    ]
    if allow_leaks:
        findings = [
            replace(finding, code="split_leak_allowed") if finding.code == "split_leak" else finding
            for finding in findings
        ]
    return replace(declared, members=members, findings=tuple(findings))
