"""Everything of a training that changes with its steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import tensorflow as tf
import tf_keras

from detflow.config.schema import ExperimentConfig
from detflow.distributed.team import Team
from detflow.label_map import LabelMap
from detflow.models.base import DetectionModel
from detflow.models.build import build_model
from detflow.models.freeze import freeze
from detflow.models.precision import Precision, network_precision
from detflow.models.recompute import recompute_blocks
from detflow.models.weights.foreign import Photos
from detflow.models.weights.restore import RestoreReport, restore_initial_weights
from detflow.models.weights.sources import InitialWeights
from detflow.runs.checkpoints import WeightAverage
from detflow.training.optimizer import LearningRate, build_optimizer, list_scale_variables


@dataclass(frozen=True)
class TrainingState:
    """What a step reads and updates.

    Attributes:
        model: What is trained.
        served: What is evaluated with the averaged weights: the model itself where it computes in
            float32 on one device, else a copy that does.
        average: Moving average of the model's weights.
        schedule: Learning rate of the optimiser.
        optimizer: Built for the variables that are not frozen.
        restored: What was taken from initial weights, where there were some.
    """

    model: DetectionModel
    served: DetectionModel
    average: WeightAverage
    schedule: LearningRate
    optimizer: tf_keras.optimizers.Optimizer
    restored: RestoreReport | None

    @property
    def variables(self) -> list[tf.Variable]:
        """Network, averages and optimiser, in an order that only depends on the configuration."""
        return [
            *self.model.network.variables,
            *self.average.averages,
            *self.optimizer.variables,
            *list_scale_variables(self.optimizer),
        ]

    @property
    def saved(self) -> Mapping[str, tf.Module | tf_keras.Model | tf_keras.optimizers.Optimizer]:
        """What a checkpoint holds, by name."""
        return {"network": self.model.network, "average": self.average, "optimizer": self.optimizer}


def build_training_state(
    config: ExperimentConfig,
    label_map: LabelMap,
    precision: Precision,
    team: Team,
    initial: InitialWeights | None = None,
    read_photos: Callable[[], Photos] | None = None,
    *,
    serves: bool = False,
) -> TrainingState:
    """Builds the state as it is before the first step.

    Args:
        config: The resolved configuration.
        label_map: The classes.
        precision: What the network computes in.
        team: Where the variables live.
        initial: Weights to start with; None from scratch.
        read_photos: See `restore_initial_weights`.
        serves: Whether this process evaluates.
    """
    num_classes = len(label_map)
    with team.scope(), network_precision(precision):
        model = build_model(config.model, num_classes)
    restored = (
        restore_initial_weights(initial, model, label_map.names, read_photos) if initial else None
    )
    # What is evaluated and exported computes in float32 on one device, whatever training does.
    is_served = not serves or (precision == "float32" and team.num_replicas == 1)
    served = model if is_served else build_model(config.model, num_classes)
    with team.scope():
        # Before anything is frozen: that changes the order of the network's variables, by which the
        # averages are saved.
        average = WeightAverage(model.network, config.train.ema_decay, served.network)
    freeze(model.parts, config.train.freeze)
    if config.runtime.recompute:
        recompute_blocks(model.parts)
    with team.scope():
        schedule = LearningRate(config.train)
        optimizer = build_optimizer(
            config.train, schedule, model.network.trainable_variables, precision
        )
    return TrainingState(model, served, average, schedule, optimizer, restored)
