"""The questions that the evidence leaves open, as a table for a person to fill in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from detflow.data.findings import Finding
from detflow.data.judging.audit import Audit
from detflow.data.judging.deciding import NOTHING_TELLS
from detflow.data.judging.decisions import (
    ANSWERS,
    OPEN_CODES,
    Topic,
    format_table,
    read_quoted,
)
from detflow.data.rules import RULES
from detflow.text import count_noun

QUESTIONS_NAME = "questions.csv"
_MAX_CANDIDATES = 50


def count_questions(audit: Audit) -> dict[str, int]:
    """Returns how many questions there are about each topic, where there are any."""
    counts: Counter[str] = Counter()
    for code, topic in OPEN_CODES.items():
        counts[topic.value] += audit.counts.get(code, 0)
    counts[Topic.CORNERS.value] += sum(1 for _ in _ask_about_corners(audit))
    return {topic.value: counts[topic.value] for topic in Topic if counts[topic.value]}


def render_questions(audit: Audit) -> str:
    """Returns the table of all questions, sorted."""
    images = frozenset(audit.files.images)
    rows = [_ask(finding, images) for finding in audit.findings() if finding.code in OPEN_CODES]
    rows += _ask_about_corners(audit)
    order = [topic.value for topic in Topic]
    rows.sort(key=lambda row: (order.index(row["question"]), row["annotation"], row["about"]))
    return format_table(rows)


def _ask(finding: Finding, images: frozenset[str]) -> dict[str, str]:
    topic = OPEN_CODES[finding.code]
    details = ", ".join(
        part
        for part in (
            finding.value,
            f"expected {finding.expected}" if finding.expected else "",
            *(name for name in finding.related if name not in images),
        )
        if part
    )
    return {
        "question": topic.value,
        "about": read_quoted(finding.value) if topic is Topic.CLASS else "",
        "annotation": finding.annotation,
        "line": "" if finding.line is None else str(finding.line),
        "evidence": f"{RULES[finding.code].meaning}: {details}"
        if details
        else RULES[finding.code].meaning,
        "candidates": " | ".join(_list_candidates(topic, finding, images)),
        "answer": "",
    }


def _list_candidates(topic: Topic, finding: Finding, images: frozenset[str]) -> Iterator[str]:
    if topic is Topic.IMAGE:
        named = dict.fromkeys((*([finding.image] if finding.image else []), *finding.related))
        yield from [name for name in named if name in images][:_MAX_CANDIDATES]
    if topic is Topic.CLASS:
        yield f"class {read_quoted(finding.expected)}"
        yield f"class {read_quoted(finding.value)}"
    yield from ANSWERS[topic]


def _ask_about_corners(audit: Audit) -> Iterator[dict[str, str]]:
    """Yields a row for each tool of which nothing tells what its corners count."""
    for row in audit.decided["corners"]:
        if row["by"] == NOTHING_TELLS:
            yield {
                "question": Topic.CORNERS.value,
                "about": row["tool"],
                "annotation": "",
                "evidence": f"{count_noun(row['boxes'], 'box', 'boxes')}, {row['by']}; "
                f"taken as {row['frame']}",
                "candidates": " | ".join(ANSWERS[Topic.CORNERS]),
            }
