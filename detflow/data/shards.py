"""Writes the shards of a records directory.

The plan is the audited, ordered list of samples. A shard is a pure function of the plan and the
shard's number, so its bytes do not depend on the number of processes, on the order in which they
finish, or on a run that was killed before.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import ceil
from typing import BinaryIO

from detflow.data.judging.audit import Audit
from detflow.data.judging.reading import read_record_images
from detflow.data.judging.sample import AuditedSample, read_line
from detflow.data.records.manifest import INDEX_NAME, ShardInfo, SplitInfo
from detflow.data.records.schema import encode_record, to_class_ids
from detflow.data.records.tfrecord import frame_record
from detflow.data.sources.splits import unit_hash
from detflow.data.workers.processes import OrderedMap
from detflow.label_map import LabelMap
from detflow.progress import Progress
from detflow.storage.interface import Folder
from detflow.storage.publishing import Staging

# TensorFlow's guide asks for shards that are large enough to stream, and for enough of them to read
# in parallel.
_SHARD_BYTES = 128 * 2**20
_MIN_SHARDS = 4
_MIN_SHARD_IMAGES = 32
_MAX_NOTE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class _ShardPlan:
    """A shard's part of the plan.

    Attributes:
        split: The split that it belongs to.
        name: Its file name.
        entries: (offset of the sample's line, numeric source_id) in the order of the records.
    """

    split: str
    name: str
    entries: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _ShardTask:
    """Everything that a shard is a function of, as plain data for any machine.

    The images are not in it, but the samples' lines have their SHA-256.
    """

    split: str
    name: str
    source_ids: tuple[int, ...]
    lines: tuple[bytes, ...]

    def digest(self, label_map: LabelMap) -> str:
        """Returns the SHA-256 over everything that decides the shard's bytes."""
        digest = hashlib.sha256(repr((self.split, self.name, label_map.names)).encode())
        for source_id, line in zip(self.source_ids, self.lines, strict=True):
            digest.update(b"%d " % source_id + line)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class ShardResult:
    """A shard that was written.

    Attributes:
        info: The shard as the manifest lists it.
        objects_per_class: How many objects of each class it has.
        index: Its lines of the index.
    """

    info: ShardInfo
    objects_per_class: Mapping[str, int]
    index: str


def write_shards(
    audit: Audit, seed: int, staging: Staging, workers: OrderedMap, progress: Progress
) -> dict[str, SplitInfo]:
    """Plans the shards of an audited dataset and has them written.

    Args:
        audit: The audit of the dataset.
        seed: The seed of the records' order.
        staging: Where the shards are built; the index is written there too.
        workers: Where to run.
        progress: Told how far it is.

    Returns:
        The splits by name, with their shards.
    """
    source_ids = {annotation: number for number, annotation in enumerate(audit.samples, start=1)}
    plans = []
    for split, members in audit.splits.members.items():
        # Records are shuffled by a hash, so that a reader that shuffles little still sees classes
        # and scenes mixed.
        ordered = sorted(
            members, key=lambda annotation: (unit_hash(seed, "order", annotation), annotation)
        )
        entries = [
            (audit.samples[annotation].offset, source_ids[annotation]) for annotation in ordered
        ]
        num_bytes = sum(audit.samples[annotation].image_bytes for annotation in members)
        plans += _plan_split(split, entries, num_bytes)
    function = partial(
        _write_shard, audit.files.source, staging.files, staging.notes, audit.label_map
    )
    shards: dict[str, list[ShardResult]] = {split: [] for split in audit.splits.members}
    total = sum(len(plan.entries) for plan in plans)
    done = 0
    staging.withdraw()
    with (
        open(staging.path / INDEX_NAME, "w", encoding="utf-8") as index,
        open(audit.samples_path, "rb") as samples,
    ):
        tasks = (_read_task(plan, samples) for plan in plans)
        for plan, result in zip(plans, workers(function, tasks, chunk=1), strict=True):
            shards[plan.split].append(replace(result, index=""))
            index.write(result.index)
            done += len(plan.entries)
            progress("writing records", done, total)
    return {split: _sum_up(results, audit.label_map) for split, results in shards.items()}


def _read_task(plan: _ShardPlan, samples: BinaryIO) -> _ShardTask:
    source_ids = tuple(source_id for _, source_id in plan.entries)
    return _ShardTask(
        plan.split,
        plan.name,
        source_ids,
        tuple(read_line(samples, offset) for offset, _ in plan.entries),
    )


def _plan_split(split: str, entries: Sequence[tuple[int, int]], num_bytes: int) -> list[_ShardPlan]:
    count = max(
        ceil(num_bytes / _SHARD_BYTES), min(_MIN_SHARDS, ceil(len(entries) / _MIN_SHARD_IMAGES))
    )
    bounds = [len(entries) * number // count for number in range(count + 1)] if count else []
    return [
        _ShardPlan(
            split,
            f"{split}-{number:05d}-of-{count:05d}.tfrecord",
            tuple(entries[bounds[number] : bounds[number + 1]]),
        )
        for number in range(count)
    ]


def _sum_up(results: Sequence[ShardResult], label_map: LabelMap) -> SplitInfo:
    counts: Counter[str] = Counter()
    for result in results:
        counts.update(result.objects_per_class)
    shards = tuple(result.info for result in results)
    per_class = {name: counts[name] for name in label_map}
    return SplitInfo(
        sum(shard.records for shard in shards), sum(per_class.values()), per_class, shards
    )


def _write_shard(
    source: Folder, files: Folder, notes: Folder, label_map: LabelMap, task: _ShardTask
) -> ShardResult:
    """Writes one shard, or finds that a killed run has written it."""
    note_name = f"{task.name}.done"
    plan = task.digest(label_map)
    finished = _find_finished(notes, note_name, plan, files, task.name)
    if finished is not None:
        return finished
    digest = hashlib.sha256()
    counts: Counter[str] = Counter()
    class_ids = to_class_ids(label_map)
    index = []
    offset = 0
    with files.build(task.name) as path, open(path, "xb") as shard:
        images = read_record_images(source, map(AuditedSample.from_json, task.lines))
        for number, (source_id, (audited, encoded, encoded_sha256)) in enumerate(
            zip(task.source_ids, images, strict=True)
        ):
            counts.update(audited.columns.names)
            data = encode_record(
                key=audited.key,
                source_id=source_id,
                filename=audited.image,
                size=audited.record_size,
                encoded=encoded,
                encoded_sha256=encoded_sha256,
                columns=audited.columns,
                class_ids=class_ids,
            )
            record = frame_record(data)
            shard.write(record)
            digest.update(record)
            entry = {
                "source_id": source_id,
                "key": audited.key,
                "annotation": audited.annotation,
                "lines": audited.lines,
                "image": audited.image,
                "split": task.split,
                "shard": task.name,
                "record": number,
                "offset": offset,
                "bytes": len(record),
            }
            index.append(json.dumps(entry) + "\n")
            offset += len(record)
    result = ShardResult(
        ShardInfo(task.name, len(task.lines), offset, digest.hexdigest()), counts, "".join(index)
    )
    notes.write(note_name, json.dumps([plan, asdict(result.info), counts, result.index]).encode())
    return result


def _find_finished(
    notes: Folder, note_name: str, plan: str, files: Folder, name: str
) -> ShardResult | None:
    """Returns the result of a shard that a killed run finished, if it is still all there."""
    try:
        done, info, counts, index = json.loads(notes.read(note_name, _MAX_NOTE_BYTES))
    except (FileNotFoundError, ValueError):
        # Not finished; or the machine lost its power before the note reached the disk.
        return None
    if done != plan or files.digest(name) != {"bytes": info["bytes"], "sha256": info["sha256"]}:
        return None
    return ShardResult(ShardInfo(**info), counts, index)
