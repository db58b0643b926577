"""What was found in a set of TFRecord files, as lines for a terminal."""

from __future__ import annotations

from collections import Counter

from detflow.data.records.lint.report import LintReport
from detflow.data.rules import RECORD_RULES, Severity
from detflow.text import count_noun, escape_unprintable

_MAX_LINES = 3
_MAX_CLASSES = 12


def format_report(report: LintReport) -> str:
    """Returns a report as lines: counts, classes, each kind of finding with examples, consumers."""
    return "\n".join(
        [
            *_format_counts(report),
            *_format_classes(report),
            *_format_findings(report, Severity.ERROR),
            *_format_findings(report, Severity.WARNING),
            *_format_consumers(report),
        ]
    )


def _format_counts(report: LintReport) -> list[str]:
    objects = sum(split.objects for split in report.splits.values())
    negatives = sum(split.negatives for split in report.splits.values())
    lines = [
        f"records       {count_noun(report.num_images, 'image')}, {count_noun(objects, 'object')}, "
        f"{count_noun(negatives, 'image')} without objects"
    ]
    for name, split in report.splits.items():
        lines.append(
            f"split         {name}: {count_noun(split.images, 'image')}, "
            f"{count_noun(split.objects, 'object')}, {count_noun(split.files, 'file')}"
        )
    return lines


def _format_classes(report: LintReport) -> list[str]:
    per_class = sum((split.objects_per_class for split in report.splits.values()), Counter[str]())
    shown = [
        f"{escape_unprintable(name)} {number:,}"
        for name, number in per_class.most_common(_MAX_CLASSES)
    ]
    rest = len(per_class) - _MAX_CLASSES
    more = f", and {rest:,} more" if rest > 0 else ""
    label_map = "none beside the files"
    if report.label_map is not None:
        label_map = count_noun(len(report.label_map), "class", "classes")
    return [
        f"classes       {', '.join(shown) or 'none'}{more}",
        f"label map     {label_map}",
    ]


def _format_findings(report: LintReport, severity: Severity) -> list[str]:
    codes = [
        code for code in sorted(report.counts) if RECORD_RULES[code].action.severity is severity
    ]
    if not codes:
        return [f"{severity.value + 's':13} none"]
    lines = []
    for code in codes:
        rule, count = RECORD_RULES[code], report.counts[code]
        lines.append(f"{severity.value:13} {count:,} × {code}: {rule.meaning}; {rule.remedy}")
        examples = report.examples[code][:_MAX_LINES]
        lines += [f"              {finding.to_line()}" for finding in examples]
        if count > _MAX_LINES:
            lines.append(f"              … and {count - _MAX_LINES:,} more")
    return lines


def _format_consumers(report: LintReport) -> list[str]:
    return [
        f"{name:13} {'no: ' + '; '.join(reasons) if reasons else 'can read it'}"
        for name, reasons in report.blocked.items()
    ]
