"""Mosaics of four images (YOLOv4, arXiv:2004.10934)."""

from __future__ import annotations

import tensorflow as tf

from detflow.config.schema import AugmentConfig
from detflow.training.augment.canvases import Canvases, Originals, compact, count_rows
from detflow.training.augment.mixup import draw_partners
from detflow.training.augment.noise import Noise
from detflow.training.augment.views import (
    NUMBERS_PER_VIEW,
    Views,
    boxes_in_view,
    draw_views,
    show_views,
)

# Where the four windows of a mosaic meet: not so close to an edge that one of them shows nothing.
_CENTRE_RANGE = (0.25, 0.75)
# Whether each window lies below the place where the four meet, and right of it.
_AFTER = ([False, False], [False, True], [True, False], [True, True])


def lay_mosaics(
    canvases: Canvases, originals: Originals, noise: Noise, config: AugmentConfig
) -> Canvases:
    """Replaces some canvases by mosaics of four views, each of another image of the batch.

    Args:
        canvases: The canvases, of which the others stay as they are.
        originals: What the mosaics are made of.
        noise: The random numbers.
        config: The share of the canvases, and the ranges.
    """
    chosen = noise.uniform("chosen", []) < config.mosaic
    return tf.cond(  # type: ignore[no-any-return]
        tf.reduce_any(chosen),
        lambda: _lay_mosaics(canvases, chosen, originals, noise, config),
        lambda: canvases,
    )


def _lay_mosaics(
    canvases: Canvases,
    chosen: tf.Tensor,
    originals: Originals,
    noise: Noise,
    config: AugmentConfig,
) -> Canvases:
    batch_size = count_rows(chosen)
    height, width, channels = canvases.pixels.shape[1:]
    sides = tf.constant([height, width], tf.float32)
    low, high = _CENTRE_RANGE
    # The windows meet between pixels, so that each pixel belongs to one of them.
    cuts = tf.round((low + (high - low) * noise.uniform("centre", [2])) * sides)
    centre = cuts / sides
    partners = draw_partners(noise, batch_size)
    view_noise = noise.uniform("views", [4, NUMBERS_PER_VIEW])

    tiles, tile_boxes, tile_classes = [], [], []
    for tile, after in enumerate(_AFTER):
        corner, window = tf.where(after, centre, 0.0), tf.where(after, 1.0 - centre, centre)
        source = partners[:, tile % batch_size]
        views = draw_views(view_noise[:, tile], config, config.mosaic_scale, window)
        tiles.append((source, views))
        seen, labels = boxes_in_view(
            tf.gather(originals.boxes, source),
            tf.gather(originals.classes, source),
            views,
            config.min_visible,
        )
        placed = (
            tf.tile(corner, [1, 2])[:, tf.newaxis] + seen * tf.tile(window, [1, 2])[:, tf.newaxis]
        )
        tile_boxes.append(tf.where(labels[..., tf.newaxis] >= 0, placed, 0.0))
        tile_classes.append(labels)

    def draw(row: tf.Tensor) -> tf.Tensor:
        windows = []
        for after, (source, views) in zip(_AFTER, tiles, strict=True):
            size = tf.cast(tf.where(after, sides - cuts[row], cuts[row]), tf.int32)
            view = Views(*(value[row][tf.newaxis] for value in views))
            windows.append(show_views(originals.pixels, source[row][tf.newaxis], view, size)[0])
        return tf.concat([tf.concat(windows[:2], 1), tf.concat(windows[2:], 1)], 0)

    # One after the other, each window by itself: on whole canvases all at once the pixels of the
    # mosaics took a tenth of a training step.
    rows = tf.where(chosen)
    canvas = tf.TensorSpec([height, width, channels])
    drawn = tf.map_fn(draw, rows[:, 0], fn_output_signature=canvas, parallel_iterations=1)
    pixels = tf.tensor_scatter_nd_update(canvases.pixels, rows, drawn)
    labelled = tf.concat(tile_boxes, 1), tf.concat(tile_classes, 1)
    slots = tf.maximum(tf.shape(canvases.boxes)[1], tf.shape(labelled[0])[1])
    all_boxes, all_classes = _pad_slots(canvases.boxes, canvases.classes, slots)
    mosaic_boxes, mosaic_classes = _pad_slots(*labelled, slots)
    return Canvases(
        pixels,
        *compact(
            tf.where(chosen[:, tf.newaxis, tf.newaxis], mosaic_boxes, all_boxes),
            tf.where(chosen[:, tf.newaxis], mosaic_classes, all_classes),
        ),
    )


def _pad_slots(
    boxes: tf.Tensor, classes: tf.Tensor, slots: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Appends empty slots until there are so many."""
    missing = slots - tf.shape(boxes)[1]
    return (
        tf.pad(boxes, [[0, 0], [0, missing], [0, 0]]),
        tf.pad(classes, [[0, 0], [0, missing]], constant_values=-1),
    )
