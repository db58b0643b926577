"""The images of one split of records, as judging a model reads them: verified, counted, by id."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from detflow.data.records.manifest import RecordsManifest, read_manifest, resolve_split
from detflow.data.records.mirror import mirror_records
from detflow.data.records.places import SamplePlace, read_places
from detflow.data.records.reading import read_samples, verify_shards
from detflow.errors import DataError
from detflow.storage.location import Location
from detflow.types import Sample


@dataclass(frozen=True)
class SplitReader:
    """Reads a split; each call reads the records from the beginning.

    Attributes:
        path: The folder of the records on this machine.
        manifest: Their manifest.
        split: Name of the split, or of a union of splits.
    """

    path: Path
    manifest: RecordsManifest
    split: str

    @property
    def num_images(self) -> int:
        """How many images there are."""
        return sum(
            self.manifest.splits[name].images for name in resolve_split(self.manifest, self.split)
        )

    def read(self) -> Iterator[Sample]:
        """Yields the samples in the order of the records."""
        return read_samples(self.path, self.manifest, self.split)

    def read_counted(self, progress: Callable[[int], None]) -> Iterator[Sample]:
        """Yields the samples, and tells how many of them have been dealt with."""
        for number, sample in enumerate(self.read(), start=1):
            yield sample
            progress(number)

    def read_facts(self) -> list[Sample]:
        """Returns the samples in the order of their ids, without the files of their images."""
        samples = [dataclasses.replace(sample, encoded=b"") for sample in self.read()]
        return sorted(samples, key=lambda sample: sample.source_id)

    def read_places(self, judged: Sequence[Sample]) -> dict[int, SamplePlace]:
        """Returns where samples come from, by their ids, as far as the records know it."""
        return read_places(self.path, [sample.source_id for sample in judged])

    def read_pictures(self, judged: Sequence[Sample], wanted: Collection[int]) -> dict[int, bytes]:
        """Returns the files of a few images.

        Args:
            judged: The samples.
            wanted: Places among them.
        """
        places = {judged[index].source_id: index for index in wanted}
        return {
            places[sample.source_id]: sample.encoded
            for sample in self.read()
            if sample.source_id in places
        }


def open_split(records: Location, split: str) -> SplitReader:
    """Finds a split, and compares its shards with the manifest.

    Args:
        records: A folder that make-records wrote; of a URL the split is copied to the cache.
        split: Name of a split, or of a union of splits.

    Raises:
        ConfigError: There is no such split.
        DataError: The split has no images.
        ArtifactError: The records are damaged.
        EnvironmentFault: The disk or the store refuses.
    """
    path = mirror_records(records, [split])
    manifest = read_manifest(path)
    reader = SplitReader(path, manifest, split)
    names = resolve_split(manifest, split)
    if not reader.num_images:
        raise DataError(
            f"split {split} has no images to judge on",
            path=str(records),
            remedy="choose another split",
        )
    verify_shards(path, manifest, names)
    return reader
