"""Judges a set of TFRecord files, whoever wrote them, and says who could read it.

A set is one file, or a folder of them with what may lie beside: a label map, and detflow's
manifest. Nothing stops at the first fault; a record with a damaged payload is named and the next
one is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from detflow.data.records.lint.checks import FIELDS, RecordFacts, judge_record, to_printable
from detflow.data.records.lint.find import find_missing_shards, find_record_files, read_split_name
from detflow.data.records.lint.report import MAX_EXAMPLES, LintReport, SplitCounts
from detflow.data.records.manifest import (
    LABEL_MAP_NAME,
    MANIFEST_NAME,
    RecordsManifest,
    ShardInfo,
    read_manifest,
)
from detflow.data.records.tfrecord import scan_records
from detflow.data.rules import DETFLOW, RECORD_RULES
from detflow.data.workers.processes import OrderedMap
from detflow.digests import digest_file
from detflow.errors import ArtifactError, DataError
from detflow.label_map import LabelMap
from detflow.progress import Progress

_CHUNK = 16


def lint_records(path: Path, workers: OrderedMap, progress: Progress) -> LintReport:
    """Judges a TFRecord set.

    Args:
        path: One file, or a folder.
        workers: Where to run.
        progress: Called with what is being done, how many bytes of it are done, and how many there
            are.

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
    report.label_map = manifest.label_map if manifest else _read_label_maps(folder, files, report)
    declared = {
        shard.name: (name, shard)
        for name, split in (manifest.splits.items() if manifest else ())
        for shard in split.shards
    }
    for name in declared.keys() - {file.name for file in files} if path.is_dir() else ():
        report.note("manifest_disagrees", name, value="the file is missing")
    seen = _Seen(report.label_map)
    total, done = sum(file.stat().st_size for file in files), 0
    for file in files:
        split_name, shard = declared.get(file.name, (_name_split(folder, file), None))
        split = report.splits.setdefault(split_name, SplitCounts())
        split.files += 1
        name = _name_file(folder, file)
        for end in _lint_file(file, name, split_name, split, shard, report, seen, workers):
            progress("checking records", done + end, total)
        done += file.stat().st_size
    if path.is_dir():
        for part in dict.fromkeys(file.parent for file in files):
            beside = [file for file in files if file.parent == part]
            for name in find_missing_shards(beside, MAX_EXAMPLES):
                report.note("shard_missing", _name_file(folder, part / name))
    _compare_totals(manifest, report)
    if report.num_images and not any(split.objects for split in report.splits.values()):
        report.note("no_objects", path.name)
    _judge_consumers(report)
    return report


def _read_manifest(path: Path, files: Sequence[Path], report: LintReport) -> RecordsManifest | None:
    folder = path if path.is_dir() else path.parent
    if not (folder / MANIFEST_NAME).is_file():
        return None
    try:
        manifest = read_manifest(folder)
    except ArtifactError as error:
        if path.is_dir():
            report.has_manifest = True
            report.note("manifest_damaged", MANIFEST_NAME, value=str(error.cause))
        return None
    shards = {shard.name for split in manifest.splits.values() for shard in split.shards}
    if path.is_file() and path.name not in shards:
        return None
    report.has_manifest = True
    for file in files:
        if file.name not in shards:
            report.note(
                "manifest_disagrees", file.name, value="the manifest does not list the file"
            )
    return manifest


def _name_file(folder: Path, file: Path) -> str:
    return file.relative_to(folder).as_posix()


def _name_split(folder: Path, file: Path) -> str:
    return read_split_name(file.name) if file.parent == folder else file.parent.name


def _read_label_maps(folder: Path, files: Sequence[Path], report: LintReport) -> LabelMap | None:
    """Returns the classes of the label maps beside the files; None where there are none.

    A set in several folders has one in each. Whoever reads the set uses one of them for all files.
    """
    names: dict[int, str] = {}
    display_names: dict[int, str] = {}
    is_known = False
    for part in sorted({folder, *(file.parent for file in files)}):
        label_map, path = _read_label_map(folder, part, report)
        if label_map is None:
            continue
        is_known = True
        taken = {name: class_id for class_id, name in names.items()}
        for name, class_id in label_map.ids_by_name.items():
            if (known := names.get(class_id, name)) != name:
                value, expected = f"id {class_id} is {name!r}", f"{known!r} as in the others"
            elif (known_id := taken.get(name, class_id)) != class_id:
                value, expected = f"{name!r} has id {class_id}", f"{known_id} as in the others"
            else:
                names[class_id] = name
                continue
            report.note("label_maps_differ", path, value=value, expected=expected)
        display_names = {**label_map.display_names, **display_names}
    ids = tuple(sorted(names))
    return (
        LabelMap(tuple(names[class_id] for class_id in ids), ids, display_names)
        if is_known
        else None
    )


def _read_label_map(folder: Path, part: Path, report: LintReport) -> tuple[LabelMap | None, str]:
    named = part / LABEL_MAP_NAME
    candidates = [named] if named.is_file() else sorted(part.glob("*.pbtxt"))
    if len(candidates) != 1:
        return None, ""
    name = _name_file(folder, candidates[0])
    try:
        return LabelMap.from_pbtxt(candidates[0].read_text(encoding="utf-8")), name
    except (DataError, UnicodeDecodeError) as error:
        report.note("label_map_damaged", name, value=str(error))
        return None, name


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
            report.note("manifest_disagrees", MANIFEST_NAME, value=value, expected=expected)


def _judge_consumers(report: LintReport) -> None:
    if not report.has_manifest:
        report.blocked[DETFLOW].append(
            f"there is no {MANIFEST_NAME}; detflow reads what make-records writes"
        )
    for name, wanted in FIELDS.items():
        lacking = report.num_images - report.field_records[name]
        for consumer in wanted.needed_by if lacking else ():
            # Without a manifest detflow cannot read the set, whatever the fields are.
            if consumer != DETFLOW or report.has_manifest:
                report.blocked[consumer].append(
                    f"{name} is missing in {lacking:,} of {report.num_images:,} records"
                )
    for code in sorted(report.counts):
        for consumer in RECORD_RULES[code].blocks:
            # Missing fields are listed above, each by its name.
            if code != "field_missing" and (consumer != DETFLOW or report.has_manifest):
                report.blocked[consumer].append(
                    f"{RECORD_RULES[code].meaning} ({report.counts[code]:,}×)"
                )


class _Seen:
    """What must be compared across records.

    Attributes:
        label_map: The classes, where a label map is there.
        source_ids: The place where each source id was first seen.
        images: The split and the place where each image was first seen, by its digest.
        ids: The id that a class's name was first seen with.
        names: The name that a class's id was first seen with.
    """

    def __init__(self, label_map: LabelMap | None) -> None:
        self.label_map = label_map
        self.source_ids: dict[bytes, str] = {}
        self.images: dict[bytes, tuple[str, str]] = {}
        self.ids: dict[str, int] = {}
        self.names: dict[int, str] = {}

    def judge_class(self, class_id: int, name: str | None) -> tuple[str, str, str] | None:
        """Returns (code, value, expected) where id and name do not fit; None where they do.

        They must fit the label map, or else the names and ids of the records before.
        """
        if class_id < 1:
            return "class_id_not_positive", f"{class_id}", ""
        value = f"id {class_id}" if name is None else f"id {class_id}, name {name!r}"
        if self.label_map is not None:
            known = self.label_map.find_name(class_id)
            if known is None:
                return "class_id_unknown", value, f"1 to {max(self.label_map.ids, default=0)}"
            if name is not None and name == self.label_map.display_names.get(class_id):
                # The TF Object Detection API looks a class up by its name and by its display name.
                return None
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
    name: str,
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
        report.note("compressed", name)
        return
    number = damaged = 0
    judge = partial(judge_record, name, report.label_map if shard is not None else None)
    for facts in workers(judge, scan_records(file), chunk=_CHUNK):
        damaged += not facts.fields
        number += 1
        _add_record(facts, name, split_name, split, report, seen)
        yield facts.offset
    if not number:
        report.note("file_empty", name)
    if shard is not None:
        _compare_shard(file, shard, number, damaged, report)


def _compare_shard(
    file: Path, shard: ShardInfo, number: int, damaged: int, report: LintReport
) -> None:
    digest = digest_file(file)
    if number != shard.records:
        report.note(
            "manifest_disagrees",
            file.name,
            value=f"{number} records",
            expected=f"{shard.records}",
        )
    elif not damaged and (digest["bytes"], digest["sha256"]) != (shard.bytes, shard.sha256):
        report.note("manifest_disagrees", file.name, value="its SHA-256 differs")


def _add_record(
    facts: RecordFacts,
    file: str,
    split_name: str,
    split: SplitCounts,
    report: LintReport,
    seen: _Seen,
) -> None:
    report.extend(facts.findings)
    if not facts.fields:
        return
    place = f"{file}: record {facts.number}"

    def note(code: str, value: str, expected: str = "", object_index: int | None = None) -> None:
        report.note(
            code,
            file,
            record=facts.number,
            offset=facts.offset,
            image=facts.image,
            object_index=object_index,
            value=value,
            expected=expected,
        )

    split.images += 1
    split.negatives += not facts.num_objects
    split.objects += facts.num_objects
    report.field_records.update(facts.fields)
    for index, (class_id, name) in enumerate(facts.classes, start=1):
        if (wrong := seen.judge_class(class_id, name)) is not None:
            note(*wrong, object_index=index)
        split.objects_per_class[_class_name(class_id, name, seen.label_map)] += 1
    if facts.source_id:
        first = seen.source_ids.setdefault(facts.source_id, place)
        if first != place:
            note("source_id_twice", f"{to_printable(facts.source_id)}, also in {first}")
    if facts.image_digest:
        first_split, first = seen.images.setdefault(facts.image_digest, (split_name, place))
        if first_split != split_name:
            note("image_in_two_splits", f"{split_name}; {first_split} has it in {first}")
        elif first != place:
            note("image_twice", f"also in {first}")


def _class_name(class_id: int, name: str | None, label_map: LabelMap | None) -> str:
    if name is not None:
        return name
    known = label_map.find_name(class_id) if label_map else None
    return known or f"id {class_id}"
