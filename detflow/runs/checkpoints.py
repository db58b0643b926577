"""Checkpoints: saved whole or not at all, verified before they are believed, the best one kept.

`states` has the format.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras

from detflow.config.schema import ExperimentConfig
from detflow.errors import ArtifactError
from detflow.process.tensorflow_faults import write_faults
from detflow.publish import digest_file, publish_directory, publish_file
from detflow.runs.run_dir import RunDir
from detflow.runs.states import (
    CHECKPOINT_FILES,
    CHECKPOINT_PREFIX,
    CheckpointState,
    read_state,
    write_state,
)
from detflow.text import first_line

_log = logging.getLogger(__name__)


class WeightAverage(tf.Module):  # type: ignore[misc]
    """Exponential moving average of all variables of a network, batch norm statistics included.

    The decay at step s is min(decay, (1 + s) / (10 + s)), so that the first steps are forgotten
    soon.

    Args:
        network: As built, all of it trainable: Keras lists the variables of a frozen layer in
            another order, and their order is what the averages are saved by.
        decay: Share of the average that stays in each update.
        served: Takes the averages to be evaluated with; the network itself unless given. Of the
            same structure.
    """

    def __init__(
        self, network: tf_keras.Model, decay: float, served: tf_keras.Model | None = None
    ) -> None:
        super().__init__()
        self._sources = network.variables
        served_variables = (served or network).variables
        # Behind a function TensorFlow does not find them: they are copies, and no part of a
        # checkpoint.
        self._served: Callable[[], list[tf.Variable]] = lambda: served_variables
        self._decay = decay
        # Where there are several replicas, all of them come to the same average.
        aggregation = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.averages = [
            tf.Variable(source, trainable=False, name=f"average_{i}", aggregation=aggregation)
            for i, source in enumerate(self._sources)
        ]

    def update(self, step: tf.Tensor) -> None:
        """Takes the current values in.

        Args:
            step: Scalar, the number of updates before this one.
        """
        count = tf.cast(step, tf.float32)
        share = 1.0 - tf.minimum(self._decay, (1.0 + count) / (10.0 + count))
        for average, source in zip(self.averages, self._sources, strict=True):
            average.assign_add(share * (source - average))

    def assign_to_served(self) -> None:
        """Overwrites the served network's variables with the averages."""
        for average, variable in zip(self.averages, self._served(), strict=True):
            variable.assign(average)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Puts the averages into the served network for the block.

        Then the network has exactly its values from before again.
        """
        before = [tf.identity(variable) for variable in self._served()]
        self.assign_to_served()
        try:
            yield
        finally:
            for value, variable in zip(before, self._served(), strict=True):
                variable.assign(value)


class Checkpoints:
    """Saves and restores the state of one training run.

    Args:
        run: The model directory; its lock is held by the caller.
        tracked: What is saved, by name: network, average and optimiser.
        config: What is kept, and which metric is best.

    Attributes:
        state: Of the newest checkpoint that was saved or restored.
    """

    def __init__(self, run: RunDir, tracked: Mapping[str, Any], config: ExperimentConfig) -> None:
        self._run = run
        self._checkpoint = tf.train.Checkpoint(**tracked)
        self._config = config
        self.state: CheckpointState | None = None

    def state_after(self, step: int, metrics: Mapping[str, float | None]) -> CheckpointState:
        """Returns the state that saving this step would leave, without its files."""
        return (self.state or CheckpointState(0)).after(
            step, metrics, self._config.evaluate, self._config.train
        )

    def save(self, step: int, metrics: Mapping[str, float | None]) -> CheckpointState:
        """Publishes `ckpt-STEP`, then removes what the configuration no longer keeps.

        Raises:
            EnvironmentFault: The disk refuses; the checkpoints from before are untouched.
        """
        final = self._run.checkpoint_path(step)
        with publish_directory(final) as staging:
            with write_faults(final):
                self._checkpoint.write(os.fspath(staging / CHECKPOINT_PREFIX))
            files = {name: digest_file(staging / name) for name in CHECKPOINT_FILES}
            state = dataclasses.replace(self.state_after(step, metrics), files=files)
            write_state(staging, state)
            _read_back(staging, state)
        publish_file(
            self._run.checkpoint_pointer_path,
            f'model_checkpoint_path: "{final.name}/{CHECKPOINT_PREFIX}"\n',
        )
        self.state = state
        self._remove_old()
        self._run.share()
        return state

    def is_evaluated(self, step: int) -> bool:
        """Tells whether the newest state is of this step and has metrics."""
        return self.state is not None and self.state.step == step and bool(self.state.metrics)

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
                _log.warning(
                    "%s is damaged and kept as %s, the checkpoint before it is used: %s",
                    path.name,
                    aside.name,
                    error,
                )
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
        """Applies `checkpoint.max_to_keep`, `keep_every` and `max_bytes`."""
        config, steps = self._config.checkpoint, self._run.checkpoint_steps()
        needed = (
            {step for step in (self.state.step, self.state.best_step) if step is not None}
            if self.state
            else set()
        )
        keep = needed | set(steps[-config.max_to_keep :])
        if config.keep_every:
            keep |= {step for step in steps if step % config.keep_every == 0}
        if config.max_bytes is not None:
            left = config.max_bytes - sum(self._run.checkpoint_bytes(step) for step in keep)
            for step in sorted(keep - needed):
                if left >= 0:
                    break
                left += self._run.checkpoint_bytes(step)
                keep.remove(step)
        for step in steps:
            if step not in keep:
                self._run.remove_checkpoint(step)


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
    average.assign_to_served()


def _restore(checkpoint: tf.train.Checkpoint, path: Path, *, partial: bool) -> None:
    try:
        status = checkpoint.read(os.fspath(path / CHECKPOINT_PREFIX))
        status.assert_existing_objects_matched()
        if partial:
            status.expect_partial()
        else:
            status.assert_consumed()
    except (tf.errors.OpError, ValueError, AssertionError, IndexError) as error:
        reason = first_line(error)
        raise ArtifactError(f"the checkpoint does not fit the model: {reason}", path=path) from None


def _read_back(path: Path, state: CheckpointState) -> None:
    """Proves that what was written can be opened before it gets its final name."""
    reader = tf.train.load_checkpoint(os.fspath(path / CHECKPOINT_PREFIX))
    if not reader.get_variable_to_shape_map():
        raise ArtifactError(f"the checkpoint of step {state.step} came out empty", path=path)
