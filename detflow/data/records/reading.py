"""Reads the samples of a records directory, and verifies its shards byte for byte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from detflow.data.records.manifest import (
    REMAKE,
    RecordsManifest,
    ShardInfo,
    find_image_name,
    resolve_split,
)
from detflow.data.records.schema import decode_sample
from detflow.data.records.tfrecord import read_records
from detflow.digests import digest_file
from detflow.errors import ArtifactError
from detflow.types import Sample


def verify_shards(records_dir: Path, manifest: RecordsManifest, splits: Sequence[str]) -> None:
    """Compares shards with the manifest, byte for byte.

    Args:
        records_dir: The records directory.
        manifest: Its manifest.
        splits: Names of splits, as `resolve_split` takes them.

    Raises:
        ArtifactError: A shard is missing or differs; where a record is damaged, the error has its
            number, offset and image.
    """
    for name in splits:
        for part in resolve_split(manifest, name):
            for shard in manifest.splits[part].shards:
                _verify_shard(records_dir, shard)


def read_samples(records_dir: Path, manifest: RecordsManifest, split: str) -> Iterator[Sample]:
    """Yields a split's samples in the order of the records; every checksum is checked.

    Args:
        records_dir: The records directory.
        manifest: Its manifest.
        split: The name of a split, as `resolve_split` takes it.

    Raises:
        ArtifactError: A shard is missing, short or damaged.
    """
    for part in resolve_split(manifest, split):
        for shard in manifest.splits[part].shards:
            path = records_dir / shard.name
            if not path.is_file():
                raise ArtifactError("the shard is missing", path=path, remedy=REMAKE)
            count = 0
            for _, data in read_records(path):
                try:
                    yield decode_sample(data, manifest.label_map)
                except ValueError as error:
                    raise ArtifactError(
                        str(error), path=path, place=f"record {count}", remedy=REMAKE
                    ) from None
                count += 1
            if count != shard.records:
                raise ArtifactError(
                    f"the shard has {count} records, its manifest says {shard.records}",
                    path=path,
                    remedy=REMAKE,
                )


def _verify_shard(records_dir: Path, shard: ShardInfo) -> None:
    path = records_dir / shard.name
    if not path.is_file():
        raise ArtifactError("the shard is missing", path=path, remedy=REMAKE)
    digest = digest_file(path)
    if digest["sha256"] == shard.sha256 and digest["bytes"] == shard.bytes:
        return
    number = 0
    try:
        for _ in read_records(path):
            number += 1
    except ArtifactError as error:
        image = find_image_name(records_dir, shard.name, number)
        about = f" (image {image})" if image else ""
        raise ArtifactError(
            f"{error.cause}{about}", path=path, place=error.place, remedy=REMAKE
        ) from None
    if number != shard.records:
        cause = (
            f"the shard has {number} records in {digest['bytes']:,} bytes; "
            f"its manifest says {shard.records} in {shard.bytes:,}"
        )
        raise ArtifactError(cause, path=path, remedy=REMAKE)
    raise ArtifactError(
        "the shard is not the one that its manifest describes: its SHA-256 differs",
        path=path,
        remedy=REMAKE,
    )
