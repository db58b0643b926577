import numpy as np
import pytest

from detflow.metrics.coco import CocoEvaluation
from detflow.metrics.curves import class_curves, overall_curve


@pytest.fixture
def two_cats(scene):
    objects = [scene.truth("cat", scene.left), scene.truth("cat", scene.right)]
    found = [
        scene.found("cat", scene.left, 0.9),
        scene.found("dog", scene.left, 0.7),
        scene.found("cat", scene.left, 0.6),
        scene.found("cat", scene.right, 0.6),
    ]
    return CocoEvaluation([scene.image(objects, found)], scene.labels).matches()


def test_points_stand_where_a_threshold_can(scene, two_cats):
    cat = class_curves(two_cats, scene.labels)["cat"]
    assert cat.thresholds.tolist() == [0.9, 0.6]
    assert cat.precision == pytest.approx([1.0, 2 / 3])
    assert cat.recall == pytest.approx([0.5, 1.0])
    assert cat.f1 == pytest.approx([2 / 3, 0.8])
    assert (cat.best.threshold, cat.best.f1) == (0.6, pytest.approx(0.8))


def test_the_overall_curve_pools_the_classes(two_cats):
    overall = overall_curve(two_cats)
    assert overall.thresholds.tolist() == [0.9, 0.7, 0.6]
    assert overall.precision == pytest.approx([1.0, 0.5, 0.5])
    assert overall.recall == pytest.approx([0.5, 0.5, 1.0])
    # Equal F1 at .9 and .6: the higher threshold is the calmer one.
    assert overall.best.threshold == 0.9


def test_a_threshold_between_the_scores(scene, two_cats):
    cat = class_curves(two_cats, scene.labels)["cat"]
    point = cat.at(0.7)
    assert (point.precision, point.recall) == (1.0, 0.5)
    nothing = cat.at(0.95)
    assert (nothing.precision, nothing.recall, nothing.f1) == (None, 0.0, 0.0)


def test_a_class_without_objects_has_precision_only(scene, two_cats):
    dog = class_curves(two_cats, scene.labels)["dog"]
    assert dog.best is None
    assert (dog.at(0.5).precision, dog.at(0.5).recall, dog.at(0.5).f1) == (0.0, None, None)
    assert np.isnan(dog.recall).all()
    owl = class_curves(two_cats, scene.labels)["owl"]
    assert owl.best is None
    assert owl.at(0.5).precision is None


def test_what_is_ignored_is_on_no_side(scene):
    objects = [scene.truth("cat", scene.left), scene.truth("cat", scene.right, difficult=True)]
    found = [scene.found("cat", scene.left, 0.5), scene.found("cat", scene.right, 0.9)]
    matches = CocoEvaluation([scene.image(objects, found)], scene.labels).matches()
    point = overall_curve(matches).at(0.0)
    assert (point.precision, point.recall) == (1.0, 1.0)


@pytest.mark.parametrize("seed", range(6))
def test_every_point_is_what_counting_gives(scene, seed):
    matches = CocoEvaluation(scene.random_images(seed), scene.labels).matches()
    curve = overall_curve(matches)
    assert (np.diff(curve.thresholds) < 0).all()
    for threshold, right, wrong in zip(curve.thresholds, curve.right, curve.wrong, strict=True):
        kept = matches.scores >= threshold
        assert right == np.count_nonzero(kept & (matches.objects >= 0) & ~matches.ignored)
        assert wrong == np.count_nonzero(kept & (matches.objects < 0))
    assert curve.best.f1 == pytest.approx(max(curve.at(t).f1 for t in curve.thresholds))
