"""What the pass over a dataset adds up to: findings and samples on disk, sums in memory."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from sys import intern
from typing import BinaryIO, Self

from detflow.data.findings import Finding
from detflow.data.judging.batch import Judgement
from detflow.data.judging.provisional import KnownImage, Look, Provisional
from detflow.data.judging.sample import ClassCount, SampleSummary
from detflow.data.rules import Action

MAX_EXAMPLES = 10
"""Findings of each code that are kept in memory, to be named on the terminal."""


class FindingLog:
    """Writes findings as they come and counts them.

    Attributes:
        counts: How many findings each code has.
        examples: The first findings of each code.
        quarantined: The code under which each annotation was set aside, by its name.
        places: The file and the entry of annotations by name, where a file holds several.
        num_bytes: How much was written.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.num_bytes = 0
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[Finding]] = {}
        self.quarantined: dict[str, str] = {}
        self.places: dict[str, tuple[str, str]] = {}

    def extend(self, findings: Iterable[Finding]) -> None:
        """Writes and counts findings."""
        for finding in findings:
            if finding.path in self.places:
                # Pairing and the judges of the whole set know annotations by name.
                path, entry = self.places[finding.path]
                finding = replace(finding, path=path, entry=entry)
            self._write(finding, finding.to_json().encode() + b"\n")

    def _write(self, finding: Finding, line: bytes) -> None:
        self._file.write(line)
        self.num_bytes += len(line)
        self.counts[finding.code] += 1
        if self.counts[finding.code] <= MAX_EXAMPLES:
            self.examples.setdefault(finding.code, []).append(finding)
        if finding.action is Action.QUARANTINED:
            # An annotation counts once, under the first reason.
            self.quarantined.setdefault(finding.annotation, finding.code)

    def reopen(self) -> BinaryIO:
        """Returns its file, at its beginning."""
        self._file.seek(0)
        return self._file

    def copy(self, old: BinaryIO, end: int) -> None:
        """Writes and counts the findings of another log's file up to a place in it."""
        while old.tell() < end:
            line = old.readline()
            self._write(Finding.from_json(line.decode()), line)


class Collected:
    """What the passes over the files add up to.

    Attributes:
        log: Where findings go.
        fingerprint: A digest over all paths and contents that were read.
        samples: The usable samples by the annotation's name.
        provisional: What is kept to judge again.
        renamed: The classes that have another name now.
    """

    def __init__(self, work_dir: Path) -> None:
        """Begins with nothing.

        Args:
            work_dir: Where `findings.jsonl` and `samples.jsonl` are written, a line each.
        """
        self._files = ExitStack()
        self._work_dir = work_dir
        self.log = FindingLog(self._open("findings.jsonl"))
        self.fingerprint = hashlib.sha256()
        self.samples: dict[str, SampleSummary] = {}
        self.provisional = Provisional()
        self.renamed: set[str] = set()
        self._samples_file = self._open("samples.jsonl")
        self._num_bytes = 0

    def _open(self, name: str) -> BinaryIO:
        return self._files.enter_context(open(self._work_dir / name, "w+b"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._files.close()

    def note_file(self, path: str, digest: bytes) -> None:
        """Adds a file that was read to the fingerprint."""
        self.fingerprint.update(path.encode("utf-8", "surrogateescape") + b"\0" + digest)

    def add(self, name: str, image: str, judgement: Judgement) -> None:
        """Adds a judgement.

        Names that come from another process are copies, one for each sample: the annotation's and
        the image's name are those of this process, and the classes' names are shared.
        """
        begin = self.log.num_bytes
        self.log.extend(judgement.findings)
        self.note_file(image, judgement.image_sha256)
        self.renamed.update(judgement.renamed)
        self.provisional.add(name, image, judgement.basis, begin, self.log.num_bytes - begin)
        if judgement.line is not None:
            self._add_sample(name, image, judgement, judgement.line + b"\n")
        elif judgement.basis is not None:
            self.provisional.set_image_aside(
                judgement.image_bytes, judgement.image_sha256, judgement.image_hash
            )

    def _add_sample(self, name: str, image: str, judgement: Judgement, line: bytes) -> None:
        self.samples[name] = SampleSummary(
            image=image,
            image_bytes=judgement.image_bytes,
            image_sha256=judgement.image_sha256,
            image_hash=judgement.image_hash,
            class_counts=tuple(
                ClassCount(intern(class_name), objects, line_number)
                for class_name, objects, line_number in judgement.class_counts
            ),
            offset=self._write_line(line),
        )

    def _write_line(self, line: bytes) -> int:
        """Writes a sample's line; returns where it begins."""
        offset = self._num_bytes
        self._samples_file.write(line)
        self._num_bytes += len(line)
        return offset

    def find_image(self, number: int, look: Look) -> KnownImage:
        """Returns what is known of a judgement's image.

        Args:
            number: The judgement's number.
            look: What the image holds.
        """
        kept = self.provisional
        summary = self.samples.get(kept.names[number])
        if summary is None:
            facts = kept.set_aside[number]
        else:
            facts = summary.image_bytes, summary.image_sha256, summary.image_hash
        width, height = kept.widths[number], kept.heights[number]
        return KnownImage(kept.images[number], *facts, look, width, height)

    def replace(self, again: Iterable[tuple[int, Judgement]]) -> None:
        """Puts judgements in the place of earlier ones, as if they had been made at once.

        Args:
            again: Each judgement's number and what it is now, by the numbers.
        """
        old_log, old_samples = self.log, self._samples_file
        old_findings = old_log.reopen()
        old_samples.seek(0)
        self.log = FindingLog(self._open("findings.new"))
        self.log.places = old_log.places
        self._samples_file, self._num_bytes = self._open("samples.new"), 0
        done = 0
        for number, judgement in again:
            self._keep(done, number, old_samples)
            name, image = self.provisional.names[number], self.provisional.images[number]
            begin, length = self.provisional.find_span(number)
            self.log.copy(old_findings, begin)
            old_findings.seek(begin + length)
            self.log.extend(judgement.findings)
            if self.samples.pop(name, None) is not None:
                old_samples.readline()
            if judgement.line is not None:
                self._add_sample(name, image, judgement, judgement.line + b"\n")
            done = number + 1
        self._keep(done, len(self.provisional.names), old_samples)
        self.log.copy(old_findings, old_log.num_bytes)
        for name in ("findings", "samples"):
            (self._work_dir / f"{name}.new").replace(self._work_dir / f"{name}.jsonl")

    def _keep(self, begin: int, end: int, old_samples: BinaryIO) -> None:
        """Copies the samples of judgements that stay."""
        for name in self.provisional.names[begin:end]:
            summary = self.samples.get(name)
            if summary is not None:
                offset = self._write_line(old_samples.readline())
                self.samples[name] = replace(summary, offset=offset)

    def sort_samples(self) -> Mapping[str, SampleSummary]:
        """Sorts the samples by the annotations' names and returns them."""
        self.samples = dict(sorted(self.samples.items()))
        return self.samples
