"""The report's pictures: images of each finding, and images of each class drawn at random."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from detflow.data.findings import Corners, Finding
from detflow.data.images.thumbnails import Thumbnail, read_thumbnail, read_turn
from detflow.data.images.transcode import Treatment
from detflow.data.judging.audit import Audit
from detflow.data.judging.sample import AuditedSample
from detflow.data.sources.splits import unit_hash
from detflow.pages.colours import Rgb, class_colour
from detflow.pages.outlines import Outline, Picture, build_picture
from detflow.types import Box, CornerFrame

_SIDE_PX, _QUALITY = 1280, 85
_SMALL_PX, _SMALL_QUALITY = 320, 74
_MAX_OUTLINES = 300
_MAX_SHOWN = 4

MAX_LARGE_BYTES = 16_000_000
"""Bytes of the pictures that keep their own pixels; those beyond are small."""

Written: TypeAlias = "tuple[str, Corners, CornerFrame]"
"""An object as written: class name, corners, and what those count."""


@dataclass(frozen=True, slots=True)
class ShownImage:
    """An image of the dataset by its path; `picture` is None where nothing can be shown of it.

    `note` stands below it, where several images are shown side by side.
    """

    path: str
    picture: Picture | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class SampleCard:
    """An image of a class: how many of its objects are of the class, and how many of others."""

    image: ShownImage
    annotation: str
    split: str
    class_ids: Sequence[int]
    num_own: int
    num_others: int


class Gallery:
    """Pictures of a dataset's images with boxes over them.

    Args:
        audit: The dataset; its files are read again, and may be gone or damaged.
    """

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._images = frozenset(audit.files.images)
        self._annotations = frozenset(audit.files.annotations)
        self._room = MAX_LARGE_BYTES

    def show_sample(self, annotation: str, class_name: str, split: str) -> SampleCard:
        """Returns a usable annotation's image with the objects of a class in its colour.

        Args:
            annotation: The annotation's path.
            class_name: The class; other objects are outlined thinly, below it.
            split: The name of the annotation's split.
        """
        sample = self._audit.read_sample(annotation)
        if sample is None:
            raise ValueError(f"{annotation} has no sample")
        own = [place for place, item in enumerate(sample.objects) if item.name == class_name]
        others = [place for place, item in enumerate(sample.objects) if item.name != class_name]
        colour = class_colour(self._audit.label_map.id_of(class_name))
        outlines = [*_outline(sample, others, "faint"), *_outline(sample, own, colour)]
        image = self._show(sample.image, sample.treatment, outlines)
        class_ids = sorted({self._audit.label_map.id_of(item.name) for item in sample.objects})
        return SampleCard(image, annotation, split, class_ids, len(own), len(others))

    def show_finding(self, finding: Finding) -> list[ShownImage]:
        """Returns the image that a finding is about, and the first others that it names.

        The box is outlined as it was written and as it was mended, the annotation's other objects
        thinly. Where the question is which image the annotation is about, or which way up that is,
        its objects lie as written over each candidate: a person sees where they fit.
        """
        if finding.code.startswith("exif_") and finding.image is not None:
            shown = self._show_turns(finding, finding.image)
            if shown:
                return shown
        images: dict[str, str | None] = {}
        for name in (finding.annotation, finding.image, *finding.related):
            summary = self._audit.samples.get(name) if name is not None else None
            if summary is not None:
                images.setdefault(summary.image, name)
            elif name in self._images:
                images.setdefault(name, None)
        chosen = list(images.items())[:_MAX_SHOWN]
        written = () if finding.before is not None else self._read_written(finding)
        return [
            self._show_finding_image(
                finding, image, annotation, written, image if len(chosen) > 1 else ""
            )
            for image, annotation in chosen
        ]

    def _read(self, image: str, treatment: Treatment) -> Thumbnail | None:
        """Reads an image at a size to look at closely, as long as the page has room for such."""
        side, quality = (_SIDE_PX, _QUALITY) if self._room > 0 else (_SMALL_PX, _SMALL_QUALITY)
        source = self._audit.files.source
        thumbnail = read_thumbnail(source, image, treatment, side, quality)
        if thumbnail is not None:
            self._room -= len(thumbnail.jpeg)
        return thumbnail

    def _show_turns(self, finding: Finding, image: str) -> list[ShownImage]:
        """Returns an image as it is stored and as EXIF turns it; nothing where EXIF turns nothing.

        One of the two is in the records, if any is.
        """
        turn = read_turn(self._audit.files.source, image)
        if turn == 1:
            return []
        written = self._read_written(finding)
        sample = self._audit.read_sample(finding.annotation)
        used = None if sample is None else sample.treatment.turn
        notes = {1: "as stored", turn: "as EXIF turns it"}
        return [
            self._show_written(
                image, Treatment(turn=way), written, f"{note}, used" if way == used else note
            )
            for way, note in notes.items()
        ]

    def _read_written(self, finding: Finding) -> Sequence[Written]:
        """Returns the objects of a finding's annotation as they are written."""
        dialect = self._audit.dialect
        # A file with many annotations may take long to read.
        if finding.path not in self._annotations or dialect.many_images:
            return ()
        try:
            data = self._audit.files.source.read(finding.path, dialect.max_file_bytes + 1)
        except FileNotFoundError:
            return ()
        return [
            (raw.name, raw.corners, annotation.frame or CornerFrame.VOC)
            for annotation in dialect.read(data, finding.path).annotations
            for raw in (annotation.objects or ())[:_MAX_OUTLINES]
        ]

    def _show_written(
        self, image: str, treatment: Treatment, written: Sequence[Written], note: str
    ) -> ShownImage:
        thumbnail = self._read(image, treatment)
        if thumbnail is None:
            return ShownImage(image, None, note)
        outlines = [
            Outline(Box.to_edges(corners, thumbnail.size, frame), "before", name)
            for name, corners, frame in written
        ]
        label = image if note in ("", image) else f"{image}, {note}"
        picture = build_picture(
            thumbnail.jpeg, thumbnail.size, outlines, label, thumbnail.describe()
        )
        return ShownImage(image, picture, note)

    def _show_finding_image(
        self,
        finding: Finding,
        image: str,
        annotation: str | None,
        written: Sequence[Written],
        note: str,
    ) -> ShownImage:
        sample = None if annotation is None else self._audit.read_sample(annotation)
        if sample is None and written:
            return self._show_written(image, Treatment(), written, note)
        outlines: list[Outline] = []
        treatment = Treatment()
        if sample is not None:
            kind = "faint" if finding.before is not None else "after"
            outlines += _outline(sample, range(len(sample.objects)), kind)
            treatment = sample.treatment
        if finding.before is not None:
            edges = _to_continuous(finding.before, finding.frame)
            outlines.append(Outline(edges, "before", "as written"))
        if finding.after is not None:
            edges = _to_continuous(finding.after, finding.frame)
            outlines.append(Outline(edges, "after", "as mended"))
        return self._show(image, treatment, outlines, note)

    def _show(
        self, image: str, treatment: Treatment, outlines: Sequence[Outline], note: str = ""
    ) -> ShownImage:
        thumbnail = self._read(image, treatment)
        if thumbnail is None:
            return ShownImage(image, None, note)
        picture = build_picture(
            thumbnail.jpeg, thumbnail.size, outlines, image, thumbnail.describe()
        )
        return ShownImage(image, picture, note)


def _outline(sample: AuditedSample, places: Sequence[int], kind: str | Rgb) -> list[Outline]:
    """Outlines some of a sample's objects, and names the lines where they stand."""
    objects = sample.objects
    return [
        Outline(
            objects[place].box.to_pixels(sample.size),
            kind,
            f"{objects[place].name}, {sample.annotation}:{sample.lines[place]}",
        )
        for place in places[:_MAX_OUTLINES]
    ]


def _to_continuous(corners: Corners, frame: CornerFrame | None) -> Corners:
    """Returns a finding's corners, in whatever order they stand, as places in pixels."""
    first = (frame or CornerFrame.VOC).first
    xmin, ymin, xmax, ymax = corners
    return min(xmin, xmax) - first, min(ymin, ymax) - first, max(xmin, xmax), max(ymin, ymax)


def choose_samples(audit: Audit, names: Sequence[str], per_class: int) -> dict[str, list[str]]:
    """Returns, for each class, the annotations that have it and whose hash is the smallest."""
    chosen: dict[str, list[tuple[float, str]]] = {name: [] for name in names}
    for annotation, summary in audit.samples.items():
        for name, objects, _ in summary.class_counts:
            if objects and name in chosen:
                rank = -unit_hash("report", name, annotation)
                heap = chosen[name]
                if len(heap) < per_class:
                    heapq.heappush(heap, (rank, annotation))
                elif rank > heap[0][0]:
                    heapq.heapreplace(heap, (rank, annotation))
    return {
        name: [annotation for _, annotation in sorted(heap, reverse=True)]
        for name, heap in chosen.items()
    }
