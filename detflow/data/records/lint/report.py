"""What was found in a set of TFRecord files: as an object, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detflow.data.findings import Finding
from detflow.data.rules import CONSUMERS, RECORD_RULES, Severity, Where
from detflow.label_map import LabelMap

MAX_EXAMPLES = 20


@dataclass(slots=True)
class SplitCounts:
    """What a split holds.

    Attributes:
        files: How many files.
        images: How many images.
        negatives: How many images without objects.
        objects: How many objects.
        objects_per_class: How many objects of each class, by the class's name.
    """

    files: int = 0
    images: int = 0
    negatives: int = 0
    objects: int = 0
    objects_per_class: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class LintReport:
    """What was found in a set of TFRecord files.

    Attributes:
        path: The file or folder.
        has_manifest: Whether detflow's manifest is there.
        label_map: The classes, where a label map is there and can be read.
        splits: What each split holds, by its name.
        field_records: In how many records each field is.
        counts: Findings by code.
        examples: The first findings of each code.
        blocked: For each consumer, why it cannot use the set; empty where it can.
    """

    path: Path
    has_manifest: bool = False
    label_map: LabelMap | None = None
    splits: dict[str, SplitCounts] = field(default_factory=dict)
    field_records: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Finding]] = field(default_factory=dict)
    blocked: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in CONSUMERS})

    @property
    def num_images(self) -> int:
        """The number of records that could be read."""
        return sum(split.images for split in self.splits.values())

    def count(self, severity: Severity) -> int:
        """Returns the number of findings of a severity."""
        return sum(
            number
            for code, number in self.counts.items()
            if RECORD_RULES[code].action.severity is severity
        )

    def note(self, code: str, file: str, **fields: Any) -> None:
        """Adds a finding.

        Args:
            code: The code of a rule for TFRecord files.
            file: The file's name.
            **fields: Further attributes of `Finding`.
        """
        self.extend([Finding(code, file, where=Where.RECORD, **fields)])

    def extend(self, findings: Iterable[Finding]) -> None:
        """Counts findings, and keeps those of a code as examples while there are few."""
        for finding in findings:
            self.counts[finding.code] += 1
            examples = self.examples.setdefault(finding.code, [])
            if len(examples) < MAX_EXAMPLES:
                examples.append(finding)

    def to_json(self) -> dict[str, Any]:
        """Returns the report as what `json.dumps` takes."""
        return {
            "path": str(self.path),
            "manifest": self.has_manifest,
            "classes": list(self.label_map) if self.label_map else None,
            "images": self.num_images,
            "splits": {
                name: {
                    "files": split.files,
                    "images": split.images,
                    "negatives": split.negatives,
                    "objects": split.objects,
                    "objects_per_class": dict(sorted(split.objects_per_class.items())),
                }
                for name, split in self.splits.items()
            },
            "fields": dict(sorted(self.field_records.items())),
            "errors": self.count(Severity.ERROR),
            "warnings": self.count(Severity.WARNING),
            "issues": {
                code: {
                    "severity": RECORD_RULES[code].action.severity.value,
                    "count": number,
                    "meaning": RECORD_RULES[code].meaning,
                    "remedy": RECORD_RULES[code].remedy,
                    "examples": [_to_json(finding) for finding in self.examples[code]],
                }
                for code, number in sorted(self.counts.items())
            },
            "readable_by": {
                name: {"yes": not reasons, "reasons": reasons}
                for name, reasons in self.blocked.items()
            },
        }


def _to_json(finding: Finding) -> dict[str, Any]:
    values = {
        "file": finding.path,
        "record": finding.record,
        "offset": finding.offset,
        "image": finding.image,
        "object_index": finding.object_index,
        "value": finding.value,
        "expected": finding.expected,
    }
    return {name: value for name, value in values.items() if value not in (None, "")}
