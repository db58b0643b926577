"""How a training takes its steps: each at once, or several in flight at the workers of parameter servers."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Protocol

import tensorflow as tf

from detflow.config.schema import ExperimentConfig
from detflow.distributed.parameter_servers.coordinator import Coordinator
from detflow.distributed.team import Distribution
from detflow.models.base import Losses
from detflow.training.inputs import Batch
from detflow.training.state import TrainingState
from detflow.training.step import build_step

__all__ = ["ImmediateSteps", "ScheduledSteps", "Steps", "TakenStep"]

# One that a worker computes and one that waits for it: so no worker waits for the chief.
_IN_FLIGHT_PER_WORKER = 2


class TakenStep(NamedTuple):
    """A step's number, counted from 1, its losses, the total first, and the learning rate of its update."""

    number: int
    losses: list[float]
    learning_rate: float


class Steps(Protocol):
    """Takes the steps of a training; building it compiles them."""

    @property
    def in_flight(self) -> int:
        """Steps that were begun and not returned yet."""

    def take(self, step: int, batch: Batch) -> list[TakenStep]:
        """Begins a step, counted from 0; returns those that have ended, in their order."""

    def join(self) -> list[TakenStep]:
        """Waits for those in flight and returns them; then the training's state is that of the last step."""

    def set_total(self, steps: int) -> None:
        """Tells the schedule how many there will be; nothing is in flight."""


class ImmediateSteps:
    """Each step ends before the next one begins; where several processes train together, all of them take it.

    Args:
        state: What is trained.
        config: Of the run.
        distribution: What the state was built on.
    """

    in_flight = 0

    def __init__(
        self, state: TrainingState, config: ExperimentConfig, distribution: Distribution
    ) -> None:
        self._state, self._distribution = state, distribution
        self._take_step = build_step(
            state.model, state.optimizer, state.schedule, state.average, config, distribution
        )
        self._take_step.trace()

    def take(self, step: int, batch: Batch) -> list[TakenStep]:
        """See `Steps`."""
        with self._distribution.lost_workers():
            losses = _as_floats(
                self._take_step(step, batch.images, batch.boxes, batch.classes), self._state
            )
        # Under a schedule the optimiser tells the rate of its latest step.
        return [TakenStep(step + 1, losses, float(self._state.optimizer.learning_rate.numpy()))]

    def join(self) -> list[TakenStep]:
        """See `Steps`."""
        return []

    def set_total(self, steps: int) -> None:
        """See `Steps`."""
        self._state.schedule.set_steps(steps)


class ScheduledSteps:
    """The workers of parameter servers take whole steps, several at a time.

    Args:
        coordinator: The connection to them.
        state: What is trained, in this process: evaluated and saved as ever. The parameter servers
            get a copy of it, and `join` brings it up to date.
        copy: The same, on the parameter servers.
        config: Of the run.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        state: TrainingState,
        copy: TrainingState,
        config: ExperimentConfig,
    ) -> None:
        self._coordinator, self._state, self._copy = coordinator, state, copy
        self._flight: deque[tuple[int, tf.distribute.coordinator.RemoteValue]] = deque()
        self._limit = _IN_FLIGHT_PER_WORKER * coordinator.num_workers

        def write(values: list[tf.Tensor]) -> None:
            for variable, value in zip(copy.variables, values, strict=True):
                variable.assign(value)

        tf.function(write, autograph=False)([variable.read_value() for variable in state.variables])
        read = tf.function(
            lambda: [variable.read_value() for variable in copy.variables], autograph=False
        )
        self._read = read.get_concrete_function()
        self._take_step = build_step(
            copy.model,
            copy.optimizer,
            copy.schedule,
            copy.average,
            config,
            coordinator.distribution,
        )
        self._take_step.trace()

    @property
    def in_flight(self) -> int:
        """See `Steps`."""
        return len(self._flight)

    def take(self, step: int, batch: Batch) -> list[TakenStep]:
        """See `Steps`."""
        function = self._take_step.function(batch.images)
        value = self._coordinator.schedule(
            function, tf.constant(step, tf.int64), batch.images, batch.boxes, batch.classes
        )
        self._flight.append((step, value))
        return [self._end_oldest()] if self.in_flight >= self._limit else []

    def join(self) -> list[TakenStep]:
        """See `Steps`."""
        taken = [self._end_oldest() for _ in range(self.in_flight)]
        if taken:
            # A step that was given to another worker after its own was lost may have been counted
            # twice.
            self._copy.optimizer.iterations.assign(taken[-1].number)
            for variable, value in zip(self._state.variables, self._read(), strict=True):
                variable.assign(value)
        return taken

    def set_total(self, steps: int) -> None:
        """See `Steps`."""
        for state in (self._state, self._copy):
            state.schedule.set_steps(steps)

    def _end_oldest(self) -> TakenStep:
        step, value = self._flight.popleft()
        losses = _as_floats(value.fetch(), self._state)
        # The optimiser's own is of whichever step came last.
        return TakenStep(step + 1, losses, float(self._state.schedule(tf.constant(step, tf.int64))))


def _as_floats(losses: Losses, state: TrainingState) -> list[float]:
    return [float(losses.total), *(float(losses.parts[name]) for name in state.model.loss_names)]
