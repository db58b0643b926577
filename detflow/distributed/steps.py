"""How a training takes its steps, whoever computes them. Does not import TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from detflow.runs.plan import Plan

if TYPE_CHECKING:
    from detflow.distributed.team import Team


class TakenStep(NamedTuple):
    """A step that has ended.

    Attributes:
        number: Counted from 1.
        losses: The total, then the terms that it is the sum of.
        learning_rate: Of its update.
    """

    number: int
    losses: Sequence[float]
    learning_rate: float


class Steps(Protocol):
    """Takes the steps of a training. Building it compiles them."""

    @property
    def in_flight(self) -> int:
        """Number of steps that were begun and not returned yet."""

    def take(self, step: int, batch: Any) -> list[TakenStep]:
        """Begins a step, counted from 0; returns those that have ended meanwhile, in order."""

    def join(self) -> list[TakenStep]:
        """Waits for the steps in flight and returns them; then the weights are at rest."""

    def follow(self, plan: Plan) -> None:
        """Has the schedule of the learning rate follow a plan from the next step on."""


class Trainee(Protocol):
    """What the steps train: weights, optimiser and schedule."""

    @property
    def variables(self) -> Sequence[Any]:
        """Everything that a step changes, in an order that all processes have in common."""

    def compile_step(self, team: Team) -> Any:
        """Returns the compiled step (`training.step.TrainingStep`) for the team's rows."""

    def read_losses(self, losses: Any) -> list[float]:
        """Returns what a step returned as floats: the total, then its terms."""

    def last_learning_rate(self) -> float:
        """Returns the learning rate of the latest update."""

    def learning_rate(self, step: int) -> float:
        """Returns the learning rate of a step, counted from 0."""

    def set_num_updates(self, number: int) -> None:
        """Tells the optimiser how many updates it has made."""

    def follow(self, plan: Plan) -> None:
        """Has the schedule of the learning rate follow a plan."""


BuildTrainee = Callable[["Team"], Trainee]
"""Builds another trainee of the same kind, whose variables live where the team says."""


class ImmediateSteps:
    """Each step ends before the next one begins; all processes of the team take it together.

    Args:
        trainee: What is trained.
        team: What the trainee was built on.
    """

    in_flight = 0

    def __init__(self, trainee: Trainee, team: Team) -> None:
        self._trainee, self._team = trainee, team
        self._step = trainee.compile_step(team)
        self._step.trace()

    def take(self, step: int, batch: Any) -> list[TakenStep]:
        """Takes the step and returns it."""
        with self._team.losses_of_others():
            losses = self._trainee.read_losses(
                self._step(step, batch.images, batch.boxes, batch.classes)
            )
        return [TakenStep(step + 1, losses, self._trainee.last_learning_rate())]

    def join(self) -> list[TakenStep]:
        """Returns nothing: no step is ever in flight."""
        return []

    def follow(self, plan: Plan) -> None:
        """Hands the plan on to the schedule."""
        self._trainee.follow(plan)
