"""The work of one worker: reads a batch of annotation files and judges what is paired already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from detflow.data.findings import Finding
from detflow.data.images.hashes import perceptual_hash
from detflow.data.images.header import MAX_IMAGE_BYTES
from detflow.data.judging.classes import settle_names
from detflow.data.judging.entries import restore_annotation
from detflow.data.judging.pair import (
    ExaminedImage,
    count_classes,
    examine_image,
    find_rest,
    judge_pair,
)
from detflow.data.judging.provisional import Basis, Look
from detflow.data.judging.reading import UnreadableFile, read_content, read_files
from detflow.data.judging.rulings import Ruling, Rulings
from detflow.data.judging.sample import ClassCount
from detflow.data.judging.testimony import Group, Tally, testify
from detflow.data.sources.own_images import claims_own_image, is_stranger
from detflow.data.sources.source import AnnotationSource, ImageNames, RawAnnotation
from detflow.storage.interface import Folder

Item = TypeVar("Item")


class FileTask(NamedTuple):
    """A file to read that holds one annotation, and what is known of its image.

    Attributes:
        path: The file inside the dataset.
        image: The image's path; None where nobody knows it yet.
    """

    path: str
    image: str | None


class Batch(NamedTuple, Generic[Item]):
    """What goes to a worker at a time.

    Attributes:
        tasks: The files, or what else there is to judge.
        rulings: What the set has decided until now.
    """

    tasks: Sequence[Item]
    rulings: Rulings


@dataclass(frozen=True, slots=True)
class Judgement:
    """What judging an annotation with its image gives.

    Attributes:
        annotation: The annotation's name.
        image: The image's path inside the dataset.
        image_bytes: The size of the image file.
        image_sha256: The SHA-256 of the image file, 32 bytes.
        image_hash: The perceptual hash, 32 bytes; empty where the image cannot be used.
        class_counts: The classes of the sample's objects, sorted by name.
        line: The sample as a line; None where it cannot be used.
        findings: Everything that was found.
        basis: What it rests on; None where the rest of the set can change nothing.
        renamed: The classes of its objects that have another name now.
    """

    annotation: str
    image: str
    image_bytes: int
    image_sha256: bytes
    image_hash: bytes
    class_counts: tuple[ClassCount, ...]
    line: bytes | None
    findings: tuple[Finding, ...]
    basis: Basis | None
    renamed: tuple[str, ...] = ()


class AnnotationReading(NamedTuple):
    """What reading gives of an annotation.

    Attributes:
        names: How it claims its image.
        size: The image's width and height as written, where they may help to find the image.
        judgement: What was found with its image; None where nobody knows yet which that is.
    """

    names: ImageNames
    size: tuple[int, int] | None
    judgement: Judgement | None


class FileReading(NamedTuple):
    """What reading a file gives.

    Attributes:
        digest: The SHA-256 of the file, 32 bytes.
        annotations: Its annotation; none where it holds none.
        findings: Why it, or a part of it, holds none.
    """

    digest: bytes
    annotations: tuple[AnnotationReading, ...]
    findings: tuple[Finding, ...]


class BatchReading(NamedTuple, Generic[Item]):
    """What a batch gives.

    Attributes:
        results: What each of its tasks gives.
        tallies: What the annotations that were judged testify about the set, by group.
    """

    results: list[Item]
    tallies: Mapping[Group, Tally]


@dataclass(frozen=True)
class BatchJudge:
    """Reads and judges batches; a value that can be sent to any process.

    Attributes:
        source: The dataset's folder.
        dialect: How files are read.
        max_pixels: Images with more are refused.
        max_side: Images with a longer side become smaller; 0 leaves all as they are.
        classes: The classes that may occur; None allows any.
        is_paired: Whether a task's images have been decided. Otherwise they are images of the
            files' own names, and count only where the annotation claims them.
        renames: The new name of each class that is renamed.
    """

    source: Folder
    dialect: AnnotationSource
    max_pixels: int
    max_side: int
    classes: Sequence[str] | None
    is_paired: bool
    renames: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, batch: Batch[FileTask]) -> BatchReading[FileReading]:
        """Reads the files of a batch, and judges their annotations that have an image.

        A batch goes through one step after the other: while a step repeats, the processor's caches
        hold its code, which saves about a quarter of the time. Only one image's bytes are in memory
        at a time.
        """
        tasks, rulings = batch
        limit = self.dialect.max_file_bytes
        files = list(read_files(self.source, (task.path for task in tasks), limit))
        contents = [
            read_content(self.dialect, data, task.path)
            for data, task in zip(files, tasks, strict=True)
        ]
        pairs = [
            (annotation, task.image)
            for (content, _), task in zip(contents, tasks, strict=True)
            for annotation in content.annotations
            if task.image is not None
            and (self.is_paired or claims_own_image(annotation.name, annotation.names))
        ]
        judged, tallies = self._judge(pairs, rulings)
        judgements = {judgement.annotation: judgement for judgement in judged}
        readings = [
            FileReading(
                digest,
                tuple(
                    _describe_reading(raw, judgements.get(raw.name)) for raw in content.annotations
                ),
                content.findings,
            )
            for content, digest in contents
        ]
        return BatchReading(readings, tallies)

    def judge_entries(self, batch: Batch[tuple[bytes, str]]) -> BatchReading[Judgement]:
        """Judges annotations that were kept (see `entries`), each with its image's path."""
        pairs = [(restore_annotation(data), image) for data, image in batch.tasks]
        return BatchReading(*self._judge(pairs, batch.rulings))

    def _judge(
        self, pairs: Sequence[tuple[RawAnnotation, str]], rulings: Rulings
    ) -> tuple[list[Judgement], Mapping[Group, Tally]]:
        files = read_files(self.source, (path for _, path in pairs), MAX_IMAGE_BYTES)
        images = []
        judged = []
        for data, (annotation, path) in zip(files, pairs, strict=True):
            if (
                self.is_paired
                or isinstance(data, UnreadableFile)
                or not is_stranger(annotation.name, annotation.size, path, data)
            ):
                images.append(examine_image(data, path, self.max_pixels))
                judged.append(annotation)
        hashes = [perceptual_hash(image.facts.grey) if image.facts else b"" for image in images]
        tallies: dict[Group, Tally] = {}
        groups = [Group.of(annotation) for annotation in judged]
        for annotation, image, group in zip(judged, images, groups, strict=True):
            if image.facts is not None and annotation.objects:
                testify(tallies.setdefault(group, Tally()), annotation, image.facts)
        # One object for all annotations of a group is sent to the main process once.
        shared = {group: (group, rulings.find(group)) for group in groups}
        judgements = [
            build_judgement(
                annotation,
                image,
                image_hash,
                self.classes,
                self.renames,
                self.max_side,
                *shared[group],
            )
            for annotation, image, image_hash, group in zip(
                judged, images, hashes, groups, strict=True
            )
        ]
        return judgements, tallies


def build_judgement(
    annotation: RawAnnotation,
    image: ExaminedImage,
    image_hash: bytes,
    classes: Sequence[str] | None,
    renames: Mapping[str, str],
    max_side: int,
    group: Group,
    ruling: Ruling,
) -> Judgement:
    """Judges an annotation with its image.

    Args:
        annotation: The annotation as written.
        image: The image that belongs to it.
        image_hash: The image's perceptual hash.
        classes: The classes that may occur; None allows any.
        renames: The new name of each class that is renamed.
        max_side: Images with a longer side become smaller; 0 leaves all as they are.
        group: The annotation's group.
        ruling: What is taken as given.
    """
    annotation, renamed = settle_names(annotation, renames)
    sample, findings = judge_pair(annotation, image, classes, ruling, max_side)
    basis = None
    facts = image.facts
    if facts is not None and annotation.objects is not None:
        rest = find_rest(annotation, facts)
        look = Look(facts.format, facts.kind, facts.orientation, facts.is_plain_jpeg, facts.remarks)
        basis = Basis(group, ruling, rest, look, facts.size.width, facts.size.height)
    return Judgement(
        annotation=annotation.name,
        image=image.path,
        image_bytes=image.num_bytes,
        image_sha256=image.sha256,
        image_hash=image_hash,
        class_counts=count_classes(annotation, sample) if sample else (),
        line=sample.to_json() if sample else None,
        findings=findings,
        basis=basis,
        renamed=renamed,
    )


def _describe_reading(raw: RawAnnotation, judgement: Judgement | None) -> AnnotationReading:
    return AnnotationReading(raw.names, None if judgement is not None else raw.size, judgement)
