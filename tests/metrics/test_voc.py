import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.metrics.voc import voc_metrics
from detflow.types import Box


def of_cat(images, scene):
    return voc_metrics(images, scene.labels)[1]["cat"]


def row(count, top):
    """Boxes side by side."""
    return [Box(top, i / count + 0.01, top + 0.3, (i + 1) / count - 0.01) for i in range(count)]


def judged(scene, hits, num_truths):
    """One image with `num_truths` objects above; detections are below where they are wrong.

    They stand from high to low score.
    """
    right, wrong = iter(row(num_truths, 0.1)), iter(row(len(hits) or 1, 0.6))
    found = [
        scene.found("cat", next(right if hit else wrong), 0.99 - 0.01 * i)
        for i, hit in enumerate(hits)
    ]
    return scene.image([scene.truth("cat", box) for box in row(num_truths, 0.1)], found)


@pytest.mark.parametrize(
    ("hits", "num_truths", "eleven_point", "area"),
    [
        # Recalls 0 to 1 at precision 1.
        ((True, True), 2, 1.0, 1.0),
        # Recall .5 at precision 1: the recalls 0 to .5 are six of eleven.
        ((True,), 2, 6 / 11, 0.5),
        # Precision 1/2 at every recall.
        ((False, True), 1, 0.5, 0.5),
        # Precision 1 up to recall 1/3, then 2/3 up to recall 2/3: 4 and 3 of eleven points.
        ((True, False, True), 3, (4 + 3 * 2 / 3) / 11, 1 / 3 + 2 / 9),
        # The dip at the second hit (2/4) is raised to what comes after it (3/5).
        ((True, False, False, True, True), 3, (4 + 7 * 3 / 5) / 11, 1 / 3 + 2 / 3 * 3 / 5),
        # Recall .3 is reached exactly by 3 of 10.
        ((True, True, True), 10, 4 / 11, 0.3),
        ((False,), 1, 0.0, 0.0),
        ((), 1, 0.0, 0.0),
    ],
)
def test_worked_by_hand(scene, hits, num_truths, eleven_point, area):
    found = of_cat([judged(scene, hits, num_truths)], scene)
    assert (found.eleven_point, found.area) == (pytest.approx(eleven_point), pytest.approx(area))


def test_a_second_detection_of_an_object_is_wrong(scene):
    found = [
        scene.found("cat", scene.left, 0.9),
        scene.found("cat", scene.left, 0.8),
        scene.found("cat", scene.right, 0.7),
    ]
    objects = [scene.truth("cat", scene.left), scene.truth("cat", scene.right)]
    assert of_cat([scene.image(objects, found)], scene).area == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_a_difficult_object_is_neither_hit_nor_miss_however_often_it_is_found(scene):
    objects = [scene.truth("cat", scene.left), scene.truth("cat", scene.right, difficult=True)]
    found = [
        scene.found("cat", scene.right, 0.95),
        scene.found("cat", scene.right, 0.94),
        scene.found("cat", scene.left),
    ]
    for detections in (found, found[2:]):
        assert of_cat([scene.image(objects, detections)], scene).area == pytest.approx(1.0)


def test_a_detection_goes_to_the_object_that_it_overlaps_most_be_it_taken(scene):
    # Unlike COCO, which would give the second detection the neighbour that it overlaps less.
    beside = scene.shift(scene.left, 0.2)
    objects = [scene.truth("cat", scene.left), scene.truth("cat", beside)]
    found = [
        scene.found("cat", scene.left, 0.9),
        scene.found("cat", scene.shift(scene.left, 0.05), 0.8),
    ]
    assert of_cat([scene.image(objects, found)], scene).area == pytest.approx(0.5)


def test_what_cannot_be_measured_is_none(scene):
    mean, classes = voc_metrics(
        [scene.image([scene.truth("cat", scene.left)], [scene.found("dog", scene.left)])],
        scene.labels,
    )
    assert (mean.eleven_point, mean.area) == (0.0, 0.0)
    assert (classes["dog"].eleven_point, classes["owl"].area) == (None, None)
    only_difficult = scene.image([scene.truth("cat", scene.left, difficult=True)], [])
    assert voc_metrics([only_difficult], scene.labels)[0].area is None
    assert voc_metrics([], scene.labels)[0].eleven_point is None


def brute_force(images, name):
    """The development kit's loop over all detections, with pixels that include both ends."""
    detections = [
        (d.score, i, d.box)
        for i, image in enumerate(images)
        for d in image.detections
        if d.name == name
    ]
    detections.sort(key=lambda one: -one[0])
    taken, outcomes = set(), []
    num_truths = sum(o.name == name and not o.difficult for image in images for o in image.objects)
    for _, index, box in detections:
        image = images[index]
        best, best_iou = None, -np.inf
        left, top, right, bottom = box.to_pixels(image.size)
        for place, item in enumerate(image.objects):
            if item.name != name:
                continue
            x0, y0, x1, y1 = item.box.to_pixels(image.size)
            width, height = min(right, x1) - max(left, x0), min(bottom, y1) - max(top, y0)
            if width > 0 and height > 0:
                shared = width * height
                iou = shared / ((right - left) * (bottom - top) + (x1 - x0) * (y1 - y0) - shared)
                if iou > best_iou:
                    best, best_iou = place, iou
        if best_iou < 0.5:
            outcomes.append(False)
        elif not image.objects[best].difficult:
            outcomes.append((index, best) not in taken)
            taken.add((index, best))
    points = (
        [
            (sum(outcomes[:n]) / num_truths, sum(outcomes[:n]) / n)
            for n in range(1, len(outcomes) + 1)
        ]
        if num_truths
        else []
    )
    eleven = np.mean(
        [max((p for r, p in points if r >= t / 10 - 1e-12), default=0.0) for t in range(11)]
    )
    recalls = [0.0, *sorted({r for r, _ in points})]
    area = sum(
        (b - a) * max(p for r, p in points if r >= b) for a, b in itertools.pairwise(recalls)
    )
    return (float(eleven), area) if num_truths else (None, None)


@given(seed=st.integers(0, 2**32))
def test_as_the_development_kit_counts(scene, seed):
    images = scene.random_images(seed, count=5)
    mean, classes = voc_metrics(images, scene.labels)
    expected = {name: brute_force(images, name) for name in scene.labels}
    for name, (eleven, area) in expected.items():
        assert classes[name].eleven_point == (None if eleven is None else pytest.approx(eleven))
        assert classes[name].area == (None if area is None else pytest.approx(area))
    measured = [area for _, area in expected.values() if area is not None]
    assert mean.area == (pytest.approx(np.mean(measured)) if measured else None)
