"""The report's findings: in groups of one kind each, with pictures and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detflow.data.findings import Finding
from detflow.data.judging.audit import Audit
from detflow.data.report.gallery import Gallery, ShownImage
from detflow.data.report.measure import Findings
from detflow.data.rules import RULES, Action, Rule

CARDS_PER_CODE = 8
"""Pictures of each kind of finding."""

LINES_PER_CODE = 40
"""Lines of each kind of finding below its pictures."""

_CORNER_NAMES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, slots=True)
class FindingText:
    """A finding: where it is, what it says, and what it can be found by.

    Attributes:
        place: The file and the line.
        text: What is there, and what became of it.
        names: All files that it is about.
        split: The split of its annotation; empty where that is in none.
        class_ids: The classes of its annotation, as far as that is usable.
        num_objects: How many objects the annotation has.
    """

    place: str
    text: str
    names: Sequence[str]
    split: str
    class_ids: Sequence[int]
    num_objects: int


@dataclass(frozen=True, slots=True)
class FindingCard:
    """A finding with the images that it names."""

    images: Sequence[ShownImage]
    finding: FindingText


@dataclass(frozen=True, slots=True)
class FindingGroup:
    """The findings of one code: how many there are, and some as cards, some as lines."""

    code: str
    rule: Rule
    count: int
    cards: Sequence[FindingCard]
    lines: Sequence[FindingText]
    has_boxes: bool


def group_findings(
    gallery: Gallery, teller: Teller, found: Findings, action: Action
) -> list[FindingGroup]:
    """Returns the groups of all findings with an action, by their codes."""
    return [
        _group_finding(gallery, teller, code, found.counts[code], found.examples[code])
        for code in sorted(found.counts)
        if RULES[code].action is action
    ]


def _group_finding(
    gallery: Gallery, teller: Teller, code: str, count: int, examples: Sequence[Finding]
) -> FindingGroup:
    cards = [
        FindingCard(gallery.show_finding(finding), teller.tell(finding))
        for finding in examples[:CARDS_PER_CODE]
    ]
    lines = [teller.tell(finding) for finding in examples[CARDS_PER_CODE:]]
    has_boxes = any(
        shape.kind == "before"
        for card in cards
        for image in card.images
        if image.picture is not None
        for shape in image.picture.shapes
    )
    return FindingGroup(code, RULES[code], count, cards, lines, has_boxes)


def _describe_finding(finding: Finding) -> str:
    """Returns what is there, what should be, and what became of it."""
    parts = [] if finding.object_index is None else [f"object {finding.object_index}"]
    parts += [finding.value] if finding.value else []
    parts += [f"expected {finding.expected}"] if finding.expected else []
    if finding.after is not None:
        corners = zip(_CORNER_NAMES, finding.after, strict=True)
        parts.append("now " + ", ".join(f"{name} {value:g}" for name, value in corners))
    if finding.related:
        parts.append(f"see also {', '.join(finding.related)}")
    return " · ".join(parts)


class Teller:
    """Tells what findings say, and what a reader can find them by.

    Args:
        audit: The audit that they are of.
    """

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self.split_of = {
            annotation: split
            for split, members in audit.splits.members.items()
            for annotation in members
        }

    def tell(self, finding: Finding) -> FindingText:
        """Returns a finding in words."""
        annotation, label_map = finding.annotation, self._audit.label_map
        summary = self._audit.samples.get(annotation)
        counts = summary.class_counts if summary else ()
        names = [finding.image, summary.image if summary else None, *finding.related]
        return FindingText(
            finding.place,
            _describe_finding(finding),
            list(dict.fromkeys(name for name in names if name)),
            self.split_of.get(annotation, ""),
            sorted(label_map.id_of(count.name) for count in counts if count.objects),
            sum(count.objects for count in counts),
        )
