"""Some images of the training split, for weights that come without statistics of any."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from detflow.geometry import fit_to_canvas
from detflow.models.preprocess import decode_jpeg
from detflow.models.weights.foreign import Photos
from detflow.process.tensorflow_faults import decode_faults
from detflow.training.order import epoch_order
from detflow.types import Sample

# A batch norm's statistics over so many images are as good as those of thousands: each image has
# hundreds of cells. A large set is not read to its end for them.
_NUM_PHOTOS = 64
_MAX_READ = 2048


def read_photos(
    samples: Iterable[Sample], num_samples: int, canvas_size: tuple[int, int], seed: int
) -> Photos:
    """Reads the images of the first steps, as far as they are among the first of the split.

    Args:
        samples: The training split.
        num_samples: Number of the samples.
        canvas_size: (height, width) of the canvas that they are fitted into.
        seed: The run's, which decides the order of an epoch.

    Returns:
        A function of the records, the canvas and the seed.

    Raises:
        DataError: An image cannot be decoded.
    """
    among = min(num_samples, _MAX_READ)
    chosen = set(epoch_order(seed, 0, among)[:_NUM_PHOTOS].tolist())
    names, canvases = [], []
    for index, sample in enumerate(itertools.islice(samples, max(chosen) + 1)):
        if index in chosen:
            with decode_faults(sample.filename):
                image = decode_jpeg(sample.encoded).numpy()
            names.append(sample.filename)
            canvases.append(fit_to_canvas(image[np.newaxis], canvas_size)[0][0])
    return Photos(tuple(names), canvases)
