"""What turns gradients into new weights: the schedule of the learning rate, and the optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from detflow.config.schema import TrainConfig
from detflow.models.precision import Precision
from detflow.runs.plan import MAX_FITS, Plan
from detflow.training.budget import LAST_TIMED_STEP

# Beside the fits there are the time before the first one, and an end that is forced.
_MAX_PIECES = MAX_FITS + 2


class LearningRate(tf_keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Rises linearly, then falls as half a cosine or in steps.

    It is a function of the optimiser's step and of the plan of the run, and of nothing else.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self._config = config
        # A variable, because a time budget changes the plan after the step function was compiled.
        # Each row is a piece: its start, then origin, base and length of the schedule's progress,
        # which begins behind the warm-up, and of the whole run's.
        self._pieces = tf.Variable(tf.fill([_MAX_PIECES, 7], math.inf), trainable=False)
        self.follow(Plan.fixed(config.steps))

    def follow(self, plan: Plan) -> None:
        """Follows a plan from the next step on."""
        rows = [
            [scheduled.start, *scheduled[1:], *of_run[1:]]
            for scheduled, of_run in zip(
                plan.pieces(self._config.warmup_steps), plan.pieces(0), strict=True
            )
        ]
        table = np.full(self._pieces.shape, np.inf, np.float32)
        table[: len(rows)] = rows
        self._pieces.assign(table)

    def is_before(self, step: tf.Tensor, share: float) -> tf.Tensor:
        """Tells whether a step lies within the first share of the run, or before step 40.

        A time budget is not fitted before then.
        """
        step = tf.cast(step, tf.float32)
        origin, base, length = tf.unstack(self._piece(step)[4:])
        return (step < origin + (share - base) / (1.0 - base) * length) | (step < LAST_TIMED_STEP)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the learning rate of a step, counted from 0, as a float32 scalar."""
        config = self._config
        step = tf.cast(step, tf.float32)
        rise = tf.minimum(1.0, (step + 1.0) / (config.warmup_steps + 1.0))
        origin, base, length = tf.unstack(self._piece(step)[1:4])
        progress = tf.clip_by_value(
            base + (1.0 - base) * ((step - origin) / tf.maximum(1.0, length)), 0.0, 1.0
        )
        if config.schedule == "step":
            share = tf.reduce_prod(
                tf.where(
                    progress >= tf.constant(config.decay_at, tf.float32), config.decay_factor, 1.0
                )
            )
        else:
            final = config.final_learning_rate
            share = final + (1.0 - final) * 0.5 * (1.0 + tf.cos(math.pi * progress))
        return config.learning_rate * rise * share

    def _piece(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the row of the last piece that has started; `step` is float32."""
        started = tf.cast(step >= self._pieces[:, 0], tf.int32)
        return self._pieces[tf.reduce_sum(started) - 1]

    def get_config(self) -> dict[str, object]:
        """Returns the settings, as Keras wants them of a schedule."""
        return self._config.model_dump()


class _FusedAdamW(tf_keras.optimizers.AdamW):  # type: ignore[misc]
    """Keras' AdamW with one kernel of TensorFlow's for the update of a variable, not some twenty.

    The graphs of a training have a third fewer nodes, so they are traced and compiled sooner.
    """

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[tf.Tensor, tf.Variable]],
        name: str | None = None,
        **kwargs: Any,
    ) -> tf.Tensor:
        """Updates the variables; arguments and result are Keras'."""
        number = tf.cast(self.iterations + 1, tf.float32)
        scalars = {
            "beta1_power": tf.pow(self.beta_1, number),
            "beta2_power": tf.pow(self.beta_2, number),
            "lr": self._learning_rate(self.iterations),
            "beta1": tf.constant(self.beta_1),
            "beta2": tf.constant(self.beta_2),
            "epsilon": tf.constant(self.epsilon),
        }
        # Behind a function Keras does not take them for state.
        self._scalars: Callable[[], Mapping[str, tf.Tensor]] = lambda: scalars
        return super().apply_gradients(grads_and_vars, name, **kwargs)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """Updates a variable and its two moments, after the decay; Keras calls it."""
        slot = self._index_dict[self._var_key(variable)]
        moments = {"m": self._momentums[slot].handle, "v": self._velocities[slot].handle}
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle, grad=gradient, **moments, **self._scalars()
        )


def build_optimizer(
    config: TrainConfig,
    schedule: LearningRate,
    variables: Sequence[tf.Variable],
    precision: Precision,
) -> tf_keras.optimizers.Optimizer:
    """Builds the optimiser.

    Args:
        config: Which one, and its settings.
        schedule: Of the learning rate.
        variables: What is trained.
        precision: float16 adds dynamic loss scaling (arXiv:1710.03740): gradients that overflow
            skip the update and halve the scale, which the checkpoint remembers. A skipped step
            counts as a step.
    """
    # XLA made a step six times slower on a CPU.
    if config.optimizer == "sgd":
        optimizer = tf_keras.optimizers.SGD(
            schedule, momentum=config.momentum, weight_decay=config.weight_decay, jit_compile=False
        )
    else:
        optimizer = _FusedAdamW(schedule, weight_decay=config.weight_decay, jit_compile=False)
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    if precision == "float16":
        optimizer = tf_keras.mixed_precision.LossScaleOptimizer(optimizer)
    # Slots exist from the start, so that a checkpoint restores into them.
    optimizer.build(variables)
    return optimizer


def list_scale_variables(optimizer: tf_keras.optimizers.Optimizer) -> list[tf.Variable]:
    """Returns the loss scale and how long it has held, which `optimizer.variables` leaves out.

    They change with the steps and are in checkpoints, like all else of an optimiser. There are none
    but for float16.
    """
    if not isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer):
        return []
    # Keras hands out the counter, and of the scale its value alone.
    return [optimizer._loss_scale.current_loss_scale, optimizer.dynamic_counter]
