"""What becomes of pairs and judgements where a person has decided what the evidence does not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from detflow.data.findings import Finding
from detflow.data.judging.batch import Judgement
from detflow.data.judging.classes import normalise_class
from detflow.data.judging.deciding import BY_DECISION
from detflow.data.judging.decisions import DROP, OPEN_CODES, Decision, Topic, read_quoted
from detflow.data.judging.rulings import Ruling
from detflow.data.judging.testimony import Habit
from detflow.data.sources.pairing import Pairs


def answer_images(
    pairs: Pairs,
    claims: Iterable[str],
    taken: Mapping[str, str],
    decisions: Mapping[str, Decision],
) -> tuple[Pairs, frozenset[str]]:
    """Returns pairs as a person has decided them, and the annotations that are left out.

    Args:
        pairs: What the evidence has decided.
        claims: The names of all annotations that claim an image, in the order of the pairs.
        taken: The annotation that has each image.
        decisions: The answers about images, by the annotation's name.

    Raises:
        DataError: The question is not open, or another annotation has the image.
    """
    if not decisions:
        return pairs, frozenset()
    asked = {
        finding.path for finding in pairs.findings if OPEN_CODES.get(finding.code) is Topic.IMAGE
    }
    findings: list[Finding] = []
    given: dict[str, str] = {}
    for name, decision in decisions.items():
        if name not in asked:
            raise decision.refuse("nothing is open about its image")
        if decision.answer == DROP:
            findings.append(note_decision(name, "", decision))
            continue
        if decision.answer in taken:
            raise decision.refuse(f"{taken[decision.answer]} has that image")
        given[name] = decision.answer
        findings.append(note_decision(name, decision.answer, decision))
    settled = frozenset(given.values())
    kept = [
        finding
        for finding in pairs.findings
        if not (finding.path in decisions and OPEN_CODES.get(finding.code) is Topic.IMAGE)
        and not (finding.code == "image_unlabelled" and finding.path in settled)
    ]
    images = {**pairs.images, **given}
    return (
        replace(
            pairs,
            images={name: images[name] for name in claims if name in images},
            findings=(*kept, *sorted(findings, key=lambda finding: finding.path)),
        ),
        frozenset(name for name in decisions if name not in given),
    )


def answer_classes(
    findings: Iterable[Finding], decisions: Mapping[str, Decision], renamed: Collection[str]
) -> Iterator[Finding]:
    """Yields findings without those about classes that are right as they are, as a person says.

    Args:
        findings: Findings about the classes of the whole set.
        decisions: The answers about classes, by the class.
        renamed: The classes that were renamed.

    Raises:
        DataError: A class is not asked about, or not there.
    """
    kept = {name: decision for name, decision in decisions.items() if decision.answer == name}
    for finding in findings:
        name = read_quoted(finding.value) if finding.code == "class_near_miss" else ""
        decision = kept.pop(name, None)
        yield finding if decision is None else note_decision(finding.path, "", decision)
    for decision in kept.values():
        raise decision.refuse("nothing is open about this class")
    for name, decision in decisions.items():
        if decision.answer == name:
            continue
        if normalise_class(name) not in renamed:
            raise decision.refuse("no usable annotation has this class")
        yield note_decision(".", "", decision)


def answer_judgement(
    decision: Decision, judgement: Judgement, ruling: Ruling, judge: Callable[[Ruling], Judgement]
) -> tuple[Judgement, Ruling]:
    """Returns a judgement as a person has decided it, and the ruling that gives it.

    Args:
        decision: The answer.
        judgement: The judgement without it.
        ruling: The ruling that has led to that.
        judge: Judges the annotation under another ruling.

    Raises:
        DataError: The question is not open, or the boxes cannot be scaled.
    """
    if not _asks(judgement, decision.topic):
        raise decision.refuse("nothing of the kind is open about it")
    name = judgement.annotation
    if decision.answer == DROP:
        note = note_decision(name, "", decision)
        return replace(judgement, line=None, class_counts=(), findings=(note,)), ruling
    if decision.topic is Topic.EXIF:
        habit = Habit(decision.answer)
        ruling = ruling._replace(habit=habit, is_habit_ordered=True)
    else:
        ruling = ruling._replace(scales=True)
    again = judge(ruling)
    if _asks(again, decision.topic):
        raise decision.refuse("nothing tells how to scale its boxes")
    note = note_decision(name, judgement.image, decision)
    return replace(again, findings=(*again.findings, note)), ruling


def find_dropped(decided: Mapping[str, Iterable[Decision]]) -> frozenset[str]:
    """Returns the annotations that a person leaves out."""
    return frozenset(
        name
        for name, decisions in decided.items()
        if any(decision.answer == DROP for decision in decisions)
    )


def require_asked(decisions: Mapping[str, Decision], corners: Iterable[Mapping[str, Any]]) -> None:
    """Refuses answers about the corners of tools that are not asked about.

    Args:
        decisions: The answers, by the tool.
        corners: What was decided about each tool, and by what; see `rulings.decide`.

    Raises:
        DataError: Something else tells what a tool's corners count, or the tool has written none.
    """
    answered = {row["tool"] for row in corners if row["by"] == BY_DECISION}
    for tool, decision in decisions.items():
        if tool not in answered:
            raise decision.refuse("nothing is open about the corners of this tool")


def _asks(judgement: Judgement, topic: Topic) -> bool:
    return any(OPEN_CODES.get(finding.code) is topic for finding in judgement.findings)


def note_decision(name: str, image: str, decision: Decision) -> Finding:
    """Returns the ledger's line for an answer about an annotation.

    Args:
        name: The annotation's name.
        image: Its image; empty where it has none.
        decision: The answer.
    """
    about = f" {decision.about!r}" if decision.topic is Topic.CLASS else ""
    value = f"{decision.topic.value}{about}: {decision.answer}"
    return Finding("decided", name, value=value, image=image or None)
