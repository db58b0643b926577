"""Judges TFRecord sets, whoever wrote them: framing, fields, boxes, classes, images, names, and who could read them.

A set is one file, or a folder of them with what may lie beside: a label map, and detflow's
manifest. Nothing stops at the first fault; a record with a damaged payload is named and the next
one read.

What other readers need was read in their code: Model Garden's
`official/vision/dataloaders/tf_example_decoder.py` (2.20) and the TF Object Detection API's
`object_detection/data_decoders/tf_example_decoder.py`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from detflow.data.images.decode import ImageFault, read_image_facts
from detflow.data.records.example import Feature, decode_typed_example
from detflow.data.records.schema import (
    LABEL_MAP_NAME,
    MANIFEST_NAME,
    RecordsManifest,
    ShardInfo,
    decode_sample,
    read_manifest,
)
from detflow.data.records.tfrecord import ScannedRecord, scan_records
from detflow.data.workers.processes import OrderedMap
from detflow.errors import ArtifactError, DataError
from detflow.label_map import LabelMap
from detflow.publish import digest_file

__all__ = [
    "CHECKS",
    "CONSUMERS",
    "Check",
    "Issue",
    "LintReport",
    "RecordFacts",
    "Severity",
    "SplitCounts",
    "find_record_files",
    "judge_record",
    "lint_records",
]

MODEL_GARDEN, OD_API, DETFLOW = CONSUMERS = ("Model Garden", "TF OD API", "detflow")
"""Who reads TFRecord sets of detection data."""


class Severity(str, Enum):
    """How bad an issue is."""

    ERROR = "error"
    """Something is damaged, or a label is wrong."""

    WARNING = "warning"
    """The data are sound, yet some reader takes them otherwise or not at all."""


@dataclass(frozen=True, slots=True)
class Check:
    """One kind of issue.

    Attributes:
        severity: How bad it is.
        meaning: What is wrong, as a clause.
        remedy: What the user can do.
        blocks: The consumers that cannot use such a set.
    """

    severity: Severity
    meaning: str
    remedy: str
    blocks: tuple[str, ...] = CONSUMERS


_ERROR, _WARNING = Severity.ERROR, Severity.WARNING
_REWRITE = "write the set again from its source"

CHECKS: dict[str, Check] = {
    # Files
    "compressed": Check(
        _ERROR, "the file is compressed, which no reader expects unasked", "unpack it"
    ),
    "framing_damaged": Check(_ERROR, "what follows in the file cannot be read", _REWRITE),
    "data_damaged": Check(_ERROR, "the record's checksum is wrong", _REWRITE),
    "file_empty": Check(_WARNING, "the file has no records", "remove it, or write it again", ()),
    "shard_missing": Check(
        _ERROR, "the file's name promises more shards than are there", "bring the missing shards"
    ),
    "manifest_damaged": Check(
        _ERROR, "the manifest cannot be used", "run detflow make-records again", (DETFLOW,)
    ),
    "manifest_disagrees": Check(
        _ERROR,
        "the file is not as the manifest describes it",
        "run detflow make-records again",
        (DETFLOW,),
    ),
    "label_map_damaged": Check(
        _ERROR, "the label map cannot be read", "correct it", (OD_API, DETFLOW)
    ),
    # Records
    "sample_refused": Check(
        _ERROR, "detflow cannot read the record", "run detflow make-records again", (DETFLOW,)
    ),
    "not_an_example": Check(_ERROR, "the record is no tf.Example with features", _REWRITE),
    "field_missing": Check(_ERROR, "a field that every reader needs is missing", _REWRITE),
    "field_recommended": Check(_WARNING, "a field that some reader needs is missing", _REWRITE, ()),
    "field_type": Check(_ERROR, "a field has another type than readers declare", _REWRITE),
    "field_count": Check(_ERROR, "a field does not have exactly one value", _REWRITE),
    "lengths_differ": Check(_ERROR, "the lists of the objects' fields differ in length", _REWRITE),
    # Boxes
    "box_not_finite": Check(
        _ERROR,
        "a box corner is not a finite number",
        "correct the annotation; the loss becomes NaN",
    ),
    "box_not_normalised": Check(
        _ERROR, "a box is in pixels", "divide x by the width and y by the height"
    ),
    "box_outside": Check(_WARNING, "a box reaches out of the image", "clip it to 0…1", (DETFLOW,)),
    "box_inverted": Check(
        _ERROR,
        "a box minimum is greater than its maximum",
        "correct the annotation; the loss becomes NaN",
    ),
    "box_zero_area": Check(
        _ERROR, "a box has no area", "remove the object; the loss can become NaN"
    ),
    # Classes
    "class_id_not_positive": Check(
        _ERROR, "a class id is below 1; 0 means background", "count classes from 1"
    ),
    "class_id_unknown": Check(
        _ERROR, "a class id is not in the label map", "bring the label map that belongs to the set"
    ),
    "class_conflict": Check(
        _ERROR, "class name and id do not agree", "write names and ids from one label map"
    ),
    # Images
    "image_undecodable": Check(
        _ERROR, "the image cannot be decoded completely", "replace the image"
    ),
    "image_format": Check(
        _WARNING,
        "not every reader decodes this format alike",
        "transcode to JPEG",
        (MODEL_GARDEN, OD_API),
    ),
    "format_field": Check(
        _WARNING, "image/format does not name the image's format", "write jpeg or png", ()
    ),
    "size_wrong": Check(_ERROR, "image/width and image/height are not the image's", _REWRITE),
    "exif_orientation": Check(
        _WARNING,
        "EXIF asks for a turn; some decoders follow it and some do not",
        "turn the pixels",
        (),
    ),
    "sha256_wrong": Check(_ERROR, "image/key/sha256 is not the image's", _REWRITE, ()),
    "no_objects": Check(
        _WARNING, "no record has an object", "look whether the labels were lost", ()
    ),
    # Names
    "source_id_not_numeric": Check(
        _WARNING,
        "image/source_id is not a number; evaluation parses it as one",
        "number the images",
        (MODEL_GARDEN,),
    ),
    "source_id_twice": Check(
        _WARNING,
        "two images have one image/source_id; evaluation takes them for one",
        "number the images",
        (MODEL_GARDEN,),
    ),
    "image_twice": Check(_WARNING, "the same image stands twice in a split", "remove one", ()),
    "image_in_two_splits": Check(
        _ERROR,
        "the same image is in two splits, so a score on the second one lies",
        "remove one",
        (),
    ),
}


@dataclass(frozen=True, slots=True)
class _Field:
    """A field as readers declare it: its type, whether it has one value an object, and who cannot do without."""

    kind: type
    per_object: bool
    needed_by: tuple[str, ...]
    recommended: bool = False


_BOX_FIELDS = tuple(f"image/object/bbox/{side}" for side in ("ymin", "xmin", "ymax", "xmax"))
_LABEL, _TEXT = "image/object/class/label", "image/object/class/text"
_FIELDS: dict[str, _Field] = {
    "image/encoded": _Field(bytes, False, CONSUMERS),
    **dict.fromkeys(_BOX_FIELDS, _Field(float, True, CONSUMERS)),
    _LABEL: _Field(int, True, CONSUMERS),
    _TEXT: _Field(bytes, True, (DETFLOW,), recommended=True),
    "image/height": _Field(int, False, (DETFLOW,), recommended=True),
    "image/width": _Field(int, False, (DETFLOW,), recommended=True),
    "image/source_id": _Field(bytes, False, (MODEL_GARDEN, DETFLOW), recommended=True),
    "image/filename": _Field(bytes, False, (DETFLOW,), recommended=True),
    "image/format": _Field(bytes, False, ()),
    "image/key": _Field(bytes, False, (DETFLOW,)),
    "image/key/sha256": _Field(bytes, False, ()),
    "image/object/difficult": _Field(int, True, (DETFLOW,)),
    "image/object/truncated": _Field(int, True, (DETFLOW,)),
    "image/object/view": _Field(bytes, True, (DETFLOW,)),
    "image/object/is_crowd": _Field(int, True, ()),
    "image/object/area": _Field(float, True, ()),
}
_KIND_NAMES = {bytes: "bytes", float: "float", int: "int64"}
# What tf.io.decode_image turns into [height, width, 3]; it makes four dimensions of a GIF or WebP,
# and refuses a TIFF.
_COMMON_FORMATS = frozenset({"jpeg", "png", "bmp"})
_FORMAT_NAMES = {
    "jpeg": {"jpeg", "jpg"},
    "png": {"png"},
    "bmp": {"bmp"},
    "gif": {"gif"},
    "webp": {"webp"},
    "tiff": {"tiff", "tif"},
}
# The OD API's box_list_ops.to_absolute_coordinates asserts this bound.
_MAX_NORMALISED = 1.1
_SHARD_NAME = re.compile(
    r"(?P<head>.+?)-(?P<index>\d{5})-of-(?P<count>\d{5})(?P<tail>\.[A-Za-z]+)?"
)
_RECORD_NAME = re.compile(
    r".+\.(tfrecords?|record|records|tfrec)(-\d{5}-of-\d{5})?(\.gz)?", re.IGNORECASE
)
_MAX_EXAMPLES = 20
_MAX_LINES = 3
_MAX_CLASSES = 12
_CHUNK = 16


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing that is wrong.

    Attributes:
        code: A key of `CHECKS`.
        file: The file's name.
        record: Number of the record in it, from 0.
        offset: Its first byte in the file.
        image: The record's own name for its image.
        object_index: Which object of the record, from 1.
        value: What is there.
        expected: What should be.
    """

    code: str
    file: str
    record: int | None = None
    offset: int | None = None
    image: str = ""
    object_index: int | None = None
    value: str = ""
    expected: str = ""

    def where(self) -> str:
        """One line: file, record, image, object, value, expectation."""
        place = (
            self.file
            if self.record is None
            else f"{self.file}: record {self.record} at byte {self.offset:,}"
        )
        image = f" ({self.image})" if self.image else ""
        subject = "" if self.object_index is None else f", object {self.object_index}"
        value = f": {self.value}" if self.value else ""
        expected = f", expected {self.expected}" if self.expected else ""
        return _one_line(f"{place}{image}{subject}{value}{expected}")


@dataclass(slots=True)
class SplitCounts:
    """What a split holds: files, images, images without objects, objects, and objects of each class by name."""

    files: int = 0
    images: int = 0
    negatives: int = 0
    objects: int = 0
    objects_per_class: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class LintReport:
    """What a lint found.

    Attributes:
        path: The file or folder.
        has_manifest: Whether detflow's manifest is there.
        label_map: The classes, where a label map is there and can be read.
        splits: What each holds, by name.
        field_records: In how many records each field is.
        counts: Issues by code.
        examples: The first issues of each code.
        blocked: For each consumer, why it cannot use the set; empty where it can.
    """

    path: Path
    has_manifest: bool = False
    label_map: LabelMap | None = None
    splits: dict[str, SplitCounts] = field(default_factory=dict)
    field_records: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Issue]] = field(default_factory=dict)
    blocked: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in CONSUMERS})

    @property
    def num_images(self) -> int:
        """Records that could be read."""
        return sum(split.images for split in self.splits.values())

    def count(self, severity: Severity) -> int:
        """Returns the number of issues of a severity."""
        return sum(
            number for code, number in self.counts.items() if CHECKS[code].severity is severity
        )

    def add(self, issue: Issue) -> None:
        """Counts an issue and keeps it as an example while there are few."""
        self.counts[issue.code] += 1
        examples = self.examples.setdefault(issue.code, [])
        if len(examples) < _MAX_EXAMPLES:
            examples.append(issue)

    def to_json(self) -> dict[str, Any]:
        """Returns the report as what `json.dumps` takes."""
        return {
            "path": str(self.path),
            "manifest": self.has_manifest,
            "classes": list(self.label_map) if self.label_map else None,
            "images": self.num_images,
            "splits": {
                name: {
                    "files": split.files,
                    "images": split.images,
                    "negatives": split.negatives,
                    "objects": split.objects,
                    "objects_per_class": dict(sorted(split.objects_per_class.items())),
                }
                for name, split in self.splits.items()
            },
            "fields": dict(sorted(self.field_records.items())),
            "errors": self.count(Severity.ERROR),
            "warnings": self.count(Severity.WARNING),
            "issues": {
                code: {
                    "severity": CHECKS[code].severity.value,
                    "count": number,
                    "meaning": CHECKS[code].meaning,
                    "remedy": CHECKS[code].remedy,
                    "examples": [_issue_to_json(issue) for issue in self.examples[code]],
                }
                for code, number in sorted(self.counts.items())
            },
            "readable_by": {
                name: {"yes": not reasons, "reasons": reasons}
                for name, reasons in self.blocked.items()
            },
        }

    def to_text(self) -> str:
        """Returns the report as lines for a terminal."""
        total = sum(split.objects for split in self.splits.values())
        negatives = sum(split.negatives for split in self.splits.values())
        lines = [
            f"records       {self.num_images:,} images, {total:,} objects, {negatives:,} images without objects"
        ]
        for name, split in self.splits.items():
            files = "1 file" if split.files == 1 else f"{split.files} files"
            lines.append(
                f"split         {name}: {split.images:,} images, {split.objects:,} objects, {files}"
            )
        per_class = sum((split.objects_per_class for split in self.splits.values()), Counter[str]())
        shown = [
            f"{_one_line(name)} {number:,}" for name, number in per_class.most_common(_MAX_CLASSES)
        ]
        more = (
            f", and {len(per_class) - _MAX_CLASSES:,} more" if len(per_class) > _MAX_CLASSES else ""
        )
        lines.append(f"classes       {', '.join(shown) or 'none'}{more}")
        agreed = (
            "none beside the files" if self.label_map is None else f"{len(self.label_map)} classes"
        )
        lines.append(f"label map     {agreed}")
        for severity in (Severity.ERROR, Severity.WARNING):
            codes = [code for code in sorted(self.counts) if CHECKS[code].severity is severity]
            if not codes:
                lines.append(f"{severity.value + 's':13} none")
            for code in codes:
                lines.append(
                    f"{severity.value:13} {self.counts[code]:,} × {code}: {CHECKS[code].meaning}; {CHECKS[code].remedy}"
                )
                lines += [
                    f"              {issue.where()}" for issue in self.examples[code][:_MAX_LINES]
                ]
                if self.counts[code] > _MAX_LINES:
                    lines.append(f"              … and {self.counts[code] - _MAX_LINES:,} more")
        for name, reasons in self.blocked.items():
            lines.append(f"{name:13} {'no: ' + '; '.join(reasons) if reasons else 'can read it'}")
        return "\n".join(lines)


def _one_line(text: str) -> str:
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def _issue_to_json(issue: Issue) -> dict[str, Any]:
    values = {name: getattr(issue, name) for name in Issue.__slots__ if name != "code"}
    return {name: value for name, value in values.items() if value not in (None, "")}


def find_record_files(path: Path) -> list[Path]:
    """Returns the TFRecord files that a path means: itself, by name or content, or those in the folder, by name; sorted."""
    if path.is_file():
        return [path] if _is_record_name(path.name) or _begins_with_a_record(path) else []
    if not path.is_dir():
        return []
    return sorted(
        entry for entry in path.iterdir() if _is_record_name(entry.name) and entry.is_file()
    )


def _is_record_name(name: str) -> bool:
    if name.startswith("."):
        return False
    shard = _SHARD_NAME.fullmatch(name)
    return bool(_RECORD_NAME.fullmatch(name)) or (shard is not None and shard["tail"] is None)


def _begins_with_a_record(path: Path) -> bool:
    first = next(scan_records(path), None)
    return first is not None and first.fault is None


def lint_records(
    path: Path, workers: OrderedMap, progress: Callable[[str, int, int], None]
) -> LintReport:
    """Judges a TFRecord set.

    Args:
        path: One file, or a folder.
        workers: Where to run.
        progress: Told what is being done, how many bytes of it are done, and how many there are.

    Raises:
        DataError: There is no TFRecord file.
    """
    files = find_record_files(path)
    folder = path if path.is_dir() else path.parent
    if not files and not (folder / MANIFEST_NAME).is_file():
        raise DataError(
            "there is no TFRecord file",
            path=path,
            remedy="name a file or the folder that holds them",
        )
    report = LintReport(path)
    manifest = _read_manifest(path, files, report)
    report.label_map = manifest.label_map if manifest else _read_label_map(folder, report)
    declared = (
        {
            shard.name: (name, shard)
            for name, split in manifest.splits.items()
            for shard in split.shards
        }
        if manifest
        else {}
    )
    for name in declared.keys() - {file.name for file in files} if path.is_dir() else ():
        report.add(Issue("manifest_disagrees", name, value="the file is missing"))
    seen = _Seen(report.label_map)
    total, done = sum(file.stat().st_size for file in files), 0
    for file in files:
        split_name, shard = declared.get(file.name, (_split_name(file.name), None))
        split = report.splits.setdefault(split_name, SplitCounts())
        split.files += 1
        for end in _lint_file(file, split_name, split, shard, report, seen, workers):
            progress("checking records", done + end, total)
        done += file.stat().st_size
    _find_missing_shards(files, report)
    _compare_totals(manifest, report)
    if report.num_images and not any(split.objects for split in report.splits.values()):
        report.add(Issue("no_objects", path.name))
    _judge_consumers(report)
    return report


# --- Around the records ---------------------------------------------------------------------------


def _read_manifest(path: Path, files: Sequence[Path], report: LintReport) -> RecordsManifest | None:
    folder = path if path.is_dir() else path.parent
    if not (folder / MANIFEST_NAME).is_file():
        return None
    try:
        manifest = read_manifest(folder)
    except ArtifactError as error:
        if path.is_dir():
            report.has_manifest = True
            report.add(Issue("manifest_damaged", MANIFEST_NAME, value=str(error.cause)))
        return None
    shards = {shard.name for split in manifest.splits.values() for shard in split.shards}
    if path.is_file() and path.name not in shards:
        return None
    report.has_manifest = True
    for file in files:
        if file.name not in shards:
            report.add(
                Issue("manifest_disagrees", file.name, value="the manifest does not list the file")
            )
    return manifest


def _read_label_map(folder: Path, report: LintReport) -> LabelMap | None:
    named = folder / LABEL_MAP_NAME
    candidates = [named] if named.is_file() else sorted(folder.glob("*.pbtxt"))
    if len(candidates) != 1:
        return None
    try:
        return LabelMap.from_pbtxt(candidates[0].read_text(encoding="utf-8"))
    except (DataError, UnicodeDecodeError) as error:
        report.add(Issue("label_map_damaged", candidates[0].name, value=str(error)))
        return None


def _split_name(file_name: str) -> str:
    """What a foreign file's name says of its split: `coco_train.record-00000-of-00010` and `train-00000-of-00002.tfrecord`."""
    match = _SHARD_NAME.fullmatch(file_name.removesuffix(".gz"))
    head = match["head"] if match else file_name.removesuffix(".gz")
    return re.sub(r"\.(tfrecords?|records?|tfrec)$", "", head, flags=re.IGNORECASE)


def _find_missing_shards(files: Sequence[Path], report: LintReport) -> None:
    sets: defaultdict[tuple[str, str, str], set[int]] = defaultdict(set)
    for file in files:
        if match := _SHARD_NAME.fullmatch(file.name):
            sets[match["head"], match["count"], match["tail"] or ""].add(int(match["index"]))
    if report.path.is_file():
        return
    for (head, count, tail), indices in sets.items():
        missing = sorted(set(range(min(int(count), len(indices) + _MAX_EXAMPLES))) - indices)
        for index in missing:
            report.add(Issue("shard_missing", f"{head}-{index:05d}-of-{count}{tail}"))


def _compare_totals(manifest: RecordsManifest | None, report: LintReport) -> None:
    if (
        manifest is None
        or report.path.is_file()
        or report.counts["framing_damaged"] + report.counts["data_damaged"]
    ):
        return
    for name, split in manifest.splits.items():
        found = report.splits.get(name, SplitCounts())
        per_class = {
            class_name: number for class_name, number in split.objects_per_class.items() if number
        }
        if (split.images, split.objects, per_class) != (
            found.images,
            found.objects,
            dict(found.objects_per_class),
        ):
            value = f"split {name}: {found.images} images and {found.objects} objects"
            expected = f"{split.images} and {split.objects}, and the same of each class"
            report.add(Issue("manifest_disagrees", MANIFEST_NAME, value=value, expected=expected))


def _judge_consumers(report: LintReport) -> None:
    if not report.has_manifest:
        report.blocked[DETFLOW].append(
            f"there is no {MANIFEST_NAME}; detflow reads what make-records writes"
        )
    for name, wanted in _FIELDS.items():
        lacking = report.num_images - report.field_records[name]
        for consumer in wanted.needed_by if lacking else ():
            # Without a manifest it cannot be ours, whatever the fields are.
            if consumer != DETFLOW or report.has_manifest:
                report.blocked[consumer].append(
                    f"{name} is missing in {lacking:,} of {report.num_images:,} records"
                )
    for code in sorted(report.counts):
        for consumer in CHECKS[code].blocks:
            # Missing fields stand above by name.
            if code != "field_missing" and (consumer != DETFLOW or report.has_manifest):
                report.blocked[consumer].append(
                    f"{CHECKS[code].meaning} ({report.counts[code]:,}×)"
                )


# --- One file -------------------------------------------------------------------------------------


class _Seen:
    """What must be compared across records: source ids, images, and the names and ids of classes."""

    def __init__(self, label_map: LabelMap | None) -> None:
        self.label_map = label_map
        self.source_ids: dict[bytes, str] = {}
        self.images: dict[bytes, tuple[str, str]] = {}
        self.ids: dict[str, int] = {}
        self.names: dict[int, str] = {}

    def judge_class(self, class_id: int, name: str | None) -> tuple[str, str, str] | None:
        """Returns (code, value, expected) where id and name do not fit the label map, or what was read so far."""
        if class_id < 1:
            return "class_id_not_positive", f"{class_id}", ""
        value = f"id {class_id}" if name is None else f"id {class_id}, name {name!r}"
        if self.label_map is not None:
            known = self.label_map.find_name(class_id)
            if known is None:
                return "class_id_unknown", value, f"1 to {max(self.label_map.ids, default=0)}"
            expected = known
        elif name is None:
            return None
        else:
            expected = self.names.setdefault(class_id, name)
            if self.ids.setdefault(name, class_id) != class_id:
                return "class_conflict", value, f"id {self.ids[name]} as before"
        return (
            ("class_conflict", value, f"name {expected!r}")
            if name not in (None, expected)
            else None
        )


def _lint_file(
    file: Path,
    split_name: str,
    split: SplitCounts,
    shard: ShardInfo | None,
    report: LintReport,
    seen: _Seen,
    workers: OrderedMap,
) -> Iterator[int]:
    """Judges a file; yields the offset of each record that is done."""
    with open(file, "rb") as stream:
        head = stream.read(4)
    if head.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh")):
        report.add(Issue("compressed", file.name))
        return
    number = damaged = 0
    judge = partial(judge_record, file.name, report.label_map if shard is not None else None)
    for facts in workers(judge, scan_records(file), chunk=_CHUNK):
        damaged += not facts.fields
        number += 1
        _add_record(facts, file.name, split_name, split, report, seen)
        yield facts.offset
    if not number:
        report.add(Issue("file_empty", file.name))
    if shard is not None:
        _compare_shard(file, shard, number, damaged, report)


def _compare_shard(
    file: Path, shard: ShardInfo, number: int, damaged: int, report: LintReport
) -> None:
    digest = digest_file(file)
    if number != shard.records:
        report.add(
            Issue(
                "manifest_disagrees",
                file.name,
                value=f"{number} records",
                expected=f"{shard.records}",
            )
        )
    elif not damaged and (digest["bytes"], digest["sha256"]) != (shard.bytes, shard.sha256):
        report.add(Issue("manifest_disagrees", file.name, value="its SHA-256 differs"))


def _add_record(
    facts: RecordFacts,
    file: str,
    split_name: str,
    split: SplitCounts,
    report: LintReport,
    seen: _Seen,
) -> None:
    for issue in facts.issues:
        report.add(issue)
    if not facts.fields:
        return
    place = f"{file}: record {facts.number}"

    def add(code: str, value: str, expected: str = "", object_index: int | None = None) -> None:
        report.add(
            Issue(
                code, file, facts.number, facts.offset, facts.image, object_index, value, expected
            )
        )

    split.images += 1
    split.negatives += not facts.num_objects
    split.objects += facts.num_objects
    report.field_records.update(facts.fields)
    for index, (class_id, name) in enumerate(facts.classes, start=1):
        if (wrong := seen.judge_class(class_id, name)) is not None:
            add(*wrong, object_index=index)
        split.objects_per_class[_class_name(class_id, name, seen.label_map)] += 1
    if facts.source_id:
        first = seen.source_ids.setdefault(facts.source_id, place)
        if first != place:
            add("source_id_twice", f"{_printable(facts.source_id)}, also in {first}")
    if facts.image_digest:
        first_split, first = seen.images.setdefault(facts.image_digest, (split_name, place))
        if first_split != split_name:
            add("image_in_two_splits", f"{split_name}; {first_split} has it in {first}")
        elif first != place:
            add("image_twice", f"also in {first}")


def _class_name(class_id: int, name: str | None, label_map: LabelMap | None) -> str:
    if name is not None:
        return name
    return (label_map and label_map.find_name(class_id)) or f"id {class_id}"


# --- One record -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """What `judge_record` hands back.

    Attributes:
        number: Of the record in its file, from 0.
        offset: Its first byte.
        issues: What is wrong with the record alone.
        fields: The names of its fields; empty where it could not be read.
        image: Its own name for the image.
        num_objects: How many objects it has.
        classes: (id, name) of each object that has an id; the name is None where the record has
            none.
        source_id: As written; empty where there is none.
        image_digest: Of the encoded image; empty where there is none.
    """

    number: int
    offset: int
    issues: tuple[Issue, ...]
    fields: frozenset[str] = frozenset()
    image: str = ""
    num_objects: int = 0
    classes: tuple[tuple[int, str | None], ...] = ()
    source_id: bytes = b""
    image_digest: bytes = b""


_Typed = Mapping[str, tuple["type | None", Feature]]


def judge_record(file: str, label_map: LabelMap | None, record: ScannedRecord) -> RecordFacts:
    """Judges one record by itself.

    Args:
        file: The file's name, for issues.
        label_map: Of detflow's manifest, where the record stands under one: then it must be a
            sample of ours.
        record: As scanned.
    """
    place = partial(Issue, file=file, record=record.number, offset=record.offset)
    if record.fault is not None:
        code = "data_damaged" if record.goes_on else "framing_damaged"
        return RecordFacts(record.number, record.offset, (place(code, value=record.fault),))
    try:
        features = decode_typed_example(record.data)
    except ValueError as error:
        return RecordFacts(
            record.number, record.offset, (place("not_an_example", value=str(error)),)
        )
    if not features:
        return RecordFacts(
            record.number, record.offset, (place("not_an_example", value="it has no fields"),)
        )
    image = _printable(
        _first_bytes(features, "image/filename") or _first_bytes(features, "image/source_id")
    )
    place = partial(place, image=image)
    sound, issues = _judge_fields(features, place)
    issues += _judge_boxes(sound, place)
    encoded = _first_bytes(sound, "image/encoded")
    if encoded:
        issues += _judge_image(encoded, sound, place)
    source_id = _first_bytes(sound, "image/source_id")
    if source_id and not re.fullmatch(rb"[0-9]{1,18}", source_id):
        issues.append(place("source_id_not_numeric", value=_printable(source_id)))
    if label_map is not None:
        try:
            decode_sample(record.data, label_map)
        except ValueError as error:
            issues.append(place("sample_refused", value=str(error)))
    labels: Sequence[Any] = sound[_LABEL][1] if _LABEL in sound else ()
    texts: Sequence[Any] = sound[_TEXT][1] if _TEXT in sound else ()
    names = [_printable(text) for text in texts] if texts else [None] * len(labels)
    return RecordFacts(
        number=record.number,
        offset=record.offset,
        issues=tuple(issues),
        fields=frozenset(sound),
        image=image,
        num_objects=_count_objects(features),
        classes=tuple(zip(labels, names, strict=False)),
        source_id=source_id,
        image_digest=hashlib.sha256(encoded).digest()[:16] if encoded else b"",
    )


def _first_bytes(features: _Typed, name: str) -> bytes:
    values = features[name][1] if name in features else ()
    return values[0] if values and isinstance(values[0], bytes) else b""


def _printable(data: bytes) -> str:
    return data[:200].decode("utf-8", "backslashreplace")


def _count_objects(features: _Typed) -> int:
    return max(
        (len(features[name][1]) for name in (*_BOX_FIELDS, _LABEL, _TEXT) if name in features),
        default=0,
    )


def _judge_fields(
    features: _Typed, place: Callable[..., Issue]
) -> tuple[dict[str, tuple[type | None, Feature]], list[Issue]]:
    """Returns the fields that are there and have the right type and length, and what is wrong with the others.

    A list of an object's field may be absent, or empty, where there are no objects.
    """
    issues = []
    sound = dict(features)
    num_objects = _count_objects(features)
    for name, wanted in _FIELDS.items():
        kind, values = features.get(name, (None, ()))
        needed = not wanted.per_object or num_objects > 0
        if kind is None or not values:
            sound.pop(name, None)
            if not needed:
                sound[name] = (wanted.kind, ())
            elif wanted.needed_by == CONSUMERS:
                issues.append(place("field_missing", value=name))
            elif wanted.recommended:
                issues.append(place("field_recommended", value=name))
        elif kind is not wanted.kind:
            del sound[name]
            issues.append(
                place(
                    "field_type",
                    value=f"{name} is {_KIND_NAMES[kind]}",
                    expected=_KIND_NAMES[wanted.kind],
                )
            )
        elif not wanted.per_object and len(values) != 1:
            del sound[name]
            issues.append(place("field_count", value=f"{name} has {len(values)} values"))
        elif wanted.per_object and len(values) != num_objects:
            del sound[name]
            issues.append(
                place(
                    "lengths_differ",
                    value=f"{name} has {len(values)} values",
                    expected=f"{num_objects}",
                )
            )
    return sound, issues


def _judge_boxes(sound: _Typed, place: Callable[..., Issue]) -> list[Issue]:
    if not all(name in sound for name in _BOX_FIELDS):
        return []
    issues = []
    for index, box in enumerate(
        zip(*(sound[name][1] for name in _BOX_FIELDS), strict=True), start=1
    ):
        ymin, xmin, ymax, xmax = (float(corner) for corner in box)
        code = _judge_box(ymin, xmin, ymax, xmax)
        if code is not None:
            value = f"ymin {ymin:g}, xmin {xmin:g}, ymax {ymax:g}, xmax {xmax:g}"
            issues.append(place(code, object_index=index, value=value))
    return issues


def _judge_box(ymin: float, xmin: float, ymax: float, xmax: float) -> str | None:
    corners = (ymin, xmin, ymax, xmax)
    if not all(map(math.isfinite, corners)):
        return "box_not_finite"
    if max(corners) > _MAX_NORMALISED:
        return "box_not_normalised"
    if ymin > ymax or xmin > xmax:
        return "box_inverted"
    if ymin == ymax or xmin == xmax:
        return "box_zero_area"
    return "box_outside" if min(corners) < 0.0 or max(corners) > 1.0 else None


def _judge_image(encoded: bytes, sound: _Typed, place: Callable[..., Issue]) -> list[Issue]:
    try:
        facts = read_image_facts(encoded)
    except ImageFault as fault:
        return [place("image_undecodable", value=fault.value, expected=fault.expected)]
    issues = []
    if facts.format not in _COMMON_FORMATS:
        issues.append(place("image_format", value=facts.kind))
    declared = _first_bytes(sound, "image/format")
    if declared and _printable(declared).lower() not in _FORMAT_NAMES[facts.format]:
        issues.append(place("format_field", value=_printable(declared), expected=facts.format))
    width, height = (
        int(sound[name][1][0]) if name in sound else None
        for name in ("image/width", "image/height")
    )
    if (width or facts.size.width, height or facts.size.height) != (
        facts.size.width,
        facts.size.height,
    ):
        issues.append(place("size_wrong", value=f"{width}x{height}", expected=str(facts.size)))
    if facts.orientation != 1:
        issues.append(place("exif_orientation", value=f"orientation {facts.orientation}"))
    digest = _first_bytes(sound, "image/key/sha256")
    if digest and digest.lower() != hashlib.sha256(encoded).hexdigest().encode():
        issues.append(place("sha256_wrong", value=_printable(digest)))
    return issues
