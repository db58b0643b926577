"""The comparison of a format's outputs with its checkpoint's, entry by entry."""

import math

import numpy as np
import pytest

from detflow.errors import ArtifactError
from detflow.exporting.proof.compare import ExactComparison, compare_outputs


def outputs(count=2, scores=(0.9, 0.8, 0.0), classes=(1, 2, 1), shift=0.0):
    return {
        "detection_boxes": np.full((1, 3, 4), 0.25 + shift, np.float32),
        "detection_scores": np.array([scores], np.float32),
        "detection_classes": np.array([classes], np.float32),
        "num_detections": np.array([count], np.float32),
    }


def compare(actual, comparison=None):
    """`actual` gives the format's outputs by the image's number."""
    comparison = comparison or ExactComparison("model.xyz", "ckpt-7")
    for number in range(5):
        comparison.add(f"image-{number}.jpg", outputs(), actual(number))
    return comparison.conclude()


def test_agreement_has_the_largest_differences():
    found = compare(lambda number: outputs(shift=1e-5 * number))
    assert (found.num_images, found.num_detections) == (5, 10)
    assert found.max_differences["detection_boxes"] == pytest.approx(4e-5, rel=1e-2)
    assert found.max_differences["detection_scores"] == 0.0


@pytest.mark.parametrize(
    ("wrong", "output", "amount"),
    [
        (lambda number: outputs(shift=0.001 * number), "detection_boxes", "0.004"),
        (lambda number: outputs(scores=(0.9 - 0.01 * number, 0.8, 0)), "detection_scores", "0.04"),
        (lambda number: outputs(classes=(1, 2 + (number == 4), 1)), "detection_classes", "of 1"),
        # A lost detection changes everything after it; the count is what is told.
        (
            lambda number: (
                outputs(count=1, scores=(0.9, 0, 0), classes=(1, 1, 1))
                if number == 4
                else outputs()
            ),
            "num_detections",
            "of 1",
        ),
        (
            lambda number: outputs(scores=(0.9, math.nan, 0)) if number == 4 else outputs(),
            "detection_scores",
            "not finite",
        ),
    ],
)
def test_a_disagreement_names_output_image_and_amount(wrong, output, amount):
    with pytest.raises(ArtifactError) as caught:
        compare(wrong)
    message = str(caught.value)
    assert message.startswith(f"model.xyz: {output} ")
    assert "ckpt-7" in message
    assert "image-4.jpg" in message
    assert amount in message


def test_the_limit_itself_is_allowed():
    compare(lambda number: outputs(scores=(0.9 + 9.9e-5, 0.8, 0)))


TIED = [(1, 0.9, 0.5), (1, 0.30001, 0.1), (2, 0.3, 0.3), (1, 0.29999, 0.2)]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2), (0, 3, 2, 1)])
def test_detections_of_equal_score_may_stand_in_another_order(order, detections):
    comparison = ExactComparison("model.xyz", "ckpt-7")
    comparison.add("x", detections(*TIED), detections(*(TIED[place] for place in order)))
    assert max(comparison.conclude().max_differences.values()) <= 1e-4


@pytest.mark.parametrize(
    ("found", "output"),
    [
        # .9 and .3 are no tie.
        ([TIED[1], TIED[0], TIED[2], TIED[3]], "detection_scores"),
        ([TIED[0], (2, 0.3, 0.1), (1, 0.3, 0.3), TIED[3]], "detection_boxes"),
        ([TIED[0], TIED[2], TIED[1], (1, 0.3, 0.21)], "detection_boxes"),
        # One stands for one only.
        ([TIED[0], TIED[2], TIED[1], TIED[1]], "detection_boxes"),
        ([TIED[0], TIED[2], TIED[1], (2, 0.3, 0.2)], "detection_classes"),
        ([TIED[0], TIED[2], TIED[1]], "num_detections"),
    ],
    ids=["scores apart", "boxes exchanged", "a box moved", "one twice", "a class", "one lost"],
)
def test_another_order_hides_nothing(found, output, detections):
    comparison = ExactComparison("model.xyz", "ckpt-7")
    comparison.add("x", detections(*TIED), detections(*found))
    with pytest.raises(ArtifactError, match=output):
        comparison.conclude()


def test_boxes_that_each_agree_stay_where_they_are(detections):
    # The nearest to the first one is the second one's, which would leave the second one too far
    # away.
    expected = detections((1, 0.3, 0.5), (1, 0.3, 0.50008))
    actual = detections((1, 0.3, 0.49992), (1, 0.3, 0.50001))
    comparison = ExactComparison("model.xyz", "ckpt-7")
    comparison.add("x", expected, actual)
    assert comparison.conclude().max_differences["detection_boxes"] < 1e-4


@pytest.mark.parametrize("output", ["detection_boxes", "detection_classes"])
@pytest.mark.parametrize("fault", ["missing", "shape", "nan"])
def test_outputs_that_mean_nothing_are_refused_whatever_the_scores_say(output, fault, detections):
    actual = detections(*TIED)
    if fault == "missing":
        del actual[output]
    elif fault == "shape":
        actual[output] = actual[output][:, :2]
    else:
        actual[output][0, 1] = np.nan
    comparison = ExactComparison("model.xyz", "ckpt-7")
    comparison.add("x", detections(*TIED), actual)
    with pytest.raises(ArtifactError, match=f"{output} .* missing, not finite or of another shape"):
        comparison.conclude()


@pytest.mark.parametrize("name", list(outputs()))
def test_a_missing_output_another_shape_or_another_type_is_infinitely_far(name):
    expected = outputs()
    missing = {key: value for key, value in expected.items() if key != name}
    assert compare_outputs(expected, missing)[name] == math.inf
    assert compare_outputs(
        expected,
        expected
        | {name: expected[name][:, :1] if name != "num_detections" else expected[name][:0]},
    )[name] == (math.inf)
    assert (
        compare_outputs(expected, expected | {name: expected[name].astype(np.float64)})[name]
        == math.inf
    )
    assert compare_outputs(expected, expected)[name] == 0.0


def test_padding_is_compared_too():
    assert compare_outputs(outputs(), outputs(scores=(0.9, 0.8, 0.1)))["detection_scores"] > 0.09
