"""Training: one recipe that reads from top to bottom."""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tf_keras

from detflow.config.schema import ExperimentConfig
from detflow.distributed.join import join_team
from detflow.distributed.team import Team
from detflow.errors import ConfigError
from detflow.inference.detector import Detector
from detflow.inference.evaluate import Evaluation, evaluate_detector
from detflow.inference.serving import ServingModel
from detflow.inference.tensorflow import eager_outputs
from detflow.label_map import LabelMap
from detflow.metrics.coco import EvaluatedImage, coco_metrics, metric_names
from detflow.process.signals import stop_request
from detflow.process.tensorflow_settings import set_threads
from detflow.progress import tell_status
from detflow.runs.checkpoints import Checkpoints, find_not_finite
from detflow.runs.plan import Plan
from detflow.runs.record import with_steps
from detflow.runs.run_dir import RunDir
from detflow.runs.states import NUM_FIRST_IMAGES, CheckpointState, Metrics
from detflow.text import count_noun
from detflow.training.actions import (
    Checkpointer,
    EarlyStop,
    Evaluator,
    FiniteCheck,
    KeepJournal,
    ShowProgress,
    WeightCheck,
)
from detflow.training.budget import Intervals, Stopwatch
from detflow.training.curves_picture import DrawCurves
from detflow.training.display import TrainingDisplay
from detflow.training.forecast import describe_machine, forecast
from detflow.training.gains import Gains
from detflow.training.inputs import TrainingImages
from detflow.training.journal import Journal
from detflow.training.loop import Action, Course, run_loop
from detflow.training.photos import read_photos
from detflow.training.preflight import Start
from detflow.training.provenance import accept, fingerprint_start
from detflow.training.resuming import describe_best, describe_changes
from detflow.training.side_by_side import NUM_COMPARED, SideBySide
from detflow.training.state import TrainingState, build_training_state
from detflow.training.step import images_per_step, rows_of_step
from detflow.training.steps import StateTrainee
from detflow.training.time_budget import TimeBudget
from detflow.training.trackers.choice import Track
from detflow.types import Sample

# For the first fit of a time budget an evaluation of so many images is timed.
_TIMED_IMAGES = 8
_STOPPING = "stopping after this step and saving; again: leave at once"
# An overfitted detector that finds less than this has a fault in its data or its settings.
_LEARNT_AP50 = 0.9


@dataclass(frozen=True)
class TrainResult:
    """How a training ended.

    Attributes:
        state: State of the last checkpoint; None where the run was stopped before its first one,
            and in processes other than the chief.
        stopped_by: The signal that ended it early, or None.
    """

    state: CheckpointState | None
    stopped_by: int | None


def train(
    run: RunDir, start: Start, actions: Sequence[Action] = (), *, silent: bool = False
) -> TrainResult:
    """Trains from the last checkpoint of a model directory, or from the start where there is none.

    Where several processes train together, all of them call this. The chief alone reads and writes
    the model directory, evaluates and decides; the others take its weights, its decisions, and
    their rows of every batch.

    Args:
        run: The model directory; the caller holds its lock, where it is the chief.
        start: What is to be done, as `prepare_start` found it.
        actions: What else is to be done beside the steps, in this order; `loop.Action` says when
            each method is called and what holds then.
        silent: Whether to show nothing on stderr.

    Raises:
        ConfigError: The batch cannot be split, or another process was started differently.
        DataError: An image cannot be decoded.
        ArtifactError: The checkpoints are damaged, or the loss is no longer finite.
        EnvironmentFault: The machine refuses, or another process is lost.
    """
    set_threads(start.config.runtime.threads)
    is_chief = start.topology is None or start.topology.is_chief
    display = TrainingDisplay(silent=silent or not is_chief)
    team = join_team(start.topology, display.note)
    # Only now: joining a cluster makes TensorFlow take SIGTERM for itself.
    with stop_request(lambda: display.note(_STOPPING)) as stop:
        start = _agree_on_start(team, start)
        config, plan = start.config, start.plan
        display.note(describe_machine(start, team))
        tell_status("building the network")
        tf_keras.utils.set_random_seed(config.train.seed)
        state = build_training_state(
            config,
            start.label_map,
            start.machine.precision,
            team,
            start.initial,
            lambda: read_photos(
                start.training_samples(),
                start.num_training,
                config.model.input_size,
                config.train.seed,
            ),
            serves=team.is_chief,
        )
        first, checkpoints, is_finished = _restore_or_start(run, start, team, state, display)
        if is_finished:
            return TrainResult(_state_of(checkpoints), None)
        tell_status("reading the images")
        with _reading_images(start, run, team, state) as read_images:
            steps = team.build_steps(
                StateTrainee(state, config), lambda other: _build_copy(start, config, other)
            )
            images = read_images()
        course = Course(config, run.path, plan, first, first, stop, state.model.network)
        rows, size = rows_of_step(team, config), images_per_step(config)
        own = _list_actions(run, start, team, state, checkpoints, images, course, display)
        run_loop(
            steps,
            lambda step: images.batch(config.train.seed, step, size, rows),
            [*own, *actions],
            course,
            team.add_up,
        )
        # No process leaves before the chief has saved.
        equal = team.require_equal([*state.model.network.variables, *state.average.averages])
        saved = _state_of(checkpoints)
        for line in filter(None, [equal, *_conclusions(start, course, saved)]):
            display.note(line)
        return TrainResult(saved, course.stopped_by)


def _state_of(checkpoints: Checkpoints | None) -> CheckpointState | None:
    return checkpoints.state if checkpoints else None


def _agree_on_start(team: Team, start: Start) -> Start:
    """Returns the start with the chief's number of steps, its plan and its order of the classes.

    Raises:
        ConfigError: Processes were started with different settings or data.
    """
    fingerprint = fingerprint_start(start.config, start.manifest.fingerprint, start.machine)
    chiefs, steps, num_fits = team.share(
        [fingerprint, start.config.train.steps, len(start.plan.fits)]
    )
    (num_different,) = team.add_up([int(chiefs != fingerprint)])
    if num_different:
        raise ConfigError(
            f"{num_different} of {team.num_workers} workers have other settings, data or precision "
            "than the chief",
            remedy="give all of them the same configuration file, options and records",
        )
    numbers = [number for fit in start.plan.fits for number in fit]
    shared = team.share(numbers if team.is_chief else [0] * (2 * num_fits)) if num_fits else []
    plan = Plan.from_numbers(list(zip(shared[::2], shared[1::2], strict=True)))
    names = start.manifest.label_map.names
    order = team.share([names.index(name) for name in start.label_map])
    return dataclasses.replace(
        start,
        config=with_steps(start.config, steps),
        plan=plan,
        label_map=LabelMap(tuple(names[index] for index in order)),
    )


def _restore_or_start(
    run: RunDir, start: Start, team: Team, state: TrainingState, display: TrainingDisplay
) -> tuple[int, Checkpoints | None, bool]:
    """Gives all processes the weights to start with.

    Returns:
        The steps that were taken before; the chief's checkpoints; and whether nothing is left to
        do.
    """
    config, checkpoints, resumed = start.config, None, None
    if start.record:
        checkpoints = Checkpoints(run, state.saved, config, start.record)
        resumed = checkpoints.restore_latest()
    team.share_variables(state.variables)
    is_finished = (
        resumed is not None
        and _is_over(resumed, config, start.plan)
        and bool(resumed.metrics or not start.num_evaluation)
    )
    first, finished = team.share([resumed.step if resumed else 0, int(is_finished)])
    of_steps = f"at step {first:,} of {config.train.steps:,}"
    if finished:
        display.note(f"nothing left to do: {run.path} is {of_steps}")
        return first, checkpoints, True
    if start.record and checkpoints:
        initial = state.restored.record() if state.restored else None
        checkpoints.belongs_to(accept(start.record, start.before, first, start.changes, initial))
        if not (resumed and start.changes):
            checkpoints.record()
    if resumed:
        display.note(f"resuming {of_steps}{describe_best(resumed)}")
        for line in describe_changes(start, first, state.schedule):
            display.note(line)
    elif state.restored:
        display.note("starting from weights")
    else:
        display.note("starting from scratch")
    for line in state.restored.lines() if state.restored else ():
        display.note(line)
    return first, checkpoints, False


def _is_over(state: CheckpointState, config: ExperimentConfig, plan: Plan) -> bool:
    """Tells whether a checkpoint is the run's last: by its steps, or because patience is out."""
    is_complete = plan.total is not None and state.step >= plan.total
    return is_complete or 0 < config.train.patience <= state.stale_evaluations


@contextmanager
def _reading_images(
    start: Start, run: RunDir, team: Team, state: TrainingState
) -> Iterator[Callable[[], TrainingImages]]:
    """Decodes the training images on a thread during the block; yields what waits for them.

    Decoding releases the interpreter's lock and tracing, which is all Python, holds it: so the two
    go on side by side.
    """
    data = start.config.data
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(
            TrainingImages,
            start.training_samples(),
            start.num_training,
            start.label_map,
            state.model.canvas_sizes,
            max_boxes=data.max_boxes,
            max_bytes=data.cache_megabytes << 20,
            # The model directory of a process that is not the chief may be on another host.
            scratch_dir=run.path if team.is_chief else Path(tempfile.gettempdir()),
            repeat_threshold=data.repeat_threshold,
        )
        yield reading.result


def _build_copy(start: Start, config: ExperimentConfig, team: Team) -> StateTrainee:
    return StateTrainee(
        build_training_state(config, start.label_map, start.machine.precision, team), config
    )


def _list_actions(
    run: RunDir,
    start: Start,
    team: Team,
    state: TrainingState,
    checkpoints: Checkpoints | None,
    images: TrainingImages,
    course: Course,
    display: TrainingDisplay,
) -> list[Action]:
    """Returns detflow's own actions, in the order that `loop.Action` promises."""
    config, label_map, size = course.config, start.label_map, images_per_step(course.config)

    def images_of(step: int) -> list[str]:
        indices = images.batch(config.train.seed, step, size).indices
        return [images.names[index] for index in indices]

    if checkpoints is None:
        return [FiniteCheck(run, images_of), ShowProgress(display, size)]
    check = FiniteCheck(
        run,
        images_of,
        WeightCheck(
            lambda: find_not_finite(state.variables),
            len(state.variables),
            checkpoints.find_way_back,
        ),
    )
    serving = ServingModel(state.served, config.evaluate)
    detector = Detector(
        eager_outputs(serving.detect_traced, run.path, has_variables=True),
        label_map,
        run.path,
        serving.model.canvas_sizes,
    )

    def evaluate(samples: Iterable[Sample]) -> Evaluation:
        with state.average.applied():
            return evaluate_detector(detector, samples, label_map)

    few = itertools.islice(start.evaluation_samples(), NUM_COMPARED)
    side_by_side = SideBySide(few, label_map)
    lines = list(forecast(start, team, run, state, images))
    evaluations = checkpoints.state.evaluations if checkpoints.state else ()
    journal = Journal(
        run, course.first, state.model.loss_names, metric_names(label_map), evaluations
    )
    for line in [*lines, *journal.notes]:
        display.note(line)
    stopwatch = Stopwatch(start.began)
    gains = Gains(label_map)
    actions: list[Action] = [check]
    is_late: Callable[[], bool] = lambda: False  # noqa: E731
    if config.train.time_budget is not None and not course.plan.fits:
        evaluate_every = config.evaluate.every_steps if start.num_evaluation else None

        def record(course: Course) -> None:
            course.config = with_steps(course.config, course.total or 0)
            checkpoints.follow(course.plan)
            journal.configured(course.step, course.config)

        budget = TimeBudget(
            config.train.time_budget,
            Intervals(evaluate_every, config.checkpoint.every_steps),
            stopwatch,
            rehearse=lambda: _time_evaluation(start, detector),
            record=record,
        )
        actions.append(budget)
        is_late = lambda: budget.is_late  # noqa: E731
    if start.num_evaluation:
        actions.append(
            Evaluator(
                evaluate,
                start.evaluation_samples,
                config.evaluate.every_steps,
                is_evaluated=checkpoints.is_evaluated,
                stopwatch=stopwatch,
                announce=lambda: display.evaluating(start.num_evaluation),
                is_late=is_late,
            )
        )
    actions += [
        KeepJournal(journal, side_by_side.draw),
        ShowProgress(
            display,
            size,
            lambda one: checkpoints.state_after(one.step, one.metrics).best_step,
            gains.judge,
        ),
        Checkpointer(
            checkpoints,
            config.checkpoint.every_steps,
            flush=journal.flush,
            stopwatch=stopwatch,
            measure_first=lambda found: _measure_first(found, label_map),
            find_intervals=gains.intervals,
        ),
    ]
    if config.train.patience:
        actions.append(EarlyStop(config.train.patience, lambda: checkpoints.state))
    actions.append(DrawCurves(run.losses_path, run.results_path, run.curves_path))
    actions += [
        Track(name, run, state.model.loss_names, run.list_figures, display.note)
        for name in config.tracking.trackers
    ]
    return actions


def _measure_first(images: Sequence[EvaluatedImage], label_map: LabelMap) -> Metrics:
    """Returns what an export can compare itself with, which is proved on a few images alone."""
    metrics = coco_metrics(images[:NUM_FIRST_IMAGES], label_map)
    return {name: metrics[name] for name in ("AP", "AP50")}


def _time_evaluation(start: Start, detector: Detector) -> float:
    """Returns how many seconds an evaluation takes, from one of a few images."""
    few = list(itertools.islice(start.evaluation_samples(), _TIMED_IMAGES))
    seconds = 0.0
    # The first pass compiles.
    for _ in range(2):
        began = time.monotonic()
        evaluate_detector(detector, few, start.label_map)
        seconds = time.monotonic() - began
    return seconds * start.num_evaluation / len(few)


def _conclusions(start: Start, course: Course, state: CheckpointState | None) -> Iterator[str]:
    """Yields what there is to say about how the run ended."""
    if course.config.data.overfit and state and state.metrics:
        is_learnt = (state.metrics["AP50"] or 0.0) >= _LEARNT_AP50
        images = count_noun(start.num_training, "image")
        yield f"overfitting {images}: the path can{'' if is_learnt else 'not'} learn them"
    if course.reason and course.stopped_by is None:
        yield course.reason
