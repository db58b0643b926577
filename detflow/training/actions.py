"""What a training does beside its steps. Does not import TensorFlow.

The actions stand here in the order in which the recipe lists them; `loop.Action` is their base.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from PIL import Image
from typing_extensions import override

from detflow.distributed.steps import TakenStep
from detflow.errors import ArtifactError
from detflow.metrics.intervals import Interval
from detflow.process.platform import peak_memory
from detflow.publish import publish_file
from detflow.runs.run_dir import RunDir
from detflow.runs.states import CheckpointState, Metrics, describe_not_finite
from detflow.text import count_noun
from detflow.training.budget import Stopwatch
from detflow.training.display import TrainingDisplay
from detflow.training.loop import NO_TIME_TO_EVALUATE, Action, Course, Evaluated
from detflow.types import Sample

if TYPE_CHECKING:
    from detflow.inference.evaluate import Evaluation
    from detflow.runs.checkpoints import Checkpoints
    from detflow.training.journal import Journal


@dataclass(frozen=True)
class WeightCheck:
    """How the process that saves looks at its weights.

    Attributes:
        find_bad: Returns the names of the variables that hold a number which is not finite:
            weights, averages, and what the optimiser keeps.
        number: How many variables there are.
        find_remedy: Returns what the user can do.
    """

    find_bad: Callable[[], Sequence[str]]
    number: int
    find_remedy: Callable[[], str]


class FiniteCheck(Action):
    """Ends the run where its numbers are no longer finite, before anything of that is saved.

    The loss of every step is looked at. It can be finite although the update behind it has spoilt
    the weights: they are looked at before each evaluation and each checkpoint.

    Args:
        run: The model directory.
        images_of: Returns the file names of the images of a step, counted from 0.
        weights: How to look at the weights. The process that has it writes `failure.json`.
    """

    def __init__(
        self,
        run: RunDir,
        images_of: Callable[[int], Sequence[str]],
        weights: WeightCheck | None = None,
    ) -> None:
        self._run, self._images_of, self._weights = run, images_of, weights
        self._latest: TakenStep | None = None

    @override
    def on_step(self, step: TakenStep, course: Course) -> None:
        self._latest = step
        if not all(math.isfinite(value) for value in step.losses):
            self._end(step, f"the loss of step {step.number:,} is {step.losses[0]}", [])

    @override
    def is_due(self, course: Course) -> bool:
        return course.is_due(course.config.evaluate.every_steps) or course.is_due(
            course.config.checkpoint.every_steps
        )

    @override
    def at_rest(self, course: Course) -> None:
        # Before its first step a process has what it has restored, which was looked at.
        if self._weights and self._latest and (bad := self._weights.find_bad()):
            number = self._latest.number
            described = describe_not_finite(bad, self._weights.number)
            self._end(self._latest, f"after step {number:,} {described}", bad)

    @override
    def on_end(self, course: Course) -> None:
        self.at_rest(course)

    def _end(self, step: TakenStep, cause: str, bad: Sequence[str]) -> NoReturn:
        names = list(self._images_of(step.number - 1))
        path, remedy = self._run.failure_path, "the chief says what to do"
        if self._weights:
            record = {
                "step": step.number,
                "learning_rate": step.learning_rate,
                "losses": [str(value) for value in step.losses],
                "images": names,
                "variables": list(bad),
            }
            publish_file(path, json.dumps(record, indent=2) + "\n")
            remedy = f"{self._weights.find_remedy()}; {path.name} has the details"
        raise ArtifactError(
            f"{cause} (learning rate {step.learning_rate:.3g}, images {', '.join(names)})",
            path=self._run.path,
            remedy=remedy,
        )


class Evaluator(Action):
    """Evaluates the averaged weights after every so many steps and after the last one.

    An evaluation that a signal or the time budget interrupts is given up. The run is saved without
    its metrics, and the resumed run makes up for it: so the best checkpoint is the one that it
    would have been.

    Args:
        evaluate: Judges the averaged weights on samples.
        read_samples: Returns the samples of an evaluation.
        every_steps: How often.
        is_evaluated: Tells whether the checkpoint of a step has metrics already.
        stopwatch: Counts what it takes.
        announce: Called before each evaluation.
        is_late: Tells whether the evaluation is to be given up.
    """

    def __init__(
        self,
        evaluate: Callable[[Iterable[Sample]], Evaluation],
        read_samples: Callable[[], Iterable[Sample]],
        every_steps: int,
        *,
        is_evaluated: Callable[[int], bool],
        stopwatch: Stopwatch,
        announce: Callable[[], None] = lambda: None,
        is_late: Callable[[], bool] = lambda: False,
    ) -> None:
        self._evaluate, self._read_samples = evaluate, read_samples
        self._every_steps, self._is_evaluated = every_steps, is_evaluated
        self._stopwatch, self._announce, self._is_late = stopwatch, announce, is_late

    @override
    def is_due(self, course: Course) -> bool:
        return (
            course.is_due(self._every_steps)
            and not course.is_stopping
            and not course.is_evaluated
            and not self._is_evaluated(course.step)
        )

    @override
    def at_rest(self, course: Course) -> None:
        self._announce()
        began = self._stopwatch.now()
        try:
            with self._stopwatch.measure("evaluation"):
                evaluation = self._evaluate(self._until_interrupted(course))
        except _Interrupted:
            if not course.is_stopping:
                course.end(NO_TIME_TO_EVALUATE)
            return
        course.evaluation = Evaluated(
            course.step,
            evaluation.metrics,
            evaluation.images,
            self._stopwatch.now() - began,
            evaluation.rankings,
        )

    def _until_interrupted(self, course: Course) -> Iterator[Sample]:
        for sample in self._read_samples():
            if course.is_stopping or self._is_late():
                raise _Interrupted
            yield sample


class _Interrupted(Exception):
    """An evaluation was given up because the run is to stop."""


class KeepJournal(Action):
    """Writes down every step and every evaluation.

    Args:
        journal: Where to; `Checkpointer` flushes it.
        draw: Returns named pictures of an evaluation's images.
    """

    def __init__(
        self,
        journal: Journal,
        draw: Callable[[Sequence[Any]], Iterable[tuple[str, Image.Image]]],
    ) -> None:
        self._journal, self._draw = journal, draw

    @override
    def on_start(self, course: Course) -> None:
        self._journal.configured(course.first, course.config)

    @override
    def on_step(self, step: TakenStep, course: Course) -> None:
        self._journal.step(step.number, step.losses, step.learning_rate)

    @override
    def is_due(self, course: Course) -> bool:
        return course.is_evaluated

    @override
    def at_rest(self, course: Course) -> None:
        if evaluation := course.evaluation:
            self._journal.evaluated(course.step, evaluation.metrics, self._draw(evaluation.images))


class ShowProgress(Action):
    """Shows steps and evaluations to people.

    Args:
        display: Where.
        images_per_step: For the rate.
        best_step: Returns the best step once an evaluation counts.
        judge_gain: Returns a few words about an evaluation beside the best one before, from its
            step, its AP, its rankings and the best step.
    """

    def __init__(
        self,
        display: TrainingDisplay,
        images_per_step: int,
        best_step: Callable[[Evaluated], int | None] = lambda evaluation: None,
        judge_gain: Callable[
            [int, float | None, Sequence[Any], int | None], str
        ] = lambda step, ap, rankings, best: "",
    ) -> None:
        self._display, self._images_per_step = display, images_per_step
        self._best_step, self._judge_gain = best_step, judge_gain
        self._total: int | None = None

    @override
    def on_start(self, course: Course) -> None:
        self._total = course.total
        self._display.start(course.first, course.total, self._images_per_step)

    @override
    def on_step(self, step: TakenStep, course: Course) -> None:
        self._tell_total(course)
        self._display.step(step.number, step.losses[0])
        if step.number == course.first + 1 and (peak_bytes := peak_memory()):
            self._display.note(
                f"memory after the first step: {peak_bytes / 1e6:,.0f} MB at its peak"
            )

    @override
    def is_due(self, course: Course) -> bool:
        return course.is_evaluated

    @override
    def at_rest(self, course: Course) -> None:
        if evaluation := course.evaluation:
            best = self._best_step(evaluation)
            gain = self._judge_gain(
                course.step, evaluation.metrics["AP"], evaluation.rankings, best
            )
            self._display.evaluated(course.step, evaluation.metrics, best, evaluation.seconds, gain)

    @override
    def on_end(self, course: Course) -> None:
        # A budget may have been fitted at the very step that ended the run.
        self._tell_total(course)

    @override
    def close(self) -> None:
        self._display.stop()

    def _tell_total(self, course: Course) -> None:
        if course.total is not None and course.total != self._total:
            self._total = course.total
            self._display.set_steps(course.total)


class Checkpointer(Action):
    """Saves after every so many steps, after each evaluation, and where the run ends.

    Args:
        checkpoints: Saves.
        every_steps: How often.
        flush: Brings to the disk what was written down so far; called before each checkpoint, so
            that no step before it is missing.
        stopwatch: Counts what it takes.
        measure_first: Returns `CheckpointState.first_images` of an evaluation's images.
        find_intervals: Returns `CheckpointState.intervals` of an evaluated step.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        every_steps: int,
        *,
        flush: Callable[[], None],
        stopwatch: Stopwatch,
        measure_first: Callable[[Sequence[Any]], Metrics] = lambda images: {},
        find_intervals: Callable[[int], Mapping[str, Interval]] = lambda step: {},
    ) -> None:
        self._checkpoints, self._every_steps = checkpoints, every_steps
        self._flush, self._stopwatch = flush, stopwatch
        self._measure_first, self._find_intervals = measure_first, find_intervals
        self._saved: int | None = None

    @override
    def is_due(self, course: Course) -> bool:
        is_new = course.step > course.first
        return course.is_evaluated or (is_new and course.is_due(self._every_steps))

    @override
    def at_rest(self, course: Course) -> None:
        evaluation = course.evaluation if course.is_evaluated else None
        with self._stopwatch.measure("checkpoint"):
            self._flush()
            metrics = evaluation.metrics if evaluation else {}
            first = self._measure_first(evaluation.images) if evaluation else {}
            intervals = self._find_intervals(course.step) if evaluation else {}
            self._checkpoints.save(course.step, metrics, first, intervals)
        self._saved = course.step

    @override
    def on_end(self, course: Course) -> None:
        if course.first < course.step != self._saved:
            self.at_rest(course)


class EarlyStop(Action):
    """Ends the run after so many evaluations in a row without a gain.

    Args:
        patience: How many.
        read_state: Returns the state of the newest checkpoint; None before the first one.
    """

    def __init__(self, patience: int, read_state: Callable[[], CheckpointState | None]) -> None:
        self._patience, self._read_state = patience, read_state

    @override
    def is_due(self, course: Course) -> bool:
        state = self._read_state()
        return (
            state is not None
            and state.step == course.step
            and not course.is_last_step
            and state.stale_evaluations >= self._patience
        )

    @override
    def at_rest(self, course: Course) -> None:
        if state := self._read_state():
            count = count_noun(state.stale_evaluations, "evaluation")
            course.end(f"stopped early: {count} without a gain")
