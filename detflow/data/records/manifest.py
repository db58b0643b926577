"""What a records directory says of itself: its files, its manifest, its index, its splits.

`docs/records.md` describes the files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detflow.digests import read_json_object, require_sealed
from detflow.errors import ArtifactError, ConfigError, DataError
from detflow.label_map import LabelMap
from detflow.storage.kinds import describe_mistake
from detflow.text import find_nearest

FORMAT_VERSION = 2
MANIFEST_NAME = "manifest.json"
LABEL_MAP_NAME = "label_map.pbtxt"
LEDGER_NAME = "ledger.jsonl"
REPORT_NAME = "report.html"
INDEX_NAME = "index.jsonl"
REMAKE = "run detflow make-records again"


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """One shard: its file name, its number of records, its size in bytes and its SHA-256."""

    name: str
    records: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SplitInfo:
    """One split.

    Attributes:
        images: How many images it has.
        objects: How many objects.
        objects_per_class: How many objects of each class, by the class's name.
        shards: Its shards, in the order of their records.
    """

    images: int
    objects: int
    objects_per_class: Mapping[str, int]
    shards: tuple[ShardInfo, ...]


@dataclass(frozen=True, slots=True)
class RecordsManifest:
    """What a records directory holds.

    Attributes:
        label_map: The classes.
        splits: The splits by name, in the order in which they were written.
        unions: The splits that a further name, such as trainval, stands for.
        fingerprint: A SHA-256 over the label map and the shards: it changes if and only if the
            training data do.
    """

    label_map: LabelMap
    splits: Mapping[str, SplitInfo]
    unions: Mapping[str, tuple[str, ...]]
    fingerprint: str


def compute_fingerprint(label_map: LabelMap, splits: Mapping[str, SplitInfo]) -> str:
    """Returns the SHA-256 over the label map and the shards' digests."""
    parts = [label_map.to_pbtxt()]
    for name, split in splits.items():
        parts += [f"{name} {shard.name} {shard.sha256}" for shard in split.shards]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def read_manifest(records_dir: Path) -> RecordsManifest:
    """Reads and checks a records directory's manifest and label map; shards are not opened.

    The manifest holds a digest of itself, and its counts add up.

    Raises:
        ArtifactError: Something is missing, damaged, or does not agree with the rest.
    """
    path = records_dir / MANIFEST_NAME
    content = _read_object(path)
    try:
        if content["format_version"] != FORMAT_VERSION:
            cause = (
                f"the records have format {content['format_version']!r}, "
                f"this detflow reads {FORMAT_VERSION}"
            )
            raise ArtifactError(cause, path=path, remedy=REMAKE)
        require_sealed(content, path, REMAKE)
        label_map = LabelMap(tuple(content["classes"]))
        splits = {name: _read_split(entry) for name, entry in content["splits"].items()}
        unions = {name: tuple(parts) for name, parts in content["unions"].items()}
        _require_sums(label_map, splits, unions)
        fingerprint = content["fingerprint"]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ArtifactError(
            f"the manifest is damaged: {type(error).__name__} {error}", path=path, remedy=REMAKE
        ) from None
    if fingerprint != compute_fingerprint(label_map, splits):
        raise ArtifactError(
            "the fingerprint does not fit the manifest's classes and shards",
            path=path,
            remedy=REMAKE,
        )
    label_map_path = records_dir / LABEL_MAP_NAME
    try:
        written = LabelMap.from_pbtxt(
            label_map_path.read_text(encoding="utf-8"), path=label_map_path
        )
    except (FileNotFoundError, UnicodeDecodeError, DataError) as error:
        raise ArtifactError(
            f"the label map cannot be read: {error}", path=label_map_path, remedy=REMAKE
        ) from None
    if written != label_map:
        raise ArtifactError(
            "the label map and the manifest have different classes",
            path=label_map_path,
            remedy=REMAKE,
        )
    return RecordsManifest(label_map, splits, unions, fingerprint)


def read_memberships(records_dir: Path) -> dict[str, str]:
    """Returns the split of every sample of a records directory by the sample's key.

    Raises:
        ArtifactError: The manifest or the index is missing or damaged.
    """
    manifest = read_manifest(records_dir)
    path = records_dir / INDEX_NAME
    try:
        with open(path, encoding="utf-8") as file:
            entries = [json.loads(line) for line in file]
        memberships = {str(entry["key"]): str(entry["split"]) for entry in entries}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(
            f"the index cannot be read: {error}", path=path, remedy=REMAKE
        ) from None
    if len(entries) != sum(split.images for split in manifest.splits.values()):
        raise ArtifactError(
            "the index and the manifest have different numbers of samples",
            path=path,
            remedy=REMAKE,
        )
    return memberships


def resolve_split(manifest: RecordsManifest, name: str) -> tuple[str, ...]:
    """Returns the splits that a name stands for.

    Args:
        manifest: The manifest of the records.
        name: A split, a union that the dataset declares ("trainval"), or splits joined by "+"
            ("train+val").

    Raises:
        ConfigError: There is no such split.
    """
    if name in manifest.splits:
        return (name,)
    if name in manifest.unions:
        return manifest.unions[name]
    parts = parse_split(name)
    if all(part in manifest.splits for part in parts) and len(set(parts)) == len(parts):
        return parts
    known = [*manifest.splits, *manifest.unions]
    nearest = find_nearest(name, known, cutoff=0.5)
    hint = f"did you mean {nearest!r}? " if nearest else ""
    raise ConfigError(
        f"there is no split {name!r}", remedy=f"{hint}the records have {', '.join(known)}"
    )


def parse_split(name: str) -> tuple[str, ...]:
    """Returns the splits that a name stands for by itself, whatever the records have.

    Args:
        name: A split, "trainval", or splits joined by "+".
    """
    return ("train", "val") if name == "trainval" else tuple(name.split("+"))


def find_image_name(records_dir: Path, shard: str, number: int) -> str | None:
    """Returns the image of a record as the index has it; None where the index cannot tell.

    Args:
        records_dir: The records directory; its index may be damaged, too.
        shard: The shard's file name.
        number: The record's place in the shard, from 0.
    """
    try:
        with open(records_dir / INDEX_NAME, encoding="utf-8") as file:
            for line in file:
                entry = json.loads(line)
                if entry["shard"] == shard and entry["record"] == number:
                    return str(entry["image"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return None


def _read_split(entry: Any) -> SplitInfo:
    shards = tuple(
        ShardInfo(
            str(shard["name"]), int(shard["records"]), int(shard["bytes"]), str(shard["sha256"])
        )
        for shard in entry["shards"]
    )
    for shard in shards:
        if "/" in shard.name or "\\" in shard.name or shard.name.startswith("."):
            raise ValueError(f"{shard.name!r} is not a shard's name")
    return SplitInfo(
        int(entry["images"]), int(entry["objects"]), dict(entry["objects_per_class"]), shards
    )


def _require_sums(
    label_map: LabelMap, splits: Mapping[str, SplitInfo], unions: Mapping[str, tuple[str, ...]]
) -> None:
    """Raises ValueError where counts contradict each other, or names lead nowhere."""
    shards = [shard for split in splits.values() for shard in split.shards]
    names = [shard.name for shard in shards]
    if len(set(names)) != len(names):
        raise ValueError("a shard is listed twice")
    if any(count < 0 for shard in shards for count in (shard.records, shard.bytes)):
        raise ValueError("a shard has fewer than 0 records or bytes")
    for name, split in splits.items():
        records = sum(shard.records for shard in split.shards)
        if split.images != records:
            raise ValueError(
                f"split {name} has {split.images} images, its shards have {records} records"
            )
        if any(count < 0 for count in split.objects_per_class.values()):
            raise ValueError(f"split {name} has a class of fewer than 0 objects")
        if not split.objects_per_class.keys() <= set(label_map):
            raise ValueError(f"split {name} counts objects of a class that the manifest lacks")
        if split.objects != sum(split.objects_per_class.values()):
            raise ValueError(
                f"split {name} has {split.objects} objects, its classes have "
                f"{sum(split.objects_per_class.values())}"
            )
    for name, parts in unions.items():
        if len(set(parts)) != len(parts) or not splits.keys() >= set(parts):
            raise ValueError(f"union {name} is not of splits, each once")


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        if (path.parent / LABEL_MAP_NAME).is_file():
            raise ArtifactError("the manifest is missing", path=path, remedy=REMAKE)
        cause, remedy = describe_mistake(path.parent, "records")
        raise ArtifactError(cause, path=path.parent, remedy=remedy or REMAKE)
    try:
        # Tools that version data put links in the place of files.
        return read_json_object(path.resolve())
    except ArtifactError as error:
        cause = f"the manifest is damaged: {error.cause}"
        raise ArtifactError(cause, path=path, remedy=REMAKE) from None
