import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.training.order import ImageOrder, bucket_order, epoch_order, repeat_factors


@given(st.integers(0, 2**31 - 1), st.integers(0, 1000), st.integers(1, 500))
def test_an_epoch_visits_every_item_once(seed, epoch, count):
    assert sorted(epoch_order(seed, epoch, count)) == list(range(count))


def test_the_order_is_the_same_for_ever():
    assert epoch_order(1, 0, 10).tolist() == [2, 5, 8, 9, 1, 4, 6, 0, 3, 7]
    assert (
        epoch_order(1, 1, 10).tolist()
        != epoch_order(1, 0, 10).tolist()
        != epoch_order(2, 0, 10).tolist()
    )


Buckets = st.lists(st.integers(0, 40), min_size=1, max_size=4).filter(sum).map(tuple)


@given(st.integers(0, 2**31 - 1), st.integers(0, 1000), Buckets)
def test_a_cycle_has_a_step_of_a_bucket_for_each_of_its_images_and_spreads_them(seed, cycle, sizes):
    order = bucket_order(seed, cycle, sizes)
    assert np.bincount(order, minlength=len(sizes)).tolist() == list(sizes)
    for bucket, size in enumerate(sizes):
        # Whatever the part of the cycle, a bucket has its proportion there but for one step at
        # either end.
        steps = np.arange(1, len(order) + 1)
        assert np.abs(np.cumsum(order == bucket) - steps * size / len(order)).max() <= len(sizes)


def test_a_run_s_first_steps_see_every_bucket_once():
    assert bucket_order(3, 0, (90, 3, 0, 7))[:3].tolist() == [0, 1, 3]
    assert bucket_order(3, 1, (90, 3, 0, 7))[:3].tolist() != [0, 1, 3]


def walk(order, seed, size, first, last):
    """Images of the steps from `first` to before `last`."""
    return [order.find(seed, step, size)[1].tolist() for step in range(first, last)]


def test_without_repeats_the_walk_is_one_of_epochs():
    order = ImageOrder([np.arange(5)], np.ones(5))
    seen = np.concatenate(walk(order, 7, 3, 0, 10))
    assert seen.tolist() == np.concatenate([epoch_order(7, e, 5) for e in range(6)]).tolist()


Factors = st.lists(st.floats(1.0, 9.0), min_size=1, max_size=12)


@given(st.integers(0, 2**31 - 1), Factors, st.integers(1, 7), st.integers(0, 40))
def test_what_a_step_sees_follows_from_its_number_alone(seed, factors, size, step):
    """Whatever was asked for before: a resumed run and another worker see the same."""
    buckets = [np.arange(0, len(factors), 2), np.arange(1, len(factors), 2)]
    order = ImageOrder(buckets, np.array(factors))
    walked = walk(order, seed, size, 0, step + 1)
    assert ImageOrder(buckets, np.array(factors)).find(seed, step, size)[1].tolist() == walked[-1]
    # No step leaves out or repeats a place of its bucket's walk.
    own = [images for images in walked if images[0] in buckets[0]]
    assert own == walk(ImageOrder(buckets[:1], np.array(factors)), seed, size, 0, len(own))


def test_an_image_is_seen_as_often_as_its_factor_says():
    factors = np.array([1.0, 2.5, 1.0, 3.0, 1.1])
    order = ImageOrder([np.arange(5)], factors)
    counts = np.bincount(np.concatenate(walk(order, 3, 4, 0, 500)), minlength=5)
    expected = factors / factors.sum() * 2000
    assert np.abs(counts - expected).max() <= 4


def test_the_factors_are_those_of_lvis():
    # The class 1 is in one image of four, the class 0 in three.
    classes = [np.array(labels, np.int32) for labels in ([0, 0], [0, 1], [0], [])]
    assert repeat_factors(classes, 0.0).tolist() == [1, 1, 1, 1]
    assert repeat_factors(classes, 0.25).tolist() == [1, 1, 1, 1]
    assert repeat_factors(classes, 0.75) == pytest.approx([1, 3**0.5, 1, 1])
    assert repeat_factors([np.zeros(0, np.int32)], 1.0).tolist() == [1]
    assert repeat_factors([], 1.0).tolist() == []
