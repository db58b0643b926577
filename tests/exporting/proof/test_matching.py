"""The comparison of a format's detections with its checkpoint's, within a tolerance."""

import dataclasses

import numpy as np
import pytest

from detflow.errors import ArtifactError
from detflow.exporting.proof.compare import SAME_NETWORK, Tolerance
from detflow.exporting.proof.matching import MatchedComparison


def one_box(box, score=0.9, class_id=1):
    """A detection, and below the threshold another one that nobody has to find again."""
    boxes = np.array([[box, (0.0, 0.0, 0.1, 0.1)]], np.float32)
    return {
        "detection_boxes": boxes,
        "detection_scores": np.array([[score, 0.1]], np.float32),
        "detection_classes": np.array([[class_id, 1]], np.float32),
        "num_detections": np.array([2], np.float32),
    }


TOLERANCE = Tolerance(score_threshold=0.3, min_iou=0.8, max_score_difference=0.05, min_share=0.6)
BOX = (0.2, 0.2, 0.6, 0.6)


@pytest.mark.parametrize(
    ("found", "share"),
    [
        (one_box(BOX), 1.0),
        (one_box((0.2, 0.2, 0.6, 0.55)), 1.0),
        (one_box((0.2, 0.2, 0.6, 0.5)), 0.0),
        (one_box(BOX, score=0.86), 1.0),
        (one_box(BOX, score=0.84), 0.0),
        (one_box(BOX, class_id=2), 0.0),
    ],
    ids=["equal", "IoU .875", "IoU .75", "score near", "score far", "class"],
)
def test_a_detection_is_found_again_by_class_place_and_score(found, share):
    comparison = MatchedComparison("m", "c", dataclasses.replace(TOLERANCE, min_share=0.0))
    comparison.add("x", one_box(BOX), found)
    agreement = comparison.conclude()
    assert (agreement.num_images, agreement.num_detections, agreement.share_found) == (1, 1, share)


def test_one_detection_cannot_stand_for_two():
    twice = one_box(BOX)
    twice["detection_boxes"][0, 1], twice["detection_scores"][0, 1] = BOX, 0.9
    comparison = MatchedComparison("m", "c", dataclasses.replace(TOLERANCE, min_share=0.0))
    comparison.add("x", twice, one_box(BOX))
    agreement = comparison.conclude()
    assert (agreement.share_found, agreement.share_known) == (0.5, 1.0)


def test_what_a_format_adds_counts_as_much_as_what_it_loses(detections):
    comparison = MatchedComparison("model.xyz", "ckpt-7", TOLERANCE)
    for added in (0.9, 0.2):
        found = one_box(BOX)
        found["detection_boxes"][0, 1] = (0.5, 0.5, 0.9, 0.9)
        found["detection_scores"][0, 1] = added
        comparison.add(f"image-{added}.jpg", one_box(BOX), found)
    assert comparison.conclude().share_known == pytest.approx(2 / 3)
    found = one_box(BOX) | {"detection_scores": np.array([[0.9, 0.4]], np.float32)}
    comparison.add("again.jpg", one_box(BOX), found)
    comparison.add("image.jpg", detections(), detections((1, 0.5, 0.5), (2, 0.6, 0.1)))
    message = (
        r"model\.xyz: 42\.9% of its own 7 .* are ckpt-7's too .* asked are 60\.0%; "
        r"worst is image image\.jpg: 2 of 2 are not, such as class 1 of score 0\.50"
    )
    with pytest.raises(ArtifactError, match=message):
        comparison.conclude()


def test_where_a_checkpoint_detects_nothing_a_format_may_not_detect_something(detections):
    comparison = MatchedComparison("model.xyz", "ckpt-7", TOLERANCE)
    comparison.add("x", detections(), detections((1, 0.5, 0.5)))
    with pytest.raises(ArtifactError, match=r"0\.0% of its own 1 detection "):
        comparison.conclude()


def test_too_many_lost_detections_name_the_worst_image_and_what_is_lost():
    comparison = MatchedComparison("model.xyz", "ckpt-7", TOLERANCE)
    for number, found in enumerate([BOX, (0.0, 0.0, 0.1, 0.1)]):
        comparison.add(f"image-{number}.jpg", one_box(BOX), one_box(found))
    message = (
        r"model\.xyz: 50\.0% of ckpt-7's 2 .* asked are 60\.0%; "
        r"worst is image image-1\.jpg: 1 of 1 is not, such as class 1"
    )
    with pytest.raises(ArtifactError, match=message):
        comparison.conclude()


@pytest.mark.parametrize(
    "wrong",
    [{"detection_scores": np.full((1, 2), np.nan, np.float32)}, {"num_detections": np.float32(2)}],
)
def test_outputs_that_mean_nothing_are_refused_by_a_tolerance_too(wrong):
    with pytest.raises(ArtifactError, match=f"{next(iter(wrong))} .* on image x"):
        MatchedComparison("m", "c", TOLERANCE).add("x", one_box(BOX), one_box(BOX) | wrong)


def counted(tolerance, *pairs):
    """Compares images that have so many detections of low scores."""
    comparison = MatchedComparison("model.xyz", "ckpt-7", tolerance)
    for number, counts in enumerate(pairs):
        before, after = (
            {
                "detection_boxes": np.full((1, 210, 4), 0.25, np.float32),
                "detection_scores": np.full((1, 210), 0.02, np.float32),
                "detection_classes": np.ones((1, 210), np.float32),
                "num_detections": np.array([count], np.float32),
            }
            for count in counts
        )
        comparison.add(f"image-{number}.jpg", before, after)
    return comparison.conclude()


@pytest.mark.parametrize(
    "pairs", [[(200, 198)], [(200, 202)], [(5, 3)], [(0, 2)], [(1, 2), (2, 1)]]
)
def test_a_few_detections_may_lie_on_the_threshold(pairs):
    before, after = (sum(pair[side] for pair in pairs) for side in (0, 1))
    expected = (after - before) / before if before else None
    found = counted(SAME_NETWORK.tolerance, *pairs)
    assert (found.num_detections, found.count_change) == (0, expected)


@pytest.mark.parametrize("pairs", [[(100, 100), (200, 196)], [(6, 3)], [(3, 6)], [(0, 3)]])
def test_another_threshold_shows_in_what_is_too_low_to_be_found_again(pairs):
    before, after = (sum(pair[side] for pair in pairs) for side in (0, 1))
    last = len(pairs) - 1
    message = (
        rf"model\.xyz: it has {after} detections of any score, and ckpt-7 has {before}: more than "
        rf"1% apart; worst is image image-{last}\.jpg: {pairs[last][1]} and {pairs[last][0]}"
    )
    with pytest.raises(ArtifactError, match=message):
        counted(SAME_NETWORK.tolerance, *pairs)


def test_rounding_may_move_any_number_over_the_threshold():
    assert counted(TOLERANCE, (100, 50)).count_change == -0.5
