"""The state of a checkpoint: what it is, how good, and what it belongs to; without TensorFlow.

A checkpoint is a folder `ckpt-STEP` with TensorFlow's two files and `state.json`: the step, every
evaluation so far, which step is best by which metric, the record of the run, size and SHA-256 of
the files, and a digest of all that. Which checkpoint is newest and which is best is found by
looking at the folders, so no pointer can be stale or lost.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from detflow.config.schema import EvaluateConfig, TrainConfig
from detflow.digests import FileDigest, read_sealed_object, seal, verify_files
from detflow.errors import ArtifactError
from detflow.metrics.intervals import Interval
from detflow.runs.record import RunRecord
from detflow.runs.run_dir import STATE_NAME, RunDir
from detflow.storage.kinds import describe_mistake
from detflow.text import count_noun

CHECKPOINT_PREFIX = "ckpt"
CHECKPOINT_FILES = (f"{CHECKPOINT_PREFIX}.index", f"{CHECKPOINT_PREFIX}.data-00000-of-00001")

NUM_FIRST_IMAGES = 32
"""AP on so many first images of the evaluation split is kept for an export to compare with."""

Metrics = Mapping[str, float | None]
"""Values by name; None for what could not be measured."""

_Count = Annotated[int, Field(ge=0)]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointState:
    """What `state.json` says.

    Attributes:
        step: Optimiser steps taken.
        metrics: Of the averaged weights on the evaluation split; empty where this step was not
            evaluated.
        best_step: The best step so far whose metric could be measured, this one included; None
            before there was one.
        best_value: Its metric.
        patience_value: The metric that the next gain is measured against, for early stopping.
        stale_evaluations: Evaluations since that gain, those left out where there was nothing to
            measure.
        files: Size and SHA-256 of the checkpoint's files.
        metric: What `best_value` and `patience_value` are values of; None before the first
            evaluation.
        mode: Whether the highest or the lowest is best.
        evaluations: Each step that was evaluated so far, with its metrics.
        intervals: Where AP and AP50 of this step lie for 90 % of a bootstrap over the images, as
            far as it is known.
        first_images: AP and AP50 of this step on the first `NUM_FIRST_IMAGES` images of the
            evaluation split; empty where it was not evaluated.
        run: The record of the run, as `RunRecord.to_json` returned it.
    """

    step: _Count
    metrics: Metrics = field(default_factory=dict)
    best_step: _Count | None = None
    best_value: float | None = None
    patience_value: float | None = None
    stale_evaluations: _Count = 0
    files: Mapping[str, FileDigest] = field(default_factory=dict)
    metric: str | None = None
    mode: Literal["max", "min"] = "max"
    evaluations: tuple[tuple[_Count, Metrics], ...] = ()
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    first_images: Metrics = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> RunRecord:
        """What the checkpoint belongs to."""
        return RunRecord.from_json(self.run, Path(f"ckpt-{self.step}") / STATE_NAME)

    def after(
        self, step: int, metrics: Metrics, evaluate: EvaluateConfig, train: TrainConfig
    ) -> CheckpointState:
        """Returns the state of a later step; of two equal values the later one is best.

        A metric that could not be measured says nothing: it neither is best nor counts as an
        evaluation without a gain.

        Args:
            step: The later step.
            metrics: Its evaluation, or empty.
            evaluate: Which metric counts, and whether high or low is good; that of this state,
                where it has one.
            train: What counts as a gain for early stopping.
        """
        state = dataclasses.replace(
            self, step=step, metrics={}, intervals={}, first_images={}, files={}
        )
        if not metrics:
            return state
        value = metrics.get(evaluate.metric)
        before = tuple(entry for entry in self.evaluations if entry[0] < step)
        state = dataclasses.replace(
            state,
            metrics=dict(metrics),
            metric=evaluate.metric,
            mode=evaluate.mode,
            evaluations=(*before, (step, dict(metrics))),
        )
        if value is None:
            return state
        new = goodness(value, evaluate.mode)
        if self.best_step is None or new >= goodness(self.best_value, evaluate.mode):
            state = dataclasses.replace(state, best_step=step, best_value=value)
        if new > goodness(self.patience_value, evaluate.mode) + train.min_delta:
            return dataclasses.replace(state, patience_value=value, stale_evaluations=0)
        return dataclasses.replace(state, stale_evaluations=self.stale_evaluations + 1)

    def ranked_by(self, evaluate: EvaluateConfig, steps: Collection[int]) -> CheckpointState:
        """Returns the state with best and patience by another metric, which may be none at all.

        Values of two metrics cannot be compared: the best is chosen anew among the evaluations, and
        patience begins anew with it.

        Args:
            evaluate: Which metric counts from here on, and whether high or low is good.
            steps: Steps whose checkpoints are still there.
        """
        if self.metric is None or (self.metric, self.mode) == (evaluate.metric, evaluate.mode):
            return self
        measured = [
            (goodness(value, evaluate.mode), step, value)
            for step, metrics in self.evaluations
            if step in steps and (value := metrics.get(evaluate.metric)) is not None
        ]
        _, best_step, best_value = max(measured, default=(0.0, None, None))
        return dataclasses.replace(
            self,
            metric=evaluate.metric,
            mode=evaluate.mode,
            best_step=best_step,
            best_value=best_value,
            patience_value=best_value,
            stale_evaluations=0,
        )


def goodness(value: float | None, mode: Literal["max", "min"]) -> float:
    """Turns a metric into a number of which more is better.

    What could not be measured is worse than anything that could.
    """
    if value is None:
        return -math.inf
    return value if mode == "max" else -value


def write_state(path: Path, state: CheckpointState) -> None:
    """Writes `state.json` into a checkpoint folder that is being built."""
    (path / STATE_NAME).write_text(json.dumps(seal(asdict(state)), indent=2) + "\n")


def is_checkpoint(path: Path) -> bool:
    """Tells whether a folder is meant to be a checkpoint; `read_state` tells whether it is good."""
    return (path / STATE_NAME).is_file()


def read_state(path: Path) -> CheckpointState:
    """Reads a checkpoint folder's state and compares its files with it.

    Raises:
        ArtifactError: Anything is missing, damaged or foreign.
    """
    state_path = path / STATE_NAME
    content = read_sealed_object(state_path)
    try:
        state = _STATE.validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise ArtifactError(
            f"not a checkpoint's state: {place}: {problem['msg']}", path=state_path
        ) from None
    if set(state.files) != set(CHECKPOINT_FILES):
        raise ArtifactError(
            f"not a checkpoint's state: it lists {', '.join(sorted(state.files))}", path=state_path
        )
    if RunDir.step_of(path) not in (None, state.step):
        raise ArtifactError(
            f"it is of step {state.step:,}, and the folder is called {path.name}", path=state_path
        )
    RunRecord.from_json(state.run, state_path)
    verify_files(path, state.files)
    return state


def find_newest(run: RunDir) -> CheckpointState | None:
    """Returns the state of the newest good checkpoint; None where the run has never saved.

    Raises:
        ArtifactError: There were checkpoints, and none is good.
    """
    for step in reversed(run.checkpoint_steps()):
        try:
            return read_state(run.checkpoint_path(step))
        except ArtifactError:
            # Whoever restores it says so, and sets it aside.
            continue
    if run.had_checkpoints():
        raise nothing_to_restore(run)
    return None


def nothing_to_restore(run: RunDir) -> ArtifactError:
    """Returns the error of a run that has saved, and of whose checkpoints none is good."""
    return ArtifactError(
        "this run saved checkpoints, but none can be restored",
        path=run.path,
        remedy="restore one from a backup, or train into another --model-dir",
    )


def describe_not_finite(names: Sequence[str], number: int) -> str:
    """Returns what is wrong with weights that have diverged.

    Args:
        names: The variables with numbers that are not finite.
        number: How many variables there are.
    """
    return (
        f"{len(names)} of {count_noun(number, 'variable')} hold numbers that are not finite, "
        f"such as {names[0]}"
    )


def find_record(run: RunDir, newest: CheckpointState | None) -> RunRecord | None:
    """Returns what a run belongs to; None for a new one.

    The newest checkpoint proves it. Only a plan of steps may be further ahead in run.json, which is
    written at each fit of a time budget.

    Args:
        run: The model directory.
        newest: As from `find_newest`.

    Raises:
        ArtifactError: run.json is damaged, or is not that of the checkpoint; or label_map.pbtxt has
            other classes.
    """
    written = None
    try:
        written = run.read_record()
    except ArtifactError as error:
        if newest is None:
            raise
        raise ArtifactError(
            error.cause,
            path=error.path,
            remedy=f"remove it: it is made again from ckpt-{newest.step}",
        ) from None
    if newest is None:
        return written
    own = newest.record
    run.require_classes(own.label_map)
    if written is None:
        _log.warning("%s is missing and made again from ckpt-%d", run.record_path.name, newest.step)
        return own
    if written.is_of_one_run(own):
        ahead = written.plan.fits[: len(own.plan.fits)] == own.plan.fits
        return written if ahead else own
    # Killed after a checkpoint under changed settings and before run.json, or the checkpoints since
    # then are lost.
    if written.is_earlier(own) or own.is_earlier(written):
        return own
    raise ArtifactError(
        f"it is not that of the run that ckpt-{newest.step} belongs to",
        path=run.record_path,
        remedy=f"put the right one back, or remove it: it is made again from ckpt-{newest.step}",
    )


def resolve_checkpoint(name: str, run: RunDir) -> Path:
    """Finds the checkpoint that a word means.

    Args:
        name: `best` or `last`.
        run: The model directory.

    Returns:
        The folder of a checkpoint whose files are as its state says. Best is the checkpoint of the
        best metric, by the metric of the newest one, and the later one of two equals; where nothing
        could be measured it is the last.

    Raises:
        ArtifactError: There is none.
    """
    good: list[CheckpointState] = []
    for path, state in list_checkpoints(run):
        if isinstance(state, CheckpointState):
            good.append(state)
        else:
            _log.warning("%s is passed over: %s", path.name, state)
    if not good:
        raise ArtifactError(
            "no checkpoint that can be restored", path=run.path, remedy="train first: detflow train"
        )
    newest = good[-1]
    measured = [
        (goodness(value, newest.mode), state.step)
        for state in good
        if newest.metric and (value := state.metrics.get(newest.metric)) is not None
    ]
    if name == "last" or not measured:
        return run.checkpoint_path(newest.step)
    return run.checkpoint_path(max(measured)[1])


def find_checkpoint(path: Path, name: str = "best") -> tuple[RunDir, Path]:
    """Finds the run and the checkpoint folder that a path means.

    Args:
        path: A model directory, or a checkpoint folder inside one.
        name: `best` or `last`: which checkpoint of a model directory.

    Raises:
        ArtifactError: The path is neither, or holds no good checkpoint.
    """
    run = RunDir(path)
    if run.exists():
        return run, resolve_checkpoint(name, run)
    if is_checkpoint(path) or (path.is_dir() and RunDir.step_of(path) is not None):
        return RunDir(path.absolute().parent), path
    cause, remedy = describe_mistake(path, "run")
    raise ArtifactError(cause, path=path, remedy=remedy)


def list_runs(folder: Path) -> Iterator[RunDir]:
    """Yields the model directories in a folder, sorted by path, and the folder if it is one."""
    candidates = [
        folder,
        *sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink()),
    ]
    for path in candidates:
        if RunDir(path).exists():
            yield RunDir(path)


def list_checkpoints(run: RunDir) -> Iterator[tuple[Path, CheckpointState | ArtifactError]]:
    """Yields the checkpoints of a run, oldest first, with their state or what is wrong."""
    for step in run.checkpoint_steps():
        path = run.checkpoint_path(step)
        try:
            yield path, read_state(path)
        except ArtifactError as error:
            yield path, error


_STATE = TypeAdapter(CheckpointState)
