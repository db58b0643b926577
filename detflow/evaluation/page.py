"""evaluation.html: how good a model is, and why it is no better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from detflow.data.records.places import SamplePlace
from detflow.evaluation.analysis import Analysis
from detflow.evaluation.cards import (
    MAX_PICTURE_KB,
    MAX_PICTURES,
    build_cards,
    list_splits,
)
from detflow.evaluation.evaluators import Measure
from detflow.evaluation.judged import MAX_CLASSES, Steps
from detflow.evaluation.plots import MAX_BARS
from detflow.metrics.curves import Curve
from detflow.metrics.errors import ErrorType
from detflow.metrics.intervals import LEVEL_TEXT
from detflow.pages.charts import Chart, build_stack
from detflow.pages.render import Section, render_page
from detflow.tables import format_interval, format_metric
from detflow.types import Sample

_MAX_CLASS_ROWS = 200
_MAX_CONFUSIONS = 12
# A matrix with more rows cannot be read at half a page's width.
_MAX_NARROW_CLASSES = 14
# A kind of error that costs less is no story.
_LEAST_COST = 0.0005


def render_evaluation(
    analysis: Analysis,
    samples: Sequence[Sample],
    places: Mapping[int, SamplePlace],
    plots: Mapping[str, tuple[bytes, bytes]],
    pictures: Mapping[int, bytes],
) -> str:
    """Returns the page.

    Args:
        analysis: What was measured.
        samples: The samples of the analysis' images.
        places: Where they come from, by their ids, as far as that is known.
        plots: PNG files for a bright and a dark screen, by the names of `plots.PLOTS`.
        pictures: JPEG files of at least those that `choose_images` chooses, by the index of the
            image.
    """
    steps, splits = Steps(analysis), list(list_splits(analysis, samples, places))
    sections = {
        "numbers": Section("Numbers"),
        "classes": Section("Classes"),
        "curves": Section("Curves"),
        "confusion": Section("Confusion"),
        "errors": Section("Errors", len(analysis.errors)),
        "images": Section("Images"),
    }
    return render_page(
        "evaluation.html.j2",
        name=f"{PurePath(analysis.subject.model).name} on {analysis.subject.split}",
        sections=sections,
        subject=analysis.subject,
        level=LEVEL_TEXT,
        story=_tell_story(analysis),
        score_threshold=f"{analysis.score_threshold:.2f}",
        tiles=_build_tiles(analysis),
        classes=_build_class_table(analysis),
        plots=plots,
        confusion=_build_confusion(analysis),
        errors=_build_error_rows(analysis),
        judged=steps.describe_counts(splits),
        choices=_build_choices(analysis, splits),
        cards=build_cards(analysis, steps, samples, places, pictures),
        max_pictures=MAX_PICTURES,
        max_picture_kb=MAX_PICTURE_KB,
    )


@dataclass(frozen=True, slots=True)
class _Story:
    """The numbers of the sentences that tell the whole story.

    Attributes:
        ap: COCO's AP, as text.
        range: How far it can be trusted, as text; empty where too few images can tell.
        ap50: AP at IoU .5, as text.
        images: How many images there are.
        objects: How many objects count.
        difficult: How many do not.
        classes: How many classes there are.
        found: Share of the objects that are found from the threshold on; None without objects.
        right: Share of the detections that are right; None without detections.
        costliest: The kind of error that costs the most; None where none costs much.
        cost: What it costs, as text.
    """

    ap: str
    range: str
    ap50: str
    images: int
    objects: int
    difficult: int
    classes: int
    found: float | None
    right: float | None
    costliest: str | None
    cost: str


def _tell_story(analysis: Analysis) -> _Story:
    point = analysis.overall.at(analysis.score_threshold)
    costs = {
        kind: cost.ap50
        for kind, cost in analysis.costs.items()
        if cost.ap50 is not None and cost.ap50 >= _LEAST_COST
    }
    costliest = max(costs, key=lambda kind: costs[kind], default=None)
    return _Story(
        format_metric(analysis.metrics["AP"]),
        format_interval(interval) if (interval := analysis.intervals["AP"]) else "",
        format_metric(analysis.metrics["AP50"]),
        len(analysis.images),
        analysis.num_counted,
        analysis.num_difficult,
        len(analysis.label_map),
        point.recall,
        point.precision,
        costliest.value if costliest else None,
        format_metric(costs[costliest] if costliest else None),
    )


@dataclass(frozen=True, slots=True)
class _Tile:
    title: str
    value: str
    meaning: str


def _build_tiles(analysis: Analysis) -> list[_Tile]:
    tiles = [
        _Tile(measure.title, format_metric(measure.value), _explain(measure))
        for measure in analysis.measures
    ]
    best = analysis.overall.best
    meaning = f"at a score of {best.threshold:.2f}" if best else "no object is found"
    return [*tiles, _Tile("Best F1", format_metric(best.f1 if best else None), meaning)]


def _explain(measure: Measure) -> str:
    meaning = measure.meaning
    if interval := measure.intervals.get(""):
        meaning += f"; {format_interval(interval)} at {LEVEL_TEXT}"
    return meaning if measure.is_higher_better else f"{meaning}; lower is better"


# --- Classes --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _ClassRow:
    """A class: `numbers` has a text for each column of numbers."""

    name: str
    class_id: int
    objects: int
    numbers: Sequence[str]
    chart: Chart


@dataclass(frozen=True, slots=True)
class _ClassTable:
    """The classes, or the worst of them; `total` has the numbers of all classes."""

    columns: Sequence[str]
    rows: Sequence[_ClassRow]
    num_classes: int
    objects: int
    total: Sequence[str]
    num_bars: int


def _build_class_table(analysis: Analysis) -> _ClassTable:
    measures = [measure for measure in analysis.measures if measure.is_in_class_table]
    names = list(analysis.label_map)
    if len(names) > _MAX_CLASS_ROWS:
        names = _sort_by_ap(analysis, names)[:_MAX_CLASS_ROWS]
    measured = sum(metrics["AP"] is not None for metrics in analysis.class_metrics.values())
    columns = []
    for measure in measures:
        columns.append(measure.class_name.replace("_", " "))
        if _has_range(measure):
            columns.append("range")
    return _ClassTable(
        [*columns, "precision", "recall", "F1", "best score"],
        [_build_class_row(analysis, name, measures) for name in names],
        len(analysis.label_map),
        analysis.num_counted,
        _format_numbers(measures, "", analysis.overall, analysis.score_threshold),
        min(measured, MAX_BARS),
    )


def _build_class_row(analysis: Analysis, name: str, measures: Sequence[Measure]) -> _ClassRow:
    metrics = analysis.class_metrics[name]
    ap, ap50 = metrics["AP"], metrics["AP50"]
    strong = round(1000 * (ap or 0.0))
    soft = round(1000 * max(0.0, (ap50 or 0.0) - (ap or 0.0)))
    label = f"AP {format_metric(ap)}, AP50 {format_metric(ap50)}"
    chart = build_stack([(strong, "accent"), (soft, "accent-soft")], label, 1000)
    return _ClassRow(
        name,
        analysis.label_map.id_of(name),
        analysis.counts[name].counted,
        _format_numbers(measures, name, analysis.curves[name], analysis.score_threshold),
        chart,
    )


def _has_range(measure: Measure) -> bool:
    """Tells whether a column of ranges follows; more than AP's would make the table too wide."""
    return measure.name == "AP" and bool(measure.intervals)


def _format_numbers(
    measures: Sequence[Measure], name: str, curve: Curve, score_threshold: float
) -> list[str]:
    """Returns the cells of a class, or of all classes where there is no name."""
    shown = []
    for measure in measures:
        shown.append(format_metric(measure.by_class.get(name) if name else measure.value))
        if _has_range(measure):
            shown.append(format_interval(measure.intervals[name]))
    point, best = curve.at(score_threshold), curve.best
    shown += map(format_metric, (point.precision, point.recall, point.f1))
    return [*shown, f"{best.threshold:.2f}" if best else "n/a"]


def _sort_by_ap(analysis: Analysis, names: Sequence[str]) -> list[str]:
    """Returns names of classes from the lowest AP on; those that cannot be measured stand last."""

    def rank(name: str) -> tuple[bool, float]:
        ap = analysis.class_metrics[name]["AP"]
        return ap is None, ap or 0.0

    return sorted(names, key=rank)


# --- Confusion and errors -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _ConfusionRow:
    """How many objects of a class were taken for another: `share` is of the class's objects."""

    class_id: int
    true: str
    detected: str
    objects: int
    share: float


@dataclass(frozen=True, slots=True)
class _Confusion:
    """The most frequent confusions, of `num_pairs` pairs of classes."""

    rows: Sequence[_ConfusionRow]
    num_pairs: int
    missed: int
    invented: int
    iou: float
    is_wide: bool


def _build_confusion(analysis: Analysis) -> _Confusion:
    counts, names = analysis.confusion.counts, list(analysis.label_map)
    pairs = [
        (int(counts[row, column]), row, column)
        for row in range(len(names))
        for column in range(len(names))
        if row != column and counts[row, column]
    ]
    rows = [
        _ConfusionRow(
            analysis.label_map.id_of(names[row]),
            names[row],
            names[column],
            number,
            number / int(counts[row].sum()),
        )
        for number, row, column in sorted(pairs, key=lambda pair: -pair[0])[:_MAX_CONFUSIONS]
    ]
    return _Confusion(
        rows,
        len(pairs),
        int(counts[:, -1].sum()),
        int(counts[-1].sum()),
        analysis.confusion.iou,
        len(names) > _MAX_NARROW_CLASSES,
    )


@dataclass(frozen=True, slots=True)
class _ErrorRow:
    kind: str
    chart: Chart
    cost: str
    at_threshold: int
    count: int


def _build_error_rows(analysis: Analysis) -> list[_ErrorRow]:
    at_threshold = Counter(error.type for error in analysis.errors)
    costs = {kind: analysis.costs[kind].ap50 for kind in ErrorType}
    most = max((cost or 0.0 for cost in costs.values()), default=0.0)
    rows = []
    for kind in sorted(ErrorType, key=lambda kind: -(costs[kind] or 0.0)):
        share = max(0.0, costs[kind] or 0.0) / most if most > 0 else 0.0
        cost = format_metric(costs[kind])
        chart = build_stack([(round(1000 * share), "refused")], f"costs {cost}", 1000)
        rows.append(
            _ErrorRow(kind.value, chart, cost, at_threshold[kind], analysis.costs[kind].count)
        )
    return rows


# --- Images ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Choices:
    """What the images can be filtered by: (value, text) of each choice."""

    classes: Sequence[tuple[str, str]]
    splits: Sequence[tuple[str, str]]


def _build_choices(analysis: Analysis, splits: Sequence[str]) -> _Choices:
    label_map = analysis.label_map
    classes = [
        (str(class_id), label_map.name_of(class_id)) for class_id in label_map.ids[:MAX_CLASSES]
    ]
    return _Choices(classes, [(split, split) for split in sorted(set(splits))])
