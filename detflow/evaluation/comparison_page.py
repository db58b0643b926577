"""The page of a comparison: which of two models is better, by how much, and on which images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from detflow.evaluation.analysis import Analysis
from detflow.evaluation.comparison import (
    LETTERS,
    ImageOutcome,
    MetricDifference,
    ModelComparison,
    Pair,
    Verdict,
)
from detflow.evaluation.comparison_text import MEANING, choose_rows, describe_outcomes
from detflow.evaluation.gallery import BadImage, describe_errors, draw_errors, worst_images
from detflow.metrics.intervals import LEVEL_TEXT
from detflow.pages.charts import Bar, Chart
from detflow.pages.render import Section, render_page
from detflow.tables import format_difference, format_interval, format_metric

_MAX_PICTURES = 6
_CHART_WIDTH, _CHART_HEIGHT = 1000.0, 10.0
_FILLS = {Verdict.BETTER: "used", Verdict.WORSE: "refused"}


def render_comparison(
    found: ModelComparison, read_pictures: Callable[[Collection[int]], Mapping[int, bytes]]
) -> str:
    """Returns the page.

    Args:
        found: The comparison.
        read_pictures: Returns the JPEG files of images by their places among the samples.
    """
    chosen = {one.index for pair in found.pairs for one in (*_cut(pair.won), *_cut(pair.lost))}
    pictures = read_pictures(frozenset(chosen))
    bad = [{image.index: image for image in worst_images(one)} for one in found.analyses]
    sections = {"models": Section("Models")}
    pairs = []
    for pair in found.pairs:
        anchor = f"pair-{pair.place}"
        sections[anchor] = Section(f"{LETTERS[0]} and {LETTERS[pair.place]}")
        pairs.append(_build_pair(found, pair, anchor, bad, pictures))
    first = found.analyses[0]
    return render_page(
        "comparison.html.j2",
        name=" or ".join(_short_name(one) for one in found.analyses),
        sections=sections,
        verdicts=[_tell_verdict(found, pair) for pair in found.pairs],
        num_images=len(found.samples),
        num_objects=first.num_counted,
        split=found.split,
        level=LEVEL_TEXT,
        models=_build_models(found),
        pairs=pairs,
        meaning=MEANING,
        records=found.records,
        fingerprint=found.fingerprint,
        draws=first.drawn.num_draws,
    )


def _cut(outcomes: Sequence[ImageOutcome]) -> Sequence[ImageOutcome]:
    return outcomes[:_MAX_PICTURES]


def _short_name(analysis: Analysis) -> str:
    return PurePath(analysis.subject.model).name


def _tell_verdict(found: ModelComparison, pair: Pair) -> str:
    """Returns what the whole comparison of two models says, as a sentence."""
    difference = pair.differences["AP"]
    other = LETTERS[pair.place]
    if difference.verdict is Verdict.TOO_FEW:
        return f"Too few images have objects to tell {LETTERS[0]} from {other}."
    between = f"{format_interval(difference.interval, signed=True)} of AP at {LEVEL_TEXT}"
    if difference.verdict is Verdict.SAME:
        return f"{LETTERS[0]} and {other} have the same AP in every draw of the images."
    if difference.verdict is Verdict.UNCLEAR:
        return f"These images cannot tell {LETTERS[0]} from {other} ({between})."
    return f"{LETTERS[0]} is {difference.verdict.value} than {other} ({between})."


@dataclass(frozen=True, slots=True)
class _Model:
    letter: str
    source: str
    warnings: Sequence[str]
    numbers: Sequence[str]


def _build_models(found: ModelComparison) -> list[_Model]:
    models = []
    for letter, analysis, export in zip(LETTERS, found.analyses, found.exports, strict=False):
        costs = (f"{export.bytes / 1e6:.1f}", f"{export.p50_ms:.1f}") if export else ("n/a", "n/a")
        models.append(
            _Model(
                letter,
                analysis.subject.source,
                analysis.subject.warnings,
                [
                    format_metric(analysis.metrics["AP"]),
                    format_interval(analysis.intervals["AP"]),
                    format_metric(analysis.metrics["AP50"]),
                    f"{len(analysis.errors):,}",
                    *costs,
                ],
            )
        )
    return models


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    numbers: Sequence[str]
    chart: Chart
    verdict: str


@dataclass(frozen=True, slots=True)
class _Duel:
    """One image twice: what each of two models does on it, in a picture and in words."""

    filename: str
    jpegs: Sequence[bytes]
    words: Sequence[str]


@dataclass(frozen=True, slots=True)
class _PairView:
    anchor: str
    letters: Sequence[str]
    rows: Sequence[_Row]
    num_more: int
    outcomes: str
    won: Sequence[_Duel]
    lost: Sequence[_Duel]
    num_won: int
    num_lost: int


def _build_pair(
    found: ModelComparison,
    pair: Pair,
    anchor: str,
    bad: Sequence[Mapping[int, BadImage]],
    pictures: Mapping[int, bytes],
) -> _PairView:
    rows, num_more = choose_rows(pair)
    reach = max(
        (abs(end) for one in rows if one.interval for end in (one.interval.low, one.interval.high)),
        default=0.0,
    )
    places = (0, pair.place)

    def build(outcome: ImageOutcome) -> _Duel:
        analyses = [found.analyses[place] for place in places]
        images = [bad[place].get(outcome.index, BadImage(outcome.index, 0, ())) for place in places]
        return _Duel(
            found.samples[outcome.index].filename,
            [
                draw_errors(analysis, image, pictures[outcome.index])
                for analysis, image in zip(analyses, images, strict=True)
            ],
            [
                describe_errors(analysis, image) or "all right"
                for analysis, image in zip(analyses, images, strict=True)
            ],
        )

    return _PairView(
        anchor,
        [LETTERS[place] for place in places],
        [_build_row(one, reach) for one in rows],
        num_more,
        describe_outcomes(pair),
        [build(one) for one in _cut(pair.won)],
        [build(one) for one in _cut(pair.lost)],
        len(pair.won),
        len(pair.lost),
    )


def _build_row(one: MetricDifference, reach: float) -> _Row:
    change = format_difference(one.change)
    interval = format_interval(one.interval, signed=True)
    numbers = [format_metric(one.first), format_metric(one.other), change, interval]
    return _Row(one.name, numbers, _build_chart(one, reach, interval), one.verdict.value)


def _build_chart(one: MetricDifference, reach: float, label: str) -> Chart:
    """Returns the interval as a bar on a line whose middle is 0."""
    middle = _CHART_WIDTH / 2
    bars = []
    if one.interval is not None and reach > 0:
        left = middle * (1 + one.interval.low / reach)
        width = max(4.0, middle * (one.interval.high - one.interval.low) / reach)
        fill = _FILLS.get(one.verdict, "noted")
        bars.append(Bar(min(left, _CHART_WIDTH - width), 0, width, _CHART_HEIGHT, fill))
    bars.append(Bar(middle - 3, 0, 6, _CHART_HEIGHT, "accent"))
    return Chart(
        int(_CHART_WIDTH), int(_CHART_HEIGHT), f"difference {label}", bars, is_stretched=True
    )
