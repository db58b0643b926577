"""Where images with objects come from: the seam between whatever holds them and what is written.

An origin knows all its images by name beforehand, and reads one at a time: reading is a function of
a small value (a payload), so that it runs in any number of processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from detflow.data.sinks.sink import CarriedObject
from detflow.label_map import LabelMap
from detflow.types import ImageSize


class OriginEntry(NamedTuple):
    """An image of an origin.

    Attributes:
        key: Its name in the origin, unique there: an annotation's path without its suffix.
        image: The image's path in the origin.
        split: Its split.
    """

    key: str
    image: str
    split: str


class LoadedImage(NamedTuple):
    """An image as it is written.

    Attributes:
        encoded: The bytes of a JPEG, PNG or BMP file.
        suffix: The suffix of such a file's name.
        size: Its size.
        objects: Its objects.
        is_encoded_anew: Whether the bytes are not those that the origin holds.
    """

    encoded: bytes
    suffix: str
    size: ImageSize
    objects: Sequence[CarriedObject]
    is_encoded_anew: bool


class ImageFacts(NamedTuple):
    """What an image is known by.

    Attributes:
        size: Its size.
        digest: The first 16 bytes of the SHA-256 of the JPEG that a record has of it.
    """

    size: ImageSize
    digest: bytes


class ImageReader(Protocol):
    """Reads an origin's images. It is plain data, and goes to other processes as it is."""

    def describe(self, payload: Any) -> ImageFacts:
        """Returns what the image of a payload is known by; errors as of `load`."""

    def read_objects(self, payload: Any) -> Sequence[CarriedObject]:
        """Returns the objects of a payload."""

    def load(self, payload: Any) -> LoadedImage:
        """Returns the image of a payload.

        Raises:
            DataError: It is not there, or not the one that was looked at before.
        """


class Origin(Protocol):
    """A dataset, records, or predictions."""

    @property
    def label_map(self) -> LabelMap:
        """The classes."""

    @property
    def splits(self) -> Sequence[str]:
        """The splits, those without an image too."""

    @property
    def unions(self) -> Mapping[str, Sequence[str]]:
        """The splits that a further name, such as trainval, stands for."""

    @property
    def entries(self) -> Sequence[OriginEntry]:
        """The images, in the order in which they are written."""

    @property
    def reader(self) -> ImageReader:
        """What reads the payloads."""

    @property
    def declares_splits(self) -> bool:
        """Whether the splits are the origin's own, and not drawn when it was read."""

    @property
    def has_flags(self) -> bool:
        """Whether the origin has a place for the flags difficult and truncated."""

    def payloads(self, places: Iterable[int]) -> Iterator[Any]:
        """Yields what the reader reads.

        Args:
            places: Places among the entries.
        """
