"""Checkpoints: saved whole or not at all, verified before they are believed, the best one kept.

A checkpoint is a folder `ckpt-STEP` with TensorFlow's two files and `state.json`: the step, the metrics where the step was
evaluated, and the size and SHA-256 of the files. Which one is newest and which is best is found by looking at the folders, so no
pointer can be stale or lost.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras

from detflow.engine.faults import write_faults
from detflow.errors import ArtifactError
from detflow.publish import FileDigest, digest_file, publish_directory, publish_file, read_json_object, verify_files
from detflow.rundir import RunDir

__all__ = ["CheckpointState", "Checkpoints", "WeightAverage", "read_state", "resolve_checkpoint", "restore_weights"]

_PREFIX = "ckpt"
_FILES = (f"{_PREFIX}.index", f"{_PREFIX}.data-00000-of-00001")
_STATE_NAME = "state.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointState:
    """What `state.json` says.

    Attributes:
        step: Optimiser steps taken.
        metrics: Of the averaged weights on the evaluation split; empty where this step was not evaluated.
        best_step: The best evaluated step so far, this one included; None before the first evaluation.
        best_value: Its metric.
        files: Size and SHA-256 of the checkpoint's files.
    """

    step: int
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    best_step: int | None = None
    best_value: float | None = None
    files: Mapping[str, FileDigest] = field(default_factory=dict)


class WeightAverage(tf.Module):  # type: ignore[misc]
    """Exponential moving average of all variables of a network, batch norm statistics included.

    The decay at step s is min(decay, (1 + s) / (10 + s)), so that the first steps are forgotten soon.
    """

    def __init__(self, network: tf_keras.Model, decay: float) -> None:
        super().__init__()
        self._sources = network.variables
        self._decay = decay
        self.averages = [tf.Variable(source, trainable=False, name=f"average_{i}") for i, source in enumerate(self._sources)]

    def update(self, step: tf.Tensor) -> None:
        """Takes the current values in; `step` is a scalar, the number of updates before this one."""
        count = tf.cast(step, tf.float32)
        share = 1.0 - tf.minimum(self._decay, (1.0 + count) / (10.0 + count))
        for average, source in zip(self.averages, self._sources, strict=True):
            average.assign_add(share * (source - average))

    def assign_to_network(self) -> None:
        """Overwrites the network's variables with the averages."""
        for average, source in zip(self.averages, self._sources, strict=True):
            source.assign(average)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Puts the averages into the network for the block, then the exact values from before back."""
        before = [tf.identity(source) for source in self._sources]
        self.assign_to_network()
        try:
            yield
        finally:
            for value, source in zip(before, self._sources, strict=True):
                source.assign(value)


class Checkpoints:
    """Saves and restores the state of one training run.

    Args:
        run: The model directory; its lock is held by the caller.
        tracked: What is saved, by name: network, average and optimiser.
        max_to_keep: Newest checkpoints that stay; the best stays in any case.
        metric: Name of the metric whose highest value is best.
    """

    def __init__(self, run: RunDir, tracked: Mapping[str, Any], *, max_to_keep: int, metric: str) -> None:
        self._run = run
        self._checkpoint = tf.train.Checkpoint(**tracked)
        self._max_to_keep = max_to_keep
        self._metric = metric
        self.state: CheckpointState | None = None

    def save(self, step: int, metrics: Mapping[str, float | None]) -> CheckpointState:
        """Publishes `ckpt-STEP`, then removes what `max_to_keep` no longer covers.

        Raises:
            EnvironmentFault: The disk refuses; the checkpoints from before are untouched.
        """
        best_step, best_value = self.best_with(step, metrics)
        final = self._run.checkpoint_path(step)
        with publish_directory(final) as staging:
            with write_faults(final):
                self._checkpoint.write(os.fspath(staging / _PREFIX))
            files = {name: digest_file(staging / name) for name in _FILES}
            state = CheckpointState(step, dict(metrics), best_step, best_value, files)
            (staging / _STATE_NAME).write_text(json.dumps(asdict(state), indent=2) + "\n")
            _read_back(staging, state)
        publish_file(self._run.checkpoint_pointer_path, f'model_checkpoint_path: "{final.name}/{_PREFIX}"\n')
        self.state = state
        self._remove_old()
        return state

    def is_evaluated(self, step: int) -> bool:
        """Tells whether the newest state is of this step and has metrics."""
        return self.state is not None and self.state.step == step and bool(self.state.metrics)

    def best_with(self, step: int, metrics: Mapping[str, float | None]) -> tuple[int | None, float | None]:
        """Returns the best step and its value, once this step's metrics count too; of two equals the later one is best."""
        best_step, best_value = (self.state.best_step, self.state.best_value) if self.state else (None, None)
        value = metrics.get(self._metric)
        if metrics and (best_step is None or _order(value) >= _order(best_value)):
            return step, value
        return best_step, best_value

    def restore_latest(self) -> CheckpointState | None:
        """Restores the newest good checkpoint; damaged newer ones are set aside with a warning.

        Returns:
            Its state; None where the run has never saved.

        Raises:
            ArtifactError: There were checkpoints, and none can be restored.
        """
        steps = self._run.checkpoint_steps()
        for step in reversed(steps):
            path = self._run.checkpoint_path(step)
            try:
                state = read_state(path)
            except ArtifactError as error:
                aside = self._run.set_aside(step)
                _log.warning("%s is damaged and kept as %s, the checkpoint before it is used: %s", path.name, aside.name, error)
                continue
            _restore(self._checkpoint, path, partial=False)
            self.state = state
            return state
        if self._run.had_checkpoints():
            raise ArtifactError(
                "this run saved checkpoints, but none can be restored",
                path=self._run.path,
                remedy="restore one from a backup, or train into another --model-dir",
            )
        return None

    def _remove_old(self) -> None:
        keep = set(self._run.checkpoint_steps()[-self._max_to_keep :])
        if self.state is not None:
            keep.add(self.state.step)
            if self.state.best_step is not None:
                keep.add(self.state.best_step)
        for step in self._run.checkpoint_steps():
            if step not in keep:
                self._run.remove_checkpoint(step)


def read_state(path: Path) -> CheckpointState:
    """Reads a checkpoint folder's state and compares its files with it.

    Raises:
        ArtifactError: Anything is missing, damaged or foreign.
    """
    state_path = path / _STATE_NAME
    content = read_json_object(state_path)
    try:
        state = CheckpointState(**content)
        if type(state.step) is not int or set(state.files) != set(_FILES):
            raise ValueError("unexpected content")
        files = {name: FileDigest(bytes=int(digest["bytes"]), sha256=str(digest["sha256"])) for name, digest in state.files.items()}
    except (ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"not a checkpoint's state: {error}", path=state_path) from None
    verify_files(path, files)
    return state


def resolve_checkpoint(name: str, run: RunDir, metric: str) -> Path:
    """Finds the checkpoint that a word means.

    Args:
        name: `best` or `last`.
        run: The model directory.
        metric: What best is measured by.

    Returns:
        The folder of a checkpoint whose files are as its state says. Best is the evaluated checkpoint of the highest metric, the
        later one of two equals; in a run without evaluations it is the last.

    Raises:
        ArtifactError: There is none.
    """
    good: list[CheckpointState] = []
    for step in run.checkpoint_steps():
        try:
            good.append(read_state(run.checkpoint_path(step)))
        except ArtifactError as error:
            _log.warning("%s is passed over: %s", run.checkpoint_path(step).name, error)
    if not good:
        raise ArtifactError("no checkpoint that can be restored", path=run.path, remedy="train first: detflow train")
    evaluated = [state for state in good if state.metrics]
    if name == "last" or not evaluated:
        return run.checkpoint_path(good[-1].step)
    return run.checkpoint_path(max(evaluated, key=lambda state: (_order(state.metrics.get(metric)), state.step)).step)


def restore_weights(path: Path, network: tf_keras.Model, average: WeightAverage) -> None:
    """Loads a verified checkpoint's averaged weights into a network for inference.

    Args:
        path: A folder that `read_state` accepts.
        network: Built from the run's configuration.
        average: Of this network.

    Raises:
        ArtifactError: The checkpoint belongs to another network.
    """
    _restore(tf.train.Checkpoint(network=network, average=average), path, partial=True)
    average.assign_to_network()


def _order(value: float | None) -> float:
    """What could not be measured is worse than anything that could."""
    return -math.inf if value is None else value


def _restore(checkpoint: tf.train.Checkpoint, path: Path, *, partial: bool) -> None:
    try:
        status = checkpoint.read(os.fspath(path / _PREFIX))
        status.assert_existing_objects_matched()
        if partial:
            status.expect_partial()
        else:
            status.assert_consumed()
    except (tf.errors.OpError, ValueError, AssertionError, IndexError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ArtifactError(f"the checkpoint does not fit the model: {reason}", path=path) from None


def _read_back(path: Path, state: CheckpointState) -> None:
    """Proves that what was written can be opened before it gets its final name."""
    reader = tf.train.load_checkpoint(os.fspath(path / _PREFIX))
    if not reader.get_variable_to_shape_map():
        raise ArtifactError(f"the checkpoint of step {state.step} came out empty", path=path)
