"""Judges a dataset as a whole: every file is read, every problem is found in one pass, nothing is changed on disk.

Judging one annotation is a pure function of its two files, so it runs in any number of processes.
Most annotations have an image of their own name to themselves and are judged when they are read;
the rest waits until all names are known. What is found goes to a file as it comes; memory holds
only a short summary of each sample.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from array import array
from binascii import a2b_base64, b2a_base64
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from itertools import chain, islice, tee
from pathlib import Path
from sys import intern
from typing import BinaryIO, NamedTuple, TypeVar

from detflow.data.images.decode import (
    DEFAULT_MAX_PIXELS,
    IMAGE_SUFFIXES,
    MAX_IMAGE_BYTES,
    ImageFacts,
    ImageFault,
    Treatment,
    encode_record_jpeg,
    perceptual_hash,
    read_image_facts,
)
from detflow.data.images.duplicates import Duplicates, find_duplicates
from detflow.data.judging.rules import RULES, Action, Corners, Finding
from detflow.data.records.schema import ObjectColumns, round_to_record, to_record_box
from detflow.data.sources.layout import DatasetFiles, find_files, split_extension
from detflow.data.sources.pairing import ImageNames, find_own_images, has_own_image, pair_images
from detflow.data.sources.splits import (
    DEFAULT_FRACTIONS,
    SplitBy,
    Splits,
    declared_splits,
    seeded_splits,
)
from detflow.data.sources.voc import (
    MAX_XML_BYTES,
    VocAnnotation,
    VocObject,
    read_annotation,
    read_image_names,
)
from detflow.data.workers.processes import OrderedMap
from detflow.errors import DataError
from detflow.label_map import LabelMap
from detflow.progress import Progress
from detflow.storage.folders import Folder
from detflow.types import Box, ImageSize, ObjectAnnotation

__all__ = [
    "Audit",
    "AuditOptions",
    "AuditedSample",
    "ClassCount",
    "Judgement",
    "Reading",
    "SampleSummary",
    "audit_dataset",
    "find_near_misses",
    "judge",
    "judge_batch",
    "read_batch",
    "read_line",
    "read_record_images",
]

"""Called with what is being done, how much of it is done and how much there is."""

_CHUNK = 64
_TINY_PX = 2.0

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What the user may choose.

    Attributes:
        classes: The class names in the order of their ids; None takes those that are found, sorted.
        max_pixels: Images with more are refused from their header.
        split_by: Where the splits come from.
        fractions: Of a seeded split, by name.
        seed: Of a seeded split and of the order of the records.
        allow_leaks: The same image may be in two splits.
        kept_splits: The split of keys in an earlier run, which a seeded split does not move.
    """

    classes: tuple[str, ...] | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS
    split_by: SplitBy = SplitBy.AUTO
    fractions: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_FRACTIONS))
    seed: int = 0
    allow_leaks: bool = False
    kept_splits: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class AuditedSample:
    """A sample that passed: everything that its record needs but the image's bytes.

    Attributes:
        annotation: The XML's path inside the dataset.
        image: The image's path inside the dataset.
        image_bytes: Size of the image file.
        image_sha256: Of the image file as audited.
        size: Of the image in the record.
        treatment: How the file's bytes become the record's.
        columns: Its objects, with every repair made.
    """

    annotation: str
    image: str
    image_bytes: int
    image_sha256: str
    size: ImageSize
    treatment: Treatment
    columns: ObjectColumns

    @property
    def objects(self) -> tuple[ObjectAnnotation, ...]:
        """The same as values that were checked."""
        return self.columns.to_objects()

    @property
    def key(self) -> str:
        """The annotation's path without its suffix."""
        return split_extension(self.annotation)[0]

    def to_json(self) -> bytes:
        """Returns one line without its line break."""
        names, boxes, *rest = self.columns
        treatment = (self.treatment.transcode, self.treatment.turn, self.treatment.drop_exif)
        head = (
            self.annotation,
            self.image,
            self.image_bytes,
            self.image_sha256,
            self.size.width,
            self.size.height,
        )
        # As decimals, the boxes would take as long as all the rest.
        packed = b2a_base64(array("f", chain.from_iterable(boxes)), newline=False).decode()
        return json.dumps((*head, treatment, names, packed, *rest)).encode()

    @classmethod
    def from_json(cls, line: bytes) -> AuditedSample:
        """Reads `to_json`'s line."""
        (
            annotation,
            image,
            image_bytes,
            image_sha256,
            width,
            height,
            treatment,
            names,
            packed,
            *rest,
        ) = json.loads(line)
        floats = iter(array("f", a2b_base64(packed)))
        boxes = list(zip(floats, floats, floats, floats, strict=True))
        columns = ObjectColumns(names, boxes, *rest)
        return cls(
            annotation,
            image,
            image_bytes,
            image_sha256,
            ImageSize(width, height),
            Treatment(*treatment),
            columns,
        )


class ClassCount(NamedTuple):
    """How many objects of a class an annotation has, and the line of the first."""

    name: str
    objects: int
    line: int


@dataclass(frozen=True, slots=True)
class SampleSummary:
    """What is kept in memory of an audited sample.

    Attributes:
        image: The image's path inside the dataset.
        image_bytes: Size of the image file.
        image_sha256: Of the image file, 32 bytes.
        image_hash: Perceptual, 32 bytes.
        class_counts: Of its objects, sorted by name.
        offset: Where the sample's line begins in `Audit.samples_path`.
    """

    image: str
    image_bytes: int
    image_sha256: bytes
    image_hash: bytes
    class_counts: tuple[ClassCount, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of an audit.

    Attributes:
        files: What the dataset holds.
        annotations_found: VOC annotations, usable or not.
        samples: The usable ones, by the annotation's path, sorted.
        quarantined: The code of each annotation that was set aside, by its path.
        splits: Of the usable ones.
        label_map: The classes.
        counts: Findings by code.
        findings_path: All findings, a JSON line each.
        samples_path: All `AuditedSample`s, a JSON line each.
        source_fingerprint: SHA-256 over the paths and contents that were read.
    """

    files: DatasetFiles
    annotations_found: int
    samples: Mapping[str, SampleSummary]
    quarantined: Mapping[str, str]
    splits: Splits
    label_map: LabelMap
    counts: Mapping[str, int]
    findings_path: Path
    samples_path: Path
    source_fingerprint: str

    def findings(self, *actions: Action) -> Iterator[Finding]:
        """Yields the findings with one of the actions, or all where none is given."""
        with open(self.findings_path, encoding="utf-8") as file:
            for line in file:
                finding = Finding.from_json(line)
                if not actions or finding.action in actions:
                    yield finding

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
    """
    files = find_files(source)
    with (
        open(work_dir / "findings.jsonl", "wb") as findings_file,
        open(work_dir / "samples.jsonl", "wb") as samples_file,
    ):
        log = _FindingLog(findings_file)
        log.extend(files.findings)
        collected = _Collected(log, samples_file)
        annotations, images = _judge_all(files, options, workers, progress, collected)
        samples = collected.samples
        progress("comparing images", 0, 1)
        duplicates = find_duplicates(
            {path: (one.image_sha256, one.image_hash) for path, one in samples.items()}
        )
        splits = _split(files, annotations, images, samples, duplicates, options)
        log.extend(splits.findings)
        log.extend(_judge_duplicates(samples, duplicates, splits, options.allow_leaks))
        members = set[str]().union(*splits.members.values())
        assigned = {path: summary for path, summary in samples.items() if path in members}
        log.extend(_judge_classes(assigned, splits, options.classes))
        progress("comparing images", 1, 1)
    classes = options.classes
    if classes is None:
        classes = tuple(
            sorted({count.name for summary in assigned.values() for count in summary.class_counts})
        )
    return Audit(
        files=files,
        annotations_found=len(annotations),
        samples=assigned,
        quarantined=log.quarantined,
        splits=splits,
        label_map=LabelMap(classes),
        counts=log.counts,
        findings_path=work_dir / "findings.jsonl",
        samples_path=work_dir / "samples.jsonl",
        source_fingerprint=collected.source.hexdigest(),
    )


class _FindingLog:
    """Writes findings as they come and counts them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.counts: Counter[str] = Counter()
        self.quarantined: dict[str, str] = {}

    def extend(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self._file.write(finding.to_json().encode() + b"\n")
            self.counts[finding.code] += 1
            if finding.action is Action.QUARANTINED:
                # An annotation counts once, under the first reason.
                self.quarantined.setdefault(finding.path, finding.code)


@dataclass(slots=True)
class _Collected:
    """What the passes over the files add up to.

    Attributes:
        log: Where findings go.
        samples_file: Where the lines of usable samples go.
        source: Over all paths and contents that were read.
        samples: The usable ones.
        num_bytes: What was written to `samples_file`.
    """

    log: _FindingLog
    samples_file: BinaryIO
    source: hashlib._Hash = field(default_factory=hashlib.sha256)
    samples: dict[str, SampleSummary] = field(default_factory=dict)
    num_bytes: int = 0

    def note_file(self, path: str, digest: bytes) -> None:
        self.source.update(path.encode("utf-8", "surrogateescape") + b"\0" + digest)

    def add(self, annotation: str, image: str, judgement: Judgement) -> None:
        self.log.extend(judgement.findings)
        self.note_file(image, judgement.image_sha256)
        if judgement.line is None:
            return
        self.samples_file.write(judgement.line + b"\n")
        self.samples[annotation] = SampleSummary(
            image=image,
            image_bytes=judgement.image_bytes,
            image_sha256=judgement.image_sha256,
            image_hash=judgement.image_hash,
            # Names that come from another process are copies, one for each sample; so are its
            # paths.
            class_counts=tuple(
                ClassCount(intern(name), objects, line)
                for name, objects, line in judgement.class_counts
            ),
            offset=self.num_bytes,
        )
        self.num_bytes += len(judgement.line) + 1


def _judge_all(
    files: DatasetFiles,
    options: AuditOptions,
    workers: OrderedMap,
    progress: Progress,
    collected: _Collected,
) -> tuple[list[str], Mapping[str, str]]:
    """Reads, pairs and judges everything; returns the paths of all VOC annotations, and the image of each that has one."""
    names, annotations, judged = _read_all(files, options, workers, progress, collected)
    pairs = pair_images(names, files.images, [path for path in annotations if path not in names])
    collected.log.extend(pairs.findings)
    rest = {
        annotation: image for annotation, image in pairs.images.items() if annotation not in judged
    }
    _judge_rest(files, rest, options, workers, progress, collected)
    collected.samples = dict(sorted(collected.samples.items()))
    return annotations, pairs.images


def _read_all(
    files: DatasetFiles,
    options: AuditOptions,
    workers: OrderedMap,
    progress: Progress,
    collected: _Collected,
) -> tuple[dict[str, ImageNames], list[str], set[str]]:
    """Reads every annotation, and judges those at once whose image is certain.

    Returns:
        What pairing needs of every readable annotation, the paths of all VOC annotations, and of
        those that were judged.
    """
    names: dict[str, ImageNames] = {}
    annotations = []
    judged = set()
    total = len(files.annotations)
    same_key = _find_same_keys(files.annotations)
    own_images = find_own_images(files.annotations, files.images)
    function = partial(read_batch, files.source, options.max_pixels, options.classes)
    results = chain.from_iterable(
        workers(
            function, _batches((path, own_images.get(path)) for path in files.annotations), chunk=1
        )
    )
    for done, (path, reading) in enumerate(zip(files.annotations, results, strict=True), start=1):
        progress("checking", done, total)
        collected.note_file(path, reading.digest)
        if isinstance(reading.names, Finding):
            collected.log.extend([reading.names])
        elif path in same_key:
            collected.log.extend([Finding("key_twice", path, related=same_key[path])])
        else:
            # `<path>` is looked at only where there is no `<filename>`, or a stale one.
            names[path] = (
                (reading.names[0], None)
                if reading.judgement and reading.names[0]
                else reading.names
            )
        if reading.judgement is not None:
            collected.add(path, own_images[path], reading.judgement)
            judged.add(path)
        if not isinstance(reading.names, Finding) or reading.names.code != "xml_not_voc":
            annotations.append(path)
    return names, annotations, judged


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    remaining = iter(items)
    return iter(lambda: list(islice(remaining, _CHUNK)), [])


def _find_same_keys(annotations: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns the other annotations with the same key (`a.xml` and `a.XML`) of each that has some."""
    by_key: dict[str, list[str]] = {}
    for path in annotations:
        by_key.setdefault(split_extension(path)[0], []).append(path)
    twice = [paths for paths in by_key.values() if len(paths) > 1]
    return {
        path: tuple(other for other in paths if other != path) for paths in twice for path in paths
    }


def _judge_rest(
    files: DatasetFiles,
    pairs: Mapping[str, str],
    options: AuditOptions,
    workers: OrderedMap,
    progress: Progress,
    collected: _Collected,
) -> None:
    """Judges the pairs that only all names together could tell."""
    function = partial(judge_batch, files.source, options.max_pixels, options.classes)
    judgements = chain.from_iterable(workers(function, _batches(pairs.items()), chunk=1))
    for done, ((annotation, image), judgement) in enumerate(
        zip(pairs.items(), judgements, strict=True), start=1
    ):
        progress("checking what had to be paired", done, len(pairs))
        collected.add(annotation, image, judgement)


def _split(
    files: DatasetFiles,
    annotations: Sequence[str],
    images: Mapping[str, str],
    samples: Mapping[str, SampleSummary],
    duplicates: Duplicates,
    options: AuditOptions,
) -> Splits:
    """Returns the splits of the usable samples."""
    declared = declared_splits(files, annotations, images, options.split_by)
    if declared is None:
        # Most samples share their set of classes: one tuple for all of them.
        known: dict[tuple[str, ...], tuple[str, ...]] = {}
        classes = {}
        for path, summary in samples.items():
            present = tuple(count.name for count in summary.class_counts)
            classes[path] = known.setdefault(present, present)
        kept = {
            path: split
            for path in samples
            if (split := (options.kept_splits or {}).get(split_extension(path)[0]))
        }
        return seeded_splits(duplicates.groups, classes, options.fractions, options.seed, kept)
    members = {
        name: tuple(path for path in paths if path in samples)
        for name, paths in declared.members.items()
    }
    # What is quarantined for another reason needs no split.
    findings = [
        one for one in declared.findings if one.code != "split_unassigned" or one.path in samples
    ]
    if options.allow_leaks:
        findings = [one for one in findings if one.code != "split_leak"]
    return Splits(declared.rule, members, declared.unions, tuple(findings))


def _judge_duplicates(
    samples: Mapping[str, SampleSummary], duplicates: Duplicates, splits: Splits, allow_leaks: bool
) -> Iterator[Finding]:
    split_of = {path: name for name, members in splits.members.items() for path in members}
    for path, first in duplicates.exact.items():
        leaks = path in split_of and first in split_of and split_of[path] != split_of[first]
        code = "split_leak" if leaks and not allow_leaks else "image_duplicate"
        value = f"{split_of[path]}, the other in {split_of[first]}" if leaks else ""
        yield Finding(
            code,
            path,
            value=value,
            image=samples[path].image,
            related=(first, samples[first].image),
        )
    for path, (other, distance) in duplicates.near.items():
        leaks = path in split_of and other in split_of and split_of[path] != split_of[other]
        value = f"{distance} of 256 bits differ" + (
            f"; {split_of[path]}, the other in {split_of[other]}" if leaks else ""
        )
        code = "split_near_leak" if leaks else "image_near_duplicate"
        yield Finding(
            code,
            path,
            value=value,
            image=samples[path].image,
            related=(other, samples[other].image),
        )


def _judge_classes(
    samples: Mapping[str, SampleSummary], splits: Splits, declared: Sequence[str] | None
) -> Iterator[Finding]:
    totals: Counter[str] = Counter()
    first: dict[str, tuple[str, int]] = {}
    for path, summary in samples.items():
        for count in summary.class_counts:
            totals[count.name] += count.objects
            first.setdefault(count.name, (path, count.line))
    if declared is None:
        for name, other in find_near_misses(totals):
            path, line = first[name]
            value, expected = (
                f"{name!r}, {totals[name]} objects",
                f"perhaps {other!r}, {totals[other]} objects",
            )
            yield Finding(
                "class_near_miss",
                path,
                line,
                value=value,
                expected=expected,
                image=samples[path].image,
            )
    for split, members in splits.members.items():
        if not members:
            yield Finding("split_empty", ".", value=split)
            continue
        present = {count.name for path in members for count in samples[path].class_counts}
        for name in sorted(totals.keys() - present):
            yield Finding("class_absent", first[name][0], value=f"no {name!r} in {split}")


def find_near_misses(totals: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yields (rare class, class that it may be meant for): alike but for a letter, case or separators, and 10 times rarer.

    Names that differ in digits only ("type1", "type2") are a series, not an error.
    """
    names = sorted(totals)
    for name in names:
        others = [other for other in names if totals[other] >= _NEAR_MISS_RATIO * totals[name]]
        plain = {_plain(other): other for other in others}
        if _plain(name) in plain:
            yield name, plain[_plain(name)]
            continue
        others = [other for other in others if _without_digits(other) != _without_digits(name)]
        for other in get_close_matches(name, others, n=1, cutoff=_NEAR_MISS_CUTOFF):
            yield name, other


_NEAR_MISS_RATIO = 10
_NEAR_MISS_CUTOFF = 0.85


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name)).casefold()


def _without_digits(name: str) -> str:
    return re.sub(r"\d+", "", name)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What `judge` hands back: findings, and the sample as a line where it is usable."""

    annotation: str
    image: str
    image_bytes: int
    image_sha256: bytes
    image_hash: bytes
    class_counts: tuple[ClassCount, ...]
    line: bytes | None
    findings: tuple[Finding, ...]


def judge(
    source: Folder, max_pixels: int, classes: Sequence[str] | None, pair: tuple[str, str]
) -> Judgement:
    """Judges one annotation with its image; see `judge_batch`."""
    (judgement,) = judge_batch(source, max_pixels, classes, [pair])
    return judgement


def judge_batch(
    source: Folder, max_pixels: int, classes: Sequence[str] | None, pairs: Sequence[tuple[str, str]]
) -> list[Judgement]:
    """Judges annotations with their images.

    A batch goes through one step after the other: while a step repeats, the processor's caches hold
    its code, which saves about a quarter of the time. Only one image's bytes are in memory at a
    time.

    Args:
        source: The dataset's folder.
        max_pixels: Images with more are refused.
        classes: The classes that may occur; None allows any.
        pairs: The annotation's and the image's path inside the dataset.
    """
    contents = _read_files(source, (path for path, _ in pairs), MAX_XML_BYTES)
    annotations = [
        read_annotation(data, path) for data, (path, _) in zip(contents, pairs, strict=True)
    ]
    return _judge_read(source, max_pixels, classes, pairs, annotations)


class Reading(NamedTuple):
    """What `read_batch` hands back of an annotation.

    Attributes:
        names: What pairing needs, or why the annotation cannot be read.
        digest: SHA-256 of the file, 32 bytes.
        judgement: Where its image is certain.
    """

    names: ImageNames | Finding
    digest: bytes
    judgement: Judgement | None


def read_batch(
    source: Folder,
    max_pixels: int,
    classes: Sequence[str] | None,
    tasks: Sequence[tuple[str, str | None]],
) -> list[Reading]:
    """Reads annotations, and judges those whose image is certain (see `pairing.has_own_image`).

    Args:
        source: The dataset's folder.
        max_pixels: Images with more are refused.
        classes: The classes that may occur; None allows any.
        tasks: The annotation's path, and its own image's where it has one.
    """
    contents = list(_read_files(source, (path for path, _ in tasks), MAX_XML_BYTES))
    names: list[ImageNames | Finding] = []
    pairs, annotations = [], []
    for (path, image), data in zip(tasks, contents, strict=True):
        annotation, findings = read_annotation(data, path) if image is not None else (None, [])
        found = (
            read_image_names(data, path)
            if annotation is None
            else (annotation.filename, annotation.source_path)
        )
        names.append(found)
        if image is not None and not isinstance(found, Finding) and has_own_image(path, found):
            pairs.append((path, image))
            annotations.append((annotation, findings))
    judged = {
        one.annotation: one for one in _judge_read(source, max_pixels, classes, pairs, annotations)
    }
    return [
        Reading(found, hashlib.sha256(data).digest(), judged.get(path))
        for (path, _), data, found in zip(tasks, contents, names, strict=True)
    ]


def _judge_read(
    source: Folder,
    max_pixels: int,
    classes: Sequence[str] | None,
    pairs: Sequence[tuple[str, str]],
    annotations: Sequence[tuple[VocAnnotation | None, list[Finding]]],
) -> list[Judgement]:
    """Judges annotations as read."""
    contents = _read_files(source, (path for _, path in pairs), MAX_IMAGE_BYTES)
    images = [
        _examine_image(data, path, max_pixels)
        for data, (_, path) in zip(contents, pairs, strict=True)
    ]
    hashes = [perceptual_hash(image.facts.grey) if image.facts else b"" for image in images]
    samples = [
        _judge_pair(annotation, image, path, classes, findings)
        for (annotation, findings), image, (path, _) in zip(annotations, images, pairs, strict=True)
    ]
    return [
        Judgement(
            annotation=path,
            image=image.path,
            image_bytes=image.num_bytes,
            image_sha256=image.sha256,
            image_hash=image_hash,
            class_counts=_count_classes(annotation, sample) if annotation and sample else (),
            line=sample.to_json() if sample else None,
            findings=tuple(findings),
        )
        for (path, _), (annotation, findings), image, image_hash, sample in zip(
            pairs, annotations, images, hashes, samples, strict=True
        )
    ]


@dataclass(frozen=True, slots=True)
class _Examined:
    """An image file: what it holds, or why it cannot be used."""

    path: str
    num_bytes: int
    sha256: bytes
    facts: ImageFacts | None
    fault: ImageFault | None


def _examine_image(data: bytes, path: str, max_pixels: int) -> _Examined:
    sha256 = hashlib.sha256(data).digest()
    try:
        if len(data) > MAX_IMAGE_BYTES:
            raise ImageFault("image_too_large", f"over {MAX_IMAGE_BYTES:,} bytes")
        return _Examined(path, len(data), sha256, read_image_facts(data, max_pixels), None)
    except ImageFault as fault:
        return _Examined(path, len(data), sha256, None, fault)


def _count_classes(annotation: VocAnnotation, sample: AuditedSample) -> tuple[ClassCount, ...]:
    counts = Counter(sample.columns.names)
    return tuple(
        ClassCount(
            name,
            counts[name],
            next(entry.line for entry in annotation.objects if entry.name == name),
        )
        for name in sorted(counts)
    )


def _judge_pair(
    annotation: VocAnnotation | None,
    examined: _Examined,
    path: str,
    classes: Sequence[str] | None,
    findings: list[Finding],
) -> AuditedSample | None:
    facts, fault, image = examined.facts, examined.fault, examined.path
    if fault is not None:
        findings.append(
            Finding(
                fault.code,
                path,
                value=f"{image}: {fault.value}",
                expected=fault.expected,
                image=image,
            )
        )
    if annotation is None or facts is None:
        return None
    turn = _decide_turn(annotation, facts, path, image, findings)
    size = facts.turned_size if turn != 1 else facts.size
    if _has_size_conflict(annotation, size, path, image, findings):
        return None
    treatment = _decide_treatment(facts, turn, path, image, findings)
    kept = []
    boxes = []
    refused = False
    for entry in annotation.objects:
        if classes is not None and entry.name not in classes:
            nearest = next(iter(get_close_matches(entry.name, classes, n=1, cutoff=0.0)), "")
            expected = f"perhaps {nearest!r}"
            findings.append(
                Finding(
                    "class_unknown",
                    path,
                    entry.line,
                    entry.number,
                    value=entry.name,
                    expected=expected,
                    image=image,
                )
            )
            refused = True
        elif _is_in_order(entry.corners, size):
            kept.append(entry)
            boxes.append(Box.normalise_voc(*entry.corners, size))
        elif (box := _mend_box(entry, size, path, image, findings)) is not None:
            kept.append(entry)
            boxes.append((box.ymin, box.xmin, box.ymax, box.xmax))
    if refused:
        return None
    if not annotation.objects:
        findings.append(Finding("no_objects", path, image=image))
    columns = _drop_duplicates(kept, round_to_record(boxes), path, image, findings)
    return AuditedSample(
        path, image, examined.num_bytes, examined.sha256.hex(), size, treatment, columns
    )


def _drop_duplicates(
    entries: Sequence[VocObject],
    boxes: Sequence[Corners],
    path: str,
    image: str,
    findings: list[Finding],
) -> ObjectColumns:
    """Returns the objects but for those with the class and the box of an earlier one."""
    first: dict[tuple[str, Corners], VocObject] = {}
    for entry, box in zip(entries, boxes, strict=True):
        earlier = first.setdefault((entry.name, box), entry)
        if earlier is not entry:
            value = f"{entry.name}, as object {earlier.number}"
            findings.append(
                Finding(
                    "object_duplicate",
                    path,
                    entry.line,
                    entry.number,
                    value=value,
                    image=image,
                    before=entry.corners,
                )
            )
    kept = first.values()
    return ObjectColumns(
        names=[entry.name for entry in kept],
        boxes_yxyx=[box for _, box in first],
        difficult=[int(entry.difficult) for entry in kept],
        truncated=[int(entry.truncated) for entry in kept],
        poses=[entry.pose for entry in kept],
    )


def _decide_turn(
    annotation: VocAnnotation, facts: ImageFacts, path: str, image: str, findings: list[Finding]
) -> int:
    """Returns the EXIF orientation to apply, and says where the annotation's size differs from the image's."""
    stored, turned = facts.size, facts.turned_size
    written = annotation.size
    if facts.orientation != 1:
        is_turned = turned != stored and written == (turned.width, turned.height)
        value = f"EXIF orientation {facts.orientation}, stored {stored}"
        code = "exif_applied" if is_turned else "exif_removed"
        findings.append(Finding(code, path, annotation.size_line, value=value, image=image))
        if is_turned:
            return facts.orientation
    if written == (stored.width, stored.height):
        return 1
    if written is None:
        code, value = "size_missing", ""
    else:
        value = f"{written[0]}x{written[1]}"
        code = (
            "size_zero"
            if 0 in written
            else "size_swapped"
            if written == (stored.height, stored.width)
            else "size_wrong"
        )
    findings.append(
        Finding(code, path, annotation.size_line, value=value, expected=str(stored), image=image)
    )
    return 1


def _has_size_conflict(
    annotation: VocAnnotation, size: ImageSize, path: str, image: str, findings: list[Finding]
) -> bool:
    """Whether the boxes tell that they were drawn on an image of another size: clipping those would write wrong labels."""
    written = annotation.size
    if written is None or 0 in written or written == (size.width, size.height):
        return False
    if all(
        _fits(entry.corners, size.width, size.height, slack=0.01) for entry in annotation.objects
    ):
        return False
    if not all(
        _fits(entry.corners, written[0], written[1], slack=0.0) for entry in annotation.objects
    ):
        return False
    value = f"<size> {written[0]}x{written[1]}, image {size}"
    findings.append(Finding("size_conflict", path, annotation.size_line, value=value, image=image))
    return True


def _fits(corners: Corners, width: int, height: int, slack: float) -> bool:
    xmin, ymin, xmax, ymax = corners
    return (
        max(xmin, xmax) <= width * (1 + slack) + 1 and max(ymin, ymax) <= height * (1 + slack) + 1
    )


def _decide_treatment(
    facts: ImageFacts, turn: int, path: str, image: str, findings: list[Finding]
) -> Treatment:
    announced = IMAGE_SUFFIXES.get(split_extension(image)[1].lower())
    if announced != facts.format:
        expected = f"named {split_extension(image)[1] or 'without an extension'}"
        findings.append(
            Finding("extension_wrong", image, value=facts.kind, expected=expected, image=image)
        )
    if not facts.is_plain_jpeg:
        findings.append(Finding("image_transcoded", path, value=facts.kind, image=image))
    transcode = turn != 1 or not facts.is_plain_jpeg
    return Treatment(
        transcode=transcode, turn=turn, drop_exif=facts.orientation != 1 and not transcode
    )


def _is_in_order(corners: Corners, size: ImageSize) -> bool:
    """Whether no rule of `_mend_box` has anything to say, which is so of nearly every box."""
    xmin, ymin, xmax, ymax = corners
    is_inside = xmin >= 1.0 and ymin >= 1.0 and xmax <= size.width and ymax <= size.height
    return is_inside and xmax - xmin + 1.0 >= _TINY_PX and ymax - ymin + 1.0 >= _TINY_PX


def _mend_box(
    entry: VocObject, size: ImageSize, path: str, image: str, findings: list[Finding]
) -> Box | None:
    """Returns the box, mended by rule, or None where the object is to be left out."""
    xmin, ymin, xmax, ymax = entry.corners
    if xmin == xmax or ymin == ymax:
        findings.append(_box_finding("box_zero_area", entry, path, image))
        return None
    if xmin > xmax or ymin > ymax:
        xmin, xmax = min(xmin, xmax), max(xmin, xmax)
        ymin, ymax = min(ymin, ymax), max(ymin, ymax)
        findings.append(
            _box_finding("box_inverted", entry, path, image, after=(xmin, ymin, xmax, ymax))
        )
    # VOC's minima count from 1 (see Box.from_voc), so the image reaches from xmin = 1 to xmax =
    # width.
    if xmax <= 0.0 or ymax <= 0.0 or xmin >= size.width + 1.0 or ymin >= size.height + 1.0:
        findings.append(_box_finding("box_outside", entry, path, image, expected=f"inside {size}"))
        return None
    clipped = (
        max(xmin, 1.0),
        max(ymin, 1.0),
        min(xmax, float(size.width)),
        min(ymax, float(size.height)),
    )
    if clipped != (xmin, ymin, xmax, ymax):
        findings.append(
            _box_finding(
                "box_clipped", entry, path, image, after=clipped, expected=f"inside {size}"
            )
        )
    try:
        box = to_record_box(Box.from_voc(*clipped, size))
    except ValueError:
        # Thinner than float32 can tell.
        findings.append(_box_finding("box_zero_area", entry, path, image))
        return None
    if clipped[2] - clipped[0] + 1.0 < _TINY_PX or clipped[3] - clipped[1] + 1.0 < _TINY_PX:
        findings.append(_box_finding("box_tiny", entry, path, image, after=clipped))
    return box


def _box_finding(
    code: str,
    entry: VocObject,
    path: str,
    image: str,
    after: Corners | None = None,
    expected: str = "",
) -> Finding:
    value = f"{entry.name}: " + ", ".join(
        f"{tag} {corner:g}" for tag, corner in zip(_TAGS, entry.corners, strict=True)
    )
    return Finding(
        code,
        path,
        entry.line,
        entry.number,
        value,
        expected,
        image,
        before=entry.corners,
        after=after,
    )


_TAGS = ("xmin", "ymin", "xmax", "ymax")


def read_line(samples: BinaryIO, offset: int) -> bytes:
    """Returns the line of an `AuditedSample`: from the file `Audit.samples_path`, at `SampleSummary.offset`."""
    samples.seek(offset)
    return samples.readline()


def read_record_images(
    source: Folder, samples: Iterable[AuditedSample]
) -> Iterator[tuple[AuditedSample, bytes, str]]:
    """Yields each sample with the JPEG that goes into its record, and that one's SHA-256 in hexadecimal.

    Raises:
        DataError: An image is not the one that was audited.
    """
    samples, named = tee(samples)
    contents = _read_files(source, (audited.image for audited in named), MAX_IMAGE_BYTES)
    for audited, data in zip(samples, contents, strict=True):
        if hashlib.sha256(data).hexdigest() != audited.image_sha256:
            raise DataError(
                "the image changed while the dataset was being converted",
                path=audited.image,
                remedy="run it again",
            )
        encoded = encode_record_jpeg(data, audited.treatment)
        yield (
            audited,
            encoded,
            audited.image_sha256 if encoded is data else hashlib.sha256(encoded).hexdigest(),
        )


def _read_files(source: Folder, paths: Iterable[str], limit: int) -> Iterator[bytes]:
    """Yields files' contents; of what is larger than `limit` one byte more than that."""
    try:
        yield from source.read_many(paths, limit + 1)
    except FileNotFoundError as error:
        raise DataError(
            "the file was removed while the dataset was being read",
            path=error.filename,
            remedy="run it again",
        ) from None
