"""A training state as those who take its steps see it."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from detflow.config.schema import ExperimentConfig
from detflow.distributed.team import Team
from detflow.models.base import Losses
from detflow.runs.plan import Plan
from detflow.training.state import TrainingState
from detflow.training.step import TrainingStep, build_step


class StateTrainee:
    """Implements `distributed.steps.Trainee` for a training state.

    Args:
        state: What is trained.
        config: The resolved configuration.
    """

    def __init__(self, state: TrainingState, config: ExperimentConfig) -> None:
        self._state, self._config = state, config

    @property
    def variables(self) -> Sequence[tf.Variable]:
        """Network, averages and optimiser."""
        return self._state.variables

    def compile_step(self, team: Team) -> TrainingStep:
        """Returns the compiled step for the team's rows."""
        state = self._state
        return build_step(
            state.model, state.optimizer, state.schedule, state.average, self._config, team
        )

    def read_losses(self, losses: Losses) -> list[float]:
        """Returns the total, then the terms in the model's order."""
        names = self._state.model.loss_names
        return [float(losses.total), *(float(losses.parts[name]) for name in names)]

    def last_learning_rate(self) -> float:
        """Returns the learning rate of the latest update, as the optimiser tells it."""
        return float(self._state.optimizer.learning_rate.numpy())

    def learning_rate(self, step: int) -> float:
        """Returns the learning rate of a step, counted from 0."""
        return float(self._state.schedule(tf.constant(step, tf.int64)))

    def set_num_updates(self, number: int) -> None:
        """Tells the optimiser how many updates it has made."""
        self._state.optimizer.iterations.assign(number)

    def follow(self, plan: Plan) -> None:
        """Has the schedule follow a plan from the next step on."""
        self._state.schedule.follow(plan)
