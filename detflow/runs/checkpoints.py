"""Checkpoints: saved whole or not at all, verified before they are believed, the best one kept.

`states` has the format.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from detflow.config.schema import ExperimentConfig
from detflow.digests import digest_file
from detflow.errors import ArtifactError
from detflow.metrics.intervals import Interval
from detflow.process.tensorflow_faults import checkpoint_faults, write_faults
from detflow.publish import publish_directory, publish_file
from detflow.runs.plan import Plan
from detflow.runs.record import RunRecord
from detflow.runs.run_dir import RunDir
from detflow.runs.states import (
    CHECKPOINT_FILES,
    CHECKPOINT_PREFIX,
    CheckpointState,
    Metrics,
    describe_not_finite,
    nothing_to_restore,
    read_state,
    write_state,
)

# What TensorFlow adds to the name of a variable in a checkpoint.
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"

_UNFIT = "the checkpoint does not fit the model"

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
        record: What the run belongs to. Changes that the user accepted are part of it; they are
            written down together with the first checkpoint that is saved under them.

    Attributes:
        state: Of the newest checkpoint that was saved or restored.
    """

    def __init__(
        self,
        run: RunDir,
        tracked: Mapping[str, Any],
        config: ExperimentConfig,
        record: RunRecord,
    ) -> None:
        self._run = run
        self._checkpoint = tf.train.Checkpoint(**tracked)
        self._config = config
        self._record, self._is_recorded = record, False
        self.state: CheckpointState | None = None

    def belongs_to(self, record: RunRecord) -> None:
        """Takes what the run belongs to from here on."""
        self._record = record

    def record(self) -> None:
        """Writes down what the run belongs to.

        It is called at the start, but for a run that goes on with accepted changes: these are
        written down with the first checkpoint that is saved under them, so that a run that fails
        before is left as it was.
        """
        self._run.write_record(self._record)
        self._is_recorded = True

    def follow(self, plan: Plan) -> None:
        """Writes a fit of a time budget down, so that a run that is killed repeats it."""
        self._record = self._record.planned(plan)
        if self._is_recorded:
            self.record()

    def find_way_back(self, before: int | None = None) -> str:
        """Returns what can be done where the numbers of the training are no longer finite.

        Args:
            before: The checkpoint of this step and later ones are not to be gone back to; None
                takes the newest one.
        """
        steps = self._run.checkpoint_steps()
        good = [step for step in steps if before is None or step < before]
        bad = [f"ckpt-{step}" for step in steps if step not in good]
        first = f"remove {', '.join(bad)}, and " if bad else ""
        where = f"go on from ckpt-{good[-1]}" if good else "begin again"
        rate = self._config.train.learning_rate / 10
        return f"{first}{where} with --set train.learning_rate={rate:g} --accept-changes"

    def state_after(self, step: int, metrics: Metrics) -> CheckpointState:
        """Returns the state that saving this step would leave, without its files."""
        return (self.state or CheckpointState(0)).after(
            step, metrics, self._config.evaluate, self._config.train
        )

    def save(
        self,
        step: int,
        metrics: Metrics,
        first_images: Metrics | None = None,
        intervals: Mapping[str, Interval] | None = None,
    ) -> CheckpointState:
        """Publishes `ckpt-STEP`, then removes what the configuration no longer keeps.

        Args:
            step: Steps taken.
            metrics: Of this step; empty where it was not evaluated.
            first_images: See `CheckpointState`.
            intervals: Likewise.

        Raises:
            ArtifactError: A number in it is not finite; nothing is published.
            EnvironmentFault: The disk refuses; the checkpoints from before are untouched.
        """
        final = self._run.checkpoint_path(step)
        with publish_directory(final) as staging:
            with write_faults(final):
                self._checkpoint.write(os.fspath(staging / CHECKPOINT_PREFIX))
            state = dataclasses.replace(
                self.state_after(step, metrics),
                first_images=first_images or {},
                intervals=intervals or {},
                files={name: digest_file(staging / name) for name in CHECKPOINT_FILES},
                run=self._record.to_json(),
            )
            write_state(staging, state)
            # Before it gets its name: it can be opened, and every number in it is one.
            require_finite(staging, self.find_way_back(), final)
        publish_file(
            self._run.checkpoint_pointer_path,
            f'model_checkpoint_path: "{final.name}/{CHECKPOINT_PREFIX}"\n',
        )
        self.state = state
        if not self._is_recorded:
            self.record()
        self._remove_old()
        self._run.share()
        return state

    def is_evaluated(self, step: int) -> bool:
        """Tells whether the newest state is of this step and has metrics."""
        return self.state is not None and self.state.step == step and bool(self.state.metrics)

    def restore_latest(self) -> CheckpointState | None:
        """Restores the newest good checkpoint; damaged newer ones are set aside with a warning.

        Returns:
            Its state, its best step by the metric of the configuration; None where the run has
            never saved.

        Raises:
            ArtifactError: There were checkpoints, and none can be restored; or the newest one holds
                numbers that are not finite.
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
            require_finite(path, self.find_way_back(before=step))
            self.state = state.ranked_by(self._config.evaluate, steps)
            return self.state
        if self._run.had_checkpoints():
            raise nothing_to_restore(self._run)
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
        ArtifactError: The checkpoint belongs to another network, or holds numbers that are not
            finite.
    """
    _restore(tf.train.Checkpoint(network=network, average=average), path, partial=True)
    require_finite(path, "name an earlier checkpoint of the run")
    average.assign_to_served()


def require_finite(path: Path, remedy: str, shown: Path | None = None) -> None:
    """Reads every number of a checkpoint: weights, averages and the optimiser's.

    Args:
        path: The checkpoint's folder.
        remedy: What the user can do.
        shown: What the error names; the folder unless given.

    Raises:
        ArtifactError: The checkpoint cannot be opened, is empty, or a number in it is not finite.
    """
    shown = shown or path
    with checkpoint_faults(shown, _UNFIT):
        reader = tf.train.load_checkpoint(os.fspath(path / CHECKPOINT_PREFIX))
        types = reader.get_variable_to_dtype_map()
        floats = sorted(name for name, dtype in types.items() if dtype.is_floating)
        bad = [name for name in floats if not np.isfinite(reader.get_tensor(name)).all()]
    if not types:
        raise ArtifactError("the checkpoint is empty", path=shown)
    if bad:
        names = [name.removesuffix(_VALUE) for name in bad]
        raise ArtifactError(describe_not_finite(names, len(floats)), path=shown, remedy=remedy)


def find_not_finite(variables: Sequence[tf.Variable]) -> list[str]:
    """Returns the names of the variables that hold a number which is not finite."""
    return [
        variable.name
        for variable in variables
        if variable.dtype.is_floating and not np.isfinite(variable.numpy()).all()
    ]


def _restore(checkpoint: tf.train.Checkpoint, path: Path, *, partial: bool) -> None:
    with checkpoint_faults(path, _UNFIT):
        status = checkpoint.read(os.fspath(path / CHECKPOINT_PREFIX))
        status.assert_existing_objects_matched()
        if partial:
            status.expect_partial()
        else:
            status.assert_consumed()
