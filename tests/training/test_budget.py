import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.config.reading import parse_config
from detflow.errors import ConfigError
from detflow.training.budget import LAST_TIMED_STEP, StepCosts, fit_steps


def config(*overrides):
    return parse_config(
        "data: {records: x}", ["evaluate.every_steps=300", "checkpoint.every_steps=100", *overrides]
    )


@given(st.floats(60.0, 1e5), st.floats(0.01, 1.0), st.floats(0.0, 20.0))
def test_the_steps_use_the_budget_and_stay_inside(seconds, step, evaluation):
    costs = StepCosts(step, evaluation, 0.3)
    try:
        steps = fit_steps(seconds, costs, config())
    except ConfigError:
        steps = 0
    spent = steps * step + (steps // 300 + 1) * (evaluation + 0.3) + steps // 100 * 0.3
    assert spent <= seconds or steps == 0
    more = steps + 1 + 300
    assert (
        steps == 0
        or more * step + (more / 300 + 2) * (evaluation + 0.3) + more / 100 * 0.3 > 0.97 * seconds
    )


def test_without_evaluations_their_time_is_free():
    costs = StepCosts(0.125, 1000.0, 0.0)
    assert fit_steps(100.0, costs, config("data.eval_split=null")) == 784


def test_a_budget_too_short_is_refused_with_what_would_do():
    with pytest.raises(
        ConfigError, match=r"allows 0 steps here, at 1\.00 s a step; allow more than \d+ s"
    ):
        fit_steps(1.0, StepCosts(1.0, 5.0, 0.3), config())
    assert fit_steps(LAST_TIMED_STEP * 3.0, StepCosts(1.0, 5.0, 0.3), config()) > LAST_TIMED_STEP


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
    assert config(f"train.time_budget='{text}'").train.time_budget == seconds


@pytest.mark.parametrize("text", ["", "m", "12 minutes", "-5m", "1d", "nan", "0m"])
def test_other_texts_are_no_durations(text):
    with pytest.raises(ConfigError, match=r"train\.time_budget"):
        config(f"train.time_budget='{text}'")
