import numpy as np
import pytest

from detflow.label_map import LabelMap
from detflow.metrics import intervals
from detflow.metrics.coco import CocoEvaluation, EvaluatedImage
from detflow.metrics.intervals import (
    MIN_IMAGES,
    draw_precision,
    find_differences,
    find_intervals,
)
from detflow.metrics.ranking import Ranking


def rankings_of(images, labels):
    return CocoEvaluation(images, labels).rankings()


def drawn(images, labels, draws=60):
    return draw_precision(rankings_of(images, labels), draws)


def test_an_interval_holds_the_value_and_is_narrower_with_more_images(scene):
    few, many = scene.random_images(1, 12), scene.random_images(1, 12) * 16
    value = CocoEvaluation(few, scene.labels).metrics()["AP"]
    widths = []
    for images in (few, many):
        low, high = find_intervals(drawn(images, scene.labels), scene.labels)["AP"]
        assert low < value < high
        widths.append(high - low)
    # Sixteen times the images: a quarter of the width.
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.4)


def test_draws_are_the_same_whatever_is_computed_at_once(scene, monkeypatch):
    rankings = rankings_of(scene.random_images(2), scene.labels)
    whole = draw_precision(rankings, 60)
    monkeypatch.setattr(intervals, "_MAX_NUMBERS", 1)
    parts, fewer = draw_precision(rankings, 60), draw_precision(rankings, 31)
    np.testing.assert_array_equal(whole.ap, parts.ap)
    np.testing.assert_array_equal(whole.ap50[:, :32], fewer.ap50)
    assert (whole.num_draws, fewer.num_draws) == (60, 31)


def test_a_model_does_not_differ_from_itself_and_one_that_finds_less_is_worse(scene):
    objects = [scene.truth("cat", scene.left), scene.truth("dog", scene.right)]
    found = [scene.found("cat", scene.left), scene.found("dog", scene.right)]
    images = [scene.image(objects, found)] * 20
    blind = [scene.image(objects, found[: 1 + place % 2]) for place in range(20)]
    first, other = (drawn(some, scene.labels) for some in (images, blind))
    same = find_differences(first, first, scene.labels)
    assert {name: same[name] for name in ("AP", "AP50/cat", "AP/owl")} == {
        "AP": (0.0, 0.0),
        "AP50/cat": (0.0, 0.0),
        "AP/owl": None,
    }
    low, high = find_differences(other, first, scene.labels)["AP50"]
    assert low < high < 0
    low, high = find_differences(first, other, scene.labels)["AP50"]
    assert 0 < low < high


def test_the_same_draws_cancel_what_is_hard_about_an_image(scene):
    images = scene.random_images(4, 40)
    changed = [
        EvaluatedImage(
            one.size, one.objects, one.detections[:-1] if place % 9 == 0 else one.detections
        )
        for place, one in enumerate(images)
    ]
    first, other = (drawn(some, scene.labels, 200) for some in (images, changed))
    apart = find_intervals(first, scene.labels)["AP"]
    paired = find_differences(first, other, scene.labels)["AP"]
    assert paired.high - paired.low < 0.5 * (apart.high - apart.low)


def test_the_middle_is_taken_around_the_value(scene):
    images = scene.random_images(5, 40)
    value = CocoEvaluation(images, scene.labels).metrics()["AP"]
    found = drawn(images, scene.labels, 400)
    of_draws = np.nanmean(found.ap, axis=0)
    assert of_draws[0] == pytest.approx(value, abs=1e-12)
    # Draws with copies lie above it; the range is lowered by as much.
    assert np.median(of_draws[1:]) > value
    low, high = find_intervals(found, scene.labels)["AP"]
    assert low < np.quantile(of_draws[1:], 0.05)
    assert high < np.quantile(of_draws[1:], 0.95)


def test_too_few_images_have_no_interval(scene):
    image = scene.image([scene.truth("cat", scene.left)], [scene.found("cat", scene.left)])
    empty = scene.image([], [])
    few = find_intervals(
        drawn([image] * (MIN_IMAGES - 1) + [empty] * 9, scene.labels), scene.labels
    )
    assert set(few.values()) == {None}
    enough = find_intervals(drawn([image] * MIN_IMAGES, scene.labels), scene.labels)
    assert enough["AP"] == enough["AP50/cat"] == pytest.approx((1.0, 1.0))
    assert enough["AP/dog"] is None


def test_nothing_has_no_interval():
    labels = LabelMap(("cat",))
    assert set(find_intervals(drawn([], labels), labels).values()) == {None}


def test_a_very_large_split_is_drawn_less_often():
    hits = np.ones((10, 200_000), bool)
    ranking = Ranking(np.zeros(200_000, np.int64), hits, ~hits, np.array([1]))
    assert intervals._choose_draws([ranking], 1000) == 200
    assert intervals._choose_draws([], 1000) == 1000
