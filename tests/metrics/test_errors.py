import pytest

from detflow.metrics.coco import CocoEvaluation
from detflow.metrics.errors import ErrorType, error_costs, find_errors
from detflow.types import Box


def errors_of(scene, objects, detections, **options):
    images = [scene.image(objects, detections)]
    return [
        error.type.value
        for error in find_errors(CocoEvaluation(images, scene.labels).matches(), images, **options)
    ]


def costs_of(scene, objects, detections):
    images = [scene.image(objects, detections)]
    costs = error_costs(CocoEvaluation(images, scene.labels).matches(), images, scene.labels)
    return {type_.value: (cost.count, cost.ap50) for type_, cost in costs.items() if cost.count}


@pytest.fixture
def near(scene):
    """IoU 1/3 with the left box."""
    return scene.shift(scene.left, 0.5)


def test_each_kind_has_its_name(scene, near):
    cat = [scene.truth("cat", scene.left)]
    hit = scene.found("cat", scene.left, 0.95)
    assert errors_of(scene, cat, [hit]) == []
    assert errors_of(scene, cat, []) == ["missed"]
    assert errors_of(scene, cat, [scene.found("dog", scene.left)]) == ["classification"]
    assert errors_of(scene, cat, [scene.found("cat", near)]) == ["localisation"]
    assert errors_of(scene, cat, [scene.found("dog", near)]) == ["both", "missed"]
    assert errors_of(scene, cat, [hit, scene.found("cat", scene.left)]) == ["duplicate"]
    assert errors_of(scene, cat, [scene.found("cat", scene.right)]) == ["background", "missed"]
    assert errors_of(scene, [], [scene.found("cat", scene.right)]) == ["background"]


def test_a_false_positive_that_fits_several_kinds_has_the_first(scene, near):
    objects = [scene.truth("cat", scene.left), scene.truth("dog", near)]
    hits = [scene.found("cat", scene.left, 0.95), scene.found("dog", near, 0.95)]
    # On a dog, and by a cat.
    assert errors_of(scene, objects, [*hits, scene.found("cat", near)]) == ["localisation"]
    # On a cat that was found, and on an owl.
    objects = [scene.truth("cat", scene.left), scene.truth("owl", scene.left)]
    hits = [scene.found("cat", scene.left, 0.95), scene.found("owl", scene.left, 0.95)]
    assert errors_of(scene, objects, [*hits, scene.found("cat", scene.left)]) == ["classification"]


def test_an_error_says_what_it_is_about(scene):
    images = [
        scene.image([], []),
        scene.image([scene.truth("cat", scene.left)], [scene.found("dog", scene.left)]),
    ]
    matches = CocoEvaluation(images, scene.labels).matches()
    [error] = find_errors(matches, images)
    assert (matches.images[error.detection], matches.truth_images[error.truth]) == (1, 1)


def test_below_the_threshold_nothing_was_detected(scene):
    cat = [scene.truth("cat", scene.left)]
    assert errors_of(scene, cat, [scene.found("cat", scene.left, 0.4)], score_threshold=0.5) == [
        "missed"
    ]
    assert errors_of(scene, cat, [scene.found("dog", scene.left, 0.4)], score_threshold=0.5) == [
        "missed"
    ]
    assert errors_of(scene, cat, [scene.found("dog", scene.left, 0.4)], score_threshold=0.4) == [
        "classification"
    ]


def test_difficult_objects_are_never_missed(scene):
    hard = [scene.truth("cat", scene.left, difficult=True)]
    assert errors_of(scene, hard, []) == []
    assert errors_of(scene, hard, [scene.found("cat", scene.left)]) == []
    assert errors_of(scene, hard, [scene.found("dog", scene.left)]) == ["classification"]


def test_what_a_wrong_class_costs(scene):
    objects = [scene.truth("cat", scene.left), scene.truth("dog", scene.right)]
    found = [scene.found("cat", scene.left), scene.found("cat", scene.right, 0.8)]
    # The dog's AP goes from 0 to 1; the cat's is 1 before and after.
    assert costs_of(scene, objects, found) == {"classification": (1, pytest.approx(0.5))}


def test_what_a_wrong_place_costs(scene, near):
    objects = [scene.truth("cat", scene.left), scene.truth("cat", scene.right)]
    found = [scene.found("cat", near, 0.95), scene.found("cat", scene.right, 0.9)]
    # From precision 1/2 up to recall 1/2 (51 of 101 points) to 1.
    assert costs_of(scene, objects, found) == {"localisation": (1, pytest.approx(1 - 51 / 101 / 2))}


def test_one_object_is_mended_once(scene, near):
    objects = [scene.truth("cat", scene.left), scene.truth("cat", scene.right)]
    twice = [
        scene.found("cat", near, 0.95),
        scene.found("cat", near, 0.94),
        scene.found("cat", scene.right, 0.9),
    ]
    assert costs_of(scene, objects, twice)["localisation"] == (2, pytest.approx(1 - 51 / 101 / 3))
    # The object is found already: the error goes, nothing is gained in recall.
    found = [scene.found("cat", scene.left, 0.9), scene.found("cat", near, 0.95)]
    assert costs_of(scene, objects[:1], found)["localisation"] == (1, pytest.approx(0.5))


@pytest.mark.parametrize("kind", ["duplicate", "background", "both"])
def test_what_the_other_false_positives_cost(scene, near, kind):
    objects = [scene.truth("cat", scene.left), scene.truth("cat", scene.right)]
    hits = [scene.found("cat", scene.left, 0.9), scene.found("cat", scene.right, 0.7)]
    extra = {
        "duplicate": scene.found("cat", scene.left, 0.8),
        "background": scene.found("cat", Box(0.1, 0.42, 0.9, 0.58), 0.8),
        "both": scene.found("cat", near, 0.8),
    }[kind]
    if kind == "both":
        objects, hits = (
            [scene.truth("dog", scene.left), scene.truth("cat", scene.right)],
            [scene.found("dog", scene.left), hits[1]],
        )
        assert costs_of(scene, objects, [*hits, extra]) == {"both": (1, pytest.approx(0.25))}
    else:
        # Precision 2/3 on the upper 50 of 101 points.
        assert costs_of(scene, objects, [*hits, extra]) == {kind: (1, pytest.approx(50 / 101 / 3))}


def test_what_missing_costs(scene):
    objects = [scene.truth("cat", scene.left), scene.truth("cat", scene.right)]
    assert costs_of(scene, objects, [scene.found("cat", scene.left)]) == {
        "missed": (1, pytest.approx(50 / 101))
    }
    assert costs_of(scene, objects, []) == {"missed": (2, pytest.approx(1.0))}


def test_without_objects_there_are_errors_but_no_costs(scene):
    assert costs_of(scene, [], [scene.found("cat", scene.left)]) == {"background": (1, None)}
    assert costs_of(scene, [], []) == {}


@pytest.mark.parametrize("seed", range(8))
def test_every_false_positive_has_one_kind_and_mending_never_hurts(scene, seed):
    images = scene.random_images(seed)
    matches = CocoEvaluation(images, scene.labels).matches()
    errors = find_errors(matches, images)
    named = [error.detection for error in errors if error.detection is not None]
    assert sorted(named) == [index for index, wrong in enumerate(matches.misses) if wrong]
    missed = {error.truth for error in errors if error.type is ErrorType.MISSED}
    assert all(not matches.found[truth] and not matches.difficult[truth] for truth in missed)
    costs = error_costs(matches, images, scene.labels)
    assert sum(cost.count for cost in costs.values()) == len(errors)
    # Fewer objects to find move the curve over the 101 points: a little may be lost there.
    assert all(
        cost.ap50 >= (-0.01 if type_ is ErrorType.MISSED else -1e-9)
        for type_, cost in costs.items()
    )
