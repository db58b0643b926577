"""Average precision with weighted images is pycocotools' own, and that of copied images."""

import dataclasses

import numpy as np
import pytest

from detflow.metrics.coco import CocoEvaluation, coco_metrics
from detflow.metrics.ranking import Ranking, average_precisions


def precisions(evaluation, weights):
    return [average_precisions(ranking, weights)[0] for ranking in evaluation.rankings()]


@pytest.mark.parametrize("seed", range(8))
def test_images_that_count_once_give_the_numbers_of_pycocotools(scene, seed):
    images = scene.random_images(seed)
    evaluation = CocoEvaluation(images, scene.labels)
    metrics = evaluation.metrics()
    found = precisions(evaluation, np.ones((1, len(images)), np.int32))
    for name, values in zip(scene.labels, found, strict=True):
        assert values.mean() == pytest.approx(metrics[f"AP/{name}"], abs=1e-12)
        assert values[0] == pytest.approx(metrics[f"AP50/{name}"], abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_an_image_that_counts_many_times_is_as_good_as_its_copies(scene, seed):
    random = np.random.default_rng(seed)
    images = [
        # No two detections have the same score.
        dataclasses.replace(
            image,
            detections=[
                dataclasses.replace(one, score=float(random.random())) for one in image.detections
            ],
        )
        for image in scene.random_images(seed)
    ]
    weights = random.integers(0, 4, (1, len(images))).astype(np.int32)
    copies = [image for image, times in zip(images, weights[0], strict=True) for _ in range(times)]
    expected = coco_metrics(copies, scene.labels)
    found = precisions(CocoEvaluation(images, scene.labels), weights)
    for name, values in zip(scene.labels, found, strict=True):
        if expected[f"AP/{name}"] is None:
            assert np.isnan(values).all()
        else:
            assert values.mean() == pytest.approx(expected[f"AP/{name}"], abs=1e-12)


def test_a_draw_without_an_object_measures_nothing_and_one_without_a_hit_nought():
    nothing = np.zeros((10, 1), bool)
    ranking = Ranking(np.array([0]), nothing, nothing, np.array([1, 0]))
    found = average_precisions(ranking, np.array([[0, 2], [1, 1]], np.int32))
    assert np.isnan(found[0]).all()
    assert (found[1] == 0).all()
