"""From truth and detections to every number of an evaluation."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from detflow.evaluation.evaluators import EVALUATORS, Evaluator, Evidence, Measure
from detflow.label_map import LabelMap
from detflow.metrics.coco import CocoEvaluation, EvaluatedImage, Matches
from detflow.metrics.confusion import ConfusionMatrix, confusion_matrix
from detflow.metrics.curves import Curve, class_curves, overall_curve
from detflow.metrics.errors import DetectionError, ErrorCost, ErrorType, error_costs, find_errors
from detflow.metrics.intervals import (
    LEVEL_TEXT,
    MAX_DRAWS,
    DrawnPrecision,
    Interval,
    describe_method,
    draw_precision,
    find_intervals,
)
from detflow.tables import EvaluationRow, format_interval, print_evaluation, print_line
from detflow.text import count_noun

# Used where no detection is right anywhere, so that no threshold is better than another.
_FALLBACK_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class Subject:
    """Which model was judged on which images.

    Attributes:
        model: The file or folder that the user named.
        source: What was run inside of it, say its best checkpoint.
        records: The folder of the records.
        split: The name of the split.
        fingerprint: The fingerprint of the records.
        warnings: Why the numbers look better or worse than the model is, as sentences.
    """

    model: str
    source: str
    records: str
    split: str
    fingerprint: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """How many images have a class, how many objects it has, and how many are difficult."""

    images: int
    objects: int
    difficult: int

    @property
    def counted(self) -> int:
        """How many of the objects are hits or misses."""
        return self.objects - self.difficult


@dataclass(frozen=True)
class Analysis:
    """Everything that was measured; None stands for what could not be.

    Attributes:
        subject: What was judged on what.
        label_map: The classes.
        images: Truth and detections.
        counts: Images and objects of each class by its name.
        measures: What the evaluators found.
        metrics: What `coco_metrics` returns, then the value of every other measure by its name.
        class_metrics: For each class, the values of the measures by their class names.
        matches: Which detection found which object at IoU .5.
        overall: Precision and recall over the score threshold, all classes pooled.
        curves: The same for each class by its name.
        score_threshold: The least score of a detection for `confusion`, `errors` and pictures.
        confusion: Which class was taken for which, at that threshold.
        errors: What was wrong, at that threshold.
        costs: What each kind of error costs, over all detections.
        drawn: Average precision over draws of the images.
        intervals: How far AP and AP50 can be trusted, by the names of `coco_metrics`; None stands
            for too few images.
    """

    subject: Subject
    label_map: LabelMap
    images: Sequence[EvaluatedImage]
    counts: Mapping[str, ClassCounts]
    measures: Sequence[Measure]
    metrics: Mapping[str, float | None]
    class_metrics: Mapping[str, Mapping[str, float | None]]
    matches: Matches
    overall: Curve
    curves: Mapping[str, Curve]
    score_threshold: float
    confusion: ConfusionMatrix
    errors: Sequence[DetectionError]
    costs: Mapping[ErrorType, ErrorCost]
    drawn: DrawnPrecision
    intervals: Mapping[str, Interval | None]

    @property
    def num_objects(self) -> int:
        """How many objects there are."""
        return sum(count.objects for count in self.counts.values())

    @property
    def num_counted(self) -> int:
        """How many of them count: those that are not difficult."""
        return self.num_objects - self.num_difficult

    @property
    def num_difficult(self) -> int:
        """How many objects are difficult, so that they are neither hits nor misses."""
        return sum(count.difficult for count in self.counts.values())

    def error_classes(self, error: DetectionError) -> tuple[int, ...]:
        """Returns the ids of the classes that an error hurts.

        These are the class that was detected, and the class of the object that was to be found.
        """
        classes = []
        if error.detection is not None:
            classes.append(int(self.matches.class_ids[error.detection]))
        if error.truth is not None and error.type in (ErrorType.MISSED, ErrorType.CLASSIFICATION):
            classes.append(int(self.matches.truth_class_ids[error.truth]))
        return tuple(classes)

    def error_counts(self) -> dict[str, Counter[ErrorType]]:
        """Returns how often each kind of error occurs at the threshold.

        An error counts for the class that was detected, or else for the one that was missed.
        """
        counts: dict[str, Counter[ErrorType]] = {name: Counter() for name in self.label_map}
        for error in self.errors:
            counts[self.label_map.name_of(self.error_classes(error)[0])][error.type] += 1
        return counts


def analyse(
    images: Sequence[EvaluatedImage],
    label_map: LabelMap,
    subject: Subject,
    score_threshold: float | None = None,
    evaluators: Sequence[Evaluator] = EVALUATORS,
    max_draws: int = MAX_DRAWS,
) -> Analysis:
    """Measures everything.

    Args:
        images: Truth and detections.
        label_map: The classes.
        subject: What is judged on what.
        score_threshold: Least score of a detection for confusion, errors and pictures; None takes
            the threshold with the best F1 over all classes.
        evaluators: What yields the metrics.
        max_draws: How often the images are drawn for the intervals.
    """
    coco = CocoEvaluation(images, label_map)
    matches = coco.matches()
    overall, curves = overall_curve(matches), class_curves(matches, label_map)
    if score_threshold is None:
        score_threshold = overall.best.threshold if overall.best else _FALLBACK_THRESHOLD
    drawn = draw_precision(coco.rankings(), max_draws)
    intervals = find_intervals(drawn, label_map)
    evidence = Evidence(images, label_map, coco, matches, overall, curves, intervals)
    measures = [measure for evaluator in evaluators for measure in evaluator(evidence)]
    return Analysis(
        subject=subject,
        label_map=label_map,
        images=images,
        counts=_count(images, label_map),
        measures=measures,
        metrics=coco.metrics() | {measure.name: measure.value for measure in measures},
        class_metrics={
            name: {
                measure.class_name: measure.by_class[name]
                for measure in measures
                if measure.by_class
            }
            for name in label_map
        },
        matches=matches,
        overall=overall,
        curves=curves,
        score_threshold=score_threshold,
        confusion=confusion_matrix(images, label_map, score_threshold),
        errors=find_errors(matches, images, score_threshold),
        costs=error_costs(matches, images, label_map),
        drawn=drawn,
        intervals=intervals,
    )


def describe_analysis(analysis: Analysis) -> dict[str, Any]:
    """Returns the content of metrics.json: plain values, null for what could not be measured."""
    at_threshold = Counter(error.type for error in analysis.errors)
    errors_of = analysis.error_counts()
    return {
        **asdict(analysis.subject),
        "warnings": list(analysis.subject.warnings),
        "num_images": len(analysis.images),
        "num_objects": {name: count.objects for name, count in analysis.counts.items()},
        "num_difficult": analysis.num_difficult,
        "metrics": dict(analysis.metrics),
        "intervals": {**describe_method(analysis.drawn), "of": _list_ends(analysis.intervals)},
        "classes": {
            name: {
                **asdict(analysis.counts[name]),
                **analysis.class_metrics[name],
                "at_threshold": asdict(curve.at(analysis.score_threshold)),
                "best_f1": asdict(curve.best) if curve.best else None,
                "errors_at_threshold": {kind.value: errors_of[name][kind] for kind in ErrorType},
            }
            for name, curve in analysis.curves.items()
        },
        "score_threshold": analysis.score_threshold,
        "at_threshold": asdict(analysis.overall.at(analysis.score_threshold)),
        "best_f1": asdict(analysis.overall.best) if analysis.overall.best else None,
        "errors": {
            kind.value: {
                "ap50_cost": cost.ap50,
                "count": cost.count,
                "count_at_threshold": at_threshold[kind],
            }
            for kind, cost in analysis.costs.items()
        },
        "confusion_matrix": {
            "iou": analysis.confusion.iou,
            "score_threshold": analysis.confusion.score_threshold,
            "rows": "true class; the last row has detections where there is no object",
            "columns": "detected class; the last column has objects that nothing was detected on",
            "counts": analysis.confusion.counts.tolist(),
        },
    }


def _list_ends(intervals: Mapping[str, Interval | None]) -> dict[str, list[float] | None]:
    return {
        name: None if interval is None else [interval.low, interval.high]
        for name, interval in intervals.items()
    }


def print_analysis(analysis: Analysis) -> None:
    """Prints one screen on the terminal."""
    rows = [
        _build_row(
            analysis,
            name,
            analysis.counts[name].counted,
            metrics,
            analysis.intervals[f"AP/{name}"],
            analysis.curves[name],
        )
        for name, metrics in analysis.class_metrics.items()
    ]
    total = _build_row(
        analysis,
        "all",
        analysis.num_counted,
        analysis.metrics,
        analysis.intervals["AP"],
        analysis.overall,
    )
    title = (
        f"{analysis.subject.split}: {count_noun(len(analysis.images), 'image')}, "
        f"{count_objects(analysis)}; precision, recall, F1 at score {analysis.score_threshold:.2f}"
    )
    draws = (
        f"range: where AP lies in {LEVEL_TEXT} of "
        f"{count_noun(analysis.drawn.num_draws, 'draw')} of the images"
    )
    in_table = ("AP", "AP50")
    rest = {
        measure.name: measure.value for measure in analysis.measures if measure.name not in in_table
    }
    costs = {kind.value: cost.ap50 for kind, cost in analysis.costs.items()}
    for warning in analysis.subject.warnings:
        print_line(f"Mind: {warning}")
    print_evaluation(title, rows, total, [(draws, {}), ("", rest), ("AP50 lost to:", costs)])


def count_objects(analysis: Analysis) -> str:
    """Returns how many objects count, and how many there are besides."""
    counted = count_noun(analysis.num_counted, "object")
    if not analysis.num_difficult:
        return counted
    return f"{counted} (and {analysis.num_difficult:,} difficult, which no number counts)"


def _build_row(
    analysis: Analysis,
    name: str,
    objects: int,
    metrics: Mapping[str, float | None],
    interval: Interval | None,
    curve: Curve,
) -> EvaluationRow:
    point = curve.at(analysis.score_threshold)
    return EvaluationRow(
        name,
        objects,
        metrics["AP"],
        format_interval(interval),
        metrics["AP50"],
        point.precision,
        point.recall,
        point.f1,
    )


def _count(images: Sequence[EvaluatedImage], label_map: LabelMap) -> dict[str, ClassCounts]:
    objects, difficult = Counter[str](), Counter[str]()
    with_class: defaultdict[str, int] = defaultdict(int)
    for image in images:
        objects.update(item.name for item in image.objects)
        difficult.update(item.name for item in image.objects if item.difficult)
        for name in {item.name for item in image.objects}:
            with_class[name] += 1
    return {
        name: ClassCounts(with_class[name], objects[name], difficult[name]) for name in label_map
    }
