"""What turns gradients into new weights: the schedule of the learning rate, and the optimiser."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from detflow.config.schema import TrainConfig
from detflow.models.precision import Precision
from detflow.training.budget import LAST_TIMED_STEP

__all__ = ["LearningRate", "build_optimizer"]


class LearningRate(tf_keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Rises linearly, then falls as half a cosine or in steps; a function of the optimiser's step alone."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self._config = config
        # A variable, since a time budget fixes the number of steps after the step function was
        # compiled.
        self._steps = tf.Variable(float(config.steps), trainable=False)

    def set_steps(self, steps: int) -> None:
        """Says how long the run will be; takes effect at the next step."""
        self._steps.assign(float(steps))

    def is_before(self, step: tf.Tensor, share: float) -> tf.Tensor:
        """Tells whether a step lies within the first share of the run, or before the number of steps is known at all."""
        return (tf.cast(step, tf.float32) < share * self._steps) | (step < LAST_TIMED_STEP)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the learning rate of a step, counted from 0, as a float32 scalar."""
        config = self._config
        step = tf.cast(step, tf.float32)
        rise = tf.minimum(1.0, (step + 1.0) / (config.warmup_steps + 1.0))
        progress = tf.clip_by_value(
            (step - config.warmup_steps) / tf.maximum(1.0, self._steps - config.warmup_steps),
            0.0,
            1.0,
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
