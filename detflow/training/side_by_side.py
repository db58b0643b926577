"""A few images, each twice: the truth on the left, what the detector finds on the right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from PIL import Image

from detflow.data.images.decode import decode_pixels
from detflow.data.images.header import ImageFault
from detflow.errors import DataError
from detflow.label_map import LabelMap
from detflow.metrics.coco import EvaluatedImage
from detflow.pages.draw import draw_boxes, fit_picture
from detflow.types import Sample

NUM_COMPARED = 4
"""Images that a run compares at each evaluation."""

SHOWN_SCORE = 0.3
"""Detections with a lower score are no claim that a person should see."""

_SIDE_PX = 640
_GAP_PX = 8
# More boxes hide the picture, and naming thousands takes long.
_MAX_BOXES = 100


class SideBySide:
    """Pictures of the first samples of an evaluation.

    They are decoded, and their truth is drawn, once for all evaluations.

    Args:
        samples: The first ones of those that are evaluated, in their order.
        label_map: The classes.

    Raises:
        DataError: An image cannot be decoded.
    """

    def __init__(self, samples: Iterable[Sample], label_map: LabelMap) -> None:
        self._names: list[str] = []
        self._pictures: list[Image.Image] = []
        self._truths: list[Image.Image] = []
        for number, sample in enumerate(samples, start=1):
            try:
                pixels, *_ = decode_pixels(
                    sample.encoded, sample.size.width * sample.size.height, upright=False
                )
            except ImageFault as fault:
                raise DataError(str(fault), path=sample.filename) from None
            picture = fit_picture(Image.fromarray(pixels), _SIDE_PX)
            objects = sample.objects[:_MAX_BOXES]
            boxes, names = [one.box for one in objects], [one.name for one in objects]
            truth = draw_boxes(
                picture, boxes, names, [label_map.id_of(name) for name in names], style="dashed"
            )
            # Names of files need not be UTF-8, those of TensorBoard do.
            self._names.append(
                f"{number} {sample.filename}".encode("utf-8", "backslashreplace").decode()
            )
            self._pictures.append(picture)
            self._truths.append(truth)

    def draw(self, images: Sequence[EvaluatedImage]) -> Iterator[tuple[str, Image.Image]]:
        """Yields a name, the same at each evaluation, and a picture of each sample.

        Args:
            images: What was detected on the samples, in their order; further ones are left out.
        """
        for name, picture, truth, image in zip(
            self._names, self._pictures, self._truths, images, strict=False
        ):
            # They come from the highest score to the lowest.
            found = [one for one in image.detections if one.score >= SHOWN_SCORE][:_MAX_BOXES]
            detected = draw_boxes(
                picture,
                [one.box for one in found],
                [one.name for one in found],
                [one.class_id for one in found],
                scores=[one.score for one in found],
            )
            pair = Image.new("RGB", (2 * picture.width + _GAP_PX, picture.height), (255, 255, 255))
            pair.paste(truth, (0, 0))
            pair.paste(detected, (picture.width + _GAP_PX, 0))
            yield name, pair
