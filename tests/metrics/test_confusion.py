import numpy as np
import pytest

from detflow.metrics.confusion import confusion_matrix


def counts(scene, objects, detections, **options):
    return confusion_matrix(
        [scene.image(objects, detections)],
        scene.labels,
        options.pop("score_threshold", 0.5),
        **options,
    ).counts


def cells(matrix):
    return {tuple(place): matrix[tuple(place)] for place in np.argwhere(matrix).tolist()}


NOTHING = 3


def test_right_confused_missed_and_false(scene):
    objects = [scene.truth("cat", scene.left), scene.truth("dog", scene.right)]
    assert cells(
        counts(scene, objects, [scene.found("cat", scene.left), scene.found("owl", scene.right)])
    ) == {
        (0, 0): 1,
        (1, 2): 1,
    }
    assert cells(counts(scene, objects, [scene.found("cat", scene.left, 0.4)])) == {
        (0, NOTHING): 1,
        (1, NOTHING): 1,
    }
    assert cells(counts(scene, [], [scene.found("owl", scene.left, 0.5)])) == {(NOTHING, 2): 1}


def test_the_own_class_goes_before_the_better_place(scene):
    beside = scene.shift(scene.left, 0.1)
    found = [scene.found("dog", scene.left), scene.found("cat", beside, 0.6)]
    assert cells(counts(scene, [scene.truth("cat", scene.left)], found)) == {
        (0, 0): 1,
        (NOTHING, 1): 1,
    }


def test_one_to_one_by_overlap(scene):
    beside = scene.shift(scene.left, 0.1)
    found = [scene.found("cat", beside), scene.found("cat", scene.left)]
    both = [scene.truth("cat", scene.left), scene.truth("cat", beside)]
    assert cells(counts(scene, both[:1], found)) == {(0, 0): 1, (NOTHING, 0): 1}
    assert cells(counts(scene, both, found)) == {(0, 0): 2}


def test_the_overlap_is_stated(scene):
    # Shifted by a third of the width: IoU 1/2.
    found = [scene.found("cat", scene.shift(scene.left, 0.35))]
    assert cells(counts(scene, [scene.truth("cat", scene.left)], found)) == {
        (0, NOTHING): 1,
        (NOTHING, 0): 1,
    }
    assert cells(counts(scene, [scene.truth("cat", scene.left)], found, iou=0.4)) == {(0, 0): 1}


def test_difficult_objects_take_what_is_left_and_do_not_count(scene):
    objects = [scene.truth("cat", scene.left, difficult=True), scene.truth("cat", scene.left)]
    assert cells(counts(scene, objects, [scene.found("cat", scene.left)])) == {(0, 0): 1}
    assert cells(
        counts(scene, objects, [scene.found("cat", scene.left), scene.found("cat", scene.left)])
    ) == {(0, 0): 1}
    assert not counts(scene, objects[:1], []).any()


@pytest.mark.parametrize("seed", range(6))
def test_rows_and_columns_add_up(scene, seed):
    images = scene.random_images(seed)
    easy = [
        scene.image([o for o in image.objects if not o.difficult], image.detections)
        for image in images
    ]
    matrix = confusion_matrix(easy, scene.labels, 0.3).counts
    for index, name in enumerate(scene.labels):
        assert matrix[index].sum() == sum(o.name == name for image in easy for o in image.objects)
        assert matrix[:, index].sum() == sum(
            d.name == name and d.score >= 0.3 for image in easy for d in image.detections
        )
    assert matrix[-1, -1] == 0
