"""Which trackers there are, and the action that tells them about a training."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from typing_extensions import override

from detflow.config.reading import flatten_config
from detflow.config.schema import TrackingConfig
from detflow.digests import read_json_object
from detflow.distributed.steps import TakenStep
from detflow.errors import ArtifactError, ConfigError, EnvironmentFault
from detflow.publish import publish_file
from detflow.runs.run_dir import RunDir
from detflow.training.loop import Action, Course
from detflow.training.trackers.base import Messenger, TrackedRun, Tracker

# The same steps as in TensorBoard.
_EVERY_STEPS = 20
_SECONDS_TO_END = 60.0
_SECONDS_TO_UPLOAD = 600.0
_MAX_ID = 200


class _Kind(NamedTuple):
    """A kind of tracker.

    Attributes:
        title: Its name for people.
        home: The class that speaks to it, as `module:name`.
        package: What it needs, which is the name of the extra too.
        needs: The environment variable that must say where it is; empty for none.
    """

    title: str
    home: str
    package: str
    needs: str = ""


_KINDS = {
    "mlflow": _Kind(
        "MLflow",
        "detflow.training.trackers.mlflow:MlflowTracker",
        "mlflow",
        "MLFLOW_TRACKING_URI",
    ),
    "wandb": _Kind("W&B", "detflow.training.trackers.wandb:WandbTracker", "wandb"),
}


def require_trackers(tracking: TrackingConfig) -> None:
    """Refuses a tracker that cannot be told anything, before the run begins.

    Raises:
        ConfigError: Nothing says where the tracker is.
        EnvironmentFault: Its package is not installed.
    """
    for name in tracking.trackers:
        kind = _KINDS[name]
        if find_spec(kind.package) is None:
            raise EnvironmentFault(
                f"tracking.trackers: {kind.title} is not installed",
                remedy=f"pip install '.[{name}]' in the checkout",
            )
        if kind.needs and not os.environ.get(kind.needs):
            raise ConfigError(
                f"tracking.trackers: {kind.needs} does not say where {kind.title} is",
                remedy=f"set {kind.needs}, for example to http://127.0.0.1:5000",
            )


def build_tracker(name: str) -> Tracker:
    """Imports what speaks to a tracker, and connects."""
    module, _, attribute = _KINDS[name].home.partition(":")
    tracker: Tracker = getattr(importlib.import_module(module), attribute)()
    return tracker


class Track(Action):
    """Tells a tracker about the run: settings, losses, evaluations and its files.

    Args:
        name: A key of the kinds of trackers.
        run: The model directory.
        loss_names: Terms of the loss, after the total.
        list_files: Returns the files that the run has made, at its end.
        note: Tells people something.
        build: Connects to the tracker.
    """

    def __init__(
        self,
        name: str,
        run: RunDir,
        loss_names: Sequence[str],
        list_files: Callable[[], Iterable[Path]],
        note: Callable[[str], None],
        build: Callable[[str], Tracker] = build_tracker,
    ) -> None:
        self._name, self._run, self._build = name, run, build
        self._loss_names = tuple(f"loss/{name}" for name in ("total", *loss_names))
        self._list_files, self._note = list_files, note
        self._messenger: Messenger | None = None
        self._tracker: Tracker | None = None
        self._is_whole = False

    @override
    def on_start(self, course: Course) -> None:
        tracking = course.config.tracking
        parameters = {name: str(value) for name, value in flatten_config(course.config).items()}
        run = TrackedRun(
            tracking.project,
            tracking.name or self._run.path.name,
            self._run.path,
            parameters,
            read_id(self._run, self._name),
        )
        self._messenger = Messenger(_KINDS[self._name].title, self._note)
        self._messenger.send(lambda: self._open(run))

    def _open(self, run: TrackedRun) -> None:
        self._tracker = self._build(self._name)
        tracked = self._tracker.start(run)
        _write_id(self._run, self._name, tracked.id)
        self._note(f"{_KINDS[self._name].title}: {tracked.place}")

    @override
    def on_step(self, step: TakenStep, course: Course) -> None:
        if step.number % _EVERY_STEPS == 0:
            values = dict(zip(self._loss_names, step.losses, strict=True))
            self._log(step.number, {**values, "learning_rate": step.learning_rate})

    @override
    def is_due(self, course: Course) -> bool:
        return course.is_evaluated

    @override
    def at_rest(self, course: Course) -> None:
        if evaluation := course.evaluation:
            known = {
                f"evaluation/{name}": value
                for name, value in evaluation.metrics.items()
                if value is not None
            }
            self._log(course.step, known)

    def _log(self, step: int, values: Mapping[str, float]) -> None:
        self._send(lambda tracker: tracker.log(step, values))

    @override
    def on_end(self, course: Course) -> None:
        self._is_whole = course.is_last_step or course.stop.signum is None
        files = [path for path in self._list_files() if path.is_file()]
        self._send(lambda tracker: tracker.log_files(files))

    @override
    def close(self) -> None:
        if self._messenger is not None:
            is_whole = self._is_whole
            self._send(lambda tracker: tracker.end(is_whole=is_whole))
            self._messenger.finish(_SECONDS_TO_END)

    def _send(self, call: Callable[[Tracker], None]) -> None:
        def make() -> None:
            # The first message has built it, or nothing comes after that.
            assert self._tracker is not None  # noqa: S101
            call(self._tracker)

        if self._messenger is not None:
            self._messenger.send(make)


def track_export(
    run: RunDir,
    tracking: TrackingConfig,
    folder: Path,
    note: Callable[[str], None],
    build: Callable[[str], Tracker] = build_tracker,
) -> None:
    """Adds an export to the runs of all trackers that know the model directory's run.

    Args:
        run: The model directory.
        tracking: The run's trackers.
        folder: The export.
        note: Tells people something.
        build: Connects to a tracker.
    """
    for name in tracking.trackers:
        run_id = read_id(run, name)
        if run_id is None:
            continue
        title = _KINDS[name].title
        known = TrackedRun(tracking.project, tracking.name or run.path.name, run.path, {}, run_id)

        def tell(name: str = name, title: str = title, known: TrackedRun = known) -> None:
            tracker = build(name)
            tracked = tracker.start(known)
            tracker.log_export(folder)
            tracker.end(is_whole=True)
            note(f"{title}: the export is in {tracked.place}")

        messenger = Messenger(title, note)
        messenger.send(tell)
        messenger.finish(_SECONDS_TO_UPLOAD)


def read_id(run: RunDir, name: str) -> str | None:
    """Returns what a tracker calls a run, as an earlier process has written it down.

    Raises:
        ArtifactError: The file is not one of ours.
    """
    path = run.tracker_path(name)
    if not path.is_file():
        return None
    run_id = read_json_object(path).get("id")
    if not isinstance(run_id, str) or not 0 < len(run_id) <= _MAX_ID:
        raise ArtifactError(
            f"id is {run_id!r}, which names no run of {_KINDS[name].title}",
            path=path,
            remedy="remove the file; the tracker then begins a new run",
        )
    return run_id


def _write_id(run: RunDir, name: str, run_id: str) -> None:
    publish_file(run.tracker_path(name), json.dumps({"id": run_id}) + "\n")
