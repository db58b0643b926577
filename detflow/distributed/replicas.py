"""What one replica must know of the others.

So a batch that is split over replicas is trained on as if it were whole. A replica is one device
with its own rows of the batch. Where there is only one, everything in here leaves its arguments as
they are.

A loss is a sum over rows divided by something that is counted over the whole batch. Each replica
divides its own sum by the replicas' mean of that count; the mean of the replicas' losses then is
the loss of the whole batch, and so with gradients.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf
import tf_keras


def num_replicas() -> int:
    """Returns how many replicas share a batch, under the strategy whose scope this is called in."""
    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def mean_over_replicas(value: Any) -> Any:
    """Returns the replicas' mean of each tensor in a structure; all replicas call this."""
    if num_replicas() == 1:
        return value
    # A gradient stands on no device that TensorFlow could tell; the copy stands on the replica's.
    value = tf.nest.map_structure(tf.identity, value)
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, value)


def gather_rows(value: Any) -> Any:
    """Returns tensors [b, …] of this replica as those of the whole batch [B, …].

    Gradients find their way back.

    What comes after is computed by every replica for all rows. A gradient arrives from each of
    them, so that the mean over replicas that all gradients are taken through gives the right one.
    """
    if num_replicas() == 1:
        return value
    context = tf.distribute.get_replica_context()

    def gather(tensor: tf.Tensor) -> tf.Tensor:
        # Gathering loses what is known of the shape.
        return tf.ensure_shape(context.all_gather(tensor, axis=0), [None, *tensor.shape[1:]])

    return tf.nest.map_structure(gather, value)


def uniform_rows(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draws numbers in [0, 1) for each row of the batch, whichever replica has it.

    Args:
        shape: [b, …], of this replica's rows, which lie in the batch one after the other.
        seed: [2]; equal on all replicas.
    """
    replicas = num_replicas()
    if replicas == 1:
        return tf.random.stateless_uniform(shape, seed)
    rows = shape[0]
    first = tf.distribute.get_replica_context().replica_id_in_sync_group * rows
    return tf.random.stateless_uniform(tf.concat([[rows * replicas], shape[1:]], 0), seed)[
        first : first + rows
    ]


def unbiased_statistics(network: tf_keras.Model) -> None:
    """Makes synchronised batch norms keep the variance that those of a single device keep.

    Their moving variance is of the batch as a population; that of the fused kernel is the estimate
    from a sample, larger by n / (n - 1). What is normalised by while training is the same.

    Args:
        network: Not yet traced; left as it is where there is one replica.
    """
    for norm in _synchronized_norms(network.submodules):
        _correct_variance(norm, num_replicas())


def _synchronized_norms(
    modules: Iterable[tf.Module],
) -> Iterable[tf_keras.layers.BatchNormalization]:
    for module in modules:
        if isinstance(module, tf_keras.layers.BatchNormalization) and module.synchronized:
            yield module


def _correct_variance(norm: tf_keras.layers.BatchNormalization, replicas: int) -> None:
    moments, assign = norm._moments, norm._assign_moving_average
    correction: list[tf.Tensor] = []

    def take_moments(inputs: tf.Tensor, *args: Any, **kwargs: Any) -> Any:
        count = tf.cast(tf.size(inputs) // inputs.shape[-1] * replicas, tf.float32)
        correction[:] = [count / tf.maximum(count - 1.0, 1.0)]
        return moments(inputs, *args, **kwargs)

    def assign_corrected(variable: tf.Variable, value: tf.Tensor, *args: Any) -> Any:
        return assign(
            variable, value * correction[0] if variable is norm.moving_variance else value, *args
        )

    norm._moments, norm._assign_moving_average = take_moments, assign_corrected
