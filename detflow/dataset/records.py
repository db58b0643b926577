"""A records directory: samples as tf.Example in TFRecord shards, with a label map and a manifest; written and read back.

`docs/records.md` describes the format. Whoever reads goes through `read_manifest`; whoever depends on the bytes calls
`verify_shards` first.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from detflow.dataset.example import Feature, decode_example, encode_example
from detflow.dataset.tfrecord import read_records
from detflow.errors import ArtifactError, ConfigError, DataError
from detflow.publish import digest_file
from detflow.types import Box, ImageSize, LabelMap, ObjectAnnotation, Sample

__all__ = [
    "FORMAT_VERSION",
    "INDEX_NAME",
    "LABEL_MAP_NAME",
    "LEDGER_NAME",
    "MANIFEST_NAME",
    "RecordsManifest",
    "ShardInfo",
    "SplitInfo",
    "compute_fingerprint",
    "decode_sample",
    "encode_sample",
    "read_manifest",
    "read_memberships",
    "read_samples",
    "resolve_split",
    "to_record_box",
    "verify_shards",
]

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
LABEL_MAP_NAME = "label_map.pbtxt"
LEDGER_NAME = "ledger.jsonl"
INDEX_NAME = "index.jsonl"

_FOUR_FLOATS = struct.Struct("<4f")
_BOX_FEATURES = ("image/object/bbox/ymin", "image/object/bbox/xmin", "image/object/bbox/ymax", "image/object/bbox/xmax")


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """One shard: its file name, its number of records, its size in bytes and its SHA-256."""

    name: str
    records: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SplitInfo:
    """One split: how many images and objects it has, objects of each class by name, and its shards in order."""

    images: int
    objects: int
    objects_per_class: Mapping[str, int]
    shards: tuple[ShardInfo, ...]


@dataclass(frozen=True, slots=True)
class RecordsManifest:
    """What a records directory holds.

    Attributes:
        label_map: The classes.
        splits: By name, in the order in which they were written.
        unions: Names for several splits together, such as trainval.
        fingerprint: SHA-256 over the label map and the shards: changes if and only if the training data do.
    """

    label_map: LabelMap
    splits: Mapping[str, SplitInfo]
    unions: Mapping[str, tuple[str, ...]]
    fingerprint: str


def to_record_box(box: Box) -> Box:
    """Rounds a box to float32, as tf.Example stores it, so that what is read back is what was written.

    Raises:
        ValueError: Rounding leaves no area.
    """
    return Box(*_FOUR_FLOATS.unpack(_FOUR_FLOATS.pack(box.ymin, box.xmin, box.ymax, box.xmax)))


def encode_sample(sample: Sample, label_map: LabelMap) -> bytes:
    """Returns a sample as a tf.Example with the TF Object Detection API's fields.

    Raises:
        ValueError: A box is not rounded to float32 (see `to_record_box`).
        KeyError: A class is not in the label map.
    """
    objects = sample.objects
    boxes = [(entry.box.ymin, entry.box.xmin, entry.box.ymax, entry.box.xmax) for entry in objects]
    for box in boxes:
        if _FOUR_FLOATS.unpack(_FOUR_FLOATS.pack(*box)) != box:
            raise ValueError(f"{sample.key}: box {box} is not rounded to float32")
    ids = {name: class_id for class_id, name in enumerate(label_map, start=1)}
    features: dict[str, tuple[type, Feature]] = {
        "image/encoded": (bytes, [sample.encoded]),
        "image/format": (bytes, [b"jpeg"]),
        "image/height": (int, [sample.size.height]),
        "image/width": (int, [sample.size.width]),
        "image/filename": (bytes, [_to_bytes(sample.filename)]),
        "image/source_id": (bytes, [b"%d" % sample.source_id]),
        "image/key": (bytes, [_to_bytes(sample.key)]),
        "image/key/sha256": (bytes, [hashlib.sha256(sample.encoded).hexdigest().encode()]),
        "image/object/class/text": (bytes, [_to_bytes(entry.name) for entry in objects]),
        "image/object/class/label": (int, [ids[entry.name] for entry in objects]),
        "image/object/difficult": (int, [int(entry.difficult) for entry in objects]),
        "image/object/truncated": (int, [int(entry.truncated) for entry in objects]),
        "image/object/view": (bytes, [_to_bytes(entry.pose) for entry in objects]),
        "image/object/is_crowd": (int, [0] * len(objects)),
        # In square pixels, as COCO's annotations have it.
        "image/object/area": (float, [entry.box.area * sample.size.num_pixels for entry in objects]),
    }
    for place, name in enumerate(_BOX_FEATURES):
        features[name] = (float, [box[place] for box in boxes])
    return encode_example(features)


def decode_sample(data: bytes, label_map: LabelMap) -> Sample:
    """Reads `encode_sample`'s bytes.

    Raises:
        ValueError: They are not a sample, or do not agree with the label map.
    """
    features: dict[str, Any] = dict(decode_example(data))
    try:
        names = [_to_text(text) for text in features["image/object/class/text"]]
        # tuple.index would look at every class for every object; the ids say where to look.
        if [label_map.name_of(class_id) for class_id in features["image/object/class/label"]] != names:
            raise ValueError("class names and ids do not agree with the label map")
        columns = (
            names,
            list(zip(*(features[name] for name in _BOX_FEATURES), strict=True)),
            features["image/object/difficult"],
            features["image/object/truncated"],
            features["image/object/view"],
        )
        objects = tuple(
            ObjectAnnotation(name, Box(*box), difficult=bool(difficult), truncated=bool(truncated), pose=_to_text(view))
            for name, box, difficult, truncated, view in zip(*columns, strict=True)
        )
        (encoded,), (height,), (width,) = features["image/encoded"], features["image/height"], features["image/width"]
        (key,), (filename,), (source_id,) = features["image/key"], features["image/filename"], features["image/source_id"]
        return Sample(
            key=_to_text(key),
            source_id=int(source_id),
            filename=_to_text(filename),
            size=ImageSize(width, height),
            encoded=encoded,
            objects=objects,
        )
    except KeyError as error:
        raise ValueError(f"field or class id {error} is missing") from None


def compute_fingerprint(label_map: LabelMap, splits: Mapping[str, SplitInfo]) -> str:
    """Returns the SHA-256 over the label map and the shards' digests."""
    parts = [label_map.to_pbtxt()]
    for name, split in splits.items():
        parts += [f"{name} {shard.name} {shard.sha256}" for shard in split.shards]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def read_manifest(records_dir: Path) -> RecordsManifest:
    """Reads and checks a records directory's manifest and label map; shards are not opened.

    Raises:
        ArtifactError: Something is missing, damaged, or does not agree with the rest.
    """
    path = records_dir / MANIFEST_NAME
    content = _read_json(path)
    try:
        if content["format_version"] != FORMAT_VERSION:
            raise ArtifactError(
                f"the records have format {content['format_version']!r}, this detflow reads {FORMAT_VERSION}",
                path=path,
                remedy="run detflow make-records again",
            )
        label_map = LabelMap(tuple(content["classes"]))
        splits = {name: _read_split(entry) for name, entry in content["splits"].items()}
        unions = {name: tuple(parts) for name, parts in content["unions"].items()}
        fingerprint = content["fingerprint"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"the manifest is damaged: {type(error).__name__} {error}", path=path, remedy=_REMAKE) from None
    if fingerprint != compute_fingerprint(label_map, splits):
        raise ArtifactError("the fingerprint does not fit the manifest's classes and shards", path=path, remedy=_REMAKE)
    label_map_path = records_dir / LABEL_MAP_NAME
    try:
        written = LabelMap.from_pbtxt(label_map_path.read_text(encoding="utf-8"), path=label_map_path)
    except (FileNotFoundError, UnicodeDecodeError, DataError) as error:
        raise ArtifactError(f"the label map cannot be read: {error}", path=label_map_path, remedy=_REMAKE) from None
    if written != label_map:
        raise ArtifactError("the label map and the manifest have different classes", path=label_map_path, remedy=_REMAKE)
    return RecordsManifest(label_map, splits, unions, fingerprint)


_REMAKE = "run detflow make-records again"


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
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"the index cannot be read: {error}", path=path, remedy=_REMAKE) from None
    if len(entries) != sum(split.images for split in manifest.splits.values()):
        raise ArtifactError("the index and the manifest have different numbers of samples", path=path, remedy=_REMAKE)
    return memberships


def resolve_split(manifest: RecordsManifest, name: str) -> tuple[str, ...]:
    """Returns the splits that a name stands for.

    Args:
        manifest: Of the records.
        name: A split, a union that the dataset declares ("trainval"), or splits joined by "+" ("train+val").

    Raises:
        ConfigError: There is no such split.
    """
    if name in manifest.splits:
        return (name,)
    if name in manifest.unions:
        return manifest.unions[name]
    parts = tuple(name.split("+")) if "+" in name else ()
    if name == "trainval":
        parts = ("train", "val")
    if parts and all(part in manifest.splits for part in parts) and len(set(parts)) == len(parts):
        return parts
    known = [*manifest.splits, *manifest.unions]
    nearest = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise ConfigError(f"there is no split {name!r}", remedy=f"{hint}the records have {', '.join(known)}")


def verify_shards(records_dir: Path, manifest: RecordsManifest, splits: Sequence[str]) -> None:
    """Compares shards with the manifest, byte for byte.

    Args:
        records_dir: Where they are.
        manifest: Its manifest.
        splits: Names of splits, as `resolve_split` takes them.

    Raises:
        ArtifactError: A shard is missing or differs; for a damaged record with its number, offset and image.
    """
    for name in splits:
        for part in resolve_split(manifest, name):
            for shard in manifest.splits[part].shards:
                _verify_shard(records_dir, shard)


def read_samples(records_dir: Path, manifest: RecordsManifest, split: str) -> Iterator[Sample]:
    """Yields the samples of a split (see `resolve_split`) in the order of the records, with every checksum checked.

    Raises:
        ArtifactError: A shard is missing, short or damaged.
    """
    for part in resolve_split(manifest, split):
        for shard in manifest.splits[part].shards:
            path = records_dir / shard.name
            if not path.is_file():
                raise ArtifactError("the shard is missing", path=path, remedy=_REMAKE)
            count = 0
            for _, data in read_records(path):
                try:
                    yield decode_sample(data, manifest.label_map)
                except ValueError as error:
                    raise ArtifactError(str(error), path=path, place=f"record {count}", remedy=_REMAKE) from None
                count += 1
            if count != shard.records:
                raise ArtifactError(f"the shard has {count} records, its manifest says {shard.records}", path=path, remedy=_REMAKE)


def _verify_shard(records_dir: Path, shard: ShardInfo) -> None:
    path = records_dir / shard.name
    if not path.is_file():
        raise ArtifactError("the shard is missing", path=path, remedy=_REMAKE)
    digest = digest_file(path)
    if digest["sha256"] == shard.sha256 and digest["bytes"] == shard.bytes:
        return
    number = 0
    try:
        for _ in read_records(path):
            number += 1
    except ArtifactError as error:
        image = _find_image_name(records_dir, shard.name, number)
        about = f" (image {image})" if image else ""
        raise ArtifactError(f"{error.cause}{about}", path=path, place=error.place, remedy=_REMAKE) from None
    if number != shard.records:
        cause = f"the shard has {number} records in {digest['bytes']:,} bytes; its manifest says {shard.records} in {shard.bytes:,}"
        raise ArtifactError(cause, path=path, remedy=_REMAKE)
    raise ArtifactError("the shard is not the one that its manifest describes: its SHA-256 differs", path=path, remedy=_REMAKE)


def _find_image_name(records_dir: Path, shard: str, number: int) -> str | None:
    """Looks a record's image up in the index, which may be damaged itself."""
    try:
        with open(records_dir / INDEX_NAME, encoding="utf-8") as file:
            for line in file:
                entry = json.loads(line)
                if entry["shard"] == shard and entry["record"] == number:
                    return str(entry["image"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None


def _read_split(entry: Any) -> SplitInfo:
    shards = tuple(
        ShardInfo(str(shard["name"]), int(shard["records"]), int(shard["bytes"]), str(shard["sha256"])) for shard in entry["shards"]
    )
    for shard in shards:
        if "/" in shard.name or "\\" in shard.name or shard.name.startswith("."):
            raise ValueError(f"{shard.name!r} is not a shard's name")
    return SplitInfo(int(entry["images"]), int(entry["objects"]), dict(entry["objects_per_class"]), shards)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError("this is no records directory: the manifest is missing", path=path, remedy=_REMAKE) from None
    except ValueError as error:
        raise ArtifactError(f"the manifest is damaged: {error}", path=path, remedy=_REMAKE) from None


def _to_bytes(text: str) -> bytes:
    # Names of files need not be UTF-8; Python carries such bytes as lone surrogates.
    return text.encode("utf-8", "surrogateescape")


def _to_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
