"""What happens to an image before the network sees it.

Training, evaluation and every exported graph use these functions.

The canvas is the network's input; where there are several, an image takes the one that keeps it
largest. An image keeps its aspect: it is scaled to fit and put into the canvas's top left corner,
and the rest is filled with the mean colour. Coordinates on the canvas are normalised by the canvas,
and those of the image by the image; `ratio`, the share of the canvas that the image covers, leads
from one to the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from detflow.geometry import MEAN_RGB, STDDEV_RGB


def decode_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a JPEG file.

    Args:
        encoded: Scalar string.

    Returns:
        [height, width, 3] uint8, RGB, in the stored orientation. INTEGER_ACCURATE gives the same
        pixels as Pillow; TensorFlow's default differs by up to 10.
    """
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def choose_canvas(
    images: tf.Tensor, canvas_sizes: Sequence[tuple[int, int]]
) -> tuple[int, int] | tf.Tensor:
    """Chooses the canvas for images of one size: `geometry.choose_canvas` as an operation.

    Args:
        images: [batch, height, width, 3].
        canvas_sizes: (height, width) of each canvas.

    Returns:
        (height, width) of the canvas: a tensor [2] int32, or the pair where there is one canvas.
    """
    if len(canvas_sizes) == 1:
        return canvas_sizes[0]
    sizes = tf.constant(canvas_sizes)
    scales = tf.reduce_min(sizes * tf.shape(images)[2:0:-1], 1)
    # TensorFlow does not promise which of equal maxima it finds, so the first is made the largest.
    number = len(canvas_sizes)
    return tf.gather(sizes, tf.argmax(scales * number - tf.range(number)))


def fit_to_canvas(
    images: tf.Tensor, canvas_size: tuple[int, int] | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Scales images to fit the canvas and fills the rest.

    Args:
        images: [batch, height, width, 3], uint8 or float on the scale 0–255, all of one size.
        canvas_size: (height, width) in pixels, as from `choose_canvas`.

    Returns:
        The canvases [batch, *canvas_size, 3] float32 on the scale 0–255, and ratio [2] float32 =
        (rows, columns) that an image covers as a share of the canvas.
    """
    is_open = tf.is_tensor(canvas_size)
    canvas = tf.cast(canvas_size, tf.float32) if is_open else tf.constant(canvas_size, tf.float32)
    size = tf.cast(tf.shape(images)[1:3], tf.float32)
    fitted = tf.clip_by_value(tf.round(size * tf.reduce_min(canvas / size)), 1.0, canvas)
    rows, columns = tf.unstack(tf.cast(fitted, tf.int32))
    # The antialiased triangle filter, which Pillow calls BILINEAR, keeps small objects from getting
    # lost between samples.
    resized = tf.image.resize(images, tf.stack([rows, columns]), method="bilinear", antialias=True)
    # Padding the difference from the mean with zeros pads with the mean.
    centred = tf.pad(
        resized - tf.constant(MEAN_RGB),
        [[0, 0], [0, canvas_size[0] - rows], [0, canvas_size[1] - columns], [0, 0]],
    )
    sides = (None, None) if is_open else canvas_size
    return tf.ensure_shape(centred, [None, *sides, 3]) + tf.constant(MEAN_RGB), fitted / canvas


def normalize(canvases: tf.Tensor) -> tf.Tensor:
    """Takes pixel values from the scale 0–255 to about zero mean and unit deviation; float32."""
    return (tf.cast(canvases, tf.float32) - tf.constant(MEAN_RGB)) / tf.constant(STDDEV_RGB)


def boxes_to_canvas(boxes: tf.Tensor, ratio: tf.Tensor) -> tf.Tensor:
    """Takes boxes [..., 4] from the image to the canvas; ratio [..., 2] is from `fit_to_canvas`."""
    return boxes * tf.concat([ratio, ratio], -1)


def boxes_to_image(boxes: tf.Tensor, ratio: tf.Tensor) -> tf.Tensor:
    """Takes boxes [..., 4] from the canvas to the image, and clips them there.

    But for clipping it is the inverse of `boxes_to_canvas`.
    """
    return tf.clip_by_value(boxes / tf.concat([ratio, ratio], -1), 0.0, 1.0)
