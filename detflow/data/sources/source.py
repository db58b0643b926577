"""What a dialect of annotations is: the seam between files as tools write them and the judges.

A dialect finds its files in a folder, reads them into raw annotations with their places, and says
which splits and classes the dataset declares. Pairing, judging, ledger, records and report work on
raw annotations and never see a file's own form. Reading a file is a pure function of its bytes, so
it runs in any number of processes, or on other machines: a dialect is a small value that can be
pickled.

VOC is one dialect (`detflow.data.sources.voc`): one XML file, one image. Others fit as follows.

A dialect with one file for many images (COCO's JSON, CSV, CVAT's XML) says so by `many_images`: its
files are read once, by the main process, and `read` gives one raw annotation for each image, with
what the file calls it as its `entry`. What a dialect has to know of the dataset before it reads a
file, such as YOLO's class names in `data.yaml`, it learns in `prepare`.

What corners count differs: VOC's XML leaves it open, and the set decides; COCO's are zero-based
pixels, YOLO's fractions. A dialect that knows says so (`RawAnnotation.frame`) and gives corners as
xmin, ymin, xmax, ymax in that frame; the judges do the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from detflow.data.findings import Corners, Finding, name_annotation
from detflow.data.sources.splits import SplitBy, Splits
from detflow.storage.interface import Folder
from detflow.types import CornerFrame

CROWD_POSE = "Crowd"
"""The pose of a difficult object that stands for many (COCO's `iscrowd`).

VOC and records have no flag of their own for it, and a free text.
"""


@dataclass(frozen=True, slots=True)
class DatasetFiles:
    """The files of a dataset. Paths are relative to its folder, with forward slashes, sorted.

    Attributes:
        source: The dataset's folder.
        annotations: Files that hold annotations, by their names or their content.
        images: Image files, by their extensions or their content.
        split_lists: Text files that may declare splits.
        findings: Links and keys that lead out of the dataset.
        sides: Files that may name classes or declare splits: other texts, YAML, label maps.
        unread: Pictures of formats that are not read.
    """

    source: Folder
    annotations: tuple[str, ...]
    images: tuple[str, ...]
    split_lists: tuple[str, ...]
    findings: tuple[Finding, ...]
    sides: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


class ImageNames(NamedTuple):
    """The names by which an annotation claims its image.

    Attributes:
        filename: The image's name as the annotation gives it; None where it gives none.
        source_path: Where the image lay on the annotator's machine, where the annotation says so.
        folder: The folder where the image lay, where the annotation says so apart.
    """

    filename: str | None
    source_path: str | None
    folder: str | None = None


class RawObject(NamedTuple):
    """An object as written.

    Attributes:
        number: Its place among the annotation's objects, from 1.
        line: The line where it begins.
        name: The class name with white space collapsed.
        corners: xmin, ymin, xmax, ymax in the annotation's frame: finite, in no certain order,
            perhaps outside of the image.
        difficult: VOC's flag.
        truncated: VOC's flag.
        pose: VOC's free text.
        crowd: COCO's flag: the box stands for many objects.
    """

    number: int
    line: int
    name: str
    corners: Corners
    difficult: bool
    truncated: bool
    pose: str
    crowd: bool = False


@dataclass(frozen=True, slots=True)
class RawAnnotation:
    """What a file says about one image.

    Attributes:
        path: The file inside the dataset.
        entry: Which annotation of the file: empty where the file holds one, else unique in the
            file and without a slash.
        names: How it claims its image.
        size: The image's width and height in pixels as written, zero where zero is written; None
            where they are missing or unreadable. Fractions need none.
        size_line: The line where the size is.
        objects: The objects in the file's order; None where one of the findings sets the annotation
            aside, which claims its image all the same.
        findings: What reading it found.
        frame: What the corners count; None where they are pixels and the set decides whether they
            count from 0 or from 1.
        tool: What the file says about who wrote it; annotations with the same text testify for each
            other.
    """

    path: str
    entry: str
    names: ImageNames
    size: tuple[int, int] | None
    size_line: int | None
    objects: tuple[RawObject, ...] | None
    findings: tuple[Finding, ...] = ()
    frame: CornerFrame | None = None
    tool: str = ""

    @property
    def name(self) -> str:
        """Its name inside the dataset."""
        return name_annotation(self.path, self.entry)


class FileContent(NamedTuple):
    """What a dialect reads from a file.

    Attributes:
        annotations: Those that say which image they are about.
        findings: Why the file, or an entry of it, is no such annotation. One that is quarantined or
            refused counts as an annotation that was found; one that is noted does not.
    """

    annotations: tuple[RawAnnotation, ...]
    findings: tuple[Finding, ...] = ()


class AnnotationSource(Protocol):
    """One dialect of annotations; the module's docstring has examples."""

    @property
    def name(self) -> str:
        """Its name in messages: "VOC"."""

    @property
    def max_file_bytes(self) -> int:
        """How much of a file is read at most; `read` gets one byte more of a larger one."""

    @property
    def many_images(self) -> bool:
        """Whether a file holds the annotations of many images, so that each has an `entry`."""
        return False

    @property
    def claims_by_name(self) -> bool:
        """Whether an annotation that names no image belongs to the one of its own name.

        Where that is so, such a pair needs no finding.
        """
        return False

    def prepare(
        self, files: DatasetFiles, classes: Sequence[str] | None
    ) -> tuple[AnnotationSource, DatasetFiles]:
        """Looks into the dataset once, before its files are read.

        Args:
            files: The dataset, as names and heads tell it.
            classes: The class names that the user gives; None where the dataset decides.

        Returns:
            The dialect with what it has learned, and the files: without those that only looked like
            annotations, with what was found meanwhile.

        Raises:
            DataError: What its files need to be understood is missing or contradictory.
        """
        return self, files

    def has_name(self, path: str) -> bool:
        """Whether a file holds annotations by its name alone, whatever is in it."""

    def has_head(self, head: bytes) -> bool:
        """Whether a file whose name says nothing holds annotations by its first bytes."""
        return False

    def read(self, data: bytes, path: str) -> FileContent:
        """Reads a file; whatever is wrong with it becomes a finding.

        Args:
            data: The file's bytes.
            path: The file's path inside the dataset, for findings.
        """

    def declare_splits(
        self,
        files: DatasetFiles,
        annotations: Sequence[str],
        images: Mapping[str, str],
        split_by: SplitBy,
    ) -> Splits | None:
        """Returns the splits that the dataset declares; None where the seed is to decide.

        Args:
            files: The dataset.
            annotations: The names of all annotations, usable or not, sorted.
            images: The image of each annotation that has one.
            split_by: What the user asked for.

        Raises:
            ConfigError: The user asked for declared splits and there are none.
        """

    def declare_classes(self, files: DatasetFiles) -> tuple[str, ...] | None:
        """Returns the classes in the order of their ids; None where only the objects name them."""
        return None
