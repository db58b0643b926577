"""How fast this machine trains a configuration, measured for a few seconds."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from detflow.config.schema import ExperimentConfig
from detflow.distributed.team import Team
from detflow.label_map import LabelMap
from detflow.models.precision import resolve_precision
from detflow.process.tensorflow_settings import set_threads
from detflow.training.fit_recipe import Speed
from detflow.training.inputs import cache_size
from detflow.training.state import TrainingState, build_training_state
from detflow.training.step import build_step, images_per_step

# A step varies by a few percent. On a slow machine three of them have to do.
_SECONDS = 3.0
_LEAST_STEPS, _MOST_STEPS = 3, 40


def measure_speed(config: ExperimentConfig, label_map: LabelMap, objects: int) -> Speed:
    """Measures a configuration's training steps on noise, from fresh weights.

    Args:
        config: Fitted; what it starts from changes nothing in its speed and is not read.
        label_map: The classes.
        objects: Number of objects in an image.
    """
    set_threads(config.runtime.threads)
    began = time.monotonic()
    state = build_training_state(
        config, label_map, resolve_precision(config.runtime.precision), Team(), serves=True
    )
    take_step = build_step(
        state.model, state.optimizer, state.schedule, state.average, config, Team()
    )
    images, boxes, classes = _draw_batch(config, len(label_map), objects)
    float(take_step(0, images, boxes, classes).total)
    ready = time.monotonic()
    number, seconds = 0, 0.0
    while number < _LEAST_STEPS or (seconds < _SECONDS and number < _MOST_STEPS):
        number += 1
        float(take_step(number, images, boxes, classes).total)
        seconds = time.monotonic() - ready
    rate = number * images_per_step(config) / seconds
    return Speed(rate, ready - began, _measure_evaluation(state, config))


def _draw_batch(
    config: ExperimentConfig, num_classes: int, objects: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    random = np.random.default_rng(0)
    size, count = images_per_step(config), max(1, objects)
    images = random.integers(0, 256, (size, *cache_size(config.model.input_size), 3), np.uint8)
    corners = random.uniform(0.0, 0.7, (size, count, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + np.float32(0.25)], -1)
    classes = random.integers(0, num_classes, (size, count)).astype(np.int32)
    return images, boxes, classes


def _measure_evaluation(state: TrainingState, config: ExperimentConfig) -> float:
    """Returns images a second of the network and its suppression, one image after the other."""
    height, width = config.model.input_size
    detect = tf.function(
        lambda canvases: state.served.detect(canvases, config.evaluate).scores, autograph=False
    )
    canvas = tf.zeros([1, height, width, 3])
    detect(canvas).numpy()
    began = time.monotonic()
    for _ in range(_LEAST_STEPS):
        detect(canvas).numpy()
    return _LEAST_STEPS / (time.monotonic() - began)
