"""How many steps a time budget comes to."""

from __future__ import annotations

from dataclasses import dataclass

from detflow.config.schema import ExperimentConfig
from detflow.errors import ConfigError

__all__ = ["FIRST_TIMED_STEP", "LAST_TIMED_STEP", "StepCosts", "fit_steps"]

# The first steps compile kernels and fill caches; those after them tell what a step costs. All lie
# in the warm-up, where the learning rate does not depend on the number of steps to come.
FIRST_TIMED_STEP = 8
LAST_TIMED_STEP = 40

# Rather end a little early than late.
_SHARE_USED = 0.98


@dataclass(frozen=True)
class StepCosts:
    """Seconds that a step, an evaluation and a checkpoint take."""

    step: float
    evaluation: float
    checkpoint: float


def fit_steps(seconds: float, costs: StepCosts, config: ExperimentConfig) -> int:
    """Returns the largest number of steps that fits.

    Args:
        seconds: Whole budget, from the first step to the end of the last evaluation.
        costs: As measured on the first steps.
        config: How often the run evaluates and saves.

    Raises:
        ConfigError: Not even the timed steps fit.
    """
    evaluates = config.data.eval_split is not None
    evaluation_and_save = costs.evaluation + costs.checkpoint
    # The last step is evaluated and saved whatever the intervals are.
    left = seconds * _SHARE_USED - (evaluation_and_save if evaluates else costs.checkpoint)
    each = costs.step + costs.checkpoint / config.checkpoint.every_steps
    if evaluates:
        each += evaluation_and_save / config.evaluate.every_steps
    steps = int(left / each)
    if steps <= LAST_TIMED_STEP:
        raise ConfigError(
            f"train.time_budget of {seconds:.0f} s allows {max(0, steps)} steps here, at {costs.step:.2f} s a step",
            remedy=f"allow more than {(LAST_TIMED_STEP + 1) * each + seconds - left:.0f} s",
        )
    return steps
