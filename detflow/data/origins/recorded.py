"""Records that make-records wrote, as images to be written elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detflow.data.records.manifest import REMAKE, RecordsManifest, read_manifest
from detflow.data.records.reading import verify_shards
from detflow.data.records.schema import decode_sample
from detflow.data.records.tfrecord import read_record_at, read_records
from detflow.data.sinks.origin import ImageFacts, LoadedImage, OriginEntry
from detflow.data.sinks.sink import CarriedObject
from detflow.errors import ArtifactError
from detflow.label_map import LabelMap
from detflow.types import ObjectAnnotation, Sample


@dataclass(frozen=True, slots=True)
class RecordReader:
    """Reads a record.

    Attributes:
        label_map: The classes of the records.
    """

    label_map: LabelMap

    def load(self, payload: tuple[str, int]) -> LoadedImage:
        """Returns the image of a shard's path and a record's first byte in it."""
        sample = self.read(payload)
        objects = [carry_object(item) for item in sample.objects]
        return LoadedImage(sample.encoded, ".jpg", sample.size, objects, is_encoded_anew=False)

    def describe(self, payload: tuple[str, int]) -> ImageFacts:
        """See `ImageReader`."""
        sample = self.read(payload)
        return ImageFacts(sample.size, hashlib.sha256(sample.encoded).digest()[:16])

    def read_objects(self, payload: tuple[str, int]) -> list[CarriedObject]:
        """See `ImageReader`."""
        return [carry_object(item) for item in self.read(payload).objects]

    def read(self, payload: tuple[str, int]) -> Sample:
        """Returns the sample of a shard's path and a record's first byte in it."""
        path, offset = Path(payload[0]), payload[1]
        try:
            return decode_sample(read_record_at(path, offset), self.label_map)
        except ValueError as error:
            raise ArtifactError(
                str(error), path=path, place=f"byte {offset}", remedy=REMAKE
            ) from None


class RecordedOrigin:
    """The images of a records directory, in their splits and sorted by their keys.

    Args:
        records_dir: The directory.

    Raises:
        ArtifactError: It is damaged: every byte is compared with the manifest.
    """

    def __init__(self, records_dir: Path) -> None:
        self._manifest: RecordsManifest = read_manifest(records_dir)
        self.reader = RecordReader(self._manifest.label_map)
        verify_shards(records_dir, self._manifest, tuple(self._manifest.splits))
        found: list[tuple[OriginEntry, tuple[str, int]]] = []
        for split, described in self._manifest.splits.items():
            for shard in described.shards:
                path = records_dir / shard.name
                for offset, data in read_records(path):
                    sample = self._decode(data, path, offset)
                    entry = OriginEntry(sample.key, sample.filename, split)
                    found.append((entry, (str(path), offset)))
        found.sort()
        self.entries: Sequence[OriginEntry] = [entry for entry, _ in found]
        self._places = [place for _, place in found]

    def _decode(self, data: bytes, path: Path, offset: int) -> Sample:
        try:
            return decode_sample(data, self._manifest.label_map)
        except ValueError as error:
            raise ArtifactError(
                str(error), path=path, place=f"byte {offset}", remedy=REMAKE
            ) from None

    @property
    def label_map(self) -> LabelMap:
        """See `Origin`."""
        return self._manifest.label_map

    @property
    def splits(self) -> Sequence[str]:
        """See `Origin`."""
        return tuple(self._manifest.splits)

    @property
    def unions(self) -> Mapping[str, Sequence[str]]:
        """See `Origin`."""
        return self._manifest.unions

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the records."""
        return self._manifest.fingerprint

    @property
    def declares_splits(self) -> bool:
        """See `Origin`."""
        return True

    @property
    def has_flags(self) -> bool:
        """See `Origin`."""
        return True

    def payloads(self, places: Iterable[int]) -> Iterator[tuple[str, int]]:
        """See `Origin`."""
        for place in places:
            yield self._places[place]


def carry_object(item: ObjectAnnotation) -> CarriedObject:
    """Returns a sample's object."""
    box = item.box
    edges = box.ymin, box.xmin, box.ymax, box.xmax
    return CarriedObject.from_record(item.name, edges, item.difficult, item.truncated, item.pose)
