"""What a run's weights were made from, and in what a resumed run would differ.

Does not import TensorFlow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from detflow.config.schema import ExperimentConfig
from detflow.data.records.manifest import RecordsManifest
from detflow.errors import ConfigError
from detflow.models.precision import Precision, uses_onednn
from detflow.publish import FileDigest, publish_file
from detflow.runs.plan import Plan
from detflow.runs.run_dir import RunDir
from detflow.training.augment import RANDOM_NUMBERS
from detflow.version import __version__

PLAN_NAME = "steps_by_time_budget"
"""Where run.json has the fits of a time budget, each as [steps taken, steps of the whole run]."""

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
    run: RunDir,
    config: ExperimentConfig,
    fingerprint: str,
    machine: Machine,
    initial_files: Mapping[str, FileDigest] | None,
) -> list[str]:
    """Compares a run with what is about to be done in its directory.

    Args:
        run: The model directory.
        config: The configuration at hand.
        fingerprint: Of the records at hand.
        machine: At hand.
        initial_files: Digests of the weights to start with, where the run has not saved yet.

    Returns:
        One line a difference that would change the weights; empty for a new run.
    """
    before = run.read_provenance()
    if before is None:
        return []
    old, new = _flatten(run.read_config()), _flatten(config)
    compared = set(new) - _WITHOUT_EFFECT
    budget = new["train.time_budget"]
    if budget is not None and budget == old.get("train.time_budget"):
        # The budget alone decides it.
        compared.remove("train.steps")
    changes = [
        f"{name} was {old.get(name)}, now {new[name]}"
        for name in new
        if name in compared and old.get(name) != new[name]
    ]
    here = _describe(config, fingerprint, machine)
    started = before.get("initial_weights", {}).get("files")
    if initial_files and started and started != initial_files:
        changes.append(f"the files of train.init_from were {started}, now {dict(initial_files)}")
    return changes + [
        f"{name} was {before.get(name)}, now {here[name]}"
        for name in here
        if before.get(name) != here[name]
    ]


def record_start(
    run: RunDir,
    config: ExperimentConfig,
    manifest: RecordsManifest,
    machine: Machine,
    step: int,
    changes: Sequence[str],
    initial_weights: Mapping[str, Any] | None,
) -> None:
    """Writes down what the run is made from; accepted changes are added to those of before.

    Args:
        run: The model directory.
        config: The resolved configuration.
        manifest: Of the records.
        machine: What the run computes on.
        step: Where the run starts or resumes.
        changes: As from `find_changes`, accepted by the user.
        initial_weights: What a new run starts with, where it does not start from scratch; a run
            that goes on keeps what it has.
    """
    before = run.read_provenance() or {}
    accepted = before.get("accepted_changes", [])
    if changes:
        accepted = [*accepted, {"step": step, "changes": list(changes)}]
    # Another time budget makes another plan.
    same_budget = bool(before) and run.read_config().train.time_budget == config.train.time_budget
    kept = {name: before[name] for name in (PLAN_NAME,) if same_budget and name in before}
    if initial_weights:
        kept["initial_weights"] = initial_weights
    elif "initial_weights" in before:
        kept["initial_weights"] = before["initial_weights"]
    run.write_config(config)
    publish_file(run.label_map_path, manifest.label_map.to_pbtxt())
    run.write_provenance(
        {
            **_describe(config, manifest.fingerprint, machine),
            **kept,
            "detflow": __version__,
            "accepted_changes": accepted,
        }
    )


def record_plan(run: RunDir, config: ExperimentConfig, plan: Plan) -> None:
    """Writes down how many steps a time budget comes to, and each fit that led there.

    Args:
        run: The model directory.
        config: The resolved configuration with that number of steps.
        plan: Its fits. From here on the run is a function of the step again.
    """
    # First what a resumed run believes, then what is there for people.
    run.write_provenance(
        {**(run.read_provenance() or {}), PLAN_NAME: [list(fit) for fit in plan.fits]}
    )
    run.write_config(config)


def read_plan(run: RunDir, config: ExperimentConfig) -> Plan:
    """Returns how many steps a run is to take, as far as that is known.

    With a time budget that is what the run has written down, if it had the same budget then.
    """
    budget = config.train.time_budget
    if budget is None:
        return Plan.fixed(config.train.steps)
    numbers = (run.read_provenance() or {}).get(PLAN_NAME)
    if numbers is None or run.read_config().train.time_budget != budget:
        return Plan()
    return Plan.from_numbers(numbers)


def with_steps(config: ExperimentConfig, steps: int) -> ExperimentConfig:
    """Returns the configuration with another number of steps."""
    return config.model_copy(update={"train": config.train.model_copy(update={"steps": steps})})


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
        name: value for name, value in _flatten(config).items() if name not in _WITHOUT_EFFECT
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


def _describe(config: ExperimentConfig, fingerprint: str, machine: Machine) -> dict[str, Any]:
    return {
        "data_fingerprint": fingerprint,
        "threads": machine.threads,
        "precision": machine.precision,
        "replicas": machine.replicas,
        "asynchronous_workers": machine.asynchronous_workers,
        "onednn": uses_onednn(),
        "tensorflow": version("tensorflow"),
        # Version 1 was not written down.
        "augmentation": RANDOM_NUMBERS if config.augment.enabled else None,
    }


def _flatten(config: ExperimentConfig) -> Mapping[str, Any]:
    return {
        f"{section}.{name}": value
        for section, values in config.model_dump(mode="json").items()
        for name, value in values.items()
    }
