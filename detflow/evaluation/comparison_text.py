"""A comparison of models as lines for a terminal, and as values for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from detflow.evaluation.analysis import Analysis, count_objects
from detflow.evaluation.comparison import (
    LETTERS,
    ImageOutcome,
    MetricDifference,
    ModelComparison,
    Pair,
    Verdict,
)
from detflow.evaluation.entrants import ExportFacts
from detflow.metrics.intervals import LEVEL_TEXT, describe_method
from detflow.tables import format_difference, format_interval, format_metric, print_line, print_rows
from detflow.text import count_noun

_MAX_CLASSES = 12

MEANING: Final = (
    f"{LEVEL_TEXT}: where the difference lies when the images are drawn again, the same ones for "
    f"both. {Verdict.UNCLEAR.value}: 0 lies inside, and these images cannot tell. Of ten such "
    "lines one says better or worse by chance."
)
"""What the words and numbers of a comparison mean."""


def describe_comparison(found: ModelComparison) -> dict[str, Any]:
    """Returns a comparison as what `json.dumps` takes; null for what could not be measured."""
    first = found.analyses[0]
    return {
        "records": found.records,
        "split": found.split,
        "fingerprint": found.fingerprint,
        "num_images": len(found.samples),
        "num_objects": first.num_counted,
        "intervals": dict(describe_method(first.drawn)),
        "models": [
            _describe_model(letter, analysis, export)
            for letter, analysis, export in zip(
                LETTERS, found.analyses, found.exports, strict=False
            )
        ],
        "pairs": [_describe_pair(found, pair) for pair in found.pairs],
    }


def _describe_model(letter: str, analysis: Analysis, export: ExportFacts | None) -> dict[str, Any]:
    return {
        "letter": letter,
        "model": analysis.subject.model,
        "source": analysis.subject.source,
        "metrics": dict(analysis.metrics),
        "intervals": {
            name: None if interval is None else [interval.low, interval.high]
            for name, interval in analysis.intervals.items()
        },
        "warnings": list(analysis.subject.warnings),
        "score_threshold": analysis.score_threshold,
        "errors_at_threshold": len(analysis.errors),
        "bytes": export.bytes if export else None,
        "p50_ms": export.p50_ms if export else None,
    }


def _describe_pair(found: ModelComparison, pair: Pair) -> dict[str, Any]:
    return {
        "first": LETTERS[0],
        "other": LETTERS[pair.place],
        "differences": {
            name: {
                "first": one.first,
                "other": one.other,
                "change": one.change,
                "interval": None if one.interval is None else [one.interval.low, one.interval.high],
                "verdict": one.verdict.value,
            }
            for name, one in pair.differences.items()
        },
        "images": {
            "won": _describe_images(found, pair.won),
            "lost": _describe_images(found, pair.lost),
            "even": len(found.samples) - len(pair.won) - len(pair.lost),
        },
    }


def _describe_images(
    found: ModelComparison, outcomes: Sequence[ImageOutcome]
) -> list[dict[str, Any]]:
    return [
        {
            "source_id": found.samples[one.index].source_id,
            "filename": found.samples[one.index].filename,
            "errors": [one.first, one.other],
        }
        for one in outcomes
    ]


def print_comparison(found: ModelComparison) -> None:
    """Prints the comparison on the terminal."""
    first = found.analyses[0]
    print_line(
        f"{found.split} of {found.records}: {count_noun(len(found.samples), 'image')}, "
        f"{count_objects(first)}"
    )
    for letter, analysis, export in zip(LETTERS, found.analyses, found.exports, strict=False):
        print_line(f"{letter}  {analysis.subject.source}{_describe_export(export)}")
        for warning in analysis.subject.warnings:
            print_line(f"   Mind: {warning}")
    for pair in found.pairs:
        other = LETTERS[pair.place]
        rows, num_more = choose_rows(pair)
        print_line("")
        print_rows(
            ("metric", LETTERS[0], other, f"{LETTERS[0]} - {other}", LEVEL_TEXT, "A is"),
            [_build_row(one) for one in rows],
        )
        if num_more:
            print_line(f"and {count_noun(num_more, 'class', 'classes')} more that differ less")
        print_line(describe_outcomes(pair))
    print_line("")
    print_line(MEANING)


def _describe_export(export: ExportFacts | None) -> str:
    if export is None:
        return ""
    return f", {export.bytes / 1e6:.1f} MB, {export.p50_ms:.1f} ms an image here"


def choose_rows(pair: Pair) -> tuple[list[MetricDifference], int]:
    """Returns AP, AP50 and the AP of the classes that differ most, and how many are left out."""
    classes = [one for name, one in pair.differences.items() if name.startswith("AP/")]
    chosen = sorted(classes, key=lambda one: -abs(one.change or 0.0))[:_MAX_CLASSES]
    if len(classes) <= _MAX_CLASSES:
        chosen = classes
    total = [pair.differences[name] for name in ("AP", "AP50")]
    # Where there is one class, its AP is that of the whole.
    return ([*total, *chosen] if len(classes) > 1 else total), len(classes) - len(chosen)


def _build_row(one: MetricDifference) -> tuple[str, ...]:
    return (
        one.name,
        format_metric(one.first),
        format_metric(one.other),
        format_difference(one.change),
        format_interval(one.interval, signed=True),
        one.verdict.value,
    )


def describe_outcomes(pair: Pair) -> str:
    """Returns how many images the first model won and lost, as a sentence."""
    won, lost = len(pair.won), len(pair.lost)
    even = len(pair.outcomes) - won - lost
    return (
        f"{LETTERS[0]} makes fewer errors than {LETTERS[pair.place]} on "
        f"{count_noun(won, 'image')}, more on {lost:,}, as many on {even:,}; "
        "each at the threshold of its best F1"
    )
