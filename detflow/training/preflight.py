"""What can be wrong with a training before TensorFlow is imported, which takes seconds."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from detflow.config.schema import ExperimentConfig
from detflow.data.records.manifest import RecordsManifest, read_manifest, resolve_split
from detflow.data.records.mirror import mirror_records
from detflow.data.records.reading import read_samples, verify_shards
from detflow.distributed.topology import Topology, require_divisible
from detflow.errors import ArtifactError, ConfigError, DataError
from detflow.label_map import LabelMap
from detflow.metrics.coco import EvaluatedImage, coco_metrics, metric_names
from detflow.models.precision import count_gpus, resolve_precision
from detflow.models.weights.sources import InitialWeights, find_initial_weights, require_fitting
from detflow.process.platform import count_cores
from detflow.runs.plan import Plan
from detflow.runs.record import RunRecord, with_steps
from detflow.runs.run_dir import RunDir
from detflow.runs.states import find_newest, find_record
from detflow.storage.location import parse_location
from detflow.training.provenance import (
    Machine,
    build_record,
    choose_plan,
    find_changes,
    refuse_changes,
)
from detflow.training.trackers.choice import require_trackers
from detflow.types import Detection, Sample


@dataclass(frozen=True)
class Start:
    """What a training starts or resumes with.

    Attributes:
        config: What is to be done; `train.steps` is what a time budget came to so far.
        records_dir: Where the records lie on this machine.
        manifest: Of records whose shards are as it says.
        label_map: The classes in the order of the network's outputs: the records' own, but of a run
            that goes on those of the run.
        machine: What the run computes on.
        initial: Weights to start with; None from scratch, and for a run that goes on.
        changes: Differences from how the run was started, accepted by the user.
        plan: How many steps the run takes; empty where a time budget was not fitted yet, and where
            only the chief knows.
        record: What the run belongs to, without the changes; None where only the chief knows.
        before: What it belonged to before; None for a new run.
        began: When a time budget began, by `time.monotonic`.
        topology: Of the processes that train together; None for one.
    """

    config: ExperimentConfig
    records_dir: Path
    manifest: RecordsManifest
    label_map: LabelMap
    machine: Machine
    initial: InitialWeights | None
    changes: tuple[str, ...]
    plan: Plan
    began: float
    record: RunRecord | None = None
    before: RunRecord | None = None
    topology: Topology | None = None

    @property
    def num_training(self) -> int:
        """Images that are trained on."""
        return self._count(self.config.data.train_split)

    @property
    def num_evaluation(self) -> int:
        """Images of an evaluation; 0 where nothing is evaluated."""
        if self.config.data.overfit:
            return self.num_training
        return self._count(self.config.data.eval_split) if self.config.data.eval_split else 0

    def training_samples(self) -> Iterator[Sample]:
        """Reads the training images."""
        return itertools.islice(self._read(self.config.data.train_split), self.num_training)

    def evaluation_samples(self) -> Iterator[Sample]:
        """Reads the images of an evaluation."""
        if self.config.data.overfit:
            return self.training_samples()
        return self._read(self.config.data.eval_split) if self.config.data.eval_split else iter(())

    def _read(self, split: str) -> Iterator[Sample]:
        return read_samples(self.records_dir, self.manifest, split)

    def _count(self, split: str) -> int:
        count = sum(
            self.manifest.splits[name].images for name in resolve_split(self.manifest, split)
        )
        return min(count, self.config.data.overfit or count)


def prepare_start(
    config: ExperimentConfig,
    run: RunDir,
    *,
    accept_changes: bool = False,
    topology: Topology | None = None,
    began: float | None = None,
) -> Start:
    """Checks records, splits, metric, and in what the run would differ from before.

    Args:
        config: What is to be done.
        run: The model directory; the caller holds its lock. Of several processes only the chief
            looks into it.
        accept_changes: Go on although data, configuration or machine differ.
        topology: Of the processes that train together; None for one.
        began: When a time budget began, by `time.monotonic`; the moment of the call unless given.

    Raises:
        ConfigError: A split, metric or source of weights does not exist, or the run was started
            differently.
        DataError: There is nothing to train on.
        ArtifactError: The records or the initial weights are damaged.
        EnvironmentFault: Initial weights cannot be downloaded.
    """
    began = time.monotonic() if began is None else began
    records_dir, manifest = _open_records(config)
    if config.data.overfit:
        config = config.model_copy(
            update={"augment": config.augment.model_copy(update={"enabled": False})}
        )
    require_trackers(config.tracking)
    threads = config.runtime.threads or count_cores()
    machine = _describe_machine(config, threads, topology)
    require_divisible(config.train.batch_size, machine.replicas)
    if topology and not topology.is_chief:
        return Start(
            config,
            records_dir,
            manifest,
            manifest.label_map,
            machine,
            None,
            (),
            Plan(),
            began,
            topology=topology,
        )
    newest = find_newest(run)
    before = find_record(run, newest)
    label_map = manifest.label_map
    if newest and before:
        require_same_classes(run, before.label_map, label_map)
        label_map = before.label_map
    plan = choose_plan(before, config, newest.step if newest else 0)
    if plan.total is not None:
        config = with_steps(config, plan.total)
    # Only the first step needs them: a run goes on without.
    initial = None if newest else find_initial_weights(config.train)
    if initial:
        require_fitting(initial, config.model)
    changes: list[str] = []
    if before:
        digests = initial.digests if initial else None
        changes = find_changes(before, config, manifest.fingerprint, machine, digests)
    if not accept_changes:
        refuse_changes(run, changes)
    record = (
        build_record(before, config, label_map, manifest.fingerprint, machine, plan)
        if changes or not before
        else before
    )
    return Start(
        config,
        records_dir,
        manifest,
        label_map,
        machine,
        initial,
        tuple(changes),
        plan,
        began,
        record,
        before,
        topology,
    )


def require_same_classes(run: RunDir, learnt: LabelMap, records: LabelMap) -> None:
    """Refuses to go on with other classes than the network's outputs; their order may differ.

    Args:
        run: The model directory.
        learnt: The classes that the run has learnt.
        records: The classes of the records at hand.

    Raises:
        ConfigError: The names are not the same.
    """
    if set(learnt) != set(records):
        raise ConfigError(
            f"this run has learnt the classes {', '.join(learnt)}; the records have "
            f"{', '.join(records)}",
            path=run.path,
            remedy=f"train into another --model-dir with --set train.init_from={run.path}, which "
            "takes the weights of each class by its name",
        )


def score_truth(samples: Iterable[Sample], label_map: LabelMap) -> float | None:
    """Returns the AP of the truth handed in as prediction: what a perfect detector could reach.

    It is 1, unless images have more objects than COCO's 100 detections; None where there are no
    objects.
    """
    images = [
        EvaluatedImage(
            sample.size,
            sample.objects,
            [
                Detection(item.name, label_map.id_of(item.name), 1.0, item.box)
                for item in sample.objects
            ],
        )
        for sample in samples
    ]
    return coco_metrics(images, label_map)["AP"]


def _describe_machine(config: ExperimentConfig, threads: int, topology: Topology | None) -> Machine:
    precision = resolve_precision(config.runtime.precision)
    if topology is None or not topology.has_parameter_servers:
        num_workers = topology.num_workers if topology else 1
        return Machine(threads, precision, num_workers * max(1, count_gpus()))
    if precision == "float16":
        raise ConfigError(
            "runtime.precision float16 needs loss scaling, which parameter servers do not support",
            remedy="set it to bfloat16 or float32",
        )
    return Machine(threads, precision, 1, topology.num_workers)


def _open_records(config: ExperimentConfig) -> tuple[Path, RecordsManifest]:
    """Opens the records, which are brought here first if they lie at a URL.

    The shards of the splits at hand are compared with the manifest.
    """
    wanted = [split for split in (config.data.train_split, config.data.eval_split) if split]
    place = parse_location(config.data.records)
    if isinstance(place, Path) and not place.exists():
        raise ArtifactError(
            "data.records: no such folder",
            path=place,
            remedy="a configuration's relative paths start at its own folder; --records names "
            "another place",
        )
    records_dir = mirror_records(place, wanted)
    manifest = read_manifest(records_dir)
    known = metric_names(manifest.label_map)
    if config.evaluate.metric not in known:
        raise ConfigError(
            f"evaluate.metric {config.evaluate.metric} does not exist",
            remedy=f"choose one of {', '.join(known)}",
        )
    splits = list(resolve_split(manifest, config.data.train_split))
    if not sum(manifest.splits[name].images for name in splits):
        raise DataError(f"split {config.data.train_split} has no images", path=records_dir)
    if not sum(manifest.splits[name].objects for name in splits):
        raise DataError(
            f"split {config.data.train_split} has no objects to learn", path=records_dir
        )
    if config.data.eval_split:
        splits += resolve_split(manifest, config.data.eval_split)
    verify_shards(records_dir, manifest, list(dict.fromkeys(splits)))
    return records_dir, manifest
