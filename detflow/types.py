"""The values that every stage passes on.

Each is valid once it exists: a constructor that is given nonsense raises ValueError. Boxes are
normalised [ymin, xmin, ymax, xmax] with the origin at the image's top left corner, as the TF Object
Detection API's records and graphs have them. Pixels exist in two places only: `Box.normalise` on
the way in and `Box.to_pixels` (or `Box.to_voc`) on the way out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CornerFrame(StrEnum):
    """What the four corners of a box as written (xmin, ymin, xmax, ymax) count."""

    VOC = "voc"
    """Pixels, counted from 1 and inclusive at both ends: a box over the whole width is (1, width).

    So the VOC2012 development kit has it, where the leftmost pixel column is xmin = 1.
    """

    ZERO_BASED = "zero-based"
    """Pixel edges, counted from 0: a box over the whole width is (0, width).

    So VoTT, CVAT and COCO mean it.
    """

    LABELIMG = "labelimg"
    """As zero-based corners, but a minimum of 0 is written as 1.

    So LabelImg has it: a minimum of 1 is taken for the picture's edge.
    """

    FRACTIONS = "fractions"
    """Shares of the sides: a box over the whole width is (0, 1)."""

    @property
    def first(self) -> float:
        """The minimum of a box that begins at the image's left or top edge."""
        return 1.0 if self is CornerFrame.VOC else 0.0


PIXEL_FRAMES = (CornerFrame.VOC, CornerFrame.ZERO_BASED, CornerFrame.LABELIMG)


@dataclass(frozen=True, slots=True)
class ImageSize:
    """Width and height in pixels, both at least 1."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(
                f"image size {self.width}x{self.height}: both sides must be at least 1"
            )

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def num_pixels(self) -> int:
        """Width times height."""
        return self.width * self.height

    def turned(self, orientation: int) -> ImageSize:
        """Returns the size after the turn that an EXIF orientation, 1 to 8, asks for."""
        return ImageSize(self.height, self.width) if orientation >= 5 else self


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle with area inside the unit square: 0 <= min < max <= 1 on both axes."""

    ymin: float
    xmin: float
    ymax: float
    xmax: float

    def __post_init__(self) -> None:
        # NaN fails every comparison, so it is refused here too.
        if not (0.0 <= self.ymin < self.ymax <= 1.0 and 0.0 <= self.xmin < self.xmax <= 1.0):
            raise ValueError(
                f"box [ymin {self.ymin}, xmin {self.xmin}, ymax {self.ymax}, xmax {self.xmax}]: "
                "expected 0 <= min < max <= 1 on both axes"
            )

    @classmethod
    def from_voc(cls, xmin: float, ymin: float, xmax: float, ymax: float, size: ImageSize) -> Box:
        """Builds a box from VOC's pixel corners (see `CornerFrame.VOC`).

        Raises:
            ValueError: The corners leave the image or enclose no area.
        """
        return cls(*cls.normalise((xmin, ymin, xmax, ymax), size, CornerFrame.VOC))

    @staticmethod
    def normalise(
        corners: tuple[float, float, float, float], size: ImageSize, frame: CornerFrame
    ) -> tuple[float, float, float, float]:
        """Returns ymin, xmin, ymax, xmax as shares of the image.

        In continuous coordinates a box over the whole image is [0, width]. VOC writes it as
        (1, width), so 1 is taken from its minima and nothing from its maxima (Detectron2 reads VOC
        in the same way); zero-based corners are edges already.

        Args:
            corners: xmin, ymin, xmax, ymax as written.
            size: The image's size.
            frame: What the corners count.
        """
        if frame is CornerFrame.FRACTIONS:
            xmin, ymin, xmax, ymax = corners
            return ymin, xmin, ymax, xmax
        if frame is not CornerFrame.ZERO_BASED:
            corners = Box.to_edges(corners, size, frame)
        left, top, right, bottom = corners
        return top / size.height, left / size.width, bottom / size.height, right / size.width

    @staticmethod
    def to_edges(
        corners: tuple[float, float, float, float], size: ImageSize, frame: CornerFrame
    ) -> tuple[float, float, float, float]:
        """Returns corners as zero-based pixels (left, top, right, bottom), in the order given.

        Args:
            corners: xmin, ymin, xmax, ymax as written.
            size: The image's size.
            frame: What the corners count.
        """
        xmin, ymin, xmax, ymax = corners
        if frame is CornerFrame.VOC:
            return xmin - 1.0, ymin - 1.0, xmax, ymax
        if frame is CornerFrame.FRACTIONS:
            return xmin * size.width, ymin * size.height, xmax * size.width, ymax * size.height
        if frame is CornerFrame.LABELIMG:
            return 0.0 if xmin == 1.0 else xmin, 0.0 if ymin == 1.0 else ymin, xmax, ymax
        return corners

    def to_voc(self, size: ImageSize) -> tuple[float, float, float, float]:
        """Returns VOC's 1-based inclusive corners (xmin, ymin, xmax, ymax) in pixels.

        It is the inverse of `from_voc`.
        """
        left, top, right, bottom = self.to_pixels(size)
        return left + 1.0, top + 1.0, right, bottom

    def to_pixels(self, size: ImageSize) -> tuple[float, float, float, float]:
        """Returns (left, top, right, bottom) in continuous pixels.

        Left is 0 at one edge of the image, and right is its width at the other edge.
        """
        return (
            self.xmin * size.width,
            self.ymin * size.height,
            self.xmax * size.width,
            self.ymax * size.height,
        )

    def to_coco(self, size: ImageSize) -> tuple[float, float, float, float]:
        """Returns COCO's (x, y, width, height) in continuous pixels."""
        left, top, right, bottom = self.to_pixels(size)
        return left, top, right - left, bottom - top

    @property
    def area(self) -> float:
        """Area as a share of the image."""
        return (self.ymax - self.ymin) * (self.xmax - self.xmin)

    def iou(self, other: Box) -> float:
        """Returns intersection over union, in [0, 1]."""
        height = min(self.ymax, other.ymax) - max(self.ymin, other.ymin)
        width = min(self.xmax, other.xmax) - max(self.xmin, other.xmin)
        if height <= 0.0 or width <= 0.0:
            return 0.0
        intersection = height * width
        return intersection / (self.area + other.area - intersection)


@dataclass(frozen=True, slots=True)
class ObjectAnnotation:
    """One labelled object.

    Attributes:
        name: The class name, non-empty.
        box: Where it is.
        difficult: VOC's flag: hard to recognise; evaluation counts it neither as a hit nor as a
            miss.
        truncated: VOC's flag: the object goes on outside of the box.
        pose: VOC's free text ("Unspecified", "Left", …); empty where the annotation has none.
        crowd: COCO's flag: the box stands for many objects; evaluation counts it neither as a hit
            nor as a miss, and training passes it over.
    """

    name: str
    box: Box
    difficult: bool = False
    truncated: bool = False
    pose: str = ""
    crowd: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("an object needs a class name")


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its objects, as it stands in a record.

    Attributes:
        key: The annotation's path inside the dataset without its suffix; unique within a dataset.
        source_id: A number, unique within a dataset (evaluators parse `image/source_id` as an
            integer).
        filename: The image's path inside the dataset.
        size: Size of the encoded image.
        encoded: The bytes of a JPEG file.
        objects: The labelled objects, in the order of the annotation.
    """

    key: str
    source_id: int
    filename: str
    size: ImageSize
    encoded: bytes
    objects: tuple[ObjectAnnotation, ...]

    def __post_init__(self) -> None:
        if not self.key or not self.filename:
            raise ValueError("a sample needs a key and a filename")
        if self.source_id < 0:
            raise ValueError(f"source_id {self.source_id}: expected 0 or more")


@dataclass(frozen=True, slots=True)
class Detection:
    """One detected object: class name, its 1-based id, score in [0, 1] and box."""

    name: str
    class_id: int
    score: float
    box: Box
