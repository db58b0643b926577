"""Views: which rectangle of an image is shown, and whether it is mirrored.

By itself a view fills the canvas; in a mosaic four views of four images fill one window of the
canvas each. All coordinates are (y, x) shares: origin and extent of the image, windows of the
canvas.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from detflow.config.schema import AugmentConfig
from detflow.training.augment.canvases import Canvases, Originals
from detflow.training.augment.noise import Noise

# A box thinner than this share of its window after augmentation carries no signal.
_MIN_SIDE = 1e-3
NUMBERS_PER_VIEW = 6
"""Random numbers that `draw_views` takes for a view."""


class Views(NamedTuple):
    """What is shown of N images: origin [N, 2], extent [N, 2], flip [N, 2] bool."""

    origin: tf.Tensor
    extent: tf.Tensor
    flip: tf.Tensor


def show_originals(
    originals: Originals, noise: Noise, config: AugmentConfig, canvas_size: tuple[int, int]
) -> Canvases:
    """Shows each image on a canvas: one crop-and-resize carries zoom, stretch, shift and flips.

    Args:
        originals: The images.
        noise: The random numbers.
        config: The ranges; without augmentation a canvas shows the whole image.
        canvas_size: (height, width) in pixels.
    """
    num_images = tf.shape(originals.pixels)[0]
    if config.enabled:
        views = draw_views(
            noise.uniform("view", [NUMBERS_PER_VIEW]), config, config.scale, tf.ones([1, 2])
        )
    else:
        zeros = tf.zeros([num_images, 2])
        views = Views(zeros, zeros + 1.0, zeros > 0.0)
    return Canvases(
        show_views(originals.pixels, tf.range(num_images), views, canvas_size),
        *boxes_in_view(originals.boxes, originals.classes, views, config.min_visible),
    )


def draw_views(
    noise: tf.Tensor, config: AugmentConfig, scale: tuple[float, float], window: tf.Tensor
) -> Views:
    """Draws views.

    Args:
        noise: [N, 6], uniform in [0, 1).
        config: The ranges.
        scale: Range of the zoom.
        window: [N, 2], size of what each view fills, as a share of the canvas.
    """
    low, high = (tf.math.log(float(bound)) for bound in scale)
    zoom = tf.exp(low + (high - low) * noise[:, 0])
    stretch = tf.exp(tf.math.log(float(config.aspect)) * (noise[:, 1] - 0.5))
    extent = tf.stack([stretch / zoom, 1.0 / (stretch * zoom)], 1) * window
    # A view smaller than the image lies anywhere inside it; of a larger one the image lies anywhere
    # inside.
    origin = noise[:, 2:4] * (1.0 - extent)
    flip = (noise[:, 4:6] < 0.5) & tf.constant([config.vertical_flip, config.horizontal_flip])
    return Views(origin, extent, flip)


def show_views(
    normalized: tf.Tensor,
    sources: tf.Tensor,
    views: Views,
    canvas_size: tuple[int, int] | tf.Tensor,
) -> tf.Tensor:
    """Draws views of the images `sources` [N] on canvases [N, *canvas_size, 3].

    The operation places its outermost samples on the edges of its boxes, counted from pixel centre
    to pixel centre; here they belong on the centres of the canvas' outermost pixels.
    """
    size = tf.cast(tf.shape(normalized)[1:3], tf.float32)
    half_pixel = views.extent * 0.5 / tf.cast(canvas_size, tf.float32)
    first = ((views.origin + half_pixel) * size - 0.5) / (size - 1.0)
    last = ((views.origin + views.extent - half_pixel) * size - 0.5) / (size - 1.0)
    corners = tf.concat([tf.where(views.flip, last, first), tf.where(views.flip, first, last)], 1)
    return tf.image.crop_and_resize(normalized, corners, sources, canvas_size)


def boxes_in_view(
    boxes: tf.Tensor, classes: tf.Tensor, views: Views, min_visible: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Takes boxes of images to their views and clips them there.

    Args:
        boxes: [N, M, 4], normalised by the images.
        classes: [N, M], -1 in an empty slot.
        views: What is shown of each image.
        min_visible: A box of which less than this share is left becomes an empty slot.

    Returns:
        Boxes [N, M, 4], normalised by the views, and their classes.
    """
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
