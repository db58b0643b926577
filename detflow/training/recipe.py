"""Training: one recipe that reads from top to bottom."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import resource
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import tensorflow as tf
import tf_keras

from detflow.config.schema import ExperimentConfig
from detflow.distributed.parameter_servers.coordinator import Coordinator, lost_servers
from detflow.distributed.team import Distribution, find_distribution
from detflow.errors import ArtifactError, ConfigError
from detflow.inference.detector import Detector
from detflow.inference.evaluate import evaluate_detector
from detflow.inference.serving import ServingModel
from detflow.inference.tensorflow import eager_outputs
from detflow.metrics import metric_names
from detflow.models.precision import is_native
from detflow.process.signals import stop_signals_handled
from detflow.publish import publish_file, require_space
from detflow.runs.checkpoints import Checkpoints
from detflow.runs.run_dir import RunDir
from detflow.runs.states import CheckpointState
from detflow.tables import format_metric
from detflow.training.budget import FIRST_TIMED_STEP, LAST_TIMED_STEP, StepCosts, fit_steps
from detflow.training.comparison import NUM_COMPARED, Comparisons
from detflow.training.display import TrainingDisplay
from detflow.training.inputs import TrainingImages
from detflow.training.journal import Journal
from detflow.training.preflight import Start, score_truth
from detflow.training.provenance import (
    fingerprint_start,
    record_fixed_steps,
    record_start,
    with_steps,
)
from detflow.training.state import TrainingState, build_training_state
from detflow.training.step import images_per_step, rows_of_step
from detflow.training.steps import ImmediateSteps, ScheduledSteps, Steps, TakenStep
from detflow.types import Sample

__all__ = ["TrainResult", "train"]

# For the forecast of a time budget: images of the evaluation that is timed, and what a checkpoint
# of a few megabytes costs.
_TIMED_IMAGES = 16
_CHECKPOINT_SECONDS = 0.3
# An overfitted detector that finds less than this has a fault in its data or its settings.
_LEARNT_AP50 = 0.9
# Stands for the number of steps until the time budget has fixed it.
_OPEN_END = 10**9


@dataclass(frozen=True)
class TrainResult:
    """How a training ended.

    Attributes:
        state: Of the last checkpoint; None where the run was stopped before its first one.
        stopped_by: The signal that ended it early, or None.
    """

    state: CheckpointState | None
    stopped_by: int | None


def train(run: RunDir, start: Start) -> TrainResult:
    """Trains from the last checkpoint of a model directory, or from the start where there is none.

    Where several processes train together, all of them call this. The chief alone reads and writes
    the model directory, evaluates and decides; the others take its weights, its decisions, and
    their rows of every batch.

    Args:
        run: The model directory; the caller holds its lock, where it is the chief.
        start: What is to be done, as `prepare_start` found it.

    Raises:
        ConfigError: The time budget is too short, the batch cannot be split, or another process was
            started differently.
        DataError: An image cannot be decoded.
        ArtifactError: The checkpoints are damaged, or the loss is no longer finite.
        EnvironmentFault: The machine refuses, or another process is lost.
    """
    _set_threads(start.config.runtime.threads)
    topology = start.topology
    display = TrainingDisplay(silent=topology is not None and not topology.is_chief)
    coordinator = (
        Coordinator(topology, display.note) if topology and topology.has_parameter_servers else None
    )
    distribution = Distribution() if coordinator else find_distribution(topology)
    # After it: joining a cluster makes TensorFlow take SIGTERM for itself.
    with _stop_requests() as stop, lost_servers() if coordinator else contextlib.nullcontext():
        is_chief = distribution.is_chief
        config, is_timed = _agree_on_start(distribution, start, run)
        manifest, rows = start.manifest, rows_of_step(distribution, config)
        num_classes, precision = len(manifest.label_map), start.machine.precision
        tf_keras.utils.set_random_seed(config.train.seed)
        state = build_training_state(
            config, num_classes, precision, distribution, start.initial, serves=is_chief
        )
        model, average, restored = state.model, state.average, state.restored
        checkpoints = Checkpoints(
            run,
            {"network": model.network, "average": average, "optimizer": state.optimizer},
            config,
        )
        resumed = checkpoints.restore_latest() if is_chief else None
        distribution.share_variables(state.variables)
        finished = (
            resumed and _is_over(resumed, config) and (resumed.metrics or not start.num_evaluation)
        )
        done, is_finished = distribution.share(
            [resumed.step if resumed else 0, int(bool(finished))]
        )
        first = done
        if is_chief and (not resumed or start.changes):
            initial = restored.record() if restored else None
            record_start(run, config, manifest, start.machine, done, start.changes, initial)
        if is_finished:
            display.note(
                f"nothing left to do: {run.path} is at step {done:,} of {config.train.steps:,}"
            )
            return TrainResult(resumed, None)
        display.note(
            f"resuming at step {done:,} of {config.train.steps:,}"
            if resumed
            else "starting from scratch"
            if not restored
            else "starting from weights"
        )
        for line in restored.lines() if restored else ():
            display.note(line)

        with ThreadPoolExecutor(1) as reader:
            # Decoding leaves the interpreter alone, and tracing is all Python: each would wait for
            # the other.
            reading = reader.submit(
                TrainingImages,
                start.training_samples(),
                start.num_training,
                manifest.label_map,
                model.canvas_sizes,
                max_boxes=config.data.max_boxes,
                max_bytes=config.data.cache_megabytes << 20,
                # The model directory of a process that is not the chief may be on another host.
                scratch_dir=run.path if is_chief else Path(tempfile.gettempdir()),
            )
            steps: Steps
            if coordinator:
                copy = build_training_state(
                    config, num_classes, precision, coordinator.distribution
                )
                steps = ScheduledSteps(coordinator, state, copy, config)
            else:
                steps = ImmediateSteps(state, config, distribution)
            images = reading.result()
        serving = ServingModel(state.served, config.evaluate)
        detector = Detector(
            eager_outputs(serving.detect_traced, run.path, has_variables=True),
            manifest.label_map,
            run.path,
        )
        comparisons = Comparisons(
            itertools.islice(start.evaluation_samples(), NUM_COMPARED), manifest.label_map
        )
        journal = (
            Journal(run, first, model.loss_names, metric_names(manifest.label_map))
            if is_chief
            else None
        )
        if journal:
            for line in _forecast(start, distribution, run, state, images):
                display.note(line)
            journal.configured(first, config)
        clock = _BudgetClock(first) if is_timed else None
        if clock:
            config = with_steps(config, _OPEN_END)

        with display.steps(first, None if clock else config.train.steps, images_per_step(config)):
            taken: list[TakenStep] = []
            while True:
                # Before anything looks at the weights.
                if (
                    stop.signum is not None
                    or _pauses(done, config)
                    or (clock and done == first + LAST_TIMED_STEP)
                ):
                    taken += steps.join()
                for number, losses, learning_rate in taken:
                    if not all(math.isfinite(value) for value in losses):
                        whole = images.batch(config.train.seed, number - 1, images_per_step(config))
                        names = [images.names[index] for index in whole.indices]
                        raise _not_finite(
                            run, number, learning_rate, losses, names, is_recorded=is_chief
                        )
                    if journal:
                        journal.step(number, losses, learning_rate)
                    display.step(number, losses[0])
                    if number == first + 1:
                        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
                        display.note(
                            f"memory after the first step: {peak_bytes / 1e6:,.0f} MB at its peak"
                        )
                    if clock and (step_seconds := clock.step_seconds(number)):
                        fixed = _fix_steps(start, step_seconds, detector, run) if is_chief else 0
                        config = with_steps(config, *distribution.share([fixed]))
                        steps.set_total(config.train.steps)
                        if journal:
                            journal.configured(number, config)
                        display.set_steps(config.train.steps)
                        clock = None
                metrics: Mapping[str, float | None] = {}
                # After a stop in the middle of an evaluation the resumed run makes up for it: best
                # stays what it would have been.
                if (
                    journal
                    and start.num_evaluation
                    and _is_due(done, config.evaluate.every_steps, config)
                    and not checkpoints.is_evaluated(done)
                ):
                    started = time.monotonic()
                    display.evaluating(start.num_evaluation)
                    with average.applied(), contextlib.suppress(_Interrupted):
                        evaluation = evaluate_detector(
                            detector, stop.interrupt(start.evaluation_samples()), manifest.label_map
                        )
                        metrics = evaluation.metrics
                        journal.evaluated(done, metrics, comparisons.draw(evaluation.images))
                        best_step = checkpoints.state_after(done, metrics).best_step
                        display.evaluated(done, metrics, best_step, time.monotonic() - started)
                saves = bool(metrics) or (
                    done > first and _is_due(done, config.checkpoint.every_steps, config)
                )
                # Decided before it is saved: the others know what follows while the chief writes.
                reached = checkpoints.state_after(done, metrics) if saves else checkpoints.state
                is_last = reached is not None and reached.step == done and _is_over(reached, config)
                signum, is_last = _agree_on_end(distribution, stop.signum, is_last)
                if signum and steps.in_flight:
                    # It came just now.
                    taken = []
                    continue
                if journal and (saves or (signum and done > first)):
                    journal.flush()
                    checkpoints.save(done, metrics)
                if signum or is_last:
                    break
                taken = steps.take(
                    done, images.batch(config.train.seed, done, images_per_step(config), rows)
                )
                done += 1
        # Nobody leaves before the chief has saved.
        distribution.require_equal([*model.network.variables, *average.averages])
        if distribution.num_workers > 1:
            display.note(f"{distribution.num_workers} workers ended with equal weights")
        if config.data.overfit and checkpoints.state and checkpoints.state.metrics:
            learnt = (checkpoints.state.metrics["AP50"] or 0.0) >= _LEARNT_AP50
            display.note(
                f"overfitting {start.num_training} images: the path can{'' if learnt else 'not'} learn them"
            )
        if checkpoints.state and checkpoints.state.step < config.train.steps and not signum:
            stale = checkpoints.state.stale_evaluations
            display.note(
                f"stopped early: {stale} evaluation{'' if stale == 1 else 's'} without a gain"
            )
        return TrainResult(checkpoints.state, signum)


class _Interrupted(Exception):
    """An evaluation was given up because the run is to stop."""


class _StopRequests:
    """Remembers the first SIGTERM or SIGINT, so that the step at work can end and be saved; the second one leaves at once."""

    def __init__(self) -> None:
        self.signum: int | None = None

    def handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            os._exit(128 + signum)
        self.signum = signum

    def interrupt(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """Passes samples on until the run is to stop."""
        for sample in samples:
            if self.signum is not None:
                raise _Interrupted
            yield sample


@contextlib.contextmanager
def _stop_requests() -> Iterator[_StopRequests]:
    stop = _StopRequests()
    with stop_signals_handled(stop.handle):
        yield stop


def _agree_on_start(
    distribution: Distribution, start: Start, run: RunDir
) -> tuple[ExperimentConfig, bool]:
    """Returns the configuration with the chief's number of steps, and whether a time budget has still to fix it.

    Raises:
        ConfigError: Processes were started with different settings or data.
    """
    fingerprint = fingerprint_start(start.config, start.manifest.fingerprint, start.machine)
    is_timed = (
        distribution.is_chief
        and start.config.train.time_budget is not None
        and not run.has_fixed_steps()
    )
    theirs, steps, timed = distribution.share(
        [fingerprint, start.config.train.steps, int(is_timed)]
    )
    (num_different,) = distribution.total([int(theirs != fingerprint)])
    if num_different:
        raise ConfigError(
            f"{num_different} of {distribution.num_workers} workers have other settings, data or precision than the chief",
            remedy="give all of them the same configuration file, options and records",
        )
    return with_steps(start.config, steps), bool(timed)


def _agree_on_end(
    distribution: Distribution, signum: int | None, is_last: bool
) -> tuple[int | None, bool]:
    """Returns whether any process was told to stop, and by which signal, and whether the chief calls this step the last one."""
    requests = [
        int(signum == signal.SIGTERM),
        int(signum == signal.SIGINT),
        int(distribution.is_chief and is_last),
    ]
    terminated, interrupted, ended = distribution.total(requests)
    return signal.SIGTERM if terminated else signal.SIGINT if interrupted else None, bool(ended)


def _is_due(step: int, every_steps: int, config: ExperimentConfig) -> bool:
    return step > 0 and (step % every_steps == 0 or step == config.train.steps)


def _pauses(step: int, config: ExperimentConfig) -> bool:
    """Tells whether the weights of a step are evaluated or saved."""
    return _is_due(step, config.evaluate.every_steps, config) or _is_due(
        step, config.checkpoint.every_steps, config
    )


def _is_over(state: CheckpointState, config: ExperimentConfig) -> bool:
    """Tells whether a checkpoint is the run's last one: all steps are taken, or patience has run out."""
    return state.step >= config.train.steps or 0 < config.train.patience <= state.stale_evaluations


class _BudgetClock:
    """Times the steps from the eighth to the fortieth that this process takes."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._began = 0.0

    def step_seconds(self, done: int) -> float | None:
        """Called after each step; returns seconds a step once they are known."""
        taken = done - self._first
        if taken == FIRST_TIMED_STEP:
            self._began = time.monotonic()
        return (
            (time.monotonic() - self._began) / (taken - FIRST_TIMED_STEP)
            if taken == LAST_TIMED_STEP
            else None
        )


def _fix_steps(start: Start, step_seconds: float, detector: Detector, run: RunDir) -> int:
    """Times an evaluation of a few images, turns the time budget into a number of steps, and records it."""
    few = list(itertools.islice(start.evaluation_samples(), _TIMED_IMAGES))
    evaluation_seconds = 0.0
    # The first pass compiles.
    for _ in range(2 if few else 0):
        began = time.monotonic()
        evaluate_detector(detector, few, start.manifest.label_map)
        evaluation_seconds = (time.monotonic() - began) * start.num_evaluation / len(few)
    costs = StepCosts(step_seconds, evaluation_seconds, _CHECKPOINT_SECONDS)
    config = with_steps(
        start.config, fit_steps(start.config.train.time_budget or 0.0, costs, start.config)
    )
    record_fixed_steps(run, config)
    return config.train.steps


def _forecast(
    start: Start,
    distribution: Distribution,
    run: RunDir,
    state: TrainingState,
    images: TrainingImages,
) -> Iterator[str]:
    """Says what the run has before it; refuses when the checkpoints cannot fit on the disk."""
    config, label_map, model = start.config, start.manifest.label_map, state.model
    # Weights, their average, and the optimiser's moments.
    checkpoint_bytes = sum(_num_bytes(variable) for variable in state.variables)
    disk_bytes = _checkpoints_on_disk(config) * checkpoint_bytes
    if config.checkpoint.max_bytes is not None:
        # The newest and the best stay in any case, and the next is written before an older one
        # goes.
        disk_bytes = min(
            disk_bytes, max(config.checkpoint.max_bytes, 2 * checkpoint_bytes) + checkpoint_bytes
        )
    require_space(run.path, disk_bytes)
    trained = sum(variable.shape.num_elements() for variable in model.network.trainable_variables)
    frozen = f", {', '.join(config.train.freeze)} frozen" if config.train.freeze else ""
    yield f"{len(images):,} training images, {trained:,} of {model.network.count_params():,} parameters train{frozen}"
    if len(model.canvas_sizes) > 1:
        counts = zip(model.canvas_sizes, images.bucket_sizes, strict=True)
        yield f"images by canvas: {', '.join(f'{height}x{width} {count:,}' for (height, width), count in counts)}"
    yield f"{distribution}{start.machine.threads} threads, {start.machine.precision}"
    if start.topology and start.topology.has_parameter_servers:
        workers, servers = start.topology.num_workers, len(start.topology.cluster["ps"])
        repeats = (
            "the run is that of one process"
            if workers == 1
            else "updates come as they come, so no other run has the same bits"
        )
        yield f"workers: {workers}, parameter servers: {servers}; {repeats}"
    if not is_native(start.machine.precision):
        yield f"this machine has no instructions for {start.machine.precision}: training works, but slower than in float32"
    decoded = f"{images.num_bytes / 1e6:,.0f} MB of decoded images"
    # Each weight that trains has a gradient beside what is saved. Activations are not known before
    # they are there.
    state_bytes = checkpoint_bytes + sum(
        _num_bytes(variable) for variable in model.network.trainable_variables
    )
    weights = f"{state_bytes / 1e6:,.0f} MB of weights, average, optimizer and gradients"
    yield f"memory: {f'{decoded}, ' if images.in_memory else ''}{weights}; activations come on top"
    yield f"disk: {'' if images.in_memory else f'{decoded}, '}up to {disk_bytes / 1e6:,.0f} MB of checkpoints"
    if images.num_boxes_left_out:
        yield f"{images.num_boxes_left_out:,} boxes are left out: data.max_boxes is {config.data.max_boxes} an image"
    recall = images.anchor_recall(config.model, label_map)
    yield f"boxes that an anchor overlaps by IoU .5: {', '.join(f'{name} {share:.0%}' for name, share in recall.items())}"
    if start.num_evaluation:
        ceiling = score_truth(start.evaluation_samples(), label_map)
        yield f"{start.num_evaluation:,} images to evaluate on; the truth itself scores AP {format_metric(ceiling)}"


def _checkpoints_on_disk(config: ExperimentConfig) -> int:
    """Returns how many checkpoints there are at most: those that are kept, the best one, and the one that is being written."""
    kept_for_good = (
        config.train.steps // config.checkpoint.keep_every if config.checkpoint.keep_every else 0
    )
    return config.checkpoint.max_to_keep + kept_for_good + 2


def _num_bytes(variable: tf.Variable) -> int:
    return variable.shape.num_elements() * variable.dtype.size  # type: ignore[no-any-return]


def _set_threads(number: int) -> None:
    """Sets TensorFlow's threads, which it takes only before its first operation; by itself it takes one a core."""
    if number:
        tf.config.threading.set_intra_op_parallelism_threads(number)
        tf.config.threading.set_inter_op_parallelism_threads(number)


def _not_finite(
    run: RunDir,
    step: int,
    learning_rate: float,
    losses: Sequence[float],
    names: Sequence[str],
    *,
    is_recorded: bool,
) -> ArtifactError:
    """Records the step whose loss is no number; returns the error to raise. The checkpoints are of the steps before."""
    record = {
        "step": step,
        "learning_rate": learning_rate,
        "losses": [str(value) for value in losses],
        "images": list(names),
    }
    if is_recorded:
        publish_file(run.failure_path, json.dumps(record, indent=2) + "\n")
    return ArtifactError(
        f"the loss of step {step:,} is {losses[0]} (learning rate {learning_rate:.3g}, images {', '.join(names)})",
        path=run.path,
        remedy=f"lower train.learning_rate; the last checkpoint is good, {run.failure_path.name} has the details",
    )
