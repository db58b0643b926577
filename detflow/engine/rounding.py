"""Quantisation-aware fine-tuning: a trained RetinaNet learns to live with the rounding of int8."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import tf_keras

from detflow.engine.inputs import TrainingImages
from detflow.engine.optimizer import LearningRate, build_optimizer
from detflow.engine.retinanet import RetinaNet
from detflow.engine.step import build_step, images_per_step
from detflow.engine.trained import load_trained_model
from detflow.errors import ArtifactError
from detflow.types import Sample

__all__ = ["NUM_STEPS", "RoundedModel", "fine_tune_rounded"]

NUM_STEPS: Final = 300
"""Optimiser steps. The weights are good already: what they have to learn is small."""

# The run's own peak is for weights that know nothing.
_LEARNING_RATE_SHARE = 0.1
_WARMUP_STEPS = 30


class RoundedModel(NamedTuple):
    """A detector whose backbone and feature pyramid compute with rounded numbers; its head computes in floats.

    Attributes:
        model: The detector.
        body: Of its network, backbone and feature pyramid.
        head: Of its network, from there on.
    """

    model: RetinaNet
    body: tf_keras.Model
    head: tf_keras.Model


def fine_tune_rounded(checkpoint_path: Path, samples: Sequence[Sample], scratch_dir: Path) -> RoundedModel:
    """Trains a checkpoint's averaged weights on with rounding inside: the run's loss, inputs, augmentation, optimiser and seed.

    Args:
        checkpoint_path: A checkpoint's folder. It is loaded anew and not changed.
        samples: To train on.
        scratch_dir: Where decoded images go that do not fit into the memory that the run grants them.

    Raises:
        ArtifactError: The architecture or its backbone has no quantisation-aware form.
        DataError: An image cannot be decoded.
    """
    # It takes seconds to import, and few exports come here.
    from detflow.engine.garden.quantized import quantize_body

    trained = load_trained_model(checkpoint_path)
    model, data = trained.serving.model, trained.config.data
    if not isinstance(model, RetinaNet):
        raise ArtifactError(f"quantisation-aware training does not know {type(model).__name__}")
    body = quantize_body(model.parts, model.input_size)
    head = tf_keras.Model(model.parts["head"].input, model.network.output)
    rounded = copy.copy(model)
    rounded.network = tf_keras.Model(body.input, head(body.output), name="rounded_retinanet")
    settings = trained.config.train
    changes = {
        "steps": NUM_STEPS,
        "learning_rate": settings.learning_rate * _LEARNING_RATE_SHARE,
        "warmup_steps": _WARMUP_STEPS,
        "schedule": "cosine",
    }
    config = trained.config.model_copy(update={"train": settings.model_copy(update=changes)})
    images = TrainingImages(
        samples,
        len(samples),
        trained.label_map,
        # A TFLite file takes the first canvas alone.
        [model.input_size],
        max_boxes=data.max_boxes,
        max_bytes=data.cache_megabytes << 20,
        scratch_dir=scratch_dir,
    )
    schedule = LearningRate(config.train)
    optimizer = build_optimizer(config.train, schedule, rounded.network.trainable_variables, "float32")
    take_step = build_step(rounded, optimizer, schedule, None, config)
    for step in range(NUM_STEPS):
        batch = images.batch(config.train.seed, step, images_per_step(config))
        take_step(batch.images, batch.boxes, batch.classes)
    return RoundedModel(rounded, body, head)
