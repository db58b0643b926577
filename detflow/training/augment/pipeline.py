"""The list of augmentations, and the way of a batch through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import tensorflow as tf

from detflow.config.schema import AugmentConfig
from detflow.models import preprocess
from detflow.training.augment.canvases import Canvases, Originals, count_rows
from detflow.training.augment.colour import change_colours
from detflow.training.augment.mixup import mix_up
from detflow.training.augment.mosaic import lay_mosaics
from detflow.training.augment.noise import Noise
from detflow.training.augment.views import show_originals

Change: TypeAlias = Callable[[Canvases, Originals, Noise, AugmentConfig], Canvases]
"""From the canvases so far, the images that they were made of, random numbers and the settings to
the changed canvases."""


@dataclass(frozen=True)
class Augmentation:
    """A random change to canvases.

    Attributes:
        name: What its random numbers follow from, beside the seed and the step. Another name means
            other numbers.
        change: The change. Whatever is random in it comes from the noise that it is given.
        setting: The setting under `augment` that is above 0 where it is used; None for a change
            that is always used.
        mixes: Whether a canvas shows other images of the batch. Then each process prepares the
            whole batch, and `augment.mix_until` ends it.
    """

    name: str
    change: Change
    setting: str | None = None
    mixes: bool = False

    def is_used(self, config: AugmentConfig) -> bool:
        """Returns whether the settings ask for it."""
        return config.enabled and (self.setting is None or bool(getattr(config, self.setting)))


AUGMENTATIONS: list[Augmentation] = [
    Augmentation("mosaic", lay_mosaics, setting="mosaic", mixes=True),
    Augmentation("mixup", mix_up, setting="mixup", mixes=True),
    Augmentation("colour", change_colours),
]
"""In the order in which they change a canvas that shows one view of one image. A further one takes
an entry here and its settings in `AugmentConfig`; it changes no random number of the others."""


def augment(
    images: tf.Tensor,
    boxes: tf.Tensor,
    classes: tf.Tensor,
    *,
    seed: int,
    step: tf.Tensor,
    mixes: tf.Tensor,
    input_size: tuple[int, int],
    config: AugmentConfig,
    rows: tf.Tensor | None = None,
    num_rows: int | None = None,
    augmentations: Sequence[Augmentation] = AUGMENTATIONS,
) -> Canvases:
    """Turns a batch into the network's input: a view of each image, then change after change.

    Args:
        images: As `Batch.images`.
        boxes: As `Batch.boxes`.
        classes: As `Batch.classes`.
        seed: The run's seed.
        step: Scalar int64.
        mixes: Scalar bool: whether changes that mix images may take place at this step.
        input_size: The canvas: (height, width) in pixels.
        config: The settings.
        rows: [B] int, for images that are a part of a step's: their numbers among these. Each image
            is changed as it is in the whole. Changes that mix images take no part of a step.
        num_rows: Number of images of the whole step, where `rows` is given.
        augmentations: The changes.

    Returns:
        The canvases. A box that left its view is an empty slot. There are as many slots as before;
        where images were mixed, there are as many as the fullest canvas needs.
    """
    key = tf.stack([tf.constant(seed, tf.int64), step])
    noise = Noise(key, count_rows(images) if num_rows is None else num_rows, rows)
    originals = Originals(preprocess.normalize(images), boxes, classes)
    canvases = show_originals(originals, noise.of("view"), config, input_size)
    for augmentation in augmentations:
        if augmentation.is_used(config):
            canvases = _apply(augmentation, canvases, originals, noise, config, mixes)
    return canvases


def mixes_rows(config: AugmentConfig) -> bool:
    """Returns whether a canvas may show other images of the batch."""
    return any(one.mixes and one.is_used(config) for one in AUGMENTATIONS)


def without_mixing(config: AugmentConfig) -> AugmentConfig:
    """Returns the settings with those augmentations off that mix images."""
    settings = [one.setting for one in AUGMENTATIONS if one.mixes and one.setting]
    return config.model_copy(update=dict.fromkeys(settings, 0.0))


def _apply(
    augmentation: Augmentation,
    canvases: Canvases,
    originals: Originals,
    noise: Noise,
    config: AugmentConfig,
    mixes: tf.Tensor,
) -> Canvases:
    def change() -> Canvases:
        return augmentation.change(canvases, originals, noise.of(augmentation.name), config)

    return tf.cond(mixes, change, lambda: canvases) if augmentation.mixes else change()
