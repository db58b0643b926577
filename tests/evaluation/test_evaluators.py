"""A new metric is an evaluator: whatever shows an evaluation shows what the evaluator yields."""

import csv
import json

import pytest

from detflow.evaluation.analysis import analyse, describe_analysis, print_analysis
from detflow.evaluation.evaluators import EVALUATORS, Measure
from detflow.evaluation.files import write_evaluation
from detflow.metrics.coco import metric_names


def measure_misses(evidence):
    """Yields the share of the objects that no detection at any score finds."""
    found, class_ids = evidence.matches.found, evidence.matches.truth_class_ids
    yield Measure(
        "missed_share",
        "Never found",
        "share of the objects",
        float(1 - found.mean()),
        {
            name: float(1 - found[class_ids == class_id].mean())
            for class_id, name in enumerate(evidence.label_map, start=1)
        },
        "missed_share",
        is_higher_better=False,
        is_in_class_table=True,
    )


@pytest.fixture(scope="module")
def drawn(case):
    return case(["cat", "dog"], 4)


@pytest.fixture(scope="module")
def analysis(drawn):
    evaluators = [*EVALUATORS, measure_misses]
    return analyse(drawn.images, drawn.label_map, drawn.subject, evaluators=evaluators)


def test_a_new_metric_is_in_every_file_and_on_the_page(
    analysis, drawn, tmp_path, without_plots, parse_page
):
    write_evaluation(tmp_path, "page.html", analysis, drawn.samples(), {}, drawn.pictures)
    value = analysis.metrics["missed_share"]
    by_class = {name: metrics["missed_share"] for name, metrics in analysis.class_metrics.items()}
    document = json.loads((tmp_path / "metrics.json").read_text())
    assert document["metrics"]["missed_share"] == value
    assert {n: of["missed_share"] for n, of in document["classes"].items()} == by_class
    with open(tmp_path / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["class"]: float(row["missed_share"]) for row in rows} == by_class
    page = parse_page((tmp_path / "page.html").read_text())
    tile = "Never found", f"{value:.3f}", "share of the objects; lower is better"
    assert tile in [tuple(one.xpath("./*/text()")) for one in page.find("div[@class='tile']")]
    head, *rows, total = page.rows("section[@id='classes']")
    column = head.index("missed share")
    assert [row[column] for row in rows] == [f"{share:.3f}" for share in by_class.values()]
    assert total[column] == f"{value:.3f}"


def test_a_new_metric_is_on_the_terminal(analysis, capsys):
    print_analysis(analysis)
    assert f"missed_share {analysis.metrics['missed_share']:.3f}" in capsys.readouterr().out


def test_the_metrics_stand_in_their_order(case):
    document = describe_analysis(case(["cat", "dog"], 1).analyse())
    assert list(document["metrics"]) == [
        *metric_names(case(["cat", "dog"]).label_map),
        "VOC07_mAP",
        "VOC10_mAP",
    ]
    numbers = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR100"]
    columns = list(document["classes"]["cat"])[3:12]
    assert columns == [*numbers, "VOC07_AP", "VOC10_AP"]
