"""The audit of a dataset: every file is read, every problem is found, nothing is changed on disk.

What is found goes to a file as it comes; memory holds only a short summary of each sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from detflow.data.findings import Finding
from detflow.data.images.duplicates import find_duplicates
from detflow.data.images.header import DEFAULT_MAX_PIXELS
from detflow.data.judging.answers import answer_classes
from detflow.data.judging.batch import BatchJudge
from detflow.data.judging.classes import read_renames, settle_classes
from detflow.data.judging.collect import Collected
from detflow.data.judging.dataset import (
    judge_classes,
    judge_duplicates,
    judge_renames,
    judge_splits,
)
from detflow.data.judging.decisions import Decisions, Topic, resolve_decisions
from detflow.data.judging.entries import open_store
from detflow.data.judging.rulings import Orders
from detflow.data.judging.sample import AuditedSample, SampleSummary, read_line
from detflow.data.judging.splitting import SplitChoice, split_samples
from detflow.data.judging.sweep import judge_all
from detflow.data.rules import RULES, Action
from detflow.data.sources.detect import open_dataset_files
from detflow.data.sources.source import AnnotationSource, DatasetFiles
from detflow.data.sources.splits import DEFAULT_FRACTIONS, SplitBy, Splits, ValidationShare
from detflow.data.workers.processes import OrderedMap
from detflow.label_map import LabelMap
from detflow.progress import Progress
from detflow.storage.interface import Folder


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
        annotations, images, decided = judge_all(
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
