import pytest

from detflow.config.reading import parse_config
from detflow.training.fit_recipe import (
    FROZEN,
    Clock,
    Speed,
    choose_intervals,
    choose_length,
    choose_mosaic,
    choose_parts,
    choose_repeats,
    compare_with_scratch,
    prefers_scratch,
)
from detflow.training.fit_shapes import Boxes
from detflow.training.fit_weights import Beginning
from detflow.types import Box, ImageSize, ObjectAnnotation

SCRATCH, WEIGHTS = Beginning(None), Beginning("a", {"preset": "retinanet_lite0"}, "", True)


def boxes(count, side):
    """Ten images of `count` objects that take `side` of the image each way."""
    box = Box(0.5 - side / 2, 0.5 - side / 2, 0.5 + side / 2, 0.5 + side / 2)
    return Boxes([(ImageSize(256, 256), [ObjectAnnotation("a", box)] * count)] * 10)


@pytest.mark.parametrize(
    ("count", "side", "share"), [(1, 0.5, 0.5), (4, 0.2, 0.5), (12, 0.2, 0.0), (1, 0.08, 0.0)]
)
def test_mosaics_are_for_few_and_large_objects(count, side, share):
    assert choose_mosaic(boxes(count, side), ((256, 256),)).value == share


def test_rare_classes_raise_the_threshold_to_the_typical_class():
    rare = choose_repeats({"a": 0.9, "b": 0.8, "c": 0.02})
    assert rare.value == 0.8
    assert "c in 2.0%: images with 1 rare class come up to 6.3 times an epoch" in rare.why
    for shares in ({"a": 0.9, "b": 0.5, "c": 0.7}, {"a": 0.01}, {}):
        assert choose_repeats(shares).value == 0.0


def test_what_weights_know_stays_and_a_fresh_network_trains_whole():
    assert [choice.value for choice in choose_parts(WEIGHTS)] == [list(FROZEN)]
    assert choose_parts(SCRATCH) == []


def values(choices):
    return {choice.name: choice.value for choice in choices}


def test_a_measured_clock_decides_the_steps_and_what_depends_on_them():
    clock = Clock(300.0, images_per_second=8.0, start_seconds=20.0, evaluation_seconds=9.0)
    few = values(choose_length(WEIGHTS, 100, clock))
    assert (few["train.steps"], few["train.batch_size"]) == (262, 8)
    length = choose_length(WEIGHTS, 100, clock, is_dense=True)
    assert values(length) == {
        "train.time_budget": 300.0,
        "train.learning_rate": 0.002,
        "train.steps": 524,
        "train.batch_size": 4,
        "train.warmup_steps": 63,
    }
    assert "21 epochs: about what fits into the budget at 8.0 images/s" in length[2].why
    # Evaluations take a hundredth of the budget; a clock may end a few steps later than foreseen.
    assert values(choose_intervals(524, 76, clock))["evaluate.every_steps"] >= 2 * 524
    fast = choose_intervals(524, 76, Clock(300.0, 8.0, 20.0, 1.5))
    assert values(fast)["evaluate.every_steps"] == 300


def test_a_crash_costs_minutes_whatever_the_budget():
    slow = Speed(15.0, 12.0, 12.5)

    def intervals(budget, num_evaluated):
        clock = Clock.of(budget, slow, num_evaluated)
        steps = values(choose_length(WEIGHTS, 100, clock))["train.steps"]
        chosen = values(choose_intervals(steps, num_evaluated, clock))
        return steps, chosen["evaluate.every_steps"], chosen["checkpoint.every_steps"] * 8 / 15

    # An evaluation of 5,000 images takes 400 s, of which 1 % of a day has room for one.
    steps, evaluated, between_s = intervals(72_000.0, 5_000)
    assert evaluated > steps
    assert between_s == pytest.approx(600, abs=30)
    assert intervals(300.0, 50)[2] == pytest.approx(120, abs=30)
    # A short one is saved at its end alone.
    steps, _, between_s = intervals(60.0, 50)
    assert between_s * 15 / 8 > steps


def test_a_budget_without_room_for_a_step_says_so():
    (_, steps, *_) = choose_length(WEIGHTS, 100, Clock(10.0, 8.0, 20.0, 9.0))
    assert steps.value == 1
    assert "the budget is too short: until the first step 20 s pass on this machine" in steps.why


def test_nothing_is_said_to_be_evaluated_where_nothing_is():
    every, saved = choose_intervals(800, 0, Clock(None, 20.0, 20.0))
    assert "nothing is evaluated" in every.why
    assert "evaluation" not in saved.why


def test_without_a_budget_the_reason_says_how_long_it_takes_here():
    (steps, *_), short = choose_length(SCRATCH, 800, Clock(None, 20.0, 20.0)), Clock(60.0)
    assert steps.value == 12_000
    assert "on this machine that takes about 80 min (20.0 images/s, measured)" in steps.why
    slow = Clock(None, 20.0, 20.0, evaluation_seconds=75.0)
    assert "takes about 90 min" in choose_length(SCRATCH, 800, slow)[0].why
    # Nothing measured: a warm-up that is short for whatever the clock comes to.
    unknown = values(choose_length(WEIGHTS, 800, short))
    assert (unknown["train.steps"], unknown["train.warmup_steps"]) == (6_000, 30)


def test_scratch_is_for_machines_on_which_it_is_far_faster():
    weights = Speed(10.0, 15.0, 30.0)
    assert not prefers_scratch(weights, Speed(22.0, 10.0, 30.0))
    fresh = Speed(40.0, 10.0, 30.0)
    assert prefers_scratch(weights, fresh)
    chosen = compare_with_scratch(weights, fresh)
    assert chosen.source is None
    assert "40.0 images/s, one from weights with 10.0" in chosen.why


def test_every_reason_fits_the_schema():
    choices = [*choose_length(WEIGHTS, 10, Clock(60.0)), *choose_intervals(60, 0, Clock(60.0))]
    settings = [f"{choice.name}={choice.value}" for choice in choices]
    assert parse_config("data: {records: x}", settings).train.time_budget == 60.0
