import pytest

from detflow.config.schema import EvaluateConfig, TrainConfig
from detflow.runs.states import CheckpointState


def walk(values, *, mode="max", min_delta=0.0):
    state = CheckpointState(0)
    for step, value in enumerate(values, start=1):
        state = state.after(
            step, {"AP": value}, EvaluateConfig(mode=mode), TrainConfig(min_delta=min_delta)
        )
    return state


@pytest.mark.parametrize(
    ("values", "mode", "best", "stale"),
    [
        ([0.1, 0.3, 0.2], "max", 2, 1),
        ([0.1, 0.3, 0.2], "min", 1, 2),
        ([0.5, 0.5], "max", 2, 1),
        ([None, None], "max", 2, 2),
        ([None, 0.0, None], "max", 2, 1),
    ],
)
def test_best_and_patience(values, mode, best, stale):
    state = walk(values, mode=mode)
    assert (state.best_step, state.stale_evaluations) == (best, stale)


def test_a_gain_is_measured_from_the_last_gain_so_that_small_steps_add_up():
    assert walk([0.10, 0.14, 0.18, 0.22], min_delta=0.05).stale_evaluations == 1
    assert walk([0.10, 0.14, 0.16], min_delta=0.05).stale_evaluations == 0
    assert walk([0.10, 0.14], min_delta=0.05).best_step == 2


def test_a_step_without_evaluation_changes_nothing_but_the_step():
    before = walk([0.1, 0.3, 0.2])
    after = before.after(9, {}, EvaluateConfig(), TrainConfig())
    assert (after.step, after.metrics) == (9, {})
    assert (after.best_step, after.best_value, after.stale_evaluations) == (2, 0.3, 1)
