"""What the pass over a dataset adds up to: findings and samples on disk, sums in memory."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from sys import intern
from typing import BinaryIO

from detflow.data.findings import Finding
from detflow.data.judging.batch import Judgement
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
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
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
            self._file.write(finding.to_json().encode() + b"\n")
            self.counts[finding.code] += 1
            if self.counts[finding.code] <= MAX_EXAMPLES:
                self.examples.setdefault(finding.code, []).append(finding)
            if finding.action is Action.QUARANTINED:
                # An annotation counts once, under the first reason.
                self.quarantined.setdefault(finding.annotation, finding.code)


@dataclass(slots=True)
class Collected:
    """What the passes over the files add up to.

    Attributes:
        log: Where findings go.
        samples_file: Where the lines of usable samples go.
        fingerprint: A digest over all paths and contents that were read.
        samples: The usable samples by the annotation's name.
        num_bytes: How much was written to `samples_file`.
        renamed: The classes of usable samples that have another name now.
    """

    log: FindingLog
    samples_file: BinaryIO
    fingerprint: hashlib._Hash = field(default_factory=hashlib.sha256)
    samples: dict[str, SampleSummary] = field(default_factory=dict)
    num_bytes: int = 0
    renamed: set[str] = field(default_factory=set)

    def note_file(self, path: str, digest: bytes) -> None:
        """Adds a file that was read to the fingerprint."""
        self.fingerprint.update(path.encode("utf-8", "surrogateescape") + b"\0" + digest)

    def add(self, name: str, image: str, judgement: Judgement) -> None:
        """Adds a judgement.

        Names that come from another process are copies, one for each sample: the annotation's and
        the image's name are those of this process, and the classes' names are shared.
        """
        self.log.extend(judgement.findings)
        self.note_file(image, judgement.image_sha256)
        if judgement.line is None:
            return
        self.renamed.update(judgement.renamed)
        self.samples_file.write(judgement.line + b"\n")
        self.samples[name] = SampleSummary(
            image=image,
            image_bytes=judgement.image_bytes,
            image_sha256=judgement.image_sha256,
            image_hash=judgement.image_hash,
            class_counts=tuple(
                ClassCount(intern(class_name), objects, line)
                for class_name, objects, line in judgement.class_counts
            ),
            offset=self.num_bytes,
        )
        self.num_bytes += len(judgement.line) + 1

    def sort_samples(self) -> Mapping[str, SampleSummary]:
        """Sorts the samples by the annotations' names and returns them."""
        self.samples = dict(sorted(self.samples.items()))
        return self.samples
