import dataclasses
import json

import pytest

from detflow.evaluation.analysis import analyse, describe_analysis, print_analysis
from detflow.label_map import LabelMap
from detflow.metrics.coco import EvaluatedImage, coco_metrics
from detflow.metrics.errors import ErrorType
from detflow.types import Box, Detection, ImageSize, ObjectAnnotation

BOX, ELSEWHERE = Box(0.1, 0.1, 0.5, 0.5), Box(0.6, 0.6, 0.9, 0.9)


def test_the_threshold_is_the_best_f1s_unless_one_is_given(case):
    drawn = case(["cat", "dog"])
    analysis = drawn.analyse()
    assert (
        analysis.score_threshold
        == analysis.confusion.score_threshold
        == analysis.overall.best.threshold
    )
    f1 = analysis.overall.at(analysis.score_threshold).f1
    assert all(analysis.overall.at(score / 50).f1 <= f1 for score in range(50))
    assert (
        drawn.analyse(0.25).score_threshold == drawn.analyse(0.25).confusion.score_threshold == 0.25
    )


def test_the_metrics_of_training_stand_unchanged_among_them(case):
    analysis = case(["cat", "dog"]).analyse()
    expected = coco_metrics(analysis.images, analysis.label_map)
    assert {name: analysis.metrics[name] for name in expected} == expected
    assert set(analysis.metrics) - set(expected) == {"VOC07_mAP", "VOC10_mAP"}


def test_an_error_hurts_the_detected_class_and_the_one_that_was_to_be_found(case):
    labels = LabelMap(("cat", "dog"))
    objects = [ObjectAnnotation("cat", BOX), ObjectAnnotation("cat", ELSEWHERE)]
    images = [EvaluatedImage(ImageSize(50, 50), objects, [Detection("dog", 2, 0.9, BOX)])]
    analysis = analyse(images, labels, case.subject, 0.5)
    assert [(error.type, analysis.error_classes(error)) for error in analysis.errors] == [
        (ErrorType.CLASSIFICATION, (2, 1)),
        (ErrorType.MISSED, (1,)),
    ]
    counts = analysis.error_counts()
    assert (
        counts["dog"][ErrorType.CLASSIFICATION],
        counts["cat"][ErrorType.MISSED],
        sum(counts["cat"].values()),
    ) == (1, 1, 1)


def test_the_document_is_plain_and_has_null_for_what_cannot_be_measured(case):
    document = describe_analysis(case(["cat", "dog"], objects=0).analyse())
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["metrics"]["AP"] is None
    assert document["best_f1"] is None
    assert document["errors"]["missed"] == {"ap50_cost": None, "count": 0, "count_at_threshold": 0}
    assert document["num_images"] == 6
    assert document["num_objects"] == {"cat": 0, "dog": 0}


def test_the_document_says_what_was_judged(case):
    document = describe_analysis(case(["cat"]).analyse(0.2))
    assert {name: document[name] for name in ("model", "records", "split", "score_threshold")} == {
        "model": "runs/one",
        "records": "records/one",
        "split": "test",
        "score_threshold": 0.2,
    }
    assert document["at_threshold"]["threshold"] == 0.2
    counts = document["confusion_matrix"]["counts"]
    assert sum(counts[0]) == document["num_objects"]["cat"] == document["classes"]["cat"]["objects"]


@pytest.mark.parametrize("num_classes", [1, 80])
def test_the_table_stays_one_screen(case, capsys, num_classes):
    print_analysis(case([f"class {number}" for number in range(num_classes)], 20, 8).analyse())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert any("all" in line for line in lines)
    assert ("and 69 better classes" in "\n".join(lines)) == (num_classes == 80)
    assert "VOC10_mAP" in lines[-2]
    assert lines[-1].startswith("AP50 lost to: classification ")
    assert "range: where AP lies in 90 % of 60 draws of the images" in lines


def test_objects_that_do_not_count_are_counted_apart(case, capsys):
    one = case(["cat"])
    item = one.images[0].objects[0]
    one.images[0].objects[0] = dataclasses.replace(item, difficult=True)
    analysis = one.analyse()
    assert (analysis.num_objects, analysis.num_counted, analysis.num_difficult) == (24, 23, 1)
    print_analysis(analysis)
    out = " ".join(capsys.readouterr().out.split())
    assert "6 images, 23 objects (and 1 difficult, which no number counts)" in out
    assert "all │ 23 │" in out


def test_the_document_has_the_intervals_of_the_metrics(case):
    analysis = case(["cat", "dog"], 20).analyse()
    found = describe_analysis(analysis)["intervals"]
    assert (found["level"], found["draws"], found["min_images"]) == (0.9, 60, 5)
    assert set(found["of"]) == {
        *("AP", "AP50"),
        *(f"{metric}/{name}" for metric in ("AP", "AP50") for name in ("cat", "dog")),
    }
    for name, (low, high) in found["of"].items():
        assert low <= analysis.metrics[name] <= high
    assert [measure.intervals[""] for measure in analysis.measures[:2]] == [
        analysis.intervals["AP"],
        analysis.intervals["AP50"],
    ]


def test_the_table_of_nothing(case, capsys):
    print_analysis(case(["cat"], objects=0).analyse())
    out = capsys.readouterr().out
    assert "-1" not in out
    assert "n/a" in out
    assert "nan" not in out.replace("n/a", "")
