"""What a dialect is that datasets are written in: the seam between images with objects and files.

A sink says where an image's file goes, writes the files that are about that image alone, and in the
end the files that are about many. What it has no place for (`Trait`) it says beforehand, so that
whoever writes with it counts what was lost. Writing one image is a pure function of it, so it runs
in any number of processes; a sink is a small value that can be pickled.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from detflow.data.sources.source import CROWD_POSE
from detflow.label_map import LabelMap
from detflow.types import ImageSize


class Trait(StrEnum):
    """What an object, an image or a set may have beside boxes and classes; counted where it is."""

    DIFFICULT = "difficult"
    TRUNCATED = "truncated"
    CROWD = "crowd"
    POSE = "pose"
    SCORE = "score"
    NEGATIVE = "negative"
    """An image without objects."""

    FRACTION = "fraction"
    """A box whose edges are no whole pixels."""

    THIN = "thin"
    """A box that is thinner than a pixel."""

    SPARE_CLASS = "spare_class"
    """A class without objects."""

    CLASS_ORDER = "class_order"
    """Classes in another order than that of the alphabet."""

    UNION = "union"
    """A name that stands for several splits, such as trainval."""


class CarriedObject(NamedTuple):
    """A labelled or detected object on its way from one dialect to another.

    Attributes:
        name: The class.
        box: ymin, xmin, ymax, xmax as shares of the image, rounded to float32.
        difficult: VOC's flag.
        truncated: VOC's flag.
        crowd: COCO's flag: the box stands for many objects. Such an object is difficult, too.
        pose: VOC's free text; empty where there is none.
        score: A detection's score; None for a labelled object.
    """

    name: str
    box: tuple[float, float, float, float]
    difficult: bool = False
    truncated: bool = False
    crowd: bool = False
    pose: str = ""
    score: float | None = None

    @classmethod
    def from_record(
        cls,
        name: str,
        box: tuple[float, float, float, float],
        difficult: bool,
        truncated: bool,
        pose: str,
    ) -> CarriedObject:
        """Returns an object as records have it, whose pose says whether it is a crowd."""
        crowd = difficult and pose == CROWD_POSE
        return cls(name, box, difficult, truncated, crowd, "" if crowd else pose)

    @property
    def record_pose(self) -> str:
        """The pose as VOC and records have it."""
        return CROWD_POSE if self.crowd else self.pose


class CarriedImage(NamedTuple):
    """An image on its way from one dialect to another, without its bytes.

    Attributes:
        number: From 1, unique in the set: what COCO knows it by.
        split: Its split, as a name that is safe for files.
        name: Its file name without suffix, safe and unique in the set.
        suffix: Its file name's suffix: ".jpg".
        size: Its size in pixels.
        objects: Its objects.
    """

    number: int
    split: str
    name: str
    suffix: str
    size: ImageSize
    objects: Sequence[CarriedObject]

    @property
    def file_name(self) -> str:
        """Name and suffix."""
        return f"{self.name}{self.suffix}"


@dataclass(frozen=True, slots=True)
class SetPlan:
    """What is known of a set before its first image.

    Attributes:
        label_map: The classes.
        splits: The names of the splits, safe for files.
        unions: The splits that a further name stands for.
    """

    label_map: LabelMap
    splits: Sequence[str]
    unions: Mapping[str, Sequence[str]]

    def index_of(self, class_name: str) -> int:
        """Returns a class's place among the classes, from 0."""
        return bisect_left(self.label_map.ids, self.label_map.id_of(class_name))


class ListWriter(Protocol):
    """Writes what is about many images."""

    def add(self, image: CarriedImage) -> None:
        """Takes the next image, in the order of their numbers."""


class Sink(Protocol):
    """One dialect to write; the module's docstring says how it is used."""

    @property
    def name(self) -> str:
        """Its name on the command line: "voc"."""

    @property
    def title(self) -> str:
        """Its name in sentences: "VOC"."""

    @property
    def holds(self) -> frozenset[Trait]:
        """The traits that it has a place for."""

    def find_fault(self, class_name: str) -> str | None:
        """Returns why the dialect cannot hold a class name; None where it can."""

    def place_image(self, split: str, file_name: str) -> str:
        """Returns an image file's path below the output folder."""

    def write_image_files(self, target: Path, image: CarriedImage, plan: SetPlan) -> None:
        """Writes the files that are about one image, but for the image itself.

        Args:
            target: The output folder; the folder of each split is there (`list_folders`).
            image: The image.
            plan: The set.
        """

    def list_folders(self, plan: SetPlan) -> Iterator[str]:
        """Yields the folders that must be there before the first image."""

    def open_lists(self, target: Path, plan: SetPlan) -> AbstractContextManager[ListWriter]:
        """Opens the files that are about many images; they are complete when the block ends."""
