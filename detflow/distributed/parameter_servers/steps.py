"""Steps that the workers of parameter servers take, several at a time."""

from __future__ import annotations

from collections import deque
from typing import Any

import tensorflow as tf

from detflow.distributed.parameter_servers.coordinator import Coordinator, lost_servers
from detflow.distributed.steps import TakenStep, Trainee
from detflow.runs.plan import Plan

# Two steps a worker are under way: one that it computes and one that is queued, so that it does not
# wait for the chief.
_IN_FLIGHT_PER_WORKER = 2


class ScheduledSteps:
    """The workers of parameter servers take whole steps, several at a time.

    Args:
        coordinator: The connection to them.
        trainee: What is trained, in this process, where it is evaluated and saved. `join` brings
            it up to date.
        copy: The same on the parameter servers; it starts with the trainee's values.
    """

    def __init__(self, coordinator: Coordinator, trainee: Trainee, copy: Trainee) -> None:
        self._coordinator, self._trainee, self._copy = coordinator, trainee, copy
        self._flight: deque[tuple[int, tf.distribute.coordinator.RemoteValue]] = deque()
        self._limit = _IN_FLIGHT_PER_WORKER * coordinator.num_workers

        def write(values: list[tf.Tensor]) -> None:
            for variable, value in zip(copy.variables, values, strict=True):
                variable.assign(value)

        tf.function(write, autograph=False)(
            [variable.read_value() for variable in trainee.variables]
        )
        read = tf.function(
            lambda: [variable.read_value() for variable in copy.variables], autograph=False
        )
        self._read = read.get_concrete_function()
        self._step = copy.compile_step(coordinator.team)
        self._step.trace()

    @property
    def in_flight(self) -> int:
        """Number of steps that were handed out and not returned yet."""
        return len(self._flight)

    def take(self, step: int, batch: Any) -> list[TakenStep]:
        """Hands a step out; returns the oldest one once as many are in flight as the workers use."""
        with lost_servers():
            value = self._coordinator.schedule(
                self._step.function(batch.images),
                tf.constant(step, tf.int64),
                batch.images,
                batch.boxes,
                batch.classes,
            )
            self._flight.append((step, value))
            return [self._end_oldest()] if self.in_flight >= self._limit else []

    def join(self) -> list[TakenStep]:
        """Waits for all steps in flight, and takes the weights over from the parameter servers."""
        with lost_servers():
            taken = [self._end_oldest() for _ in range(self.in_flight)]
            if taken:
                # A step that was given to another worker after its own was lost may have been
                # counted twice.
                self._copy.set_num_updates(taken[-1].number)
                for variable, value in zip(self._trainee.variables, self._read(), strict=True):
                    variable.assign(value)
        return taken

    def follow(self, plan: Plan) -> None:
        """Hands the plan on to the schedules here and on the parameter servers."""
        with lost_servers():
            for trainee in (self._trainee, self._copy):
                trainee.follow(plan)

    def _end_oldest(self) -> TakenStep:
        step, value = self._flight.popleft()
        losses = self._trainee.read_losses(value.fetch())
        # The optimiser would tell the rate of whichever step came last.
        return TakenStep(step + 1, losses, self._trainee.learning_rate(step))
