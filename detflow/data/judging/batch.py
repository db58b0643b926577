"""The work of one worker: reads a batch of annotation files and judges what is paired already."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from detflow.data.findings import Finding
from detflow.data.images.hashes import perceptual_hash
from detflow.data.images.header import MAX_IMAGE_BYTES
from detflow.data.judging.classes import settle_names
from detflow.data.judging.entries import restore_annotation
from detflow.data.judging.pair import count_classes, examine_image, judge_pair
from detflow.data.judging.reading import read_files
from detflow.data.judging.sample import ClassCount
from detflow.data.sources.own_images import claims_own_image, is_stranger
from detflow.data.sources.source import AnnotationSource, ImageNames, RawAnnotation
from detflow.storage.interface import Folder


class FileTask(NamedTuple):
    """A file to read that holds one annotation, and what is known of its image.

    Attributes:
        path: The file inside the dataset.
        image: The image's path; None where nobody knows it yet.
    """

    path: str
    image: str | None


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


@dataclass(frozen=True)
class BatchJudge:
    """Reads and judges batches; a value that can be sent to any process.

    Attributes:
        source: The dataset's folder.
        dialect: How files are read.
        max_pixels: Images with more are refused.
        classes: The classes that may occur; None allows any.
        is_paired: Whether a task's images have been decided. Otherwise they are images of the
            files' own names, and count only where the annotation claims them.
        renames: The new name of each class that is renamed.
    """

    source: Folder
    dialect: AnnotationSource
    max_pixels: int
    classes: Sequence[str] | None
    is_paired: bool
    renames: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, tasks: Sequence[FileTask]) -> list[FileReading]:
        """Reads the files of a batch, and judges their annotations that have an image.

        A batch goes through one step after the other: while a step repeats, the processor's caches
        hold its code, which saves about a quarter of the time. Only one image's bytes are in memory
        at a time.
        """
        limit = self.dialect.max_file_bytes
        files = list(read_files(self.source, (task.path for task in tasks), limit))
        contents = [
            self.dialect.read(data, task.path) for data, task in zip(files, tasks, strict=True)
        ]
        pairs = [
            (annotation, task.image)
            for content, task in zip(contents, tasks, strict=True)
            for annotation in content.annotations
            if task.image is not None
            and (self.is_paired or claims_own_image(annotation.name, annotation.names))
        ]
        judgements = {judgement.annotation: judgement for judgement in self._judge(pairs)}
        return [
            FileReading(
                hashlib.sha256(data).digest(),
                tuple(
                    _describe_reading(raw, judgements.get(raw.name)) for raw in content.annotations
                ),
                content.findings,
            )
            for data, content in zip(files, contents, strict=True)
        ]

    def judge_entries(self, entries: Sequence[tuple[bytes, str]]) -> list[Judgement]:
        """Judges annotations that were kept (see `entries`), each with its image's path."""
        return self._judge([(restore_annotation(data), image) for data, image in entries])

    def _judge(self, pairs: Sequence[tuple[RawAnnotation, str]]) -> list[Judgement]:
        files = read_files(self.source, (path for _, path in pairs), MAX_IMAGE_BYTES)
        images = []
        judged = []
        for data, (annotation, path) in zip(files, pairs, strict=True):
            if self.is_paired or not is_stranger(annotation.name, annotation.size, path, data):
                images.append(examine_image(data, path, self.max_pixels))
                judged.append(annotation)
        hashes = [perceptual_hash(image.facts.grey) if image.facts else b"" for image in images]
        settled = [settle_names(annotation, self.renames) for annotation in judged]
        verdicts = [
            judge_pair(annotation, image, self.classes)
            for (annotation, _), image in zip(settled, images, strict=True)
        ]
        return [
            Judgement(
                annotation=annotation.name,
                image=image.path,
                image_bytes=image.num_bytes,
                image_sha256=image.sha256,
                image_hash=image_hash,
                class_counts=count_classes(annotation, sample) if sample else (),
                line=sample.to_json() if sample else None,
                findings=findings,
                renamed=renamed,
            )
            for (annotation, renamed), image, image_hash, (sample, findings) in zip(
                settled, images, hashes, verdicts, strict=True
            )
        ]


def _describe_reading(raw: RawAnnotation, judgement: Judgement | None) -> AnnotationReading:
    return AnnotationReading(raw.names, None if judgement is not None else raw.size, judgement)
