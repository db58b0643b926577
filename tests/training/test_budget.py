import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.config.reading import parse_config
from detflow.errors import ConfigError
from detflow.training.budget import Costs, Intervals, Stopwatch

COSTS = Costs(step=1.0, evaluation=100.0, checkpoint=10.0)


@pytest.mark.parametrize(
    ("step", "total", "seconds"),
    [
        # Steps; then evaluation and checkpoint at the end.
        (0, 5, 5 + 110),
        # Two checkpoints, and the end.
        (0, 25, 25 + 2 * 10 + 110),
        # The end is a multiple of both: 30 saves, evaluates and ends.
        (0, 30, 30 + 2 * 10 + 110),
        (0, 31, 31 + 3 * 10 + 100 + 110),
        # What is due after step 30 is not done yet.
        (30, 31, 1 + 110 + 110),
        (30, 30, 110),
        (31, 31, 110),
    ],
)
def test_a_run_goes_on_for_its_steps_evaluations_and_checkpoints(step, total, seconds):
    assert Intervals(evaluation=30, checkpoint=10).seconds(step, total, COSTS) == seconds


def test_without_evaluations_their_time_is_free():
    intervals = Intervals(evaluation=None, checkpoint=10)
    assert intervals.seconds(0, 25, COSTS) == 25 + 3 * 10
    assert intervals.seconds(0, 20, COSTS) == 20 + 2 * 10


@given(
    st.integers(0, 500),
    st.integers(1, 400),
    st.integers(1, 400) | st.none(),
    st.integers(1, 400),
)
def test_a_count_by_hand_gives_the_same(step, steps, evaluation, checkpoint):
    total, expected = step + steps, float(steps)
    for number in range(max(1, step), total + 1):
        evaluates = evaluation is not None and (number % evaluation == 0 or number == total)
        saves = evaluates or number % checkpoint == 0 or number == total
        expected += 100.0 * evaluates + 10.0 * saves
    assert Intervals(evaluation, checkpoint).seconds(step, total, COSTS) == expected


@given(st.integers(0, 2000), st.floats(0.0, 1e4), st.floats(0.01, 1.0), st.floats(0.0, 20.0))
def test_the_most_steps_that_fit_are_taken(step, seconds, step_seconds, evaluation):
    costs, intervals = Costs(step_seconds, evaluation, 0.3), Intervals(300, 100)
    total = intervals.fit(step, seconds, costs)
    assert total == step or intervals.seconds(step, total, costs) <= seconds
    assert intervals.seconds(step, total + 1, costs) > seconds


def test_a_stopwatch_tells_steps_from_what_is_beside_them():
    now = [5.0]
    stopwatch = Stopwatch(3.0, lambda: now[0])
    assert (stopwatch.now(), stopwatch.latest("evaluation")) == (2.0, (0, 0.0))
    with stopwatch.measure("evaluation"):
        now[0] = 9.0
    with stopwatch.measure("checkpoint"):
        now[0] = 10.0
    assert stopwatch.latest("evaluation") == (1, 4.0)
    assert stopwatch.latest("checkpoint") == (1, 1.0)
    assert (stopwatch.now(), stopwatch.stepping()) == (7.0, 2.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12m", 720.0),
        ("1h30m", 5400.0),
        ("90s", 90.0),
        ("90", 90.0),
        ("0.5h", 1800.0),
        ("1h0m5s", 3605.0),
    ],
)
def test_durations_are_read(text, seconds):
    assert read(text).train.time_budget == seconds


@pytest.mark.parametrize("text", ["", "m", "12 minutes", "-5m", "1d", "nan", "0m"])
def test_other_texts_are_no_durations(text):
    with pytest.raises(ConfigError, match=r"train\.time_budget"):
        read(text)


def read(text):
    return parse_config("data: {records: x}", [f"train.time_budget='{text}'"])
