import contextlib
import csv
import io
import json
from dataclasses import replace

import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detflow.evaluation.files import write_evaluation
from detflow.evaluation.plots import PLOTS


def write(drawn, folder):
    folder.mkdir(exist_ok=True)
    analysis = drawn.analyse()
    write_evaluation(folder, "evaluation.html", analysis, drawn.samples(), {}, drawn.pictures)
    return analysis


@pytest.fixture(scope="module")
def written(case, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    return folder, write(case(["cat", "dog", "owl"]), folder)


def test_what_is_written(written):
    folder, _ = written
    files = {
        "metrics.json",
        "results.csv",
        "curves.csv",
        "predictions.json",
        "ground_truth.json",
        "evaluation.html",
    }
    assert {path.name for path in folder.iterdir()} == files | {f"{name}.png" for name in PLOTS}
    for name in PLOTS:
        Image.open(folder / f"{name}.png").verify()


def test_a_number_that_json_has_no_word_for_is_not_written(case, tmp_path, without_plots):
    drawn = case(["cat"])
    analysis = replace(drawn.analyse(), score_threshold=float("nan"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_evaluation(tmp_path, "a.html", analysis, drawn.samples(), {}, drawn.pictures)
    assert list(tmp_path.iterdir()) == []


def test_others_who_judge_the_files_get_the_same_numbers(written):
    folder, analysis = written
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "ground_truth.json"))
        evaluation = COCOeval(truth, truth.loadRes(str(folder / "predictions.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
    assert [metrics["AP"], metrics["AP50"], metrics["AP75"]] == pytest.approx(
        evaluation.stats[:3].tolist(), abs=1e-6
    )
    assert metrics == analysis.metrics
    assert {image["id"] for image in truth.dataset["images"]} == {100, 101, 102, 103, 104, 105}


def judge_with_pycocotools(folder):
    """Returns AP, AP50, AP75, AP of small, medium and large objects, and AR at 1, 10 and 100."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "ground_truth.json"))
        evaluation = COCOeval(truth, truth.loadRes(str(folder / "predictions.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:9].tolist()


@pytest.mark.parametrize("seed", range(4))
def test_difficult_objects_and_equal_scores_change_nothing_for_others(
    case, tmp_path, without_plots, seed
):
    drawn = case(["cat", "dog", "owl"], num_images=12, objects=6, seed=seed)
    # Two scores for all detections: which of the equal ones come first decides.
    drawn.images = [
        replace(
            image,
            objects=[
                replace(item, difficult=place % 3 == 0) for place, item in enumerate(image.objects)
            ],
            detections=[replace(one, score=round(one.score)) for one in image.detections],
        )
        for image in drawn.images
    ]
    analysis = write(drawn, tmp_path / "out")
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100")
    ours = [-1.0 if (value := analysis.metrics[name]) is None else value for name in names]
    assert judge_with_pycocotools(tmp_path / "out") == pytest.approx(ours, abs=1e-9)
    # The flag matters here: plain objects would be counted otherwise.
    truth = json.loads((tmp_path / "out" / "ground_truth.json").read_text())
    for item in truth["annotations"]:
        item["area"] = item["bbox"][2] * item["bbox"][3]
    (tmp_path / "out" / "ground_truth.json").write_text(json.dumps(truth))
    assert judge_with_pycocotools(tmp_path / "out")[0] != pytest.approx(ours[0], abs=1e-9)


def test_the_table_has_a_row_a_class_and_empty_cells(case, tmp_path, without_plots):
    drawn = case(["cat", "dog"])
    drawn.images = [
        type(one)(one.size, [o for o in one.objects if o.name == "cat"], one.detections)
        for one in drawn.images
    ]
    analysis = write(drawn, tmp_path / "out")
    with open(tmp_path / "out" / "results.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], row["id"]) for row in rows] == [("cat", "1"), ("dog", "2")]
    assert float(rows[0]["AP50"]) == analysis.class_metrics["cat"]["AP50"]
    assert float(rows[0]["best_f1"]) == analysis.curves["cat"].best.f1
    assert (rows[1]["AP"], rows[1]["recall"], rows[1]["best_threshold"], rows[1]["objects"]) == (
        "",
        "",
        "",
        "0",
    )
    assert int(rows[0]["errors_missed"]) == sum(
        error.type.value == "missed" for error in analysis.errors
    )


def test_curves_can_be_drawn_again(written):
    folder, analysis = written
    with open(folder / "curves.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 101
    assert [row["class"] for row in rows[::101]] == ["", "cat", "dog", "owl"]
    for row in rows[::9]:
        curve = analysis.curves[row["class"]] if row["class"] else analysis.overall
        point = curve.at(float(row["threshold"]))
        assert row["precision"] == ("" if point.precision is None else repr(point.precision))


def test_names_that_hurt_are_written_whole(case, hostile_names, tmp_path, without_plots):
    write(case([*hostile_names, "lone \udcff"]), tmp_path / "out")
    with open(tmp_path / "out" / "results.csv", newline="", encoding="utf-8") as file:
        assert [row["class"] for row in csv.DictReader(file)] == [*hostile_names, "lone \\udcff"]
    assert set(json.loads((tmp_path / "out" / "metrics.json").read_text())["classes"]) == {
        *hostile_names,
        "lone \udcff",
    }


@pytest.mark.parametrize(("num_images", "objects"), [(1, 1), (2, 0)])
def test_little_is_enough(case, tmp_path, num_images, objects, without_plots):
    drawn = case(["cat"], num_images, objects)
    write(drawn, tmp_path / "out")
    document = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert document["num_images"] == num_images
    predictions = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(predictions) == sum(len(image.detections) for image in drawn.images)


def test_ids_with_gaps_change_no_number(case, tmp_path, without_plots, parse_page):
    write(case(["cat", "dog"], 4), tmp_path / "dense")
    write(case(["cat", "dog"], 4, ids=[3, 90]), tmp_path / "gaps")
    dense, gaps = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("dense", "gaps")
    )
    assert gaps == dense
    for name in ("results.csv", "curves.csv"):
        with open(tmp_path / "gaps" / name, newline="", encoding="utf-8") as file:
            ids = {row["class"]: row["id"] for row in csv.DictReader(file)}
        assert {class_name: ids[class_name] for class_name in ("cat", "dog")} == {
            "cat": "3",
            "dog": "90",
        }
    truth = json.loads((tmp_path / "gaps" / "ground_truth.json").read_text())
    assert truth["categories"] == [{"id": 3, "name": "cat"}, {"id": 90, "name": "dog"}]
    assert {item["category_id"] for item in truth["annotations"]} == {3, 90}
    page = parse_page((tmp_path / "gaps" / "evaluation.html").read_text(encoding="utf-8"))
    choices = page.find("select[@data-choice='class']/option")
    assert [choice.get("value") for choice in choices] == ["", "3", "90"]
