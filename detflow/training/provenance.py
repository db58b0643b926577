"""What a run's weights were made from, and in what a resumed run would differ.

Does not import TensorFlow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import PurePath
from typing import Any

from detflow.config.reading import flatten_config
from detflow.config.schema import ExperimentConfig
from detflow.digests import FileDigest
from detflow.errors import ConfigError
from detflow.label_map import LabelMap
from detflow.models.precision import Precision, uses_onednn
from detflow.runs.plan import Plan
from detflow.runs.record import RunRecord
from detflow.runs.run_dir import RunDir
from detflow.training.augment import RANDOM_NUMBERS
from detflow.version import __version__

# Settings that do not change the weights. Where the records lie does not matter; what is in them is
# compared by fingerprint. Threads and precision are compared as what they came to on the machine.
_WITHOUT_EFFECT = {
    "data.records",
    "data.cache_megabytes",
    "runtime.threads",
    "runtime.precision",
    "checkpoint.every_steps",
    "checkpoint.max_to_keep",
    "checkpoint.keep_every",
    "checkpoint.max_bytes",
    # It says how a change is met, and is none.
    "train.resume_schedule",
    "tracking.trackers",
    "tracking.project",
    "tracking.name",
}


@dataclass(frozen=True)
class Machine:
    """What decides the last bits of the weights.

    Attributes:
        threads: CPU threads of the process that writes.
        precision: Of the network's computation.
        replicas: Devices that share a batch, over all processes.
        asynchronous_workers: Processes that take steps at the same time, each a whole one; None
            without parameter servers.
    """

    threads: int
    precision: Precision
    replicas: int
    asynchronous_workers: int | None = None


def find_changes(
    before: RunRecord,
    config: ExperimentConfig,
    fingerprint: str,
    machine: Machine,
    initial_files: Mapping[str, FileDigest] | None,
) -> list[str]:
    """Compares a run with what is about to be done in its directory.

    Args:
        before: What the run belongs to.
        config: The configuration at hand.
        fingerprint: Of the records at hand.
        machine: At hand.
        initial_files: Digests of the weights to start with, where the run has not saved yet.

    Returns:
        One line a difference that would change the weights.
    """
    old, new = flatten_config(before.config), flatten_config(config)
    compared = set(new) - _WITHOUT_EFFECT
    budget = new["train.time_budget"]
    if budget is not None and budget == old["train.time_budget"]:
        # The budget alone decides it.
        compared.remove("train.steps")
    changes = [
        f"{name} was {old.get(name)}, now {new[name]}"
        for name in new
        if name in compared
        and old.get(name) != new[name]
        and not (name == "train.init_from" and _is_same_place(old.get(name), new[name]))
    ]
    started = (before.initial_weights or {}).get("files")
    if initial_files and started and started != initial_files:
        changes.append(f"the files of train.init_from were {started}, now {dict(initial_files)}")
    if before.data_fingerprint != fingerprint:
        changes.append(f"data_fingerprint was {before.data_fingerprint}, now {fingerprint}")
    here = _describe(config, machine)
    return changes + [
        f"{name} was {before.machine.get(name)}, now {here[name]}"
        for name in here
        if before.machine.get(name) != here[name]
    ]


def _is_same_place(old: object, new: object) -> bool:
    """Tells whether two paths may be one as seen from two folders: one ends as the other does."""
    if not isinstance(old, str) or not isinstance(new, str):
        return False
    short, long = sorted(
        ([part for part in PurePath(path).parts if part not in ("..", ".")] for path in (old, new)),
        key=len,
    )
    return bool(short) and long[-len(short) :] == short


def build_record(
    before: RunRecord | None,
    config: ExperimentConfig,
    label_map: LabelMap,
    fingerprint: str,
    machine: Machine,
    plan: Plan,
) -> RunRecord:
    """Returns what a run belongs to that is about to start; arguments as of `find_changes`.

    Args:
        before: See `find_changes`; None for a new run.
        config: See `find_changes`.
        label_map: The classes.
        fingerprint: See `find_changes`.
        machine: See `find_changes`.
        plan: Of its steps.
    """
    return RunRecord(
        config,
        label_map,
        fingerprint,
        _describe(config, machine),
        plan,
        before.initial_weights if before else None,
        before.accepted_changes if before else (),
        __version__,
    )


def accept(
    record: RunRecord,
    before: RunRecord | None,
    step: int,
    changes: Sequence[str],
    initial: Mapping[str, Any] | None,
) -> RunRecord:
    """Returns a record with changes that the user has accepted.

    Args:
        record: What the run is to belong to.
        before: What it belongs to; None for a new run, which has no changes.
        step: Where the run starts or resumes.
        changes: As from `find_changes`.
        initial: What a new run starts with, where it does not start from scratch; a run that goes
            on keeps what it has.
    """
    accepted = record.accepted_changes
    if before is not None and changes:
        learnt = [before.data_fingerprint, before.config.data.train_split]
        accepted = (*accepted, {"step": step, "changes": list(changes), "learnt": learnt})
    return dataclasses.replace(
        record, accepted_changes=accepted, initial_weights=initial or record.initial_weights
    )


def choose_plan(before: RunRecord | None, config: ExperimentConfig, step: int) -> Plan:
    """Returns how many steps a run is to take, as far as that is known.

    With a time budget that is what the run has written down, if it had the same budget then. A run
    that goes on with another number of steps goes on from the learning rate that it has reached,
    unless `train.resume_schedule` says otherwise.

    Args:
        before: What the run belongs to; None for a new one.
        config: The configuration at hand.
        step: Steps that the run has taken.
    """
    budget = config.train.time_budget
    if budget is not None:
        same = before is not None and before.config.train.time_budget == budget
        return before.plan if before and same else Plan()
    total = config.train.steps
    if before is None or not step or before.plan.total is None:
        return Plan.fixed(total)
    if before.plan.total == total:
        return before.plan
    if config.train.resume_schedule == "replace" or before.plan.is_full:
        return Plan.fixed(total)
    return before.plan.refit(step, total)


def refuse_changes(run: RunDir, changes: Sequence[str]) -> None:
    """Raises ConfigError that lists the differences, where there are any."""
    if changes:
        raise ConfigError(
            f"this run was started differently: {'; '.join(changes)}",
            path=run.path,
            remedy="pass --accept-changes to go on all the same, or choose another --model-dir",
        )


def fingerprint_start(config: ExperimentConfig, data_fingerprint: str, machine: Machine) -> int:
    """Returns a number of 63 bits that processes which train together must have in common."""
    settings = {
        name: value for name, value in flatten_config(config).items() if name not in _WITHOUT_EFFECT
    }
    if config.train.time_budget is not None:
        # Only the chief's model directory tells what it comes to.
        del settings["train.steps"]
    text = json.dumps(
        [
            settings,
            data_fingerprint,
            machine.precision,
            machine.replicas,
            version("tensorflow"),
            RANDOM_NUMBERS,
        ],
        sort_keys=True,
    )
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _describe(config: ExperimentConfig, machine: Machine) -> dict[str, Any]:
    return {
        "threads": machine.threads,
        "precision": machine.precision,
        "replicas": machine.replicas,
        "asynchronous_workers": machine.asynchronous_workers,
        "onednn": uses_onednn(),
        "tensorflow": version("tensorflow"),
        # Version 1 was not written down.
        "augmentation": RANDOM_NUMBERS if config.augment.enabled else None,
    }
