"""A dataset that was audited, as images to be written elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from detflow.data.images.lossless import find_lossless_suffix
from detflow.data.images.transcode import Treatment, encode_record_jpeg
from detflow.data.judging.audit import Audit
from detflow.data.judging.reading import read_audited_image, read_record_images
from detflow.data.judging.sample import AuditedSample, read_line
from detflow.data.records.schema import ObjectColumns
from detflow.data.sinks.origin import ImageFacts, LoadedImage, OriginEntry
from detflow.data.sinks.sink import CarriedObject
from detflow.data.sources.names import split_extension
from detflow.data.sources.splits import SplitBy
from detflow.label_map import LabelMap
from detflow.storage.interface import Folder

_WITHOUT_FLAGS = frozenset({"YOLO", "CSV", "CVAT"})
_ONLY_TRANSCODED = Treatment(transcode=True)


@dataclass(frozen=True, slots=True)
class AuditedReader:
    """Reads an audited image from its dataset.

    Attributes:
        source: The dataset's folder.
        keeps_lossless: Whether a PNG or BMP that every decoder reads alike is passed on as it is;
            otherwise everything becomes the JPEG that a record has.
    """

    source: Folder
    keeps_lossless: bool

    def describe(self, payload: bytes) -> ImageFacts:
        """See `ImageReader`."""
        audited = AuditedSample.from_json(payload)
        if audited.treatment == Treatment():
            return ImageFacts(audited.size, bytes.fromhex(audited.image_sha256)[:16])
        [(_, _, sha256)] = read_record_images(self.source, [audited])
        return ImageFacts(audited.size, bytes.fromhex(sha256)[:16])

    def read_objects(self, payload: bytes) -> list[CarriedObject]:
        """See `ImageReader`."""
        return carry_columns(AuditedSample.from_json(payload).columns)

    def load(self, payload: bytes) -> LoadedImage:
        """Returns the image of a line of `AuditedSample.to_json`."""
        audited = AuditedSample.from_json(payload)
        data = read_audited_image(self.source, audited)
        objects = carry_columns(audited.columns)
        if self.keeps_lossless and audited.treatment == _ONLY_TRANSCODED:
            suffix = find_lossless_suffix(data)
            if suffix is not None:
                return LoadedImage(
                    data, suffix, audited.record_size, objects, is_encoded_anew=False
                )
        encoded = encode_record_jpeg(data, audited.treatment)
        return LoadedImage(encoded, ".jpg", audited.record_size, objects, encoded is not data)


class AuditedOrigin:
    """The usable images of a dataset, in their splits.

    Args:
        audit: The audit; its files must stay while the images are read.
        keeps_lossless: See `AuditedReader`.
    """

    def __init__(self, audit: Audit, *, keeps_lossless: bool) -> None:
        self._audit = audit
        self.reader = AuditedReader(audit.files.source, keeps_lossless)
        splits = audit.splits
        self._members = sorted(
            (annotation, split)
            for split, members in splits.members.items()
            for annotation in members
        )
        self.entries: Sequence[OriginEntry] = [
            OriginEntry(split_extension(annotation)[0], audit.samples[annotation].image, split)
            for annotation, split in self._members
        ]

    @property
    def label_map(self) -> LabelMap:
        """See `Origin`."""
        return self._audit.label_map

    @property
    def splits(self) -> Sequence[str]:
        """See `Origin`."""
        return tuple(self._audit.splits.members)

    @property
    def unions(self) -> Mapping[str, Sequence[str]]:
        """See `Origin`."""
        return self._audit.splits.unions

    @property
    def declares_splits(self) -> bool:
        """See `Origin`."""
        return self._audit.splits.rule is not SplitBy.SEED

    @property
    def has_flags(self) -> bool:
        """See `Origin`."""
        return self._audit.dialect.name not in _WITHOUT_FLAGS

    def payloads(self, places: Iterable[int]) -> Iterator[bytes]:
        """See `Origin`."""
        with open(self._audit.samples_path, "rb") as samples:
            for place in places:
                yield read_line(samples, self._audit.samples[self._members[place][0]].offset)


def carry_columns(columns: ObjectColumns) -> list[CarriedObject]:
    """Returns the objects of columns."""
    return [
        CarriedObject.from_record(name, box, bool(difficult), bool(truncated), pose)
        for name, box, difficult, truncated, pose, _ in zip(*columns, strict=True)
    ]
