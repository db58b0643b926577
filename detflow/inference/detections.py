"""What a person hands to a detector, and what a person gets back: images in, detections out."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, overload

import numpy as np
import numpy.typing as npt
from typing_extensions import TypeIs

from detflow.data.images.header import DEFAULT_MAX_PIXELS, ImageFault
from detflow.data.images.pictures import Picture as DecodedPicture
from detflow.data.images.pictures import decode_picture, read_picture, reduce_picture
from detflow.errors import DataError, EnvironmentFault
from detflow.inference.results import PIXEL_DIGITS
from detflow.text import first_line
from detflow.types import Box, Detection, ImageSize, ObjectAnnotation

if TYPE_CHECKING:
    import pandas
    import supervision
    from PIL.Image import Image

SIDES: Final = ("left", "top", "right", "bottom")
"""The corners of a box in pixels, as tables name them."""

COLUMNS: Final = ("name", "class_id", "score", *SIDES)
"""The columns of a table of detections."""

Picture: TypeAlias = "str | os.PathLike[str] | bytes | Image | npt.NDArray[np.uint8]"
"""One image: a path, a file's bytes, a Pillow image, or RGB pixels uint8 [height, width, 3]."""

# The modes of Pillow that PNG holds without loss; images of other modes are made RGB first.
_PNG_MODES: Final = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})


@dataclass(frozen=True, slots=True)
class Detections(Sequence[Detection]):
    """The detections of one image, from the highest score to the lowest.

    It is a sequence of `Detection`, whose boxes are shares of the image. The methods convert all of
    them for other programs, and give lengths in pixels of the upright image.

    Attributes:
        size: Width and height of the upright image in pixels.
        items: The detections.
    """

    size: ImageSize
    items: tuple[Detection, ...]

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Detection: ...

    @overload
    def __getitem__(self, index: slice) -> Detections: ...

    def __getitem__(self, index: int | slice) -> Detection | Detections:
        if isinstance(index, slice):
            return Detections(self.size, self.items[index])
        return self.items[index]

    def __iter__(self) -> Iterator[Detection]:
        return iter(self.items)

    def above(self, score_threshold: float) -> Detections:
        """Returns the detections whose score is at least a threshold in [0, 1]."""
        return Detections(
            self.size, tuple(found for found in self.items if found.score >= score_threshold)
        )

    def boxes_px(self) -> npt.NDArray[np.float32]:
        """Returns the boxes [N, 4] float32: left, top, right, bottom in pixels."""
        corners = [found.box.to_pixels(self.size) for found in self.items]
        return np.array(corners, np.float32).reshape(-1, 4)

    def to_rows(self) -> list[tuple[str, int, float, float, float, float, float]]:
        """Returns name, class id, score, and left, top, right, bottom in pixels of each."""
        return [
            (found.name, found.class_id, found.score, *found.box.to_pixels(self.size))
            for found in self.items
        ]

    def to_pandas(self) -> pandas.DataFrame:
        """Returns a pandas frame with a row for each detection.

        Returns:
            Columns name (str), class_id (int, from 1), score (float in [0, 1]), and left, top,
            right, bottom (float, pixels).

        Raises:
            EnvironmentFault: pandas is not installed.
        """
        return import_optional("pandas").DataFrame(self.to_rows(), columns=list(COLUMNS))

    def to_supervision(self) -> supervision.Detections:
        """Returns the `Detections` of Roboflow's library supervision.

        Returns:
            xyxy [N, 4] float32 in pixels, confidence [N] float32, class_id [N] int, and the class
            names in data["class_name"]. Class ids count from 0 there, as the library's datasets and
            metrics expect it; detflow's count from 1.

        Raises:
            EnvironmentFault: supervision is not installed.
        """
        return import_optional("supervision").Detections(
            xyxy=self.boxes_px(),
            confidence=np.array([found.score for found in self.items], np.float32),
            class_id=np.array([found.class_id - 1 for found in self.items], np.int64),
            data={"class_name": np.array([found.name for found in self.items], dtype=str)},
        )

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """Returns the entries of COCO's results format (https://cocodataset.org/#format-results).

        Args:
            image_id: The image's id in the COCO file that holds the truth.

        Returns:
            A dict for each detection: image_id, category_id (from 1), bbox [x, y, width, height] in
            pixels, and score.
        """
        return [
            {
                "image_id": image_id,
                "category_id": found.class_id,
                "bbox": _to_rounded_coco(found.box, self.size),
                "score": found.score,
            }
            for found in self.items
        ]

    def to_voc(self, filename: str) -> bytes:
        """Returns a Pascal VOC annotation, as labelling tools and make-records read it.

        VOC counts whole pixels, so the boxes are rounded to them, each at least one pixel wide and
        high.

        Args:
            filename: The name of the image's file, which the annotation repeats.

        Returns:
            The XML file, UTF-8.
        """
        from detflow.data.records.schema import to_record_box
        from detflow.data.sinks.voc import write_annotation

        objects = [
            ObjectAnnotation(found.name, to_record_box(_to_whole_pixels(found.box, self.size)))
            for found in self.items
        ]
        return write_annotation(filename, self.size, objects)

    def draw(self, image: Picture) -> Image:
        """Returns a copy of the image with the detections drawn over it.

        Args:
            image: The image that was detected on, in any of the forms that `Detector.predict`
                takes.

        Returns:
            A Pillow image, RGB.

        Raises:
            DataError: The image cannot be read.
        """
        from detflow.pages.draw import draw_boxes

        return draw_boxes(
            read_pixels(image),
            [found.box for found in self.items],
            [found.name for found in self.items],
            [found.class_id for found in self.items],
            scores=[found.score for found in self.items],
        )


def is_picture(value: object) -> TypeIs[Picture]:
    """Whether a value is one image and not several of them."""
    if isinstance(value, np.ndarray):
        return value.ndim < 4
    return isinstance(value, str | os.PathLike | bytes) or _is_pillow(value)


def read_pixels(image: Picture, max_pixels: int = DEFAULT_MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Reads one image, whatever it is given as, by the rules of `detflow predict`.

    Files, bytes and Pillow images are turned upright by their EXIF orientation, alpha lies over
    white, and everything becomes 8-bit RGB. An array is taken as it is.

    Args:
        image: The image.
        max_pixels: Larger files and Pillow images are refused before they are decoded.

    Returns:
        [height, width, 3] uint8, RGB.

    Raises:
        DataError: It is no image, is damaged or too large; or an array of another form.
    """
    return read_image(image, max_pixels).pixels


def read_image(
    image: Picture,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    *,
    canvas_sizes: Sequence[tuple[int, int]] = (),
) -> DecodedPicture:
    """Reads one image as `read_pixels` does, as small as `decode_picture` allows for canvases."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise DataError(
                f"an array {list(image.shape)} of {image.dtype}",
                remedy="expected [height, width, 3] of uint8, RGB",
            )
        return reduce_picture(DecodedPicture(image, 1), canvas_sizes)
    if isinstance(image, str | os.PathLike):
        return read_picture(Path(image), max_pixels, canvas_sizes=canvas_sizes)
    if not isinstance(image, bytes) and not _is_pillow(image):
        raise DataError(
            f"not an image: {type(image).__name__}",
            remedy="pass a path, a file's bytes, a Pillow image or an array",
        )
    try:
        data = image if isinstance(image, bytes) else _encode_png(image)
        return decode_picture(data, max_pixels, canvas_sizes=canvas_sizes)
    except (ImageFault, OSError, SyntaxError) as error:
        # Pillow decodes an image that it opened only when its pixels are asked for.
        raise DataError(f"the image cannot be read: {first_line(error)}") from None


def import_optional(name: str) -> ModuleType:
    """Imports a library that detflow does not require.

    Raises:
        EnvironmentFault: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise EnvironmentFault(f"{name} is not installed", remedy=f"pip install {name}") from None


def _is_pillow(value: object) -> bool:
    """Whether a value is a Pillow image. Where Pillow is not imported yet, nothing is one."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def _encode_png(image: Any) -> bytes:
    """Returns a Pillow image as a file, so that one reader judges all images."""
    exif = image.getexif()
    buffer = io.BytesIO()
    shown = image if image.mode in _PNG_MODES else image.convert("RGB")
    shown.save(buffer, "PNG", compress_level=0, exif=exif)
    return buffer.getvalue()


def _to_rounded_coco(box: Box, size: ImageSize) -> list[float]:
    # From the rounded corners, so that the numbers agree with those of predictions.json.
    left, top, right, bottom = (round(value, PIXEL_DIGITS) for value in box.to_pixels(size))
    return [left, top, round(right - left, PIXEL_DIGITS), round(bottom - top, PIXEL_DIGITS)]


def _to_whole_pixels(box: Box, size: ImageSize) -> Box:
    """Returns the box with its corners on whole pixels, at least one pixel wide and high."""
    left, top, right, bottom = (round(value) for value in box.to_pixels(size))
    left, top = min(left, size.width - 1), min(top, size.height - 1)
    return Box.from_voc(left + 1, top + 1, max(right, left + 1), max(bottom, top + 1), size)
