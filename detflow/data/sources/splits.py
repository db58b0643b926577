"""Which sample goes into which split: as the dataset declares it in lists or folders, else by a seeded hash."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from detflow.data.judging.rules import Finding
from detflow.data.sources.layout import SPLIT_NAMES, DatasetFiles, split_extension
from detflow.errors import ConfigError, DataError
from detflow.storage.folders import Folder

__all__ = [
    "DEFAULT_FRACTIONS",
    "SplitBy",
    "Splits",
    "declared_splits",
    "parse_fractions",
    "seeded_splits",
    "unit_hash",
]

DEFAULT_FRACTIONS: Mapping[str, float] = {"train": 0.8, "val": 0.1, "test": 0.1}

_MAX_LIST_BYTES = 1 << 30


class SplitBy(str, Enum):
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
        rule: Where they come from; never AUTO.
        members: The annotations' paths of each split, sorted. Splits are disjoint unless leaks were
            allowed.
        unions: Declared lists that repeat others, such as trainval: ("train", "val"); they are not
            written again.
        findings: Entries without an annotation, annotations without a split, leaks.
    """

    rule: SplitBy
    members: Mapping[str, tuple[str, ...]]
    unions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


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


def declared_splits(
    files: DatasetFiles, annotations: Sequence[str], pairs: Mapping[str, str], split_by: SplitBy
) -> Splits | None:
    """Returns the splits that the dataset declares, or None where the seed is to decide.

    Args:
        files: The dataset.
        annotations: All VOC annotations, usable or not, sorted.
        pairs: The image of each annotation that has one.
        split_by: What the user asked for.

    Raises:
        ConfigError: The user asked for declared splits and there are none.
    """
    # One list or folder alone divides nothing: CVAT writes a default.txt, and many a set lies in a
    # folder "train".
    needed = 2 if split_by is SplitBy.AUTO else 1
    if split_by in (SplitBy.AUTO, SplitBy.LISTS):
        declared = _read_lists(files, annotations, pairs)
        if len(declared.members) >= needed:
            return declared
    if split_by in (SplitBy.AUTO, SplitBy.FOLDERS):
        declared = _read_folders(annotations, pairs)
        if len(declared.members) >= needed:
            return declared
    if split_by in (SplitBy.LISTS, SplitBy.FOLDERS):
        cause = f"the dataset declares no splits by {split_by.value}"
        raise ConfigError(cause, path=str(files.source.location), remedy="use --split-by seed")
    return None


def seeded_splits(
    groups: Mapping[str, bytes],
    classes: Mapping[str, tuple[str, ...]],
    fractions: Mapping[str, float],
    seed: int,
    kept: Mapping[str, str] | None = None,
) -> Splits:
    """Splits by a hash of the seed and the group's name, so that no image's place depends on any other group.

    Groups are never divided, except where `kept` already does. Then two corrections, in a fixed
    order, for what chance left
    out: no split with a fraction stays empty, and no class stays absent from a split while another
        split has two groups of it.

    Args:
        groups: The name of each annotation's group; see `duplicates.find_duplicates`.
        classes: The classes of each annotation's objects.
        fractions: By split; they add up to 1.
        seed: Any number.
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
        classes_of[name] = held + tuple(one for one in added if one not in held) if held else added
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
    seed: int,
) -> None:
    """Moves single groups so that every class, rarest first, and anything at all, is in every split that it can reach."""
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
            # The first split, train, has a claim even to the only group.
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
    """Whether a class would lose its last group in a split with this one."""
    home = placed[name]
    return any(
        not any(other != name and placed[other] == home for other in holders[one])
        for one in classes_of[name]
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


def _read_folders(annotations: Sequence[str], pairs: Mapping[str, str]) -> Splits:
    found: defaultdict[str, list[str]] = defaultdict(list)
    outside = []
    for annotation in annotations:
        # Annotations in one folder can have their images in several.
        folders = [*annotation.split("/")[:-1], *pairs.get(annotation, "").split("/")[:-1]]
        name = next((folder for folder in folders if folder.lower() in SPLIT_NAMES), None)
        if name is None:
            outside.append(annotation)
        else:
            found[name].append(annotation)
    findings = tuple(
        Finding("split_unassigned", path, value="in no split's folder") for path in outside
    )
    members = {name: tuple(found[name]) for name in sorted(found, key=_reading_order)}
    return Splits(SplitBy.FOLDERS, members, findings=findings)


def _read_lists(
    files: DatasetFiles, annotations: Sequence[str], pairs: Mapping[str, str]
) -> Splits:
    finder = _EntryFinder(annotations, pairs)
    lists: defaultdict[str, dict[str, None]] = defaultdict(dict)
    lists_of_classes: defaultdict[str, dict[str, None]] = defaultdict(dict)
    findings: list[Finding] = []
    for path in files.split_lists:
        entries, has_flags = _read_entries(files.source, path)
        name = split_extension(path.rpartition("/")[2])[0]
        scope = _scope_of(path, annotations)
        split = name.rpartition("_")[2]
        if has_flags and name.lower() not in SPLIT_NAMES:
            # VOC's list of one class, `cat_train.txt`, names every image of train.
            if split.lower() in SPLIT_NAMES:
                found = (finder.find(entry, scope) for _, entry in entries)
                lists_of_classes[split].update(
                    (annotation, None) for annotation in found if annotation is not None
                )
            continue
        for line, entry in entries:
            annotation = finder.find(entry, scope)
            if annotation is None:
                findings.append(Finding("split_entry_missing", path, line=line, value=entry))
            elif annotation in lists[name]:
                findings.append(Finding("split_entry_twice", path, line=line, value=entry))
            else:
                lists[name][annotation] = None
    # VoTT writes the lists of the classes only.
    if not any(lists.values()):
        lists = lists_of_classes
    sets = {name: frozenset(members) for name, members in lists.items() if members}
    unions = _find_unions(sets)
    written = {name: members for name, members in sets.items() if name not in unions}
    splits_of: defaultdict[str, list[str]] = defaultdict(list)
    for name, listed in written.items():
        for annotation in listed:
            splits_of[annotation].append(name)
    for annotation in annotations:
        names = splits_of[annotation]
        if not names:
            findings.append(Finding("split_unassigned", annotation, value="in no split's list"))
        elif len(names) > 1:
            findings.append(
                Finding(
                    "split_leak",
                    annotation,
                    value=f"listed in {', '.join(names)}",
                    image=pairs.get(annotation),
                )
            )
    members = {name: tuple(sorted(written[name])) for name in sorted(written, key=_reading_order)}
    return Splits(SplitBy.LISTS, members, unions, tuple(findings))


def _scope_of(path: str, annotations: Sequence[str]) -> str:
    """Returns the folder that a split list is about, as paths begin: its VOC root, or the nearest one that has annotations."""
    folders = path.split("/")[:-1]
    if "ImageSets" in folders:
        folders = folders[: folders.index("ImageSets")]
    else:
        while folders and not any(
            annotation.startswith("/".join(folders) + "/") for annotation in annotations
        ):
            folders.pop()
    return "/".join(folders) + "/" if folders else ""


def _read_entries(source: Folder, path: str) -> tuple[list[tuple[int, str]], bool]:
    """Returns (line, entry) of a split list, and whether each line had VOC's flag for a class: 1, 0 or -1 after the name."""
    content = source.read(path, _MAX_LIST_BYTES + 1)
    if len(content) > _MAX_LIST_BYTES:
        raise DataError(
            f"the split list has more than {_MAX_LIST_BYTES:,} bytes", path=path, remedy="divide it"
        )
    lines = content.decode("utf-8-sig", "surrogateescape").splitlines()
    entries = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    parts = [entry.rsplit(maxsplit=1) for _, entry in entries]
    if not parts or not all(len(part) == 2 and part[1] in ("1", "0", "-1") for part in parts):
        return entries, False
    return [(number, part[0]) for (number, _), part in zip(entries, parts, strict=True)], True


def _find_unions(sets: Mapping[str, frozenset[str]]) -> dict[str, tuple[str, ...]]:
    """Finds lists that are exactly others put together, such as VOC's trainval; without a val, trainval is train alone."""
    unions: dict[str, tuple[str, ...]] = {}
    for name, members in sets.items():
        if name == "trainval" and sets.get("train") == members:
            unions[name] = ("train",)
            continue
        parts = [other for other, inside in sets.items() if other != name and inside < members]
        whole = frozenset[str]().union(*(sets[part] for part in parts))
        if (
            len(parts) >= 2
            and whole == members
            and sum(len(sets[part]) for part in parts) == len(members)
        ):
            unions[name] = tuple(sorted(parts, key=_reading_order))
    return unions


def _reading_order(name: str) -> tuple[int, str]:
    order = ("train", "val", "test")
    return next(
        (place for place, start in enumerate(order) if name.startswith(start)), len(order)
    ), name


# Some lists have classes or boxes in columns behind the name.
_NUMBERS_BEHIND = re.compile(r"(\s+[-+.,\d]+)+$")


class _EntryFinder:
    """Finds the annotation that a line of a split list means: a stem, a file name or a path, of annotation or image."""

    def __init__(self, annotations: Iterable[str], pairs: Mapping[str, str]) -> None:
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        for annotation in annotations:
            names = {
                split_extension(path)[0].rpartition("/")[2]
                for path in (annotation, pairs.get(annotation, annotation))
            }
            for name in names:
                self._by_name[name].append(annotation)
        self._pairs = pairs

    def find(self, entry: str, scope: str) -> str | None:
        return self._find(entry, scope) or self._find(_NUMBERS_BEHIND.sub("", entry), scope)

    def _find(self, entry: str, scope: str) -> str | None:
        stem = split_extension(entry.replace("\\", "/").removeprefix("./"))[0]
        candidates = [
            path
            for path in self._by_name.get(stem.rpartition("/")[2], [])
            if path.startswith(scope)
        ]
        if len(candidates) > 1 and "/" in stem:
            candidates = [path for path in candidates if self._has_path(path, stem)]
        return candidates[0] if len(candidates) == 1 else None

    def _has_path(self, annotation: str, stem: str) -> bool:
        paths = (annotation, self._pairs.get(annotation, annotation))
        return any(f"/{split_extension(path)[0]}".endswith(f"/{stem}") for path in paths)
