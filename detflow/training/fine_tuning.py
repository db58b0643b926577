"""Quantisation-aware fine-tuning: a trained model takes some hundred steps with int8's rounding."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from detflow.config.schema import ExperimentConfig
from detflow.errors import ArtifactError
from detflow.inference.trained import TrainedModel
from detflow.models.base import DetectionModel
from detflow.models.build import build_model
from detflow.process.tensorflow_settings import fix_order_of_sums
from detflow.runs.checkpoints import WeightAverage, find_not_finite
from detflow.runs.states import describe_not_finite
from detflow.training.augment.pipeline import without_mixing
from detflow.training.display import TrainingDisplay
from detflow.training.inputs import TrainingImages
from detflow.training.optimizer import LearningRate, build_optimizer
from detflow.training.quantization import fake_quantized, round_kernels
from detflow.training.step import build_step, images_per_step
from detflow.types import Sample

# A tenth of the rate that training begins with: the weights are good, and only have to move away
# from where rounding hurts.
_LEARNING_RATE = 2e-4
_WARMUP_SHARE = 0.1
# The average, which is converted, forgets the start within the last third of the steps.
_EMA_DECAY = 0.98


@dataclass(frozen=True)
class FineTuning:
    """The result of a fine-tuning.

    Attributes:
        model: A new model, for the first canvas, with the averaged weights and rounded kernels; it
            computes in floats.
        steps: Number of optimiser steps.
        learning_rate: The highest learning rate.
        images: Number of images that the batches were drawn from.
        seconds: How long it took.
    """

    model: DetectionModel
    steps: int
    learning_rate: float
    images: int
    seconds: float


def fine_tune(
    trained: TrainedModel,
    samples: Sequence[Sample],
    canvases: Iterable[npt.NDArray[np.uint8]],
    num_steps: int,
) -> FineTuning:
    """Trains a copy of a model on its first canvas, its convolutions rounded as int8 rounds them.

    Seed, batch and augmentation are the run's, without what mixes images; its frozen parts train
    too. A batch is a function of the seed and the step, so that the same arguments give the same
    weights on the same kind of machine.

    Args:
        trained: The trained model; neither it nor its model directory is changed.
        samples: The images to train on.
        canvases: As in `fake_quantized`.
        num_steps: Number of optimiser steps.

    Raises:
        DataError: An image cannot be decoded.
        ArtifactError: The loss is no longer finite.
    """
    began = time.monotonic()
    # The ranges are measured before the step is built, and are to be the same in every process.
    fix_order_of_sums()
    config = _fine_tuning_config(trained.config, num_steps)
    model = build_model(config.model, len(trained.label_map))
    exact = model.network
    for variable, source in zip(
        exact.variables, trained.serving.model.network.variables, strict=True
    ):
        variable.assign(source)
    images = TrainingImages(
        samples,
        len(samples),
        trained.label_map,
        model.canvas_sizes,
        max_boxes=config.data.max_boxes,
        max_bytes=config.data.cache_megabytes << 20,
        scratch_dir=Path(tempfile.gettempdir()),
        repeat_threshold=config.data.repeat_threshold,
    )
    average, schedule = WeightAverage(exact, config.train.ema_decay), LearningRate(config.train)
    optimizer = build_optimizer(config.train, schedule, exact.trainable_variables, "float32")
    model.network = fake_quantized(exact, canvases)
    take_step = build_step(model, optimizer, schedule, average, config)
    display = TrainingDisplay()
    display.note(f"int8 is refused as it is: fine-tuning {num_steps:,} steps with its rounding")
    with display.steps(0, num_steps, images_per_step(config)):
        for step in range(num_steps):
            batch = images.batch(config.train.seed, step, images_per_step(config))
            loss = float(take_step(step, batch.images, batch.boxes, batch.classes).total)
            if not math.isfinite(loss):
                raise ArtifactError(
                    f"the loss of step {step + 1:,} of the fine-tuning is {loss}",
                    path=trained.checkpoint_path,
                )
            display.step(step + 1, loss)
    if bad := find_not_finite(average.averages):
        raise ArtifactError(
            f"after the fine-tuning {describe_not_finite(bad, len(average.averages))}",
            path=trained.checkpoint_path,
        )
    average.assign_to_served()
    round_kernels(exact)
    model.network = exact
    return FineTuning(model, num_steps, _LEARNING_RATE, len(samples), time.monotonic() - began)


def _fine_tuning_config(config: ExperimentConfig, num_steps: int) -> ExperimentConfig:
    train = {
        "steps": num_steps,
        "optimizer": "adamw",
        "learning_rate": _LEARNING_RATE,
        "schedule": "cosine",
        "warmup_steps": round(_WARMUP_SHARE * num_steps),
        "ema_decay": _EMA_DECAY,
    }
    changes = {
        "model": config.model.model_copy(update={"more_input_sizes": ()}),
        "train": config.train.model_copy(update=train),
        "augment": without_mixing(config.augment),
    }
    return config.model_copy(update=changes)
