import numpy as np

from detflow.label_map import LabelMap
from detflow.metrics.ranking import Ranking
from detflow.training.gains import Gains

LABELS = LabelMap(("cat",))


def ranking(num_found, num_images=60):
    """An object an image, found in the first ones."""
    hits = np.tile(np.arange(num_images) < num_found, (10, 1))
    return [Ranking(np.arange(num_images), hits, hits & ~hits, np.ones(num_images, np.int64))]


def test_an_evaluation_is_compared_with_the_best_one_before():
    gains = Gains(LABELS)
    assert gains.judge(10, 0.25, ranking(15), 10) == ""
    better = gains.judge(20, 0.75, ranking(45), 20)
    assert better.startswith("+0.500 on step 10, a gain: +0.3")
    little = gains.judge(30, 0.767, ranking(46), 30)
    assert little.startswith("+0.017 on step 20, not clear: +0.000 to ")
    # The best one stays what the next is compared with.
    assert gains.judge(40, 0.25, ranking(15), 30).startswith("-0.517 on step 30, a loss: -0.6")
    assert gains.judge(50, 0.75, ranking(45), 30).startswith("-0.017 on step 30, not clear: ")


def test_an_ap_of_few_objects_is_shown_with_its_range():
    gains = Gains(LABELS)
    first = gains.judge(10, 0.5, ranking(20, 40), 10)
    low, high = map(float, first.partition(" ")[0].split("–"))
    assert low < 0.5 < high
    assert first.endswith(" at 90 %, of only 40 objects")
    again = gains.judge(20, 0.5, ranking(20, 40), 20)
    assert again.endswith(
        "of only 40 objects; +0.000 on step 10, not clear: +0.000 to +0.000 at 90 %"
    )


def test_the_range_of_a_step_is_kept_until_the_next_one():
    gains = Gains(LABELS)
    assert gains.intervals(10) == {}
    gains.judge(10, 0.5, ranking(30), 10)
    found = gains.intervals(10)
    assert list(found) == ["AP", "AP50"]
    assert found["AP"].low < 0.5 < found["AP"].high
    assert gains.intervals(20) == {}
    # Too few images to tell.
    gains.judge(20, 0.5, ranking(2, 4), 20)
    assert gains.intervals(20) == {}


def test_nothing_is_said_where_nothing_can_be_compared():
    gains = Gains(LABELS)
    assert gains.judge(10, None, ranking(0), None) == ""
    assert gains.judge(20, 0.5, (), 20) == ""
    assert gains.judge(30, 0.5, ranking(2, 4), 30) == ""
    assert gains.judge(40, 0.5, ranking(2, 4), 40) == "+0.000 on step 30, too few images to tell"
