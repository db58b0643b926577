"""The state of a checkpoint: its step, metrics and digests, read without TensorFlow.

A checkpoint is a folder `ckpt-STEP` with TensorFlow's two files and `state.json`: the step, the
metrics where the step was evaluated, and the size and SHA-256 of the files. Which one is newest and
which is best is found by looking at the folders, so no pointer can be stale or lost.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from detflow.config.schema import EvaluateConfig, TrainConfig
from detflow.errors import ArtifactError
from detflow.publish import FileDigest, read_json_object, verify_files
from detflow.runs.run_dir import STATE_NAME, RunDir

CHECKPOINT_PREFIX = "ckpt"
CHECKPOINT_FILES = (f"{CHECKPOINT_PREFIX}.index", f"{CHECKPOINT_PREFIX}.data-00000-of-00001")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointState:
    """What `state.json` says.

    Attributes:
        step: Optimiser steps taken.
        metrics: Of the averaged weights on the evaluation split; empty where this step was not
            evaluated.
        best_step: The best evaluated step so far, this one included; None before the first
            evaluation.
        best_value: Its metric.
        patience_value: The metric that the next gain is measured against, for early stopping.
        stale_evaluations: Evaluations since that gain.
        files: Size and SHA-256 of the checkpoint's files.
    """

    step: int
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    best_step: int | None = None
    best_value: float | None = None
    patience_value: float | None = None
    stale_evaluations: int = 0
    files: Mapping[str, FileDigest] = field(default_factory=dict)

    def after(
        self,
        step: int,
        metrics: Mapping[str, float | None],
        evaluate: EvaluateConfig,
        train: TrainConfig,
    ) -> CheckpointState:
        """Returns the state of a later step; of two equal values the later one is best.

        Args:
            step: The later step.
            metrics: Its evaluation, or empty.
            evaluate: Which metric counts, and whether high or low is good.
            train: What counts as a gain for early stopping.
        """
        if not metrics:
            return CheckpointState(
                step,
                {},
                self.best_step,
                self.best_value,
                self.patience_value,
                self.stale_evaluations,
            )
        value = metrics.get(evaluate.metric)
        new, best = goodness(value, evaluate), goodness(self.best_value, evaluate)
        best_step, best_value = (
            (step, value)
            if self.best_step is None or new >= best
            else (self.best_step, self.best_value)
        )
        if new > goodness(self.patience_value, evaluate) + train.min_delta:
            return CheckpointState(step, dict(metrics), best_step, best_value, value, 0)
        return CheckpointState(
            step,
            dict(metrics),
            best_step,
            best_value,
            self.patience_value,
            self.stale_evaluations + 1,
        )


def goodness(value: float | None, config: EvaluateConfig) -> float:
    """Turns a metric into a number of which more is better.

    What could not be measured is worse than anything that could.
    """
    if value is None:
        return -math.inf
    return value if config.mode == "max" else -value


def write_state(path: Path, state: CheckpointState) -> None:
    """Writes `state.json` into a checkpoint folder that is being built."""
    (path / STATE_NAME).write_text(json.dumps(asdict(state), indent=2) + "\n")


def is_checkpoint(path: Path) -> bool:
    """Tells whether a folder is meant to be a checkpoint; `read_state` tells whether it is good."""
    return (path / STATE_NAME).is_file()


def read_state(path: Path) -> CheckpointState:
    """Reads a checkpoint folder's state and compares its files with it.

    Raises:
        ArtifactError: Anything is missing, damaged or foreign.
    """
    state_path = path / STATE_NAME
    content = read_json_object(state_path)
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
    verify_files(path, state.files)
    return state


def resolve_checkpoint(name: str, run: RunDir, config: EvaluateConfig) -> Path:
    """Finds the checkpoint that a word means.

    Args:
        name: `best` or `last`.
        run: The model directory.
        config: What best is measured by.

    Returns:
        The folder of a checkpoint whose files are as its state says. Best is the evaluated
        checkpoint of the best metric, the later one of two equals; in a run without evaluations it
        is the last.

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
    evaluated = [state for state in good if state.metrics]
    if name == "last" or not evaluated:
        return run.checkpoint_path(good[-1].step)
    return run.checkpoint_path(
        max(
            evaluated,
            key=lambda state: (goodness(state.metrics.get(config.metric), config), state.step),
        ).step
    )


def find_checkpoint(path: Path, name: str = "best") -> tuple[RunDir, Path]:
    """Finds the run and the checkpoint folder that a path means.

    Args:
        path: A model directory, or a checkpoint folder inside one.
        name: `best` or `last`: which checkpoint of a model directory.

    Raises:
        ArtifactError: The path is neither, or holds no good checkpoint.
    """
    run = RunDir(path)
    if run.config_path.is_file():
        return run, resolve_checkpoint(name, run, run.read_config().evaluate)
    run = RunDir(path.absolute().parent)
    if path.is_dir() and run.config_path.is_file():
        return run, path
    raise ArtifactError(
        "neither an exported folder, nor a model directory, nor a checkpoint inside one", path=path
    )


def list_runs(folder: Path) -> Iterator[RunDir]:
    """Yields the model directories in a folder, sorted by path, and the folder if it is one."""
    candidates = [
        folder,
        *sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink()),
    ]
    for path in candidates:
        if RunDir(path).config_path.is_file():
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
