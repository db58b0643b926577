import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detflow.label_map import LabelMap
from detflow.metrics.coco import (
    CocoEvaluation,
    EvaluatedImage,
    average_precision,
    coco_metrics,
    metric_names,
    overlaps,
)
from detflow.types import Box, ImageSize

SUMMARY = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100")


def test_truth_as_prediction_scores_one(scene):
    objects = [scene.truth("cat", scene.left), scene.truth("dog", scene.right)]
    found = [scene.found("cat", scene.left), scene.found("dog", scene.right)]
    metrics = coco_metrics([scene.image(objects, found)], scene.labels)
    assert [metrics[name] for name in ("AP", "AP50", "AP75", "AR100")] == pytest.approx([1.0] * 4)
    assert metrics["AP/cat"] == pytest.approx(1.0)


def test_the_wrong_class_scores_nothing(scene):
    metrics = coco_metrics(
        [scene.image([scene.truth("cat", scene.left)], [scene.found("dog", scene.left)])],
        scene.labels,
    )
    assert metrics["AP50/cat"] == 0.0


def test_what_cannot_be_measured_is_none_not_minus_one(scene):
    metrics = coco_metrics([scene.image([scene.truth("cat", scene.left)], [])], scene.labels)
    assert metrics["AP/cat"] == 0.0
    assert metrics["AP/dog"] is None
    assert metrics["AP_small"] is None
    assert set(coco_metrics([], scene.labels).values()) == {None}


def test_a_difficult_object_is_neither_hit_nor_miss(scene):
    objects = [scene.truth("cat", scene.left), scene.truth("cat", scene.right, difficult=True)]
    hit, on_difficult, again = (
        scene.found("cat", scene.left),
        *(scene.found("cat", scene.right, s) for s in (0.95, 0.94)),
    )
    missed = coco_metrics([scene.image(objects, [hit])], scene.labels)
    matched = coco_metrics([scene.image(objects, [on_difficult, hit])], scene.labels)
    assert missed["AP"] == matched["AP"] == pytest.approx(1.0)
    # A second detection of a difficult object is a false positive: ignoring takes one match, unlike
    # COCO's crowds.
    assert coco_metrics([scene.image(objects, [on_difficult, again, hit])], scene.labels)[
        "AP"
    ] == pytest.approx(0.5)


def test_a_false_positive_above_the_hit_halves_the_precision(scene):
    found = [scene.found("cat", scene.right, 0.95), scene.found("cat", scene.left)]
    metrics = coco_metrics([scene.image([scene.truth("cat", scene.left)], found)], scene.labels)
    assert metrics["AP50/cat"] == pytest.approx(0.5)


def test_names_are_those_of_the_metrics(scene):
    found = scene.image([scene.truth("cat", scene.left)], [scene.found("cat", scene.left)])
    assert metric_names(scene.labels) == list(coco_metrics([found], scene.labels))
    assert metric_names(scene.labels)[:3] == ["AP", "AP50", "AP75"]


def run_pycocotools(images, labels, folder):
    """What COCO's own files and pycocotools give, with difficult objects left out."""
    truth, results = (
        {
            "images": [],
            "annotations": [],
            "categories": [{"id": i} for i in range(1, len(labels) + 1)],
        },
        [],
    )
    for number, image in enumerate(images, start=1):
        truth["images"].append(
            {"id": number, "width": image.size.width, "height": image.size.height}
        )
        for item in image.objects:
            left, top, right, bottom = item.box.to_pixels(image.size)
            box = {
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
                "iscrowd": 0,
            }
            ids = {
                "id": len(truth["annotations"]) + 1,
                "image_id": number,
                "category_id": labels.id_of(item.name),
            }
            truth["annotations"].append(box | ids)
        for one in image.detections:
            left, top, right, bottom = one.box.to_pixels(image.size)
            box = [left, top, right - left, bottom - top]
            results.append(
                {"image_id": number, "category_id": one.class_id, "bbox": box, "score": one.score}
            )
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(folder / "results.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", range(8))
def test_numbers_agree_with_pycocotools_itself(scene, tmp_path, seed):
    images = [
        EvaluatedImage(
            image.size, [one for one in image.objects if not one.difficult], image.detections
        )
        for image in scene.random_images(seed)
    ]
    ours, reference = (
        CocoEvaluation(images, scene.labels),
        run_pycocotools(images, scene.labels, tmp_path),
    )
    metrics = ours.metrics()
    for name, value in zip(SUMMARY, reference.stats[:9], strict=True):
        assert metrics[name] == (None if value == -1 else pytest.approx(value, abs=1e-6)), name
    for index, (name, one) in enumerate(ours.class_metrics().items()):
        for key, chosen in {
            "AP": reference.eval["precision"][:, :, index, 0, 2],
            "AP50": reference.eval["precision"][0, :, index, 0, 2],
            "AP75": reference.eval["precision"][5, :, index, 0, 2],
            "AP_small": reference.eval["precision"][:, :, index, 1, 2],
            "AR100": reference.eval["recall"][:, index, 0, 2],
        }.items():
            assert one[key] == (
                None if (chosen == -1).all() else pytest.approx(chosen.mean(), abs=1e-6)
            ), (name, key)
        assert (one["AP"], one["AP50"]) == (metrics[f"AP/{name}"], metrics[f"AP50/{name}"])


@pytest.mark.parametrize("seed", range(3))
def test_a_second_program_comes_to_the_same_numbers(scene, tmp_path, seed):
    hotcoco = pytest.importorskip("hotcoco")
    images = [
        EvaluatedImage(
            image.size, [one for one in image.objects if not one.difficult], image.detections
        )
        for image in scene.random_images(seed)
    ]
    run_pycocotools(images, scene.labels, tmp_path)
    truth = hotcoco.COCO(str(tmp_path / "truth.json"))
    evaluation = hotcoco.COCOeval(truth, truth.load_res(str(tmp_path / "results.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    metrics = coco_metrics(images, scene.labels)
    ours = [-1 if metrics[name] is None else metrics[name] for name in SUMMARY]
    assert ours == pytest.approx(evaluation.stats[:9], abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_the_matches_give_the_ap50_that_they_come_from(scene, seed):
    images = scene.random_images(seed)
    evaluation = CocoEvaluation(images, scene.labels)
    matches, metrics = evaluation.matches(), evaluation.metrics()
    for class_id, name in enumerate(scene.labels, start=1):
        chosen = (matches.class_ids == class_id) & (matches.hits | matches.misses)
        value = average_precision(matches.hits[chosen], matches.num_truths(class_id))
        assert value == (
            None
            if metrics[f"AP50/{name}"] is None
            else pytest.approx(metrics[f"AP50/{name}"], abs=1e-9)
        )


@pytest.mark.parametrize("seed", range(4))
def test_matches_point_at_what_they_are_of(scene, seed):
    images = scene.random_images(seed)
    matches = CocoEvaluation(images, scene.labels).matches()
    assert len(matches.scores) == sum(len(image.detections) for image in images)
    assert len(matches.found) == sum(len(image.objects) for image in images)
    pairs = zip(
        matches.images,
        matches.places,
        matches.class_ids,
        matches.scores,
        matches.objects,
        matches.ignored,
        strict=True,
    )
    seen = set()
    for index, place, class_id, score, truth, ignored in pairs:
        detection = images[index].detections[place]
        assert (detection.class_id, detection.score) == (class_id, score)
        if truth >= 0:
            item = images[index].objects[truth]
            assert item.name == detection.name
            assert item.difficult == ignored
            assert overlaps([detection.box], [item.box], images[index].size)[0, 0] >= 0.5
            seen.add((index, truth))
    truths = zip(matches.truth_images, matches.truth_places, strict=True)
    assert {place for place, found in zip(truths, matches.found, strict=True) if found} == seen


def test_matches_of_nothing(scene):
    matches = CocoEvaluation([scene.image([], [])], scene.labels).matches()
    assert len(matches.scores) == len(matches.found) == 0
    assert matches.num_truths(1) == 0


def test_overlaps_are_those_of_boxes():
    boxes = [Box(0, 0, 0.5, 0.5), Box(0.25, 0.25, 0.75, 0.75)]
    expected = [[one.iou(other) for other in boxes] for one in boxes]
    assert overlaps(boxes, boxes, ImageSize(7, 300)) == pytest.approx(np.array(expected))
    assert overlaps([], boxes, ImageSize(1, 1)).shape == (0, 2)


def test_an_image_of_five_thousand_objects(scene):
    columns = np.linspace(0, 0.99, 100)
    boxes = [
        Box(y, x, y + 0.015, x + 0.009)
        for y in np.linspace(0, 0.98, 50).tolist()
        for x in columns.tolist()
    ]
    objects = [scene.truth("cat", box) for box in boxes]
    # pycocotools takes long for such an image, a time that grows with the detections too.
    metrics = coco_metrics(
        [scene.image(objects, [scene.found("cat", box) for box in boxes[::1700]])], scene.labels
    )
    assert metrics["AR100"] == pytest.approx(3 / 5000)


def test_a_class_named_like_a_path_keeps_its_name(scene):
    labels = LabelMap(("a/b", "AP"))
    assert {"AP/a/b", "AP50/AP"} <= set(metric_names(labels))
