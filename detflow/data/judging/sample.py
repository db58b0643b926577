"""A sample that passed the audit, and the line of JSON that holds it until it is written."""

from __future__ import annotations

import json
from array import array
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO, NamedTuple

from detflow.data.images.transcode import Treatment
from detflow.data.records.schema import ObjectColumns
from detflow.data.sources.names import split_extension
from detflow.types import ImageSize, ObjectAnnotation


@dataclass(frozen=True, slots=True)
class AuditedSample:
    """A sample that passed: everything that its record needs but the image's bytes.

    Attributes:
        annotation: The annotation's name inside the dataset.
        image: The image's path inside the dataset.
        image_bytes: The size of the image file.
        image_sha256: The SHA-256 of the image file as audited, in hexadecimal.
        size: The size of the image as it was judged: turned, but not yet made smaller.
        treatment: How the file's bytes become the record's.
        columns: Its objects, with every repair made.
        lines: Where each object begins in the annotation's file, from 1.
    """

    annotation: str
    image: str
    image_bytes: int
    image_sha256: str
    size: ImageSize
    treatment: Treatment
    columns: ObjectColumns
    lines: Sequence[int]

    @property
    def record_size(self) -> ImageSize:
        """The size of the image in the record."""
        return self.treatment.shrink(self.size)

    @property
    def objects(self) -> tuple[ObjectAnnotation, ...]:
        """The objects, each as a value that was checked."""
        return self.columns.to_objects()

    @property
    def key(self) -> str:
        """The annotation's name without its suffix."""
        return split_extension(self.annotation)[0]

    def to_json(self) -> bytes:
        """Returns one line without its line break."""
        names, boxes, *rest = self.columns
        how = self.treatment
        treatment = (how.transcode, how.turn, how.drop_exif, how.max_side)
        head = (
            self.annotation,
            self.image,
            self.image_bytes,
            self.image_sha256,
            self.size.width,
            self.size.height,
        )
        # Boxes written as decimals would take as long as everything else together.
        packed = b2a_base64(array("f", chain.from_iterable(boxes)), newline=False).decode()
        return json.dumps((*head, treatment, self.lines, names, packed, *rest)).encode()

    @classmethod
    def from_json(cls, line: bytes) -> AuditedSample:
        """Reads the line that `to_json` wrote."""
        annotation, image, image_bytes, image_sha256, width, height, treatment, lines, *columns = (
            json.loads(line)
        )
        names, packed, *rest = columns
        floats = iter(array("f", a2b_base64(packed)))
        boxes = list(zip(floats, floats, floats, floats, strict=True))
        return cls(
            annotation,
            image,
            image_bytes,
            image_sha256,
            ImageSize(width, height),
            Treatment(*treatment),
            ObjectColumns(names, boxes, *rest),
            lines,
        )


class ClassCount(NamedTuple):
    """How many objects of a class an annotation has, and the line of the first."""

    name: str
    objects: int
    line: int


@dataclass(frozen=True, slots=True)
class SampleSummary:
    """What is kept in memory of an audited sample.

    Attributes:
        image: The image's path inside the dataset.
        image_bytes: The size of the image file.
        image_sha256: The SHA-256 of the image file, 32 bytes.
        image_hash: The perceptual hash, 32 bytes.
        class_counts: The classes of its objects, sorted by name.
        offset: Where the sample's line begins in the file of samples.
    """

    image: str
    image_bytes: int
    image_sha256: bytes
    image_hash: bytes
    class_counts: tuple[ClassCount, ...]
    offset: int


def read_line(samples: BinaryIO, offset: int) -> bytes:
    """Returns the line of a sample.

    Args:
        samples: The file of samples, open for reading.
        offset: Where the line begins; see `SampleSummary.offset`.
    """
    samples.seek(offset)
    return samples.readline()
