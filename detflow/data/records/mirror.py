"""Records at a URL, copied to the cache of this machine and compared with their manifest."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from detflow.data.records.manifest import (
    INDEX_NAME,
    LABEL_MAP_NAME,
    MANIFEST_NAME,
    REMAKE,
    ShardInfo,
    read_manifest,
    resolve_split,
)
from detflow.errors import ArtifactError, environment_faults
from detflow.publish import require_space
from detflow.storage.cache import find_cached
from detflow.storage.folders import LocalFolder, open_folder
from detflow.storage.interface import Folder
from detflow.storage.location import Location, Url

_MAX_TEXT_BYTES = 1 << 30
_DOWNLOADS_AT_A_TIME = 4


def mirror_records(records: Location, splits: Sequence[str] | None = None) -> Path:
    """Returns a local folder of records.

    Args:
        records: Where they are; a path is returned as it is.
        splits: The splits that are needed, as `resolve_split` takes them; None for all of them and
            the index.

    Returns:
        The path; for a URL a folder in the cache, named by the manifest's SHA-256. What the folder
        has already is compared with the manifest and kept.

    Raises:
        ArtifactError: There is no manifest at the URL, or a shard is missing or not the one that it
            lists.
        ConfigError: There is no such split.
        EnvironmentFault: The store or the disk refuses.
    """
    if not isinstance(records, Url):
        return records
    source = open_folder(records)
    manifest = _read(source, MANIFEST_NAME)
    mirror = find_cached("records", records, manifest)
    with environment_faults(mirror):
        mirror.mkdir(parents=True, exist_ok=True)
        target = LocalFolder.of(mirror)
        target.write(LABEL_MAP_NAME, _read(source, LABEL_MAP_NAME))
        target.write(MANIFEST_NAME, manifest)
        listed = read_manifest(mirror)
        parts = [part for name in splits or listed.splits for part in resolve_split(listed, name)]
        shards = {
            shard.name: shard for part in parts for shard in listed.splits[part].shards
        }.values()
        missing = [shard for shard in shards if target.digest(shard.name) != _digest(shard)]
        require_space(mirror, sum(shard.bytes for shard in missing))
        with ThreadPoolExecutor(_DOWNLOADS_AT_A_TIME) as threads:
            for _ in threads.map(lambda shard: _fetch(source, shard, target), missing):
                pass
        if splits is None:
            target.write(INDEX_NAME, _read(source, INDEX_NAME))
    return mirror


def _fetch(source: Folder, shard: ShardInfo, target: LocalFolder) -> None:
    where = f"{source.location}/{shard.name}"
    with target.build(shard.name) as path:
        try:
            source.fetch(shard.name, path)
        except FileNotFoundError:
            raise ArtifactError("the shard is missing", path=where, remedy=REMAKE) from None
        found = LocalFolder(path.parent).digest(path.name)
        if found != _digest(shard):
            size = found["bytes"] if found else 0
            cause = (
                f"the shard is not the one that its manifest lists: {size:,} bytes of "
                f"{shard.bytes:,}, or another SHA-256"
            )
            raise ArtifactError(cause, path=where, remedy=REMAKE)


def _digest(shard: ShardInfo) -> dict[str, object]:
    return {"bytes": shard.bytes, "sha256": shard.sha256}


def _read(source: Folder, name: str) -> bytes:
    try:
        return source.read(name, _MAX_TEXT_BYTES)
    except FileNotFoundError:
        cause = "this is no records directory: the file is missing"
        raise ArtifactError(cause, path=f"{source.location}/{name}", remedy=REMAKE) from None
