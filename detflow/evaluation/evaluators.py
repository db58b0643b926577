"""The metrics of an evaluation: what is measured, and how each number is shown to a person.

An evaluator yields measures. metrics.json, results.csv, the table on the terminal and the page show
whatever is yielded, so a new metric needs an evaluator here and nothing elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from detflow.label_map import LabelMap
from detflow.metrics.coco import CocoEvaluation, EvaluatedImage, Matches
from detflow.metrics.curves import Curve
from detflow.metrics.intervals import Interval
from detflow.metrics.voc import voc_metrics


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an evaluator may look at.

    Attributes:
        images: Truth and detections.
        label_map: The classes.
        coco: pycocotools' evaluation of the images.
        matches: Which detection found which object at IoU .5, as COCO matches.
        overall: Precision and recall over the score threshold, all classes pooled.
        curves: The same for each class by its name.
        intervals: How far AP and AP50 can be trusted, by the names of `coco_metrics`.
    """

    images: Sequence[EvaluatedImage]
    label_map: LabelMap
    coco: CocoEvaluation
    matches: Matches
    overall: Curve
    curves: Mapping[str, Curve]
    intervals: Mapping[str, Interval | None]


@dataclass(frozen=True, slots=True)
class Measure:
    """One number about a model; None stands for what could not be measured.

    Attributes:
        name: Its key in metrics.json, and its name on the terminal.
        title: Its name on the page.
        meaning: What it is, in a few words.
        value: Over all classes.
        by_class: For each class by its name; empty where there is no such number.
        class_name: The key of `by_class` in metrics.json and its column in results.csv.
        is_higher_better: False for an error or a time.
        is_in_class_table: Whether the page's table of classes has a column for it.
        intervals: How far the value over all classes can be trusted, under the key "", and those
            of classes under their names; empty where nobody has looked. None stands for too few
            images.
    """

    name: str
    title: str
    meaning: str
    value: float | None
    by_class: Mapping[str, float | None] = field(default_factory=dict)
    class_name: str = ""
    is_higher_better: bool = True
    is_in_class_table: bool = False
    intervals: Mapping[str, Interval | None] = field(default_factory=dict)


Evaluator: TypeAlias = Callable[[Evidence], Iterator[Measure]]

# Title and meaning of what pycocotools summarises; in the class table are those with True.
_COCO_TEXTS = {
    "AP": ("AP", "COCO, mean over IoU .5 to .95", True),
    "AP50": ("AP50", "at IoU .5", True),
    "AP75": ("AP75", "at IoU .75", True),
    "AP_small": ("AP small", "objects below 32² pixels", False),
    "AP_medium": ("AP medium", "32² to 96² pixels", False),
    "AP_large": ("AP large", "above 96² pixels", False),
    "AR1": ("AR1", "recall at 1 detection an image", False),
    "AR10": ("AR10", "recall at 10 detections an image", False),
    "AR100": ("AR100", "recall at 100 detections an image", False),
}


def evaluate_coco(evidence: Evidence) -> Iterator[Measure]:
    """Yields COCO's average precision and recall (https://cocodataset.org/#detection-eval)."""
    values, classes = evidence.coco.metrics(), evidence.coco.class_metrics()
    for name, (title, meaning, is_in_class_table) in _COCO_TEXTS.items():
        by_class = {of: metrics[name] for of, metrics in classes.items() if name in metrics}
        intervals = {
            of: evidence.intervals[key]
            for of, key in {"": name, **{of: f"{name}/{of}" for of in by_class}}.items()
            if key in evidence.intervals
        }
        yield Measure(
            name,
            title,
            meaning,
            values[name],
            by_class,
            name,
            is_in_class_table=is_in_class_table,
            intervals=intervals,
        )


def evaluate_voc(evidence: Evidence) -> Iterator[Measure]:
    """Yields VOC's mean average precision by both of its rules, at IoU .5."""
    mean, classes = voc_metrics(evidence.images, evidence.label_map)
    yield Measure(
        "VOC07_mAP",
        "VOC 2007",
        "mAP by 11 points",
        mean.eleven_point,
        {name: found.eleven_point for name, found in classes.items()},
        "VOC07_AP",
    )
    yield Measure(
        "VOC10_mAP",
        "VOC 2010",
        "mAP by area",
        mean.area,
        {name: found.area for name, found in classes.items()},
        "VOC10_AP",
        is_in_class_table=True,
    )


EVALUATORS: Sequence[Evaluator] = (evaluate_coco, evaluate_voc)
"""What every evaluation measures, in the order in which it is shown."""
