"""The pass over a dataset: every file is read, every problem is found, nothing is changed on disk.

Judging one annotation is a pure function of its two files, so it runs in any number of processes.
Most annotations have an image of their own name to themselves and are judged as soon as they are
read; the others wait until all names are known. What is found goes to a file as it comes; memory
holds only a short summary of each sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice, starmap
from pathlib import Path
from typing import Any, TypeVar

from detflow.data.findings import Finding, name_annotation
from detflow.data.images.duplicates import find_duplicates
from detflow.data.images.header import DEFAULT_MAX_PIXELS
from detflow.data.judging.again import AgainJudge, judge_again
from detflow.data.judging.answers import answer_classes, answer_images, find_dropped, require_asked
from detflow.data.judging.batch import (
    Batch,
    BatchJudge,
    BatchReading,
    FileReading,
    FileTask,
    Judgement,
)
from detflow.data.judging.classes import read_renames, settle_classes
from detflow.data.judging.collect import Collected
from detflow.data.judging.dataset import (
    judge_classes,
    judge_duplicates,
    judge_renames,
    judge_splits,
)
from detflow.data.judging.decisions import Decisions, Topic, resolve_decisions
from detflow.data.judging.entries import (
    EntryStore,
    find_repeats,
    open_store,
    read_entries,
)
from detflow.data.judging.evidence import FileEvidence
from detflow.data.judging.rulings import Orders, Rulings, decide, guess
from detflow.data.judging.sample import AuditedSample, SampleSummary, read_line
from detflow.data.judging.splitting import SplitChoice, split_samples
from detflow.data.judging.testimony import Evidence
from detflow.data.rules import RULES, Action
from detflow.data.sources.candidates import Claim
from detflow.data.sources.detect import open_dataset_files
from detflow.data.sources.names import split_extension
from detflow.data.sources.own_images import describe_own_image, find_own_images, names_other_image
from detflow.data.sources.pairing import pair_images
from detflow.data.sources.source import AnnotationSource, DatasetFiles, ImageNames
from detflow.data.sources.splits import DEFAULT_FRACTIONS, SplitBy, Splits, ValidationShare
from detflow.data.sources.unread import name_unread_images
from detflow.data.workers.processes import OrderedMap
from detflow.label_map import LabelMap
from detflow.progress import Progress
from detflow.storage.interface import Folder

_BATCH_FILES = 64
_SET_ASIDE = (Action.QUARANTINED, Action.REFUSED)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What the user may choose.

    Attributes:
        classes: The class names in the order of their ids, normalised; None takes those that the
            dataset declares, or else those that are found, sorted.
        renames: The new name of each class that is renamed; see `classes.settle_names`.
        max_pixels: Images with more pixels are refused from their header.
        max_side: Images with a longer side, in pixels, become smaller in the records; None leaves
            all as they are.
        split_by: Where the splits come from.
        fractions: The share of each split by its name, where a seed decides.
        seed: The seed of the random split and of the order of the records.
        val_from: What the validation split is taken from, where the dataset has none.
        allow_leaks: Whether the same image may be in two splits.
        kept_splits: The split of keys in an earlier run, which a seeded split does not move.
        dialect: How the dataset's annotations are written; None finds it by looking.
        orders: What the user decides by hand, and not the evidence of the set.
        decisions: What a person has decided where the evidence does not.
    """

    classes: tuple[str, ...] | None = None
    renames: Mapping[str, str] = field(default_factory=dict)
    max_pixels: int = DEFAULT_MAX_PIXELS
    max_side: int | None = None
    split_by: SplitBy = SplitBy.AUTO
    fractions: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_FRACTIONS))
    seed: int = 0
    val_from: ValidationShare | None = None
    allow_leaks: bool = False
    kept_splits: Mapping[str, str] | None = None
    dialect: AnnotationSource | None = None
    orders: Orders = field(default_factory=Orders)
    decisions: Decisions = field(default_factory=Decisions)

    def choose_splits(self) -> SplitChoice:
        """Returns what of it is about splits."""
        kept = self.kept_splits or {}
        return SplitChoice(self.fractions, self.seed, self.val_from, self.allow_leaks, kept)


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of an audit.

    Attributes:
        files: What the dataset holds.
        dialect: How its annotations are written.
        annotations_found: How many annotations there are, usable or not.
        samples: The usable ones, by the annotation's name, sorted.
        quarantined: The code of each annotation that was set aside, by its name.
        splits: The splits of the usable ones.
        label_map: The classes.
        counts: How many findings each code has.
        examples: The first findings of each code.
        findings_path: A file with all findings, a JSON line each.
        samples_path: A file with all `AuditedSample`s, a JSON line each.
        source_fingerprint: A SHA-256 over the paths and contents that were read.
        decided: What the evidence of the whole set has decided, and by what, as in the manifest.
    """

    files: DatasetFiles
    dialect: AnnotationSource
    annotations_found: int
    samples: Mapping[str, SampleSummary]
    quarantined: Mapping[str, str]
    splits: Splits
    label_map: LabelMap
    counts: Mapping[str, int]
    examples: Mapping[str, Sequence[Finding]]
    findings_path: Path
    samples_path: Path
    source_fingerprint: str
    decided: Mapping[str, Any]

    def findings(self, *actions: Action) -> Iterator[Finding]:
        """Yields the findings with one of the actions, or all where none is given."""
        with open(self.findings_path, encoding="utf-8") as file:
            for line in file:
                finding = Finding.from_json(line)
                if not actions or finding.action in actions:
                    yield finding

    def read_samples(self) -> Iterator[AuditedSample]:
        """Yields the usable samples that are in a split, in the order in which they were judged."""
        with open(self.samples_path, "rb") as file:
            for line in file:
                sample = AuditedSample.from_json(line)
                if sample.annotation in self.samples:
                    yield sample

    def read_sample(self, annotation: str) -> AuditedSample | None:
        """Returns the sample of an annotation by its name; None where it has none."""
        summary = self.samples.get(annotation)
        if summary is None:
            return None
        with open(self.samples_path, "rb") as file:
            return AuditedSample.from_json(read_line(file, summary.offset))

    def count(self, action: Action) -> int:
        """Returns how many findings have an action."""
        return sum(self.count_by_code(action).values())

    def count_by_code(self, action: Action) -> dict[str, int]:
        """Returns the number of findings of each code with an action, sorted by code."""
        return {
            code: number
            for code, number in sorted(self.counts.items())
            if RULES[code].action is action
        }


def audit_dataset(
    source: Folder, options: AuditOptions, work_dir: Path, workers: OrderedMap, progress: Progress
) -> Audit:
    """Audits a dataset.

    Args:
        source: The dataset's folder.
        options: What the user chose.
        work_dir: An existing folder for what does not fit into memory; `findings.jsonl` and
            `samples.jsonl` are written there.
        workers: Where to run.
        progress: Told how far it is.

    Raises:
        ConfigError: The user asked for splits that the dataset does not have.
        DataError: A file was removed meanwhile.
    """
    dialect, files = open_dataset_files(source, options.dialect, options.classes)
    decisions = resolve_decisions(options.decisions, files.annotations, files.images)
    renames = {**read_renames(decisions.renames.items()), **options.renames}
    classes = options.classes
    if classes is None:
        classes = dialect.declare_classes(files)
        classes = None if classes is None else settle_classes(classes, renames)
    with open_store(work_dir) as store, Collected(work_dir) as collected:
        collected.log.extend(files.findings)
        annotations, images, decided = _judge_all(
            files,
            BatchJudge(
                files.source,
                dialect,
                options.max_pixels,
                options.max_side or 0,
                classes,
                is_paired=False,
                renames=renames,
            ),
            replace(options.orders, frames=decisions.frames),
            decisions,
            store,
            workers,
            progress,
            collected,
        )
        log, samples = collected.log, collected.sort_samples()
        progress("comparing images", 0, 1)
        duplicates = find_duplicates(
            {name: (sample.image_sha256, sample.image_hash) for name, sample in samples.items()}
        )
        declared = dialect.declare_splits(files, annotations, images, options.split_by)
        splits = split_samples(declared, samples, duplicates, options.choose_splits())
        log.extend(splits.findings)
        log.extend(judge_splits(splits))
        log.extend(judge_duplicates(samples, duplicates, splits, options.allow_leaks))
        members = set[str]().union(*splits.members.values())
        assigned = {name: summary for name, summary in samples.items() if name in members}
        about_classes = judge_classes(assigned, splits, classes)
        answers = decisions.by_topic[Topic.CLASS]
        log.extend(answer_classes(about_classes, answers, collected.renamed))
        log.extend(judge_renames(renames, collected.renamed, samples))
        progress("comparing images", 1, 1)
    if classes is None:
        found = {count.name for summary in assigned.values() for count in summary.class_counts}
        classes = tuple(sorted(found))
    return Audit(
        files=files,
        dialect=dialect,
        annotations_found=len(annotations),
        samples=assigned,
        quarantined=log.quarantined,
        splits=splits,
        label_map=LabelMap(classes),
        counts=log.counts,
        examples=log.examples,
        findings_path=work_dir / "findings.jsonl",
        samples_path=work_dir / "samples.jsonl",
        source_fingerprint=collected.fingerprint.hexdigest(),
        decided=decided,
    )


def _judge_all(
    files: DatasetFiles,
    batch_judge: BatchJudge,
    orders: Orders,
    decisions: Decisions,
    store: EntryStore,
    workers: OrderedMap,
    progress: Progress,
    collected: Collected,
) -> tuple[list[str], Mapping[str, str], Mapping[str, Any]]:
    """Reads, pairs and judges everything; what only the pass needs is freed behind it.

    Returns:
        The names of all annotations, usable or not; the image of each that has one; and what the
        evidence of the set has decided.
    """
    judge = _Pass(files, batch_judge, orders, decisions, store, workers, progress, collected)
    if batch_judge.dialect.many_images:
        judge.read_entries()
    else:
        judge.read_all()
    images = judge.pair_all()
    rulings, decided = decide(judge.evidence, orders)
    require_asked(decisions.by_topic[Topic.CORNERS], decided["corners"])
    again = AgainJudge(
        files.source,
        batch_judge.dialect,
        batch_judge.classes,
        batch_judge.renames,
        batch_judge.max_side,
        rulings,
        decisions.judged,
    )
    judge_again(collected, again, judge.recall, workers, progress)
    dropped = find_dropped(decisions.judged)
    annotations = [name for name in judge.annotations if name not in dropped]
    return annotations, images, decided


class _Pass:
    """Reads, pairs and judges all annotations.

    Attributes:
        annotations: The names of all that were found, usable or not.
        evidence: What those that were judged testify about the set.
    """

    def __init__(
        self,
        files: DatasetFiles,
        judge: BatchJudge,
        orders: Orders,
        decisions: Decisions,
        store: EntryStore,
        workers: OrderedMap,
        progress: Progress,
        collected: Collected,
    ) -> None:
        self._files = files
        self._decisions = decisions
        self._judge = judge
        self._store = store
        self._workers = workers
        self._progress = progress
        self._collected = collected
        self._claims: dict[str, Claim] = {}
        self._judged: dict[str, str] = {}
        self._odd_paths: dict[str, str] = {}
        # Where the store keeps annotations of files that hold many, by name.
        self._kept: dict[str, int] = {}
        # A dialect may have set files aside when it looked at the dataset.
        self.annotations = [
            finding.annotation for finding in files.findings if finding.action is Action.QUARANTINED
        ]
        self.evidence = Evidence()
        self._rulings = Rulings(orders)

    def read_all(self) -> None:
        """Reads every file, and judges at once the annotations whose image is certain."""
        paths = self._files.annotations
        same_key = _find_same_keys(paths)
        own_images = find_own_images(paths, self._files.images)
        tasks = (FileTask(path, own_images.get(path)) for path in paths)
        readings = self._run(self._judge, tasks)
        for done, (path, reading) in enumerate(zip(paths, readings, strict=True), start=1):
            self._progress("checking", done, len(paths))
            self._add_reading(path, reading, same_key.get(path), own_images.get(path, ""))

    def _add_reading(
        self, path: str, reading: FileReading, same_key: tuple[str, ...] | None, image: str
    ) -> None:
        log = self._collected.log
        self._collected.note_file(path, reading.digest)
        log.extend(reading.findings)
        self.annotations += [
            finding.annotation for finding in reading.findings if finding.action in _SET_ASIDE
        ]
        for names, size, judgement in reading.annotations:
            self.annotations.append(path)
            if same_key is not None:
                log.extend([Finding("key_twice", path, related=same_key)])
            elif judgement is None:
                self._claims[path] = (*names, size, True)
            else:
                self._collected.add(path, image, judgement)
                self._note_own_image(path, names, image)

    def _note_own_image(self, name: str, names: ImageNames, image: str) -> None:
        self._judged[name] = image
        finding = describe_own_image(name, names, image)
        # Some dialects have no other name than the file's.
        is_named = names != (None, None, None) or not self._judge.dialect.claims_by_name
        if finding is not None and is_named:
            self._collected.log.extend([finding])
        if names.source_path is not None and names_other_image(name, names.source_path):
            self._odd_paths[name] = names.source_path

    def read_entries(self) -> None:
        """Reads every file where each holds many annotations."""
        log = self._collected.log
        paths = self._files.annotations
        readings = []
        for done, file in enumerate(
            read_entries(self._files, self._judge.dialect, self._store), start=1
        ):
            readings.append(file)
            self._progress("reading annotations", done, len(paths))
        repeats = find_repeats(readings)
        for file in readings:
            self._collected.note_file(file.path, file.digest)
            if file.path in repeats:
                log.extend([Finding("file_repeats", file.path, related=repeats[file.path])])
                continue
            log.extend(file.findings)
            self.annotations += [
                finding.annotation for finding in file.findings if finding.action in _SET_ASIDE
            ]
            for entry, (names, size, place) in file.claims.items():
                name = name_annotation(file.path, entry)
                log.places[name] = file.path, entry
                self.annotations.append(name)
                self._claims[name] = (*names, size, False)
                self._kept[name] = place

    def pair_all(self) -> Mapping[str, str]:
        """Pairs all annotations with images, and judges those that had to wait for it.

        Returns:
            The image of each annotation that has one.
        """
        known = self._claims.keys() | self._judged.keys()
        pairs = pair_images(
            self._claims,
            self._files.images,
            FileEvidence(self._files.source, self._workers),
            self._judged,
            self._odd_paths,
            [name for name in self.annotations if name not in known],
            by_own_name=self._judge.dialect.claims_by_name,
        )
        if answers := self._decisions.by_topic[Topic.IMAGE]:
            have_one = chain(self._judged.items(), pairs.images.items())
            taken = {image: name for name, image in have_one}
            pairs, dropped = answer_images(pairs, self._claims, taken, answers)
            self.annotations = [name for name in self.annotations if name not in dropped]
        self._collected.log.extend(name_unread_images(pairs.findings, self._files.unread))
        self.annotations = [name for name in self.annotations if name not in pairs.copies]
        waiting = list(pairs.images.items())
        judge = replace(self._judge, is_paired=True)
        judgements: Iterator[Judgement]
        if self._kept:
            entries = ((self._store.take(self._kept[name]), image) for name, image in waiting)
            judgements = self._run(judge.judge_entries, entries)
        else:
            readings = self._run(judge, starmap(FileTask, waiting))
            judgements = (
                annotation.judgement
                for reading in readings
                for annotation in reading.annotations
                if annotation.judgement is not None
            )
        for done, ((name, image), judgement) in enumerate(
            zip(waiting, judgements, strict=True), start=1
        ):
            self._progress("checking what had to be paired", done, len(waiting))
            self._collected.add(name, image, judgement)
        return {**self._judged, **pairs.images}

    def recall(self, name: str) -> bytes | None:
        """Returns an annotation that was kept; None for one that has a file to itself."""
        place = self._kept.get(name)
        return None if place is None else self._store.take(place)

    def _run(
        self,
        judge: Callable[[Batch[Item]], BatchReading[Result]],
        tasks: Iterable[Item],
    ) -> Iterator[Result]:
        batches = (Batch(items, self._rulings) for items in _batches(tasks))
        for reading in self._workers(judge, batches, chunk=1):
            self.evidence.add(reading.tallies)
            self._rulings = guess(self._rulings, self.evidence, reading.tallies)
            yield from reading.results


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    remaining = iter(items)
    return iter(lambda: list(islice(remaining, _BATCH_FILES)), [])


def _find_same_keys(annotations: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns the other files with the same key (`a.xml` and `a.XML`) for each that has some."""
    by_key: dict[str, list[str]] = {}
    for path in annotations:
        by_key.setdefault(split_extension(path)[0], []).append(path)
    twice = [paths for paths in by_key.values() if len(paths) > 1]
    return {
        path: tuple(other for other in paths if other != path) for paths in twice for path in paths
    }
