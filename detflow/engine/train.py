"""Training: one recipe that reads from top to bottom."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import resource
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

import tensorflow as tf
import tf_keras

from detflow.config import ExperimentConfig
from detflow.engine.architecture import DetectionModel
from detflow.engine.budget import FIRST_TIMED_STEP, LAST_TIMED_STEP, StepCosts, fit_steps
from detflow.engine.checkpoints import Checkpoints, WeightAverage
from detflow.engine.comparison import NUM_COMPARED, Comparisons
from detflow.engine.detector import eager_outputs
from detflow.engine.display import TrainingDisplay
from detflow.engine.evaluate import evaluate_detector
from detflow.engine.freeze import freeze
from detflow.engine.inputs import TrainingImages
from detflow.engine.journal import Journal
from detflow.engine.model import build_model
from detflow.engine.optimizer import LearningRate, build_optimizer
from detflow.engine.precision import is_native, network_precision
from detflow.engine.preflight import Start, score_truth
from detflow.engine.pretrained import restore_initial_weights
from detflow.engine.provenance import record_fixed_steps, record_start, with_steps
from detflow.engine.recompute import recompute_blocks
from detflow.engine.serving import ServingModel
from detflow.engine.states import CheckpointState
from detflow.engine.step import build_step, images_per_step
from detflow.errors import ArtifactError
from detflow.metrics import metric_names
from detflow.publish import publish_file, require_space
from detflow.rundir import RunDir
from detflow.runtime.detector import Detector
from detflow.tables import format_metric
from detflow.types import Sample

__all__ = ["TrainResult", "train"]

# For the forecast of a time budget: images of the evaluation that is timed, and what a checkpoint of a few megabytes costs.
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

    Args:
        run: The model directory; the caller holds its lock.
        start: What is to be done, as `prepare_start` found it.

    Raises:
        ConfigError: The time budget is too short.
        DataError: An image cannot be decoded.
        ArtifactError: The checkpoints are damaged, or the loss is no longer finite.
        EnvironmentFault: The machine refuses.
    """
    config, manifest, display = start.config, start.manifest, TrainingDisplay()
    _set_threads(config.runtime.threads)
    with _stop_requests() as stop:
        tf_keras.utils.set_random_seed(config.train.seed)
        with network_precision(start.precision):
            model = build_model(config.model, len(manifest.label_map))
        restored = restore_initial_weights(start.initial, model) if start.initial else None
        # What is evaluated and exported computes in float32, whatever training does.
        served = model if start.precision == "float32" else build_model(config.model, len(manifest.label_map))
        average = WeightAverage(model.network, config.train.ema_decay, served.network)
        freeze(model.parts, config.train.freeze)
        if config.runtime.recompute:
            recompute_blocks(model.parts)
        schedule = LearningRate(config.train)
        optimizer = build_optimizer(config.train, schedule, model.network.trainable_variables, start.precision)
        checkpoints = Checkpoints(run, {"network": model.network, "average": average, "optimizer": optimizer}, config)
        resumed = checkpoints.restore_latest()
        first = done = resumed.step if resumed else 0
        if not resumed or start.changes:
            initial = restored.record() if restored else None
            record_start(run, config, manifest, start.threads, start.precision, done, start.changes, initial)
        if resumed and _is_over(resumed, config) and (resumed.metrics or not start.num_evaluation):
            display.note(f"nothing left to do: {run.path} is at step {done:,} of {config.train.steps:,}")
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

        images = TrainingImages(
            start.training_samples(),
            start.num_training,
            manifest.label_map,
            model.canvas_sizes,
            max_boxes=config.data.max_boxes,
            max_bytes=config.data.cache_megabytes << 20,
            scratch_dir=run.path,
        )
        for line in _forecast(start, run, model, optimizer, images):
            display.note(line)
        take_step = build_step(model, optimizer, schedule, average, config)
        serving = ServingModel(served, config.evaluate)
        detector = Detector(eager_outputs(serving.detect_traced, run.path), manifest.label_map, run.path)
        journal = Journal(run, first, model.loss_names, metric_names(manifest.label_map))
        journal.configured(first, config)
        comparisons = Comparisons(itertools.islice(start.evaluation_samples(), NUM_COMPARED), manifest.label_map)
        clock = None if config.train.time_budget is None or run.has_fixed_steps() else _BudgetClock(first)
        if clock:
            config = with_steps(config, _OPEN_END)

        with display.steps(first, None if clock else config.train.steps, images_per_step(config)):
            while True:
                metrics: Mapping[str, float | None] = {}
                # After a stop in the middle of an evaluation the resumed run makes up for it: best stays what it would have been.
                if (
                    start.num_evaluation
                    and _is_due(done, config.evaluate.every_steps, config)
                    and not checkpoints.is_evaluated(done)
                ):
                    started = time.monotonic()
                    display.evaluating(start.num_evaluation)
                    with average.applied(), contextlib.suppress(_Interrupted):
                        evaluation = evaluate_detector(detector, stop.interrupt(start.evaluation_samples()), manifest.label_map)
                        metrics = evaluation.metrics
                        journal.evaluated(done, metrics, comparisons.draw(evaluation.images))
                        best_step = checkpoints.state_after(done, metrics).best_step
                        display.evaluated(done, metrics, best_step, time.monotonic() - started)
                if metrics or (done > first and (stop.signum or _is_due(done, config.checkpoint.every_steps, config))):
                    journal.flush()
                    checkpoints.save(done, metrics)
                if stop.signum or (checkpoints.state and checkpoints.state.step == done and _is_over(checkpoints.state, config)):
                    break
                batch = images.batch(config.train.seed, done, images_per_step(config))
                total, parts = take_step(batch.images, batch.boxes, batch.classes)
                losses = [float(total), *(float(parts[name]) for name in model.loss_names)]
                # Under a schedule the optimiser tells the rate of its latest step.
                learning_rate = float(optimizer.learning_rate)
                done += 1
                if not all(math.isfinite(value) for value in losses):
                    raise _not_finite(run, done, learning_rate, losses, [images.names[index] for index in batch.indices])
                journal.step(done, losses, learning_rate)
                display.step(done, losses[0])
                if done == first + 1:
                    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
                    display.note(f"memory after the first step: {peak_bytes / 1e6:,.0f} MB at its peak")
                if clock and (step_seconds := clock.step_seconds(done)):
                    config = _fix_steps(start, step_seconds, detector, run)
                    schedule.set_steps(config.train.steps)
                    journal.configured(done, config)
                    display.set_steps(config.train.steps)
                    clock = None
        if config.data.overfit and checkpoints.state and checkpoints.state.metrics:
            learnt = (checkpoints.state.metrics["AP50"] or 0.0) >= _LEARNT_AP50
            display.note(f"overfitting {start.num_training} images: the path can{'' if learnt else 'not'} learn them")
        if checkpoints.state and checkpoints.state.step < config.train.steps and not stop.signum:
            display.note(f"stopped early: {checkpoints.state.stale_evaluations} evaluations without a gain")
        return TrainResult(checkpoints.state, stop.signum)


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
    before = {signum: signal.signal(signum, stop.handle) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _is_due(step: int, every_steps: int, config: ExperimentConfig) -> bool:
    return step > 0 and (step % every_steps == 0 or step == config.train.steps)


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
        return (time.monotonic() - self._began) / (taken - FIRST_TIMED_STEP) if taken == LAST_TIMED_STEP else None


def _fix_steps(start: Start, step_seconds: float, detector: Detector, run: RunDir) -> ExperimentConfig:
    """Times an evaluation of a few images, turns the time budget into a number of steps, and records it."""
    few = list(itertools.islice(start.evaluation_samples(), _TIMED_IMAGES))
    evaluation_seconds = 0.0
    # The first pass compiles.
    for _ in range(2 if few else 0):
        began = time.monotonic()
        evaluate_detector(detector, few, start.manifest.label_map)
        evaluation_seconds = (time.monotonic() - began) * start.num_evaluation / len(few)
    costs = StepCosts(step_seconds, evaluation_seconds, _CHECKPOINT_SECONDS)
    config = with_steps(start.config, fit_steps(start.config.train.time_budget or 0.0, costs, start.config))
    record_fixed_steps(run, config)
    return config


def _forecast(
    start: Start, run: RunDir, model: DetectionModel, optimizer: tf_keras.optimizers.Optimizer, images: TrainingImages
) -> Iterator[str]:
    """Says what the run has before it; refuses when the checkpoints cannot fit on the disk."""
    config, label_map = start.config, start.manifest.label_map
    # Weights, their average, and the optimiser's moments.
    saved = [*model.network.variables, *model.network.variables, *optimizer.variables]
    checkpoint_bytes = sum(_num_bytes(variable) for variable in saved)
    disk_bytes = _checkpoints_on_disk(config) * checkpoint_bytes
    if config.checkpoint.max_bytes is not None:
        # The newest and the best stay in any case, and the next is written before an older one goes.
        disk_bytes = min(disk_bytes, max(config.checkpoint.max_bytes, 2 * checkpoint_bytes) + checkpoint_bytes)
    require_space(run.path, disk_bytes)
    trained = sum(variable.shape.num_elements() for variable in model.network.trainable_variables)
    frozen = f", {', '.join(config.train.freeze)} frozen" if config.train.freeze else ""
    yield f"{len(images):,} training images, {trained:,} of {model.network.count_params():,} parameters train{frozen}"
    if len(model.canvas_sizes) > 1:
        counts = zip(model.canvas_sizes, images.bucket_sizes, strict=True)
        yield f"images by canvas: {', '.join(f'{height}x{width} {count:,}' for (height, width), count in counts)}"
    yield f"{start.threads} threads, {start.precision}"
    if not is_native(start.precision):
        yield f"this machine has no instructions for {start.precision}: training works, but slower than in float32"
    decoded = f"{images.num_bytes / 1e6:,.0f} MB of decoded images"
    # Each weight that trains has a gradient beside what is saved. Activations are not known before they are there.
    state_bytes = checkpoint_bytes + sum(_num_bytes(variable) for variable in model.network.trainable_variables)
    state = f"{state_bytes / 1e6:,.0f} MB of weights, average, optimizer and gradients"
    yield f"memory: {f'{decoded}, ' if images.in_memory else ''}{state}; activations come on top"
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
    kept_for_good = config.train.steps // config.checkpoint.keep_every if config.checkpoint.keep_every else 0
    return config.checkpoint.max_to_keep + kept_for_good + 2


def _num_bytes(variable: tf.Variable) -> int:
    return variable.shape.num_elements() * variable.dtype.size  # type: ignore[no-any-return]


def _set_threads(number: int) -> None:
    """Sets TensorFlow's threads, which it takes only before its first operation; by itself it takes one a core."""
    if number:
        tf.config.threading.set_intra_op_parallelism_threads(number)
        tf.config.threading.set_inter_op_parallelism_threads(number)


def _not_finite(run: RunDir, step: int, learning_rate: float, losses: Sequence[float], names: Sequence[str]) -> ArtifactError:
    """Records the step whose loss is no number; returns the error to raise. The checkpoints are of the steps before."""
    record = {"step": step, "learning_rate": learning_rate, "losses": [str(value) for value in losses], "images": list(names)}
    publish_file(run.failure_path, json.dumps(record, indent=2) + "\n")
    return ArtifactError(
        f"the loss of step {step:,} is {losses[0]} (learning rate {learning_rate:.3g}, images {', '.join(names)})",
        path=run.path,
        remedy=f"lower train.learning_rate; the last checkpoint is good, {run.failure_path.name} has the details",
    )
