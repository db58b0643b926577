"""The training loop, and what an action may do in it. Does not import TensorFlow.

The loop takes one step after the other. Whatever else happens in a training is an action: checking
and writing down the losses, evaluating, saving, ending in time or early, and whatever a user adds.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detflow.config.schema import ExperimentConfig
from detflow.distributed.steps import Steps, TakenStep
from detflow.process.signals import StopRequest
from detflow.runs.plan import Plan


@dataclass(frozen=True)
class Evaluated:
    """An evaluation of the averaged weights.

    Attributes:
        step: Steps taken before it.
        metrics: As from `metrics.coco_metrics`; None for what could not be measured.
        images: Truth and detections of each image, as `metrics.EvaluatedImage`.
        seconds: What it took.
        rankings: The ranking of each class, as `metrics.Ranking`; empty where nobody kept them.
    """

    step: int
    metrics: Mapping[str, float | None]
    images: Sequence[Any]
    seconds: float
    rankings: Sequence[Any] = ()


NO_TIME_TO_EVALUATE = "the time budget leaves no time to evaluate; the same command makes up for it"
"""Why a run ends with a checkpoint that is not evaluated."""


@dataclass
class Course:
    """Where a training stands. An action of a user reads it, and may call `end`; nothing else.

    Attributes:
        config: The resolved configuration.
        model_dir: The folder of the run, with config.yaml, losses.csv and checkpoints.
        plan: How many steps the run takes, as far as that is known.
        first: Steps that earlier processes of this run have taken.
        step: Steps taken so far; with parameter servers some of them may still be in flight.
        stop: The signal that asked this process to stop, if any.
        network: The `tf_keras.Model` that is trained. Its weights may be read in `at_rest` and
            `on_end` only. Writing to them makes a run that no resume repeats.
        evaluation: The latest evaluation of this process; None before its first one.
        reason: Why the run ends before its last step, for people; None where it does not.
        stopped_by: The signal that ends the run in all its processes, once they have agreed.
        new_total: Of a fit that the other processes do not know yet; 0 where there is none.
    """

    config: ExperimentConfig
    model_dir: Path
    plan: Plan
    first: int = 0
    step: int = 0
    stop: StopRequest = field(default_factory=StopRequest)
    network: Any = None
    evaluation: Evaluated | None = None
    reason: str | None = None
    stopped_by: int | None = None
    new_total: int = 0

    @property
    def total(self) -> int | None:
        """Steps of the whole run; None until a time budget was fitted for the first time."""
        return self.plan.total

    @property
    def is_last_step(self) -> bool:
        """Whether all steps of the plan are taken."""
        return self.total is not None and self.step >= self.total

    @property
    def is_stopping(self) -> bool:
        """Whether the run ends here for another reason than its length."""
        return self.reason is not None or self.stop.signum is not None

    @property
    def is_evaluated(self) -> bool:
        """Whether this process has evaluated the weights of this very step."""
        return self.evaluation is not None and self.evaluation.step == self.step

    def end(self, reason: str) -> None:
        """Ends the run after this step; it is saved, and the same command would go on.

        Args:
            reason: A line for people.
        """
        self.reason = self.reason or reason

    def refit(self, total: int) -> None:
        """Changes the plan from this step on; the chief calls it, and the loop tells the others."""
        self.plan = self.plan.refit(self.step, total)
        self.new_total = total

    def is_due(self, every_steps: int) -> bool:
        """Tells whether this step ends an interval of so many steps, or the run."""
        return self.step > 0 and (self.step % every_steps == 0 or self.is_last_step)


class Action:
    """What happens in a training beside its steps; override what you need, the rest does nothing.

    The order is: detflow's own actions first (finite check, time budget, evaluator, journal,
    display, checkpointer, early stop, the picture of the curves, trackers), then those of
    `train(actions=…)` as they were given. So an action of yours sees a step only after its losses
    were found finite, and `at_rest` after the step was evaluated and saved, where that was due.

    An action that raises ends the training with its exception, as if the process had been killed
    there: nothing more is saved, `close` is called, and the same command goes on from the last
    checkpoint. Steps since then are taken again, with the same numbers, and `on_step` sees them
    again.

    Actions do not take part in exact resume: losses and weights are those of a run without them, as
    long as they leave the weights, TensorFlow's global random state and the files of the model
    directory alone. What an action must remember across a resume it keeps itself.

    Where several processes train together each one calls the actions that it was given. They must
    ask for the weights at rest at the same steps.
    """

    def on_start(self, course: Course) -> None:
        """Called once before the first step of this process; `course.first` tells which."""

    def on_step(self, step: TakenStep, course: Course) -> None:
        """Called once for each step, in order, after it was taken.

        Args:
            step: Its number, counted from 1, its losses, the total first, and its learning rate.
            course: With parameter servers `course.step` may be ahead of `step.number`, and the
                weights may change meanwhile.
        """

    def is_due(self, course: Course) -> bool:
        """Tells whether `at_rest` is to be called after `course.step` steps.

        Called after every step, and once before the first one. It must not change anything.
        """
        return False

    def at_rest(self, course: Course) -> None:
        """Called where `is_due` says so: no step is in flight, the weights are those of the step.

        `course.evaluation` has the metrics where `course.is_evaluated`.
        """

    def on_end(self, course: Course) -> None:
        """Called once after the last step of this process, at rest, unless something has raised.

        `course.stop.signum` and `course.reason` tell why, where it is not the run's last step.
        """

    def close(self) -> None:
        """Called in any case when the training ends, also after an exception: gives things back."""


def run_loop(
    steps: Steps,
    read_batch: Callable[[int], Any],
    actions: Sequence[Action],
    course: Course,
    add_up: Callable[[Sequence[int]], list[int]] = list,
) -> None:
    """Takes steps until the plan is fulfilled, an action ends the run, or a signal does.

    Args:
        steps: Takes them.
        read_batch: Returns the batch of a step, counted from 0.
        actions: What is done beside them, in this order.
        course: Where the training stands; kept up to date.
        add_up: Returns the sums over all processes that train together of equally many integers;
            called once before each step. One process alone needs none.
    """
    with contextlib.ExitStack() as stack:
        for action in actions:
            stack.callback(action.close)
            action.on_start(course)
        steps.follow(course.plan)
        # An interrupted run may have left an evaluation undone.
        _rest(actions, course)
        while not _agree_on_end(course, steps, add_up):
            taken = steps.take(course.step, read_batch(course.step))
            course.step += 1
            must_rest = any(action.is_due(course) for action in actions)
            _report(taken + (steps.join() if must_rest else []), actions, course)
            if must_rest:
                _rest(actions, course)
        _report(steps.join(), actions, course)
        for action in actions:
            action.on_end(course)


def _report(taken: Sequence[TakenStep], actions: Sequence[Action], course: Course) -> None:
    for step in taken:
        for action in actions:
            action.on_step(step, course)


def _rest(actions: Sequence[Action], course: Course) -> None:
    for action in actions:
        # Asked only now: an action before it may have ended the run here.
        if action.is_due(course):
            action.at_rest(course)


def _agree_on_end(
    course: Course, steps: Steps, add_up: Callable[[Sequence[int]], list[int]]
) -> bool:
    """Tells all processes alike whether to stop, by which signal, and the chief's latest fit."""
    signum = course.stop.signum
    terminated, interrupted, ended, total = add_up(
        [
            int(signum == signal.SIGTERM),
            int(signum == signal.SIGINT),
            int(course.is_last_step or course.reason is not None),
            course.new_total,
        ]
    )
    if total:
        if not course.new_total:
            course.refit(total)
        course.new_total = 0
        steps.follow(course.plan)
    if terminated or interrupted:
        course.stopped_by = signal.SIGTERM if terminated else signal.SIGINT
    return bool(terminated or interrupted or ended)
