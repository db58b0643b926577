import pytest

from detflow.metrics import EvaluatedImage, coco_metrics, metric_names
from detflow.types import Box, Detection, ImageSize, LabelMap, ObjectAnnotation

LABELS = LabelMap(("cat", "dog"))
SIZE = ImageSize(200, 100)
LEFT, RIGHT = Box(0.1, 0.1, 0.9, 0.4), Box(0.1, 0.6, 0.9, 0.9)


def truth(name, box, *, difficult=False):
    return ObjectAnnotation(name, box, difficult=difficult)


def found(name, box, score=0.9):
    return Detection(name, LABELS.id_of(name), score, box)


def image(objects, detections):
    return EvaluatedImage(SIZE, objects, detections)


def test_truth_as_prediction_scores_one():
    metrics = coco_metrics([image([truth("cat", LEFT), truth("dog", RIGHT)], [found("cat", LEFT), found("dog", RIGHT)])], LABELS)
    assert [metrics[name] for name in ("AP", "AP50", "AP75", "AR100")] == pytest.approx([1.0] * 4)
    assert metrics["AP/cat"] == pytest.approx(1.0)


def test_the_wrong_class_scores_nothing():
    metrics = coco_metrics([image([truth("cat", LEFT)], [found("dog", LEFT)])], LABELS)
    assert metrics["AP50/cat"] == 0.0


def test_what_cannot_be_measured_is_none_not_minus_one():
    metrics = coco_metrics([image([truth("cat", LEFT)], [])], LABELS)
    assert metrics["AP/cat"] == 0.0
    assert metrics["AP/dog"] is None
    assert metrics["AP_small"] is None
    assert set(coco_metrics([], LABELS).values()) == {None}


def test_a_difficult_object_is_neither_hit_nor_miss():
    objects = [truth("cat", LEFT), truth("cat", RIGHT, difficult=True)]
    missed = coco_metrics([image(objects, [found("cat", LEFT)])], LABELS)
    matched = coco_metrics([image(objects, [found("cat", RIGHT, 0.95), found("cat", LEFT)])], LABELS)
    assert missed["AP"] == matched["AP"] == pytest.approx(1.0)
    # A second detection of a difficult object is a false positive: ignoring takes one match, unlike COCO's crowds.
    twice = coco_metrics([image(objects, [found("cat", RIGHT, 0.95), found("cat", RIGHT, 0.94), found("cat", LEFT)])], LABELS)
    assert twice["AP"] == pytest.approx(0.5)


def test_a_false_positive_above_the_hit_halves_the_precision():
    metrics = coco_metrics([image([truth("cat", LEFT)], [found("cat", RIGHT, 0.95), found("cat", LEFT)])], LABELS)
    assert metrics["AP50/cat"] == pytest.approx(0.5)


def test_names_are_those_of_the_metrics():
    assert metric_names(LABELS) == list(coco_metrics([image([truth("cat", LEFT)], [found("cat", LEFT)])], LABELS))
    assert metric_names(LABELS)[:3] == ["AP", "AP50", "AP75"]
