"""Blends of two images (mixup, arXiv:1710.09412; for detection arXiv:1902.04103)."""

from __future__ import annotations

import tensorflow as tf

from detflow.config.schema import AugmentConfig
from detflow.training.augment.canvases import Canvases, Originals, compact, count_rows
from detflow.training.augment.noise import Noise

# Share of the first image in a mixup. YOLO draws it from Beta(32, 32), whose mass lies here: both
# images stay visible, and all boxes count in full.
_SHARE_RANGE = (0.4, 0.6)


def mix_up(
    canvases: Canvases, originals: Originals, noise: Noise, config: AugmentConfig
) -> Canvases:
    """Blends some canvases with others of the batch and takes the boxes of both.

    Args:
        canvases: The canvases.
        originals: Not used: canvases are blended.
        noise: The random numbers.
        config: The share of the canvases.
    """
    batch_size = count_rows(canvases.classes)
    chosen = (noise.uniform("chosen", []) < config.mixup) & (batch_size > 1)
    other = draw_partners(noise, batch_size)[:, 1 % batch_size]
    low, high = _SHARE_RANGE
    drawn = low + (high - low) * noise.uniform("share", [])
    share = tf.where(chosen, drawn, 1.0)[:, tf.newaxis, tf.newaxis, tf.newaxis]
    pixels = share * canvases.pixels + (1.0 - share) * tf.gather(canvases.pixels, other)
    added = tf.where(chosen[:, tf.newaxis], tf.gather(canvases.classes, other), -1)
    added_boxes = tf.where(added[..., tf.newaxis] >= 0, tf.gather(canvases.boxes, other), 0.0)
    return Canvases(
        pixels,
        *compact(
            tf.concat([canvases.boxes, added_boxes], 1), tf.concat([canvases.classes, added], 1)
        ),
    )


def draw_partners(noise: Noise, batch_size: int | tf.Tensor) -> tf.Tensor:
    """Returns [B, B] int32: in each row its own number, then all others in random order."""
    order = noise.uniform("partners", [batch_size])
    return tf.argsort(tf.linalg.set_diag(order, tf.fill([batch_size], -1.0)), stable=True)
