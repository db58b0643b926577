"""The splits that a dataset declares, in lists or by folders.

What declares a split is used, or named in a finding. Where it cannot be used although its place or
its name leave no doubt, the finding refuses the dataset: a seed would put images that somebody kept
for the test into the training.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from detflow.data.findings import Finding
from detflow.data.sources.folders import read_folders
from detflow.data.sources.lists import EntryFinder, SplitList, read_list
from detflow.data.sources.names import find_split_word, is_in_image_sets, is_of_other_task
from detflow.data.sources.source import DatasetFiles
from detflow.data.sources.splits import SplitBy, Splits
from detflow.data.sources.unions import describe_overlaps, find_unions, sort_splits
from detflow.errors import ConfigError
from detflow.text import count_noun


def declared_splits(
    files: DatasetFiles, annotations: Sequence[str], pairs: Mapping[str, str], split_by: SplitBy
) -> Splits | None:
    """Returns the splits that the dataset declares.

    Args:
        files: The dataset.
        annotations: The names of all annotations, usable or not, sorted.
        pairs: The image of each annotation that has one.
        split_by: What the user asked for.

    Returns:
        The splits; None where the seed is to decide. Where it is to decide although something looks
        like a declared split, that has the rule SEED, no members, and findings that say why.

    Raises:
        ConfigError: The user asked for declared splits and there are none.
    """
    # One list or folder alone divides nothing: CVAT writes a default.txt, and many sets lie in a
    # folder "train".
    needed = 2 if split_by is SplitBy.AUTO else 1
    told: tuple[Finding, ...] = ()
    if split_by in (SplitBy.AUTO, SplitBy.LISTS):
        reader = _ListReader(files, annotations, pairs)
        lists = reader.read()
        if len(lists.members) >= needed:
            return lists
        told = (*reader.explain(lists), *_name_other_tasks(files.split_lists))
    if split_by in (SplitBy.AUTO, SplitBy.FOLDERS):
        folders, unused = read_folders(annotations, pairs)
        if len(folders.members) >= needed:
            # The folders divide what a list leaves open.
            told = tuple(
                replace(finding, code="split_unused")
                if finding.code == "split_unusable" and not is_in_image_sets(finding.path)
                else finding
                for finding in told
            )
            return replace(folders, findings=(*told, *folders.findings))
        told += unused
    if split_by in (SplitBy.LISTS, SplitBy.FOLDERS):
        cause = f"the dataset declares no splits by {split_by.value}"
        if told:
            cause = f"{cause}: {told[0].path}: {told[0].value}"
        raise ConfigError(cause, path=str(files.source.location), remedy="use --split-by seed")
    return Splits(SplitBy.SEED, {}, findings=told) if told else None


def _name_other_tasks(paths: Iterable[str]) -> Iterator[Finding]:
    """Yields a finding for each folder of lists that divide the images for another task."""
    folders: defaultdict[str, int] = defaultdict(int)
    for path in paths:
        if is_of_other_task(path):
            folders[path.rpartition("/")[0]] += 1
    for folder, count in folders.items():
        lists = count_noun(count, "list")
        yield Finding("split_unused", folder, value=f"{lists} of another task than detection")


class _ListReader:
    """Reads all lists of a dataset, and decides which of them count."""

    def __init__(
        self, files: DatasetFiles, annotations: Sequence[str], pairs: Mapping[str, str]
    ) -> None:
        self._files = files
        self._annotations = annotations
        self._pairs = pairs
        self._findings: list[Finding] = []
        self._members: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._paths: dict[str, str] = {}

    def read(self) -> Splits:
        """Returns what the lists declare, with all findings about them."""
        finder = EntryFinder(self._annotations, self._pairs)
        if not self._files.split_lists:
            return Splits(SplitBy.LISTS, {})
        lists = [
            found
            for path in self._files.split_lists
            if not is_of_other_task(path)
            and (found := read_list(self._files.source, path, finder)) is not None
        ]
        for named, found in _name_lists(lists):
            self._add(named, found)
        self._judge_unusable(lists)
        sets = {name: frozenset(members) for name, members in self._members.items()}
        unions = find_unions(sets)
        written = {name: members for name, members in sets.items() if name not in unions}
        self._findings += describe_overlaps(written, self._paths, self._pairs)
        listed = frozenset[str]().union(*written.values())
        for annotation in self._annotations:
            if annotation not in listed:
                union = next((name for name in unions if annotation in sets[name]), None)
                value = f"only in {self._paths[union]}" if union else "in no split's list"
                self._findings.append(Finding("split_unassigned", annotation, value=value))
        members = {name: tuple(sorted(written[name])) for name in sort_splits(written)}
        return Splits(SplitBy.LISTS, members, unions, tuple(self._findings))

    def explain(self, lists: Splits) -> list[Finding]:
        """Returns what is to be told where the lists do not divide the dataset."""
        told = [finding for finding in lists.findings if finding.code != "split_unassigned"]
        if any(finding.code == "split_unusable" for finding in told):
            return told
        for name, members in lists.members.items():
            path = self._paths[name]
            if len(members) == len(self._annotations):
                continue
            # Whoever lists a part means that the rest is something else.
            is_sure = is_in_image_sets(path) or find_split_word(name) is not None
            total = count_noun(len(self._annotations), "annotation")
            told.append(
                Finding(
                    "split_unusable" if is_sure else "split_unused",
                    path,
                    value=f"it names {len(members):,} of {total}, and no other list the rest",
                )
            )
        return told

    def _add(self, name: str | None, found: SplitList) -> None:
        if name is None:
            value = f"the list {found.word} counts, and this one has more than a part of it"
            self._findings.append(Finding("split_unused", found.path, value=value))
            return
        faults = [(line, "split_entry_missing", entry) for line, entry in found.missing]
        faults += [(line, "split_entry_twice", entry) for line, entry in found.twice]
        self._findings += [
            Finding(code, found.path, line=line, value=entry)
            for line, code, entry in sorted(faults)
        ]
        self._members[name].update(found.found)
        self._paths.setdefault(name, found.path)

    def _judge_unusable(self, lists: Sequence[SplitList]) -> None:
        """Adds a finding for each list of which nothing can be used."""
        for found in lists:
            if found.is_empty and found.is_plain:
                self._findings.append(Finding("split_empty", found.path, value=found.stem))
            if found.fault or (found.missing and not found.found):
                counts = found.is_declared or (found.is_plain and bool(self._members))
                self._findings.append(
                    Finding(
                        "split_unusable" if counts else "split_unused",
                        found.path,
                        value=found.fault or _describe_missing(found.missing),
                    )
                )


def _describe_missing(missing: Sequence[tuple[int, str]]) -> str:
    line, entry = missing[0]
    entries = count_noun(len(missing), "entry", "entries")
    return f"none of its {entries} is known; the first, in line {line}, is {entry[:100]!r}"


def _name_lists(lists: Sequence[SplitList]) -> Iterator[tuple[str | None, SplitList]]:
    """Yields the split that each usable list is of; None where a better list takes its place.

    A list that is named like a split counts, and others that have the name in theirs only where
    there is no such. VOC's list of one class, `cat_train.txt`, names every image of train; it
    counts where train has no list of its own, as VoTT writes them.
    """
    usable = [found for found in lists if found.found]
    plain: defaultdict[str | None, set[str]] = defaultdict(set)
    listed = set()
    for found in usable:
        if found.is_plain:
            plain[found.word].update(found.found)
        if not found.is_of_class:
            listed.add(found.word)
    for found in usable:
        if found.is_of_class:
            if found.word is not None and found.word not in listed:
                yield found.word, found
        elif found.is_plain or (found.word is not None and found.word not in plain):
            yield found.word, found
        elif found.word is None:
            yield found.stem, found
        elif not plain[found.word].issuperset(found.found):
            yield (found.stem if found.is_declared else None), found
