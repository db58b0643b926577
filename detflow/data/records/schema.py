"""A records directory: samples as tf.Example in TFRecord shards, with a label map and a manifest; written and read back.

`docs/records.md` describes the format. Whoever reads goes through `read_manifest`; whoever depends
on the bytes calls `verify_shards` first.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from detflow.data.records.example import Feature, decode_example, encode_example
from detflow.data.records.tfrecord import read_records
from detflow.errors import ArtifactError, ConfigError, DataError
from detflow.label_map import LabelMap
from detflow.publish import digest_file
from detflow.types import Box, ImageSize, ObjectAnnotation, Sample

__all__ = [
    "FORMAT_VERSION",
    "INDEX_NAME",
    "LABEL_MAP_NAME",
    "LEDGER_NAME",
    "MANIFEST_NAME",
    "REPORT_NAME",
    "ObjectColumns",
    "RecordsManifest",
    "ShardInfo",
    "SplitInfo",
    "compute_fingerprint",
    "decode_sample",
    "encode_record",
    "encode_sample",
    "read_manifest",
    "read_memberships",
    "read_samples",
    "resolve_split",
    "round_to_record",
    "to_class_ids",
    "to_record_box",
    "verify_shards",
]

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
LABEL_MAP_NAME = "label_map.pbtxt"
LEDGER_NAME = "ledger.jsonl"
REPORT_NAME = "report.html"
INDEX_NAME = "index.jsonl"

_BOX_FEATURES = (
    "image/object/bbox/ymin",
    "image/object/bbox/xmin",
    "image/object/bbox/ymax",
    "image/object/bbox/xmax",
)


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
        fingerprint: SHA-256 over the label map and the shards: changes if and only if the training
            data do.
    """

    label_map: LabelMap
    splits: Mapping[str, SplitInfo]
    unions: Mapping[str, tuple[str, ...]]
    fingerprint: str


class ObjectColumns(NamedTuple):
    """An image's objects as a record has them: a column for each property, all equally long.

    Attributes:
        names: The class names.
        boxes_yxyx: ymin, xmin, ymax, xmax of each, normalised and rounded to float32 (see
            `round_to_record`).
        difficult: 0 or 1.
        truncated: 0 or 1.
        poses: VOC's free text.
    """

    names: Sequence[str]
    boxes_yxyx: Sequence[tuple[float, float, float, float]]
    difficult: Sequence[int]
    truncated: Sequence[int]
    poses: Sequence[str]

    @classmethod
    def of(cls, objects: Sequence[ObjectAnnotation]) -> ObjectColumns:
        """Returns the columns of objects.

        Raises:
            ValueError: A box is not rounded to float32.
        """
        boxes = [(one.box.ymin, one.box.xmin, one.box.ymax, one.box.xmax) for one in objects]
        for box, rounded in zip(boxes, round_to_record(boxes), strict=True):
            if box != rounded:
                raise ValueError(f"box {box} is not rounded to float32")
        return cls(
            names=[one.name for one in objects],
            boxes_yxyx=boxes,
            difficult=[int(one.difficult) for one in objects],
            truncated=[int(one.truncated) for one in objects],
            poses=[one.pose for one in objects],
        )

    def to_objects(self) -> tuple[ObjectAnnotation, ...]:
        """Returns the objects."""
        return tuple(
            ObjectAnnotation(name, Box(*box), bool(difficult), bool(truncated), pose)
            for name, box, difficult, truncated, pose in zip(*self, strict=True)
        )


def round_to_record(
    boxes: Sequence[tuple[float, float, float, float]],
) -> list[tuple[float, float, float, float]]:
    """Rounds numbers to float32, as tf.Example stores them, so that what is read back is what was written."""
    floats = iter(array("f", chain.from_iterable(boxes)))
    return list(zip(floats, floats, floats, floats, strict=True))


def to_record_box(box: Box) -> Box:
    """Rounds a box (see `round_to_record`).

    Raises:
        ValueError: Rounding leaves no area.
    """
    return Box(*round_to_record([(box.ymin, box.xmin, box.ymax, box.xmax)])[0])


def encode_sample(sample: Sample, label_map: LabelMap) -> bytes:
    """Returns a sample as a tf.Example with the TF Object Detection API's fields.

    Raises:
        ValueError: A box is not rounded to float32 (see `to_record_box`).
        KeyError: A class is not in the label map.
    """
    return encode_record(
        key=sample.key,
        source_id=sample.source_id,
        filename=sample.filename,
        size=sample.size,
        encoded=sample.encoded,
        encoded_sha256=hashlib.sha256(sample.encoded).hexdigest(),
        columns=ObjectColumns.of(sample.objects),
        class_ids=to_class_ids(label_map),
    )


def encode_record(
    *,
    key: str,
    source_id: int,
    filename: str,
    size: ImageSize,
    encoded: bytes,
    encoded_sha256: str,
    columns: ObjectColumns,
    class_ids: Mapping[str, int],
) -> bytes:
    """Returns what `encode_sample` returns, from a sample's parts: for those who have the columns and the digest already.

    Args:
        key: As `Sample` has it, like the next four.
        source_id: See there.
        filename: See there.
        size: See there.
        encoded: See there.
        encoded_sha256: Of `encoded`, hexadecimal.
        columns: The objects.
        class_ids: 1-based, by name.

    Raises:
        KeyError: A class has no id.
    """
    names, boxes, difficult, truncated, poses = columns
    ymin, xmin, ymax, xmax = zip(*boxes, strict=True) if boxes else ((), (), (), ())
    # In square pixels, as COCO's annotations have it.
    areas = [
        (bottom - top) * (right - left) * size.num_pixels for top, left, bottom, right in boxes
    ]
    features: dict[str, tuple[type, Feature]] = {
        "image/encoded": (bytes, (encoded,)),
        "image/format": (bytes, (b"jpeg",)),
        "image/height": (int, (size.height,)),
        "image/width": (int, (size.width,)),
        "image/filename": (bytes, (_to_bytes(filename),)),
        "image/source_id": (bytes, (b"%d" % source_id,)),
        "image/key": (bytes, (_to_bytes(key),)),
        "image/key/sha256": (bytes, (encoded_sha256.encode(),)),
        "image/object/bbox/ymin": (float, ymin),
        "image/object/bbox/xmin": (float, xmin),
        "image/object/bbox/ymax": (float, ymax),
        "image/object/bbox/xmax": (float, xmax),
        "image/object/class/text": (bytes, [_to_bytes(name) for name in names]),
        "image/object/class/label": (int, [class_ids[name] for name in names]),
        "image/object/difficult": (int, difficult),
        "image/object/truncated": (int, truncated),
        "image/object/view": (bytes, [_to_bytes(pose) for pose in poses]),
        "image/object/is_crowd": (int, (0,) * len(names)),
        "image/object/area": (float, areas),
    }
    return encode_example(features)


def to_class_ids(label_map: LabelMap) -> dict[str, int]:
    """Returns the 1-based ids by name."""
    return {name: class_id for class_id, name in enumerate(label_map, start=1)}


def decode_sample(data: bytes, label_map: LabelMap) -> Sample:
    """Reads `encode_sample`'s bytes.

    Raises:
        ValueError: They are not a sample, or do not agree with the label map.
    """
    features: dict[str, Any] = dict(decode_example(data))
    try:
        names = [_to_text(text) for text in features["image/object/class/text"]]
        # tuple.index would look at every class for every object; the ids say where to look.
        if [
            label_map.name_of(class_id) for class_id in features["image/object/class/label"]
        ] != names:
            raise ValueError("class names and ids do not agree with the label map")
        columns = (
            names,
            list(zip(*(features[name] for name in _BOX_FEATURES), strict=True)),
            features["image/object/difficult"],
            features["image/object/truncated"],
            features["image/object/view"],
        )
        objects = tuple(
            ObjectAnnotation(
                name,
                Box(*box),
                difficult=bool(difficult),
                truncated=bool(truncated),
                pose=_to_text(view),
            )
            for name, box, difficult, truncated, view in zip(*columns, strict=True)
        )
        (encoded,), (height,), (width,) = (
            features["image/encoded"],
            features["image/height"],
            features["image/width"],
        )
        (key,), (filename,), (source_id,) = (
            features["image/key"],
            features["image/filename"],
            features["image/source_id"],
        )
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
        raise ArtifactError(
            f"the manifest is damaged: {type(error).__name__} {error}", path=path, remedy=_REMAKE
        ) from None
    if fingerprint != compute_fingerprint(label_map, splits):
        raise ArtifactError(
            "the fingerprint does not fit the manifest's classes and shards",
            path=path,
            remedy=_REMAKE,
        )
    label_map_path = records_dir / LABEL_MAP_NAME
    try:
        written = LabelMap.from_pbtxt(
            label_map_path.read_text(encoding="utf-8"), path=label_map_path
        )
    except (FileNotFoundError, UnicodeDecodeError, DataError) as error:
        raise ArtifactError(
            f"the label map cannot be read: {error}", path=label_map_path, remedy=_REMAKE
        ) from None
    if written != label_map:
        raise ArtifactError(
            "the label map and the manifest have different classes",
            path=label_map_path,
            remedy=_REMAKE,
        )
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
        raise ArtifactError(
            f"the index cannot be read: {error}", path=path, remedy=_REMAKE
        ) from None
    if len(entries) != sum(split.images for split in manifest.splits.values()):
        raise ArtifactError(
            "the index and the manifest have different numbers of samples",
            path=path,
            remedy=_REMAKE,
        )
    return memberships


def resolve_split(manifest: RecordsManifest, name: str) -> tuple[str, ...]:
    """Returns the splits that a name stands for.

    Args:
        manifest: Of the records.
        name: A split, a union that the dataset declares ("trainval"), or splits joined by "+"
            ("train+val").

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
    raise ConfigError(
        f"there is no split {name!r}", remedy=f"{hint}the records have {', '.join(known)}"
    )


def verify_shards(records_dir: Path, manifest: RecordsManifest, splits: Sequence[str]) -> None:
    """Compares shards with the manifest, byte for byte.

    Args:
        records_dir: Where they are.
        manifest: Its manifest.
        splits: Names of splits, as `resolve_split` takes them.

    Raises:
        ArtifactError: A shard is missing or differs; for a damaged record with its number, offset
            and image.
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
                    raise ArtifactError(
                        str(error), path=path, place=f"record {count}", remedy=_REMAKE
                    ) from None
                count += 1
            if count != shard.records:
                raise ArtifactError(
                    f"the shard has {count} records, its manifest says {shard.records}",
                    path=path,
                    remedy=_REMAKE,
                )


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
        raise ArtifactError(
            f"{error.cause}{about}", path=path, place=error.place, remedy=_REMAKE
        ) from None
    if number != shard.records:
        cause = f"the shard has {number} records in {digest['bytes']:,} bytes; its manifest says {shard.records} in {shard.bytes:,}"
        raise ArtifactError(cause, path=path, remedy=_REMAKE)
    raise ArtifactError(
        "the shard is not the one that its manifest describes: its SHA-256 differs",
        path=path,
        remedy=_REMAKE,
    )


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


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(
            "this is no records directory: the manifest is missing", path=path, remedy=_REMAKE
        ) from None
    except ValueError as error:
        raise ArtifactError(
            f"the manifest is damaged: {error}", path=path, remedy=_REMAKE
        ) from None


def _to_bytes(text: str) -> bytes:
    # Names of files need not be UTF-8; Python carries such bytes as lone surrogates.
    return text.encode("utf-8", "surrogateescape")


def _to_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
