"""Truth and detections → every number that an evaluation tells."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from detflow.label_map import LabelMap
from detflow.metrics.coco import CocoEvaluation, EvaluatedImage, Matches
from detflow.metrics.confusion import ConfusionMatrix, confusion_matrix
from detflow.metrics.curves import Curve, class_curves, overall_curve
from detflow.metrics.errors import DetectionError, ErrorCost, ErrorType, error_costs, find_errors
from detflow.metrics.voc import voc_metrics
from detflow.tables import EvaluationRow, print_evaluation

__all__ = ["Analysis", "ClassCounts", "Subject", "analyse", "describe_analysis", "print_analysis"]

# Where no detection is right anywhere, no threshold is better than another.
_FALLBACK_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class Subject:
    """What was judged on what.

    Attributes:
        model: The file or folder that was named.
        source: What inside of it was run, say its best checkpoint.
        records: The records' folder.
        split: The split's name.
        fingerprint: Of the records.
    """

    model: str
    source: str
    records: str
    split: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """How many images have the class, how many objects there are, and how many of those are difficult."""

    images: int
    objects: int
    difficult: int


@dataclass(frozen=True)
class Analysis:
    """Everything that was measured; what could not be is None.

    Attributes:
        subject: What was judged.
        label_map: The classes.
        images: Truth and detections.
        counts: Of each class by its name.
        metrics: As from `coco_metrics`, and VOC07_mAP, VOC10_mAP.
        class_metrics: Of each class by its name: COCO's, and VOC07_AP, VOC10_AP.
        matches: At IoU .5.
        overall: The curve of all classes pooled.
        curves: Of each class by its name.
        score_threshold: For all that depends on one.
        confusion: At that threshold.
        errors: At that threshold.
        costs: Of each kind of error, over all detections.
    """

    subject: Subject
    label_map: LabelMap
    images: Sequence[EvaluatedImage]
    counts: Mapping[str, ClassCounts]
    metrics: Mapping[str, float | None]
    class_metrics: Mapping[str, Mapping[str, float | None]]
    matches: Matches
    overall: Curve
    curves: Mapping[str, Curve]
    score_threshold: float
    confusion: ConfusionMatrix
    errors: Sequence[DetectionError]
    costs: Mapping[ErrorType, ErrorCost]

    def error_classes(self, error: DetectionError) -> tuple[int, ...]:
        """Returns the ids of the classes that an error hurts: the detected one, and that of the object that it was to find."""
        classes = []
        if error.detection is not None:
            classes.append(int(self.matches.class_ids[error.detection]))
        if error.truth is not None and error.type in (ErrorType.MISSED, ErrorType.CLASSIFICATION):
            classes.append(int(self.matches.truth_class_ids[error.truth]))
        return tuple(classes)

    def error_counts(self) -> dict[str, Counter[ErrorType]]:
        """Returns how often each kind of error occurs at the threshold, by the name of the detected or missed class."""
        counts: dict[str, Counter[ErrorType]] = {name: Counter() for name in self.label_map}
        for error in self.errors:
            counts[self.label_map.name_of(self.error_classes(error)[0])][error.type] += 1
        return counts


def analyse(
    images: Sequence[EvaluatedImage],
    label_map: LabelMap,
    subject: Subject,
    score_threshold: float | None = None,
) -> Analysis:
    """Measures everything.

    Args:
        images: Truth and detections.
        label_map: The classes.
        subject: What is judged.
        score_threshold: For confusion, errors and pictures; None takes the one with the best F1
            over all classes.
    """
    coco = CocoEvaluation(images, label_map)
    voc, voc_classes = voc_metrics(images, label_map)
    matches = coco.matches()
    overall = overall_curve(matches)
    if score_threshold is None:
        score_threshold = overall.best.threshold if overall.best else _FALLBACK_THRESHOLD
    class_metrics = {
        name: values
        | {"VOC07_AP": voc_classes[name].eleven_point, "VOC10_AP": voc_classes[name].area}
        for name, values in coco.class_metrics().items()
    }
    return Analysis(
        subject=subject,
        label_map=label_map,
        images=images,
        counts=_count(images, label_map),
        metrics=coco.metrics() | {"VOC07_mAP": voc.eleven_point, "VOC10_mAP": voc.area},
        class_metrics=class_metrics,
        matches=matches,
        overall=overall,
        curves=class_curves(matches, label_map),
        score_threshold=score_threshold,
        confusion=confusion_matrix(images, label_map, score_threshold),
        errors=find_errors(matches, images, score_threshold),
        costs=error_costs(matches, images, label_map),
    )


def describe_analysis(analysis: Analysis) -> dict[str, Any]:
    """Returns what metrics.json has: plain values, null for what could not be measured."""
    at_threshold = Counter(error.type for error in analysis.errors)
    errors_of = analysis.error_counts()
    return {
        **asdict(analysis.subject),
        "num_images": len(analysis.images),
        "num_objects": {name: count.objects for name, count in analysis.counts.items()},
        "metrics": dict(analysis.metrics),
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


def print_analysis(analysis: Analysis) -> None:
    """Prints one screen on the terminal."""
    rows = [
        EvaluationRow(
            name,
            analysis.counts[name].objects,
            metrics["AP"],
            metrics["AP50"],
            point.precision,
            point.recall,
            point.f1,
        )
        for name, metrics in analysis.class_metrics.items()
        for point in [analysis.curves[name].at(analysis.score_threshold)]
    ]
    point, metrics = analysis.overall.at(analysis.score_threshold), analysis.metrics
    objects = sum(count.objects for count in analysis.counts.values())
    total = EvaluationRow(
        "all", objects, metrics["AP"], metrics["AP50"], point.precision, point.recall, point.f1
    )
    title = f"{analysis.subject.split}: {len(analysis.images):,} images; precision, recall, F1 at score {analysis.score_threshold:.2f}"
    rest = {
        name: value
        for name, value in metrics.items()
        if "/" not in name and name not in ("AP", "AP50")
    }
    costs = {kind.value: cost.ap50 for kind, cost in analysis.costs.items()}
    print_evaluation(title, rows, total, [("", rest), ("AP50 lost to:", costs)])


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
