"""One optimiser step as one compiled function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras

from detflow.config.schema import ExperimentConfig
from detflow.distributed.replicas import mean_over_replicas
from detflow.distributed.team import Team
from detflow.models.base import DetectionModel, Losses
from detflow.process.tensorflow_settings import fix_order_of_sums, sums_of_two
from detflow.runs.checkpoints import WeightAverage
from detflow.training.augment.canvases import Canvases
from detflow.training.augment.pipeline import augment, mixes_rows
from detflow.training.inputs import cache_size
from detflow.training.optimizer import LearningRate


def images_per_step(config: ExperimentConfig) -> int:
    """Returns how many images an optimiser step sees."""
    return config.train.batch_size * config.train.accumulate_steps


def rows_of_step(team: Team, config: ExperimentConfig) -> npt.NDArray[np.int64] | None:
    """Returns which images of a step this process has to read; None for all.

    Mosaic and mixup show other images of the batch: then each process reads and augments all of
    them, and computes with its own.

    Raises:
        ConfigError: The batch cannot be split evenly.
    """
    rows = team.rows(config.train.batch_size, config.train.accumulate_steps)
    return None if team.num_workers == 1 or mixes_rows(config.augment) else rows


class TrainingStep:
    """An optimiser step, compiled for each canvas.

    Args:
        functions: The step for each (height, width) of decoded images.
    """

    def __init__(
        self, functions: Mapping[tuple[int, int], tf.types.experimental.PolymorphicFunction]
    ) -> None:
        self._functions = functions

    def trace(self) -> list[tf.Graph]:
        """Builds the graphs, which the first step would otherwise do."""
        return [function.graph for function in self._traced.values()]

    def function(self, images: npt.NDArray[np.uint8]) -> tf.types.experimental.ConcreteFunction:
        """Returns the function that takes a step with such images, by the arguments of a call."""
        return self._traced[tuple(images.shape[1:3])]

    @functools.cached_property
    def _traced(self) -> dict[tuple[int, int], tf.types.experimental.ConcreteFunction]:
        # All canvases at once: a graph that is traced later would be sent to the workers of
        # parameter servers while they run another one.
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
        """Takes a step.

        Args:
            step: Counted from 0.
            images: As in `inputs.Batch`, and so the others.
            boxes: See images.
            classes: See images.

        Returns:
            The losses before the update.
        """
        return self.function(images)(step, images, boxes, classes)  # type: ignore[no-any-return]


def build_step(
    model: DetectionModel,
    optimizer: tf_keras.optimizers.Optimizer,
    schedule: LearningRate,
    average: WeightAverage,
    config: ExperimentConfig,
    team: Team | None = None,
) -> TrainingStep:
    """Builds the step.

    From then on no sum in this process depends on the order in which operations end.

    Args:
        model: Its trainable variables are those that the optimiser was built with.
        optimizer: Scales the loss where it is built for float16.
        schedule: The optimiser's learning rate; it knows how long the run will be.
        average: Takes the new weights in.
        config: Seed, augmentation, sizes, clipping, accumulation.
        team: What the model was built on; one device unless given.

    Returns:
        The step, for the rows that `rows_of_step` returns. With accumulation its losses are the
        mean over its batches, as the gradients are. Several replicas arrive at the losses and the
        update of the whole step.
    """
    fix_order_of_sums()
    return _StepBuilder(model, optimizer, schedule, average, config, team or Team()).build()


class _StepBuilder:
    """Writes the graph of a step; arguments as of `build_step`."""

    def __init__(
        self,
        model: DetectionModel,
        optimizer: tf_keras.optimizers.Optimizer,
        schedule: LearningRate,
        average: WeightAverage,
        config: ExperimentConfig,
        team: Team,
    ) -> None:
        self._model, self._optimizer, self._schedule = model, optimizer, schedule
        self._average, self._config, self._team = average, config, team
        self._num_images, self._replicas = images_per_step(config), team.num_replicas
        self._rows_read = rows_of_step(team, config)
        # [replicas of this process, images of each]
        self._rows = team.rows(config.train.batch_size, config.train.accumulate_steps).reshape(
            -1, self._num_images // self._replicas
        )
        self._variables = model.network.trainable_variables
        self._canvas_sizes = {cache_size(size): size for size in model.canvas_sizes}
        is_scaled = isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer)
        self._scaler = optimizer if is_scaled else None

    def build(self) -> TrainingStep:
        """Returns the step for each canvas, not traced yet."""
        return TrainingStep({size: self._compile_for(*size) for size in self._canvas_sizes})

    def _compile_for(self, height: int, width: int) -> tf.types.experimental.PolymorphicFunction:
        num_read = self._num_images if self._rows_read is None else len(self._rows_read)
        signature = [
            tf.TensorSpec([], tf.int64),
            tf.TensorSpec([num_read, height, width, 3], tf.uint8),
            tf.TensorSpec([num_read, None, 4], tf.float32),
            tf.TensorSpec([num_read, None], tf.int32),
        ]

        def take_step(
            step: tf.Tensor, images: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor
        ) -> Losses:
            return self._team.run(self._take_on_replica, step, images, boxes, classes)  # type: ignore[no-any-return]

        # No Python control flow in a step depends on a tensor: autograph would only cost seconds,
        # and leave files behind when the process is killed.
        return tf.function(take_step, autograph=False, input_signature=signature)

    def _take_on_replica(
        self,
        replica: tf.Tensor,
        step: tf.Tensor,
        images: tf.Tensor,
        boxes: tf.Tensor,
        classes: tf.Tensor,
    ) -> Losses:
        canvases = self._augment(replica, images, boxes, classes, step)
        seed = tf.stack([tf.constant(self._config.train.seed, tf.int64), step])
        if self._config.train.accumulate_steps > 1:
            losses, gradients = self._accumulate(canvases, seed)
        else:
            losses, gradients = self._differentiate(canvases, seed, tf.UnconnectedGradients.NONE)
        losses = self._update(losses, gradients)
        self._average.update(step)
        return losses

    def _augment(
        self,
        replica: tf.Tensor,
        images: tf.Tensor,
        boxes: tf.Tensor,
        classes: tf.Tensor,
        step: tf.Tensor,
    ) -> Canvases:
        """Returns the canvases of a replica's own rows."""
        config = self._config
        change: Callable[..., Canvases] = functools.partial(
            augment,
            seed=config.train.seed,
            step=step,
            mixes=self._schedule.is_before(step, config.augment.mix_until),
            input_size=self._canvas_sizes[tuple(images.shape[1:3])],
            config=config.augment,
        )
        if self._replicas == 1:
            return change(images, boxes, classes)
        own = tf.constant(self._rows)[replica]
        if mixes_rows(config.augment):
            return Canvases(*(tf.gather(value, own) for value in change(images, boxes, classes)))
        # Where this process has read its own rows only, they are counted anew.
        place = (
            own
            if self._rows_read is None
            else tf.constant(np.arange(self._rows.size).reshape(self._rows.shape))[replica]
        )
        parts = (tf.gather(value, place) for value in (images, boxes, classes))
        return change(*parts, rows=own, num_rows=self._num_images)

    def _differentiate(
        self, canvases: Canvases, seed: tf.Tensor, unconnected: tf.UnconnectedGradients
    ) -> tuple[Losses, list[tf.Tensor]]:
        """Returns losses and gradients of a batch, scaled where the optimiser scales the loss."""
        losses = self._model.losses(*canvases, seed)
        scaler = self._scaler
        objective = losses.total if scaler is None else scaler.get_scaled_loss(losses.total)
        with sums_of_two():
            gradients = tf.gradients(objective, self._variables, unconnected_gradients=unconnected)
        return losses, gradients

    def _accumulate(self, canvases: Canvases, seed: tf.Tensor) -> tuple[Losses, list[tf.Tensor]]:
        """Returns the means of losses and gradients over the batches of a step."""
        count = self._config.train.accumulate_steps
        size = self._config.train.batch_size // self._replicas

        def add(
            index: tf.Tensor, losses: Losses, gradients: list[tf.Tensor]
        ) -> tuple[tf.Tensor, Losses, list[tf.Tensor]]:
            part = Canvases(*(value[index * size : (index + 1) * size] for value in canvases))
            # Each batch draws its own random numbers. The sums need a gradient for each variable,
            # also where the loss has none.
            batch_seed = tf.random.experimental.stateless_fold_in(seed, index)
            batch = self._differentiate(part, batch_seed, tf.UnconnectedGradients.ZERO)
            sums = tf.nest.map_structure(tf.add, (losses, gradients), batch)
            return (index + 1, *sums)

        zero = tf.constant(0.0)
        start = (
            tf.constant(0),
            Losses(zero, dict.fromkeys(self._model.loss_names, zero)),
            [tf.zeros(variable.shape) for variable in self._variables],
        )
        _, *sums = self._repeat(count, add, start)
        losses, gradients = tf.nest.map_structure(lambda value: value / count, sums)
        return losses, gradients

    def _repeat(
        self, count: int, add: Callable[..., tuple[Any, ...]], state: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        """Calls `add` so many times in turn: side by side the calls would need the memory of all."""
        if self._replicas == 1:
            return tf.while_loop(  # type: ignore[no-any-return]
                lambda index, *_: index < count, add, state, parallel_iterations=1
            )
        # Replicas cannot meet inside a loop of the graph.
        for index in range(count):
            with tf.control_dependencies(tf.nest.flatten(state[1:])):
                state = add(tf.constant(index), *state[1:])
        return state

    def _update(self, losses: Losses, gradients: list[tf.Tensor]) -> Losses:
        """Updates the weights by the replicas' mean gradients; returns their mean losses."""
        if self._scaler is not None:
            gradients = self._scaler.get_unscaled_gradients(gradients)
        connected = [
            pair for pair in zip(gradients, self._variables, strict=True) if pair[0] is not None
        ]
        losses, gradients = mean_over_replicas((losses, [gradient for gradient, _ in connected]))
        gradients, _ = tf.clip_by_global_norm(gradients, self._config.train.clip_norm)
        pairs = zip(gradients, (variable for _, variable in connected), strict=True)
        self._optimizer.apply_gradients(pairs, skip_gradients_aggregation=True)
        return losses
