"""What a run says when it goes on: its best step, and what accepted changes do to it."""

from __future__ import annotations

from collections.abc import Iterator

from detflow.runs.states import CheckpointState
from detflow.tables import format_metric
from detflow.training.optimizer import LearningRate
from detflow.training.preflight import Start

# The learning rates of two plans that differ by less are called the same.
_TOLD_SHARE = 0.01


def describe_best(state: CheckpointState) -> str:
    """Returns the best step so far and its value, with the metric that it is a value of."""
    if state.best_step is None:
        return ""
    extreme = "lowest" if state.mode == "min" else "highest"
    return (
        f"; best is step {state.best_step:,} with {state.metric} "
        f"{format_metric(state.best_value)}, the {extreme} of the checkpoints that are left"
    )


def describe_changes(start: Start, step: int, schedule: LearningRate) -> Iterator[str]:
    """Yields the changes that the user has accepted, and what they do to the learning rate.

    Args:
        start: With the changes.
        step: Steps taken before.
        schedule: Of the run; it follows the start's plan afterwards.
    """
    if not start.changes or start.before is None:
        return
    for change in start.changes:
        yield f"accepted: {change}"
    before = LearningRate(start.before.config.train)
    before.follow(start.before.plan)
    schedule.follow(start.plan)
    old, new = float(before(step)), float(schedule(step))
    if abs(new - old) <= _TOLD_SHARE * old:
        yield f"the learning rate goes on from {new:.3g} without a jump"
        return
    factor = f"{new / old:.1f} times" if new > old else f"1/{old / new:.1f} of"
    line = f"the learning rate of the next step is {new:.3g}, {factor} {old:.3g} as it was planned"
    if start.config.train.resume_schedule == "replace":
        line += "; train.resume_schedule=continue would go on without a jump"
    yield line
