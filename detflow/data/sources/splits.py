"""Which sample goes into which split: what a division is, and the one by a seeded hash."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from detflow.data.findings import Finding
from detflow.errors import ConfigError

VALIDATION = "val"
"""What detflow calls a split that chooses the best checkpoint."""
VALIDATION_NAMES = (VALIDATION, "valid", "validation", "dev", "development", "eval", "evaluation")
"""What others call it, too."""
DEFAULT_FRACTIONS: Mapping[str, float] = {"train": 0.8, "val": 0.1, "test": 0.1}


class SplitBy(StrEnum):
    """Where the splits come from."""

    AUTO = "auto"
    """Lists where the dataset has at least two, else folders where it has at least two, else the
    seed."""

    LISTS = "lists"
    FOLDERS = "folders"
    SEED = "seed"


@dataclass(frozen=True, slots=True)
class Splits:
    """The splits of a dataset.

    Attributes:
        rule: Where they come from; never AUTO. A dialect that returns SEED leaves the decision to
            the seed and has something to say about that.
        members: The annotations' names of each split, sorted. Splits are disjoint unless leaks were
            allowed.
        unions: Declared lists that repeat others, such as trainval: ("train", "val"); they are not
            written again.
        findings: Entries without an annotation, annotations without a split, leaks.
    """

    rule: SplitBy
    members: Mapping[str, tuple[str, ...]]
    unions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class ValidationShare:
    """A share of one split that is to become the validation split `val`.

    Attributes:
        split: The name of the split that gives it.
        share: How much of it, between 0 and 1.
    """

    split: str
    share: float

    @classmethod
    def parse(cls, text: str) -> ValidationShare:
        """Reads "train=0.1".

        Raises:
            ConfigError: It reads otherwise.
        """
        name, _, number = (piece.strip() for piece in text.rpartition("="))
        try:
            share = float(number)
        except ValueError:
            share = -1.0
        if not name or name == VALIDATION or not 0.0 < share < 1.0:
            raise ConfigError(
                f"--val-from {text!r} is not SPLIT=SHARE", remedy="write train=0.1, for a tenth"
            )
        return cls(name, share)

    def __str__(self) -> str:
        return f"{self.split}={self.share:g}"


def take_validation(
    splits: Splits,
    wanted: ValidationShare,
    groups: Mapping[str, bytes],
    classes: Mapping[str, tuple[str, ...]],
    seed: int,
    kept: Mapping[str, str] | None = None,
) -> Splits:
    """Moves a share of a split to a new split `val`, by the hash that divides a dataset by a seed.

    Groups stay together as far as they are in that split.

    Args:
        splits: The splits, without `val`.
        wanted: Which share of which split.
        groups: As in `seeded_splits`.
        classes: As in `seeded_splits`.
        seed: As in `seeded_splits`.
        kept: As in `seeded_splits`.

    Raises:
        ConfigError: There is no such split, or there is a validation split.
    """
    there = next((name for name in VALIDATION_NAMES if splits.members.get(name)), None)
    if there is not None:
        raise ConfigError(
            f"--val-from {wanted}: the dataset has a split {there}", remedy="leave it out"
        )
    if wanted.split not in splits.members:
        known = ", ".join(splits.members) or "none"
        raise ConfigError(
            f"--val-from {wanted}: there is no split {wanted.split!r}",
            remedy=f"the splits are {known}",
        )
    names = splits.members[wanted.split]
    divided = seeded_splits(
        {name: groups[name] for name in names},
        classes,
        {wanted.split: 1.0 - wanted.share, VALIDATION: wanted.share},
        # A split by the seed holds only a part of its hashes.
        f"{seed} {VALIDATION}",
        kept,
    )
    members = {}
    for name, inside in splits.members.items():
        members[name] = divided.members.get(name, inside)
        if name == wanted.split:
            members[VALIDATION] = divided.members[VALIDATION]
    unions = {
        name: tuple(
            piece
            for part in parts
            for piece in ((part, VALIDATION) if part == wanted.split else (part,))
        )
        for name, parts in splits.unions.items()
    }
    return replace(splits, members=members, unions=unions)


def parse_fractions(text: str) -> dict[str, float]:
    """Reads "train=0.8,val=0.1,test=0.1"; the sum must be 1.

    Raises:
        ConfigError: It reads otherwise.
    """
    fractions: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = (piece.strip() for piece in part.partition("="))
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if (
            not name
            or not all(char.isalnum() or char in "_." for char in name)
            or name in fractions
            or not 0.0 <= value <= 1.0
        ):
            raise ConfigError(
                f"--split {part.strip()!r} is not NAME=FRACTION",
                remedy="write train=0.8,val=0.1,test=0.1",
            )
        fractions[name] = value
    if abs(sum(fractions.values()) - 1.0) > 1e-9:
        raise ConfigError(f"--split fractions add up to {sum(fractions.values()):g}, not 1")
    return fractions


def seeded_splits(
    groups: Mapping[str, bytes],
    classes: Mapping[str, tuple[str, ...]],
    fractions: Mapping[str, float],
    seed: int | str,
    kept: Mapping[str, str] | None = None,
) -> Splits:
    """Splits by a hash of the seed and the group's name; other groups have no influence.

    Groups are never divided, except where `kept` already does. Then two corrections are made, in a
    fixed order, for what chance left out: no split with a fraction stays empty, and no class stays
    absent from a split while another split has two groups of it.

    Args:
        groups: The name of each annotation's group; see `duplicates.find_duplicates`.
        classes: The classes of each annotation's objects.
        fractions: The share of each split; they add up to 1.
        seed: Any number or text.
        kept: Splits of annotations from an earlier run; they and their groups stay there.
    """
    kept = {
        annotation: split
        for annotation, split in (kept or {}).items()
        if annotation in groups and split in fractions
    }
    fixed: dict[bytes, str] = {}
    for annotation in sorted(kept):
        fixed.setdefault(groups[annotation], kept[annotation])
    names = sorted(set(groups.values()))
    placed = {
        name: fixed.get(name) or _split_of(unit_hash(seed, name.hex()), fractions) for name in names
    }
    classes_of: dict[bytes, tuple[str, ...]] = {}
    for annotation, name in groups.items():
        held, added = classes_of.get(name, ()), classes[annotation]
        classes_of[name] = held + tuple(new for new in added if new not in held) if held else added
    _fill_gaps(
        placed,
        classes_of,
        [split for split, fraction in fractions.items() if fraction],
        frozenset(fixed),
        seed,
    )
    members: dict[str, list[str]] = {split: [] for split in fractions}
    for annotation in sorted(groups):
        members[kept.get(annotation) or placed[groups[annotation]]].append(annotation)
    return Splits(SplitBy.SEED, {split: tuple(paths) for split, paths in members.items()})


def _fill_gaps(
    placed: dict[bytes, str],
    classes_of: Mapping[bytes, Collection[str]],
    splits: Sequence[str],
    fixed: Collection[bytes],
    seed: int | str,
) -> None:
    """Moves single groups until each split has each class that it can have, and is not empty.

    The rarest class comes first. The key None of `holders` stands for any class.
    """
    holders: defaultdict[str | None, list[bytes]] = defaultdict(list)
    for name in placed:
        holders[None].append(name)
        for class_name in classes_of[name]:
            holders[class_name].append(name)
    for wanted in sorted(
        holders, key=lambda class_name: (len(holders[class_name]), class_name or "")
    ):
        for split in splits:
            counts = Counter(placed[name] for name in holders[wanted])
            if counts[split]:
                continue
            # The first split, train, gets a group even if it is the only one.
            comes_first = split == splits[0]
            donors = [
                name
                for name in holders[wanted]
                if name not in fixed
                and (
                    comes_first
                    or (
                        counts[placed[name]] >= 2
                        and not _is_last(name, placed, classes_of, holders)
                    )
                )
            ]
            if donors:
                chosen = min(
                    donors,
                    key=lambda name: (
                        -counts[placed[name]],
                        unit_hash(seed, "move", split, name.hex()),
                        name,
                    ),
                )
                placed[chosen] = split


def _is_last(
    name: bytes,
    placed: Mapping[bytes, str],
    classes_of: Mapping[bytes, Collection[str]],
    holders: Mapping[str | None, Sequence[bytes]],
) -> bool:
    """Whether a class would lose its last group in this one's split, if this one were moved."""
    home = placed[name]
    return any(
        not any(other != name and placed[other] == home for other in holders[class_name])
        for class_name in classes_of[name]
    )


def unit_hash(*parts: object) -> float:
    """Returns a number in [0, 1) that depends on nothing but the parts."""
    text = "\0".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _split_of(position: float, fractions: Mapping[str, float]) -> str:
    end = 0.0
    for name, fraction in fractions.items():
        end += fraction
        if position < end:
            return name
    # The sum may fall short of 1 by a rounding error.
    return next(name for name in reversed(tuple(fractions)) if fractions[name] > 0.0)
