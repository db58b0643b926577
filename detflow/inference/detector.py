"""A runner of any runtime → detections, in batches; checks that its outputs keep the contract."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from detflow.data.images.pictures import Picture as DecodedPicture
from detflow.errors import ArtifactError
from detflow.geometry import Images
from detflow.inference.detections import Detections, Picture, is_picture, read_image
from detflow.inference.results import DEFAULT_SCORE_THRESHOLD
from detflow.label_map import LabelMap
from detflow.text import first_line
from detflow.types import Box, Detection, ImageSize

# Images of one size that follow each other go through the network together.
_MAX_BATCH = 8
MAX_BATCH_PIXELS: Final = 8_000_000
"""Pixels of a batch that stay below 100 MB when they are resized as floats."""

Outputs: TypeAlias = Mapping[str, npt.NDArray[np.float32]]
"""The outputs of the serving contract for a batch, by their names; see `artifact.CONTRACT`."""

Runner: TypeAlias = Callable[[Images], Outputs]
"""A loaded model. It raises ArtifactError if it cannot run, and EnvironmentFault if the memory does
not suffice."""


class Detector:
    """Detects objects in images.

    Args:
        run: A function from [N, height, width, 3] uint8 to the outputs of the serving contract.
        label_map: The classes.
        source: The file or folder it was made from, for messages.
        canvas_sizes: (height, width) of the canvases that the model fits images into. Pictures that
            are far larger are read smaller; none where the sizes are not known.
        max_batch_pixels: Images go through the network together up to so many pixels; a single one
            may have more.
    """

    def __init__(
        self,
        run: Runner,
        label_map: LabelMap,
        source: Path,
        canvas_sizes: Sequence[tuple[int, int]] = (),
        max_batch_pixels: int = MAX_BATCH_PIXELS,
    ) -> None:
        self.run = run
        self.label_map = label_map
        self.source = source
        self.canvas_sizes = canvas_sizes
        self._max_batch_pixels = max_batch_pixels

    @overload
    def predict(self, images: Picture, *, score_threshold: float = ...) -> Detections: ...  # type: ignore[overload-overlap]

    @overload
    def predict(
        self, images: Iterable[Picture], *, score_threshold: float = ...
    ) -> list[Detections]: ...

    def predict(
        self,
        images: Picture | Iterable[Picture],
        *,
        score_threshold: float = DEFAULT_SCORE_THRESHOLD,
    ) -> Detections | list[Detections]:
        """Detects objects in one image or in several.

        Files, bytes and Pillow images are turned upright by their EXIF orientation first, as
        `detflow predict` does it; arrays are taken as they are.

        Args:
            images: A path, a file's bytes, a Pillow image, or an array [height, width, 3] of uint8,
                RGB; or several of them, which are read one after the other. An array [N, height,
                width, 3] is several images.
            score_threshold: Detections with a lower score are left out.

        Returns:
            The detections of the one image, or a list with those of each.

        Raises:
            DataError: An image cannot be read.
            ArtifactError: The model cannot run, or does not keep the serving contract.
            EnvironmentFault: The memory does not suffice.
        """
        if is_picture(images) or not isinstance(images, Iterable):
            return self.predict([images], score_threshold=score_threshold)[0]
        pictures = (read_image(image, canvas_sizes=self.canvas_sizes) for image in images)
        return [found.above(score_threshold) for found in self.detect_pictures(pictures)]

    def detect_pictures(self, pictures: Iterable[DecodedPicture]) -> Iterator[Detections]:
        """Yields the detections of each picture, in the frame of the picture's own size.

        Args:
            pictures: Upright pictures, whether or not they were made smaller for `canvas_sizes`.

        Raises:
            ArtifactError: The model cannot run, or does not keep the serving contract.
            EnvironmentFault: The memory does not suffice.
        """
        # The detector reads a batch ahead, and the pixels are not needed any more.
        ahead: deque[tuple[ImageSize, int]] = deque()

        def read() -> Iterator[Images]:
            for picture in pictures:
                ahead.append((picture.size, picture.reduction))
                yield picture.pixels

        for found in self.detect(read()):
            size, reduction = ahead.popleft()
            yield Detections(size, tuple(place_detections(found, size, reduction)))

    def detect(self, images: Iterable[Images]) -> Iterator[list[Detection]]:
        """Yields the detections of each image, from the highest score to the lowest.

        Args:
            images: [height, width, 3] uint8, RGB, upright.

        Raises:
            ArtifactError: The model cannot run, or does not keep the serving contract.
            EnvironmentFault: The memory does not suffice.
        """
        for (height, width, *_), group in itertools.groupby(images, key=lambda image: image.shape):
            for batch in _batches(
                group, max(1, min(_MAX_BATCH, self._max_batch_pixels // (height * width)))
            ):
                # A single image goes in without a copy.
                outputs = self.run(np.stack(batch) if len(batch) > 1 else batch[0][np.newaxis])
                for row in range(len(batch)):
                    yield to_detections(outputs, self.label_map, self.source, row)


def place_detections(
    found: Iterable[Detection], size: ImageSize, reduction: int
) -> Iterator[Detection]:
    """Yields detections on a reduced picture in the frame of the whole one.

    The last column and row of a reduced picture may stand for pixels beyond the picture.

    Args:
        found: The detections, normalised by the reduced picture.
        size: The whole picture's size.
        reduction: As `geometry.choose_reduction` returned it.
    """
    down, right = (-(-side // reduction) * reduction / side for side in (size.height, size.width))
    for one in found:
        if max(down, right) == 1.0:
            yield one
            continue
        box = one.box
        ymin, xmin, ymax, xmax = (
            box.ymin * down,
            box.xmin * right,
            box.ymax * down,
            box.xmax * right,
        )
        if ymin < 1.0 and xmin < 1.0:
            yield dataclasses.replace(one, box=Box(ymin, xmin, min(ymax, 1.0), min(xmax, 1.0)))


def to_detections(
    outputs: Outputs, label_map: LabelMap, source: Path, row: int = 0
) -> list[Detection]:
    """Turns a batch's outputs into the detections of one of its images.

    Args:
        outputs: The outputs of the serving contract.
        label_map: The classes.
        source: The file or folder of the model, for messages.
        row: The image's place in the batch.

    Returns:
        The detections in the order of the outputs; those whose box has no area inside the image
        are left out.

    Raises:
        ArtifactError: The outputs do not keep the contract.
    """
    try:
        image = {name: values[row] for name, values in outputs.items()}
        count = int(image["num_detections"])
        # Another tool's graph may overshoot the image by a rounding.
        boxes = np.clip(image["detection_boxes"][:count], 0.0, 1.0).tolist()
        scores = image["detection_scores"][:count].tolist()
        classes = image["detection_classes"][:count].tolist()
        return [
            Detection(
                label_map.name_of(int(class_id)), int(class_id), score, Box(ymin, xmin, ymax, xmax)
            )
            for (ymin, xmin, ymax, xmax), score, class_id in zip(
                boxes, scores, classes, strict=True
            )
            # Clipping leaves a box outside of the image without area: there is nothing to show.
            if ymin < ymax and xmin < xmax
        ]
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        reason = f"there is no class {error}" if isinstance(error, KeyError) else first_line(error)
        raise ArtifactError(
            f"the outputs are not as the serving contract says: {reason}", path=source
        ) from None


def _batches(items: Iterable[Images], size: int) -> Iterator[list[Images]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
