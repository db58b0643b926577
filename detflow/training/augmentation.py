"""Random changes to training images: views, mosaic, mixup, colours. Everything is drawn from (seed, step) alone.

A view says which rectangle of an image is shown, and whether mirrored. By itself a view fills the
canvas; in a mosaic four views of four images fill one window of the canvas each. All coordinates
are (y, x) shares: origin and extent of the image, windows of the canvas.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from detflow.config.schema import AugmentConfig
from detflow.models import preprocess

__all__ = ["Canvases", "augment"]

# A box thinner than this share of its window after augmentation carries no signal.
_MIN_SIDE = 1e-3
# Where the four windows of a mosaic meet: not so close to an edge that one of them shows nothing.
_CENTRE_RANGE = (0.25, 0.75)
# Share of the first image in a mixup. YOLO draws it from Beta(32, 32), whose mass lies here: both
# images stay visible, and all boxes count in full.
_MIXUP_RANGE = (0.4, 0.6)


class Canvases(NamedTuple):
    """What the network trains on: B canvases with M box slots.

    Attributes:
        pixels: Normalised [B, height, width, 3] float32.
        boxes: [B, M, 4] float32, normalised by the canvas, zeros in an empty slot; M >= 1.
        classes: [B, M] int32 counted from 0, -1 in an empty slot.
    """

    pixels: tf.Tensor
    boxes: tf.Tensor
    classes: tf.Tensor


class _Views(NamedTuple):
    """What is shown of N images: origin [N, 2], extent [N, 2], flip [N, 2] bool."""

    origin: tf.Tensor
    extent: tf.Tensor
    flip: tf.Tensor


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
) -> Canvases:
    """Turns a batch into the network's input: one crop-and-resize carries zoom, stretch, shift and flips; then colour.

    A mosaic takes three more images of the same batch, a mixup one more canvas of it.

    Args:
        images: As `Batch.images`.
        boxes: As `Batch.boxes`.
        classes: As `Batch.classes`.
        seed: The run's.
        step: Scalar int64.
        mixes: Scalar bool: mosaic and mixup may take place at this step.
        input_size: The canvas: (height, width) in pixels.
        config: The ranges.
        rows: [B] int: of images that are a part of a step's, their numbers among them: each is
            changed as it is in the whole. Without mosaic and mixup, which take other images.
        num_rows: Images of the whole step, where `rows` is given.

    Returns:
        The canvases; a box that left the view is an empty slot. There are as many slots as before,
        where mosaic or mixup took place as many as the fullest canvas needs.
    """
    batch_size = tf.shape(images)[0]
    key = tf.stack([tf.constant(seed, tf.int64), step])
    noise = tf.random.stateless_uniform(
        [batch_size if num_rows is None else num_rows, 12], seed=key
    )
    if rows is not None:
        noise = tf.gather(noise, rows)
    normalized = preprocess.normalize(images)
    views = _draw_views(noise[:, :6], config, config.scale, tf.ones([1, 2]))
    canvases = Canvases(
        _show(normalized, tf.range(batch_size), views, input_size),
        *_boxes_in_view(boxes, classes, views, config.min_visible),
    )
    if not config.enabled:
        return canvases
    if config.mosaic:
        chosen = mixes & (noise[:, 11] < config.mosaic)
        single, batch = canvases, (normalized, boxes, classes)
        canvases = tf.cond(
            tf.reduce_any(chosen),
            lambda: _lay_mosaics(single, chosen, batch, tf.random.fold_in(key, 1), config),
            lambda: single,
        )
    if config.mixup:
        unmixed = canvases
        canvases = tf.cond(
            mixes, lambda: _mix_up(unmixed, tf.random.fold_in(key, 2), config), lambda: unmixed
        )
    signed = noise[:, tf.newaxis, tf.newaxis, 6:11] * 2.0 - 1.0
    gain = (1.0 + config.gain * signed[..., :1]) * (1.0 + config.channel_gain * signed[..., 1:4])
    # Normalised values deviate by about 1 over 57 grey levels.
    return canvases._replace(
        pixels=canvases.pixels * gain + config.offset * (255.0 / 57.0) * signed[..., 4:]
    )


def _draw_views(
    noise: tf.Tensor, config: AugmentConfig, scale: tuple[float, float], window: tf.Tensor
) -> _Views:
    """Draws views from noise [N, 6] for windows of size [N, 2], zoomed within `scale`."""
    if not config.enabled:
        zeros = tf.zeros([tf.shape(noise)[0], 2])
        return _Views(zeros, zeros + 1.0, zeros > 0.0)
    low, high = (tf.math.log(float(bound)) for bound in scale)
    zoom = tf.exp(low + (high - low) * noise[:, 0])
    stretch = tf.exp(tf.math.log(float(config.aspect)) * (noise[:, 1] - 0.5))
    extent = tf.stack([stretch / zoom, 1.0 / (stretch * zoom)], 1) * window
    # A view smaller than the image lies anywhere inside it; of a larger one the image lies anywhere
    # inside.
    origin = noise[:, 2:4] * (1.0 - extent)
    flip = (noise[:, 4:6] < 0.5) & tf.constant([config.vertical_flip, config.horizontal_flip])
    return _Views(origin, extent, flip)


def _show(
    normalized: tf.Tensor, sources: tf.Tensor, views: _Views, canvas_size: tuple[int, int]
) -> tf.Tensor:
    """Draws views of the images `sources` [N] on canvases [N, *canvas_size, 3].

    The operation places its outermost samples on the edges of its boxes, counted from pixel centre
    to pixel centre; here they belong on the centres of the canvas' outermost pixels.
    """
    size = tf.cast(tf.shape(normalized)[1:3], tf.float32)
    half_pixel = views.extent * 0.5 / tf.constant(canvas_size, tf.float32)
    first = ((views.origin + half_pixel) * size - 0.5) / (size - 1.0)
    last = ((views.origin + views.extent - half_pixel) * size - 0.5) / (size - 1.0)
    corners = tf.concat([tf.where(views.flip, last, first), tf.where(views.flip, first, last)], 1)
    return tf.image.crop_and_resize(normalized, corners, sources, canvas_size)


def _boxes_in_view(
    boxes: tf.Tensor, classes: tf.Tensor, views: _Views, min_visible: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Takes boxes [N, M, 4] of images to their views, clipped there; what is hardly visible becomes an empty slot."""
    origin, extent, flip = (value[:, tf.newaxis] for value in views)
    low, high = (boxes[..., :2] - origin) / extent, (boxes[..., 2:] - origin) / extent
    low, high = tf.where(flip, 1.0 - high, low), tf.where(flip, 1.0 - low, high)
    whole = tf.reduce_prod(high - low, -1)
    low, high = tf.clip_by_value(low, 0.0, 1.0), tf.clip_by_value(high, 0.0, 1.0)
    side = high - low
    kept = (
        (classes >= 0)
        & (tf.reduce_min(side, -1) > _MIN_SIDE)
        & (tf.reduce_prod(side, -1) >= min_visible * whole)
    )
    return tf.where(kept[..., tf.newaxis], tf.concat([low, high], -1), 0.0), tf.where(
        kept, classes, -1
    )


def _lay_mosaics(
    canvases: Canvases,
    chosen: tf.Tensor,
    batch: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
    key: tf.Tensor,
    config: AugmentConfig,
) -> Canvases:
    """Replaces canvases by mosaics of four views (YOLOv4, arXiv:2004.10934), each of another image of the batch.

    Args:
        canvases: Of one view each.
        chosen: [B] bool: which become mosaics.
        batch: Normalised images, their boxes and classes.
        key: Of all random numbers.
        config: The ranges.
    """
    normalized, boxes, classes = batch
    batch_size = tf.shape(chosen)[0]
    height, width = canvases.pixels.shape[1:3]
    sides = tf.constant([height, width], tf.float32)
    centre_key, partner_key, view_key = tf.unstack(tf.random.split(key, 3))
    low, high = _CENTRE_RANGE
    # The windows meet between pixels, so that each pixel belongs to one of them.
    centre = (
        tf.round(
            (low + (high - low) * tf.random.stateless_uniform([batch_size, 2], centre_key)) * sides
        )
        / sides
    )
    partners = _draw_partners(batch_size, partner_key)
    noise = tf.random.stateless_uniform([batch_size, 4, 6], view_key)
    rows = tf.where(chosen)[:, 0]
    centre, partners, noise = (tf.gather(value, rows) for value in (centre, partners, noise))

    pixels, tile_boxes, tile_classes = tf.gather(canvases.pixels, rows), [], []
    below = (tf.range(height, dtype=tf.float32)[tf.newaxis, :] + 0.5) / height > centre[:, :1]
    right = (tf.range(width, dtype=tf.float32)[tf.newaxis, :] + 0.5) / width > centre[:, 1:]
    for tile in range(4):
        is_below, is_right = divmod(tile, 2)
        after = tf.constant([is_below == 1, is_right == 1])
        corner, window = tf.where(after, centre, 0.0), tf.where(after, 1.0 - centre, centre)
        source = partners[:, tile % batch_size]
        views = _draw_views(noise[:, tile], config, config.mosaic_scale, window)
        # What the whole canvas has to show for the window to show the view.
        extent = views.extent / window
        origin = views.origin - extent * tf.where(views.flip, 1.0 - corner - window, corner)
        shown = _show(normalized, source, _Views(origin, extent, views.flip), (height, width))
        inside = (below == bool(is_below))[:, :, tf.newaxis] & (right == bool(is_right))[
            :, tf.newaxis, :
        ]
        pixels = tf.where(inside[..., tf.newaxis], shown, pixels)
        seen, labels = _boxes_in_view(
            tf.gather(boxes, source), tf.gather(classes, source), views, config.min_visible
        )
        placed = (
            tf.tile(corner, [1, 2])[:, tf.newaxis] + seen * tf.tile(window, [1, 2])[:, tf.newaxis]
        )
        tile_boxes.append(tf.where(labels[..., tf.newaxis] >= 0, placed, 0.0))
        tile_classes.append(labels)

    missing = 3 * tf.shape(boxes)[1]
    index = rows[:, tf.newaxis]
    return Canvases(
        tf.tensor_scatter_nd_update(canvases.pixels, index, pixels),
        *_compact(
            tf.tensor_scatter_nd_update(
                tf.pad(canvases.boxes, [[0, 0], [0, missing], [0, 0]]),
                index,
                tf.concat(tile_boxes, 1),
            ),
            tf.tensor_scatter_nd_update(
                tf.pad(canvases.classes, [[0, 0], [0, missing]], constant_values=-1),
                index,
                tf.concat(tile_classes, 1),
            ),
        ),
    )


def _mix_up(canvases: Canvases, key: tf.Tensor, config: AugmentConfig) -> Canvases:
    """Blends canvases with others of the batch and takes the boxes of both (arXiv:1902.04103)."""
    batch_size = tf.shape(canvases.classes)[0]
    noise_key, partner_key = tf.unstack(tf.random.split(key, 2))
    noise = tf.random.stateless_uniform([batch_size, 2], noise_key)
    chosen = (noise[:, 0] < config.mixup) & (batch_size > 1)
    other = _draw_partners(batch_size, partner_key)[:, 1 % batch_size]
    low, high = _MIXUP_RANGE
    share = tf.where(chosen, low + (high - low) * noise[:, 1], 1.0)[
        :, tf.newaxis, tf.newaxis, tf.newaxis
    ]
    pixels = share * canvases.pixels + (1.0 - share) * tf.gather(canvases.pixels, other)
    added = tf.where(chosen[:, tf.newaxis], tf.gather(canvases.classes, other), -1)
    added_boxes = tf.where(added[..., tf.newaxis] >= 0, tf.gather(canvases.boxes, other), 0.0)
    return Canvases(
        pixels,
        *_compact(
            tf.concat([canvases.boxes, added_boxes], 1), tf.concat([canvases.classes, added], 1)
        ),
    )


def _draw_partners(batch_size: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Returns [B, B] int32: in each row its own number, then all others in random order."""
    order = tf.random.stateless_uniform([batch_size, batch_size], key)
    return tf.argsort(tf.linalg.set_diag(order, tf.fill([batch_size], -1.0)), stable=True)


def _compact(boxes: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Moves empty slots to the end and leaves out those that no row needs."""
    order = tf.argsort(tf.cast(classes < 0, tf.int32), stable=True)
    fullest = tf.reduce_max(tf.reduce_sum(tf.cast(classes >= 0, tf.int32), 1))
    order = order[:, : tf.maximum(fullest, 1)]
    return tf.gather(boxes, order, batch_dims=1), tf.gather(classes, order, batch_dims=1)
