"""One optimiser step as one compiled function."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
import tf_keras

from detflow.config import ExperimentConfig
from detflow.engine.architecture import DetectionModel, Losses
from detflow.engine.augmentation import augment
from detflow.engine.checkpoints import WeightAverage
from detflow.engine.inputs import cache_size
from detflow.engine.optimizer import LearningRate

__all__ = ["build_step", "images_per_step"]


def images_per_step(config: ExperimentConfig) -> int:
    """Returns how many images an optimiser step sees."""
    return config.train.batch_size * config.train.accumulate_steps


def build_step(
    model: DetectionModel,
    optimizer: tf_keras.optimizers.Optimizer,
    schedule: LearningRate,
    average: WeightAverage | None,
    config: ExperimentConfig,
) -> Callable[..., Losses]:
    """Compiles the step.

    Args:
        model: Its trainable variables are what the optimiser was built with.
        optimizer: Scales the loss where it is built for float16.
        schedule: The optimiser's; knows how long the run will be.
        average: Takes the new weights in, if given.
        config: Seed, augmentation, sizes, clipping, accumulation.

    Returns:
        The step: (images, boxes, classes) as in `inputs.Batch`, `images_per_step` of them → losses before the update. With
        accumulation they are the mean over the step's batches, as the gradients are.
    """
    variables = model.network.trainable_variables
    canvas_sizes = {cache_size(size): size for size in model.canvas_sizes}
    scaler = optimizer if isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer) else None

    def differentiate(
        canvases: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor, seed: tf.Tensor, unconnected: tf.UnconnectedGradients
    ) -> tuple[Losses, list[tf.Tensor]]:
        losses = model.losses(canvases, boxes, classes, seed)
        objective = losses.total if scaler is None else scaler.get_scaled_loss(losses.total)
        # A tape adds the gradients of a tensor with three and more readers by AddN, whose order, and with it the last bits, depends
        # on which reader is done first; two at a time have no order (docs/decisions/0005-order-of-sums.md).
        gradients = tf.gradients(
            objective, variables, aggregation_method=tf.AggregationMethod.EXPERIMENTAL_TREE, unconnected_gradients=unconnected
        )
        return losses, gradients

    def accumulate(canvases: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor, seed: tf.Tensor) -> tuple[Losses, list[tf.Tensor]]:
        count, size = config.train.accumulate_steps, config.train.batch_size

        def add(index: tf.Tensor, losses: Losses, gradients: list[tf.Tensor]) -> tuple[tf.Tensor, Losses, list[tf.Tensor]]:
            part = slice(index * size, (index + 1) * size)
            # Each batch draws its own random numbers. The sums need a gradient for each variable, also where the loss has none.
            batch_seed = tf.random.experimental.stateless_fold_in(seed, index)
            batch = differentiate(canvases[part], boxes[part], classes[part], batch_seed, tf.UnconnectedGradients.ZERO)
            sums = tf.nest.map_structure(tf.add, (losses, gradients), batch)
            return (index + 1, *sums)

        zero = tf.constant(0.0)
        start = (tf.constant(0), Losses(zero, dict.fromkeys(model.loss_names, zero)), [tf.zeros(v.shape) for v in variables])
        # One batch after the other: side by side they would need the memory of all.
        _, *sums = tf.while_loop(lambda index, *_: index < count, add, start, parallel_iterations=1)
        losses, gradients = tf.nest.map_structure(lambda value: value / count, sums)
        return losses, gradients

    def take_step(images: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor) -> Losses:
        step = tf.identity(optimizer.iterations)
        canvases, boxes, classes = augment(
            images,
            boxes,
            classes,
            seed=config.train.seed,
            step=step,
            mixes=schedule.is_before(step, config.augment.mix_until),
            input_size=canvas_sizes[tuple(images.shape[1:3])],
            config=config.augment,
        )
        seed = tf.stack([tf.constant(config.train.seed, tf.int64), step])
        if config.train.accumulate_steps > 1:
            losses, gradients = accumulate(canvases, boxes, classes, seed)
        else:
            losses, gradients = differentiate(canvases, boxes, classes, seed, tf.UnconnectedGradients.NONE)
        if scaler is not None:
            gradients = scaler.get_unscaled_gradients(gradients)
        gradients, _ = tf.clip_by_global_norm(gradients, config.train.clip_norm)
        optimizer.apply_gradients(
            (gradient, variable) for gradient, variable in zip(gradients, variables, strict=True) if gradient is not None
        )
        if average is not None:
            average.update(step)
        return losses

    def compile_for(height: int, width: int) -> Callable[..., Losses]:
        signature = [
            tf.TensorSpec([images_per_step(config), height, width, 3], tf.uint8),
            tf.TensorSpec([images_per_step(config), None, 4], tf.float32),
            tf.TensorSpec([images_per_step(config), None], tf.int32),
        ]
        # No Python control flow here depends on a tensor: autograph would only cost seconds, and leave files behind when killed.
        return tf.function(take_step, autograph=False, input_signature=signature)  # type: ignore[no-any-return]

    compiled = {size: compile_for(*size) for size in canvas_sizes}
    return lambda images, *truth: compiled[tuple(images.shape[1:3])](images, *truth)
