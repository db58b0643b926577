"""One optimiser step as one compiled function."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras

from detflow.config.schema import ExperimentConfig
from detflow.distributed.replicas import mean_over_replicas
from detflow.distributed.team import Distribution
from detflow.models.base import DetectionModel, Losses
from detflow.runs.checkpoints import WeightAverage
from detflow.training.augment.canvases import Canvases
from detflow.training.augment.pipeline import augment, mixes_rows
from detflow.training.inputs import cache_size
from detflow.training.optimizer import LearningRate

__all__ = ["TrainingStep", "build_step", "images_per_step", "rows_of_step"]


def images_per_step(config: ExperimentConfig) -> int:
    """Returns how many images an optimiser step sees."""
    return config.train.batch_size * config.train.accumulate_steps


def rows_of_step(
    distribution: Distribution, config: ExperimentConfig
) -> npt.NDArray[np.int64] | None:
    """Returns which images of a step this process has to read; None for all.

    Mosaic and mixup show other images of the batch: then each process reads and augments all, and
    computes with its own.

    Raises:
        ConfigError: The batch cannot be split evenly.
    """
    rows = distribution.rows(config.train.batch_size, config.train.accumulate_steps)
    return None if distribution.num_workers == 1 or mixes_rows(config.augment) else rows


class TrainingStep:
    """An optimiser step, compiled for each canvas.

    Args:
        functions: By (height, width) of decoded images.
    """

    def __init__(
        self, functions: Mapping[tuple[int, int], tf.types.experimental.PolymorphicFunction]
    ) -> None:
        self._functions = functions

    def trace(self) -> list[tf.Graph]:
        """Builds the graphs, which the first step would otherwise do."""
        return [function.graph for function in self._traced.values()]

    def function(self, images: npt.NDArray[np.uint8]) -> tf.types.experimental.ConcreteFunction:
        """Returns what takes a step with such images, of the arguments of a call."""
        return self._traced[tuple(images.shape[1:3])]

    @functools.cached_property
    def _traced(self) -> dict[tuple[int, int], tf.types.experimental.ConcreteFunction]:
        # All at once: one that is made while the workers of parameter servers run another would be
        # sent to them meanwhile.
        return {
            size: function.get_concrete_function() for size, function in self._functions.items()
        }

    def __call__(
        self,
        step: int,
        images: npt.NDArray[np.uint8],
        boxes: npt.NDArray[np.float32],
        classes: npt.NDArray[np.int32],
    ) -> Losses:
        """Takes a step, counted from 0, with what a `Batch` has of the same names; returns the losses before the update."""
        return self.function(images)(step, images, boxes, classes)  # type: ignore[no-any-return]


def build_step(
    model: DetectionModel,
    optimizer: tf_keras.optimizers.Optimizer,
    schedule: LearningRate,
    average: WeightAverage,
    config: ExperimentConfig,
    distribution: Distribution | None = None,
) -> TrainingStep:
    """Makes the step. From then on no sum in this process depends on the order in which operations end.

    Args:
        model: Its trainable variables are what the optimiser was built with.
        optimizer: Scales the loss where it is built for float16.
        schedule: The optimiser's; knows how long the run will be.
        average: Takes the new weights in.
        config: Seed, augmentation, sizes, clipping, accumulation.
        distribution: What the model was built on; one device unless given.

    Returns:
        The step, for the rows that `rows_of_step` says. With accumulation its losses are the mean
        over its batches, as the gradients are. Several replicas come to the losses and the update
        of the whole step.
    """
    # This pass makes one AddN of several sums again, and it does so for the whole process; the step
    # is no slower without it.
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    distribution = distribution or Distribution()
    num_images, replicas = images_per_step(config), distribution.num_replicas
    rows_read = rows_of_step(distribution, config)
    # Of each replica of this process.
    rows = distribution.rows(config.train.batch_size, config.train.accumulate_steps).reshape(
        -1, num_images // replicas
    )
    variables = model.network.trainable_variables
    canvas_sizes = {cache_size(size): size for size in model.canvas_sizes}
    scaler = (
        optimizer if isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer) else None
    )

    def differentiate(
        canvases: tf.Tensor,
        boxes: tf.Tensor,
        classes: tf.Tensor,
        seed: tf.Tensor,
        unconnected: tf.UnconnectedGradients,
    ) -> tuple[Losses, list[tf.Tensor]]:
        losses = model.losses(canvases, boxes, classes, seed)
        objective = losses.total if scaler is None else scaler.get_scaled_loss(losses.total)
        with _sums_of_two():
            gradients = tf.gradients(objective, variables, unconnected_gradients=unconnected)
        return losses, gradients

    def accumulate(
        canvases: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor, seed: tf.Tensor
    ) -> tuple[Losses, list[tf.Tensor]]:
        count, size = config.train.accumulate_steps, config.train.batch_size // replicas

        def add(
            index: tf.Tensor, losses: Losses, gradients: list[tf.Tensor]
        ) -> tuple[tf.Tensor, Losses, list[tf.Tensor]]:
            part = slice(index * size, (index + 1) * size)
            # Each batch draws its own random numbers. The sums need a gradient for each variable,
            # also where the loss has none.
            batch_seed = tf.random.experimental.stateless_fold_in(seed, index)
            batch = differentiate(
                canvases[part], boxes[part], classes[part], batch_seed, tf.UnconnectedGradients.ZERO
            )
            sums = tf.nest.map_structure(tf.add, (losses, gradients), batch)
            return (index + 1, *sums)

        zero = tf.constant(0.0)
        start = (
            tf.constant(0),
            Losses(zero, dict.fromkeys(model.loss_names, zero)),
            [tf.zeros(v.shape) for v in variables],
        )
        # One batch after the other: side by side they would need the memory of all.
        if replicas == 1:
            _, *sums = tf.while_loop(
                lambda index, *_: index < count, add, start, parallel_iterations=1
            )
        else:
            # Replicas cannot meet inside a loop of the graph.
            state: tuple[Any, ...] = start
            for index in range(count):
                with tf.control_dependencies(tf.nest.flatten(state[1:])):
                    state = add(tf.constant(index), *state[1:])
            _, *sums = state
        losses, gradients = tf.nest.map_structure(lambda value: value / count, sums)
        return losses, gradients

    def augment_rows(
        replica: tf.Tensor, images: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor, step: tf.Tensor
    ) -> Canvases:
        change: Callable[..., Canvases] = functools.partial(
            augment,
            seed=config.train.seed,
            step=step,
            mixes=schedule.is_before(step, config.augment.mix_until),
            input_size=canvas_sizes[tuple(images.shape[1:3])],
            config=config.augment,
        )
        if replicas == 1:
            return change(images, boxes, classes)
        own = tf.constant(rows)[replica]
        if mixes_rows(config.augment):
            return Canvases(*(tf.gather(value, own) for value in change(images, boxes, classes)))
        place = (
            own
            if rows_read is None
            else tf.constant(np.arange(rows.size).reshape(rows.shape))[replica]
        )
        parts = (tf.gather(value, place) for value in (images, boxes, classes))
        return change(*parts, rows=own, num_rows=num_images)

    def take_replica_step(
        replica: tf.Tensor, step: tf.Tensor, images: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor
    ) -> Losses:
        canvases, boxes, classes = augment_rows(replica, images, boxes, classes, step)
        seed = tf.stack([tf.constant(config.train.seed, tf.int64), step])
        if config.train.accumulate_steps > 1:
            losses, gradients = accumulate(canvases, boxes, classes, seed)
        else:
            losses, gradients = differentiate(
                canvases, boxes, classes, seed, tf.UnconnectedGradients.NONE
            )
        if scaler is not None:
            gradients = scaler.get_unscaled_gradients(gradients)
        connected = [pair for pair in zip(gradients, variables, strict=True) if pair[0] is not None]
        losses, gradients = mean_over_replicas((losses, [gradient for gradient, _ in connected]))
        gradients, _ = tf.clip_by_global_norm(gradients, config.train.clip_norm)
        pairs = zip(gradients, (variable for _, variable in connected), strict=True)
        optimizer.apply_gradients(pairs, skip_gradients_aggregation=True)
        average.update(step)
        return losses  # type: ignore[no-any-return]

    def take_step(
        step: tf.Tensor, images: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor
    ) -> Losses:
        return distribution.run(take_replica_step, step, images, boxes, classes)  # type: ignore[no-any-return]

    num_read = num_images if rows_read is None else len(rows_read)

    def compile_for(height: int, width: int) -> tf.types.experimental.PolymorphicFunction:
        signature = [
            tf.TensorSpec([], tf.int64),
            tf.TensorSpec([num_read, height, width, 3], tf.uint8),
            tf.TensorSpec([num_read, None, 4], tf.float32),
            tf.TensorSpec([num_read, None], tf.int32),
        ]
        # No Python control flow here depends on a tensor: autograph would only cost seconds, and
        # leave files behind when killed.
        return tf.function(take_step, autograph=False, input_signature=signature)

    return TrainingStep({size: compile_for(*size) for size in canvas_sizes})


@contextlib.contextmanager
def _sums_of_two() -> Iterator[None]:
    """Adds the gradients that are taken inside the block two at a time, also inside conditions and functions of the graph.

    A tape, and TensorFlow by default, adds those of a tensor with three and more readers by AddN.
    Its order, and with it the last bits, depends on which reader is done first
    (docs/decisions/0005-order-of-sums.md).
    """
    # An argument of tf.gradients would not reach conditions and functions: they take the default.
    default = tf.AggregationMethod.DEFAULT
    tf.AggregationMethod.DEFAULT = tf.AggregationMethod.EXPERIMENTAL_TREE
    try:
        yield
    finally:
        tf.AggregationMethod.DEFAULT = default
