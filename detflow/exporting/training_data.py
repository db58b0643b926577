"""What a checkpoint was trained on, and which pictures are left to judge it on."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detflow.data.records.manifest import RecordsManifest, parse_split, read_manifest, resolve_split
from detflow.data.records.reading import read_samples
from detflow.runs.learnt import find_earlier_splits, find_learnt_splits, find_other_records
from detflow.runs.record import RunRecord
from detflow.runs.states import CheckpointState


def choose_judged_split(manifest: RecordsManifest, record: RunRecord) -> tuple[str, str] | None:
    """Returns a split that the model was not trained on, and what it is.

    Args:
        manifest: Of the records that the run was trained on.
        record: Of the run.

    Returns:
        A split without a part in the training, first one whose name begins with test, and "test";
        else what chose the checkpoint, as far as it was not trained on, and "validation"; None
        where there are only pictures that were trained on.
    """
    eval_split = record.config.data.eval_split
    learnt = find_learnt_splits(record, functools.partial(resolve_split, manifest))
    chose = resolve_split(manifest, eval_split) if eval_split else ()
    free = [
        name
        for name, split in manifest.splits.items()
        if split.objects and name not in learnt.union(chose)
    ]
    if free:
        return min(free, key=lambda name: not name.casefold().startswith("test")), "test"
    unlearnt = [name for name in chose if name not in learnt]
    if eval_split and any(manifest.splits[name].objects for name in unlearnt):
        return (eval_split if len(unlearnt) == len(chose) else "+".join(unlearnt)), "validation"
    return None


def describe_choice(state: CheckpointState, records: Path | None) -> dict[str, Any] | None:
    """Returns what made a checkpoint the best one, as JSON values; None where nothing did.

    Args:
        state: Of the checkpoint.
        records: The records that it was trained on; None where they are not there.
    """
    data = state.record.config.data
    # A run that is to learn a few pictures is evaluated on them.
    split = data.train_split if data.overfit else data.eval_split
    if not state.metrics or state.metric is None or split is None:
        return None
    resolve: Callable[[str], Sequence[str]] = parse_split
    if records is not None:
        resolve = functools.partial(resolve_split, read_manifest(records))
    return {
        "split": split,
        "metric": state.metric,
        "value": state.metrics.get(state.metric),
        "is_training": bool(set(resolve(split)) & find_learnt_splits(state.record, resolve)),
    }


def describe_training_data(record: RunRecord, records: Path | None) -> dict[str, Any]:
    """Returns what a checkpoint was trained on, as JSON values.

    Args:
        record: Of its run.
        records: The records that it was trained on; None where they are not there.
    """
    data = record.config.data
    described: dict[str, Any] = {
        "fingerprint": record.data_fingerprint,
        "split": data.train_split,
        "overfit": data.overfit,
        "earlier_splits": find_earlier_splits(record),
        "other_records": find_other_records(record),
        "images": None,
        "objects_per_class": None,
    }
    if records is not None:
        manifest = read_manifest(records)
        splits = [manifest.splits[name] for name in resolve_split(manifest, data.train_split)]
        images, counts = sum(split.images for split in splits), Counter[str]()
        for split in splits:
            counts.update(split.objects_per_class)
        if data.overfit and data.overfit < images:
            images, counts = data.overfit, _count_first(records, manifest, record)
        else:
            described["overfit"] = None
        described["images"] = images
        described["objects_per_class"] = {name: counts[name] for name in record.label_map}
    return described


def _count_first(records: Path, manifest: RecordsManifest, record: RunRecord) -> Counter[str]:
    data = record.config.data
    samples = itertools.islice(read_samples(records, manifest, data.train_split), data.overfit)
    return Counter(item.name for sample in samples for item in sample.objects)
