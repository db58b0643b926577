"""Runs in MLflow (https://mlflow.org), by its client: a notebook's global run is left alone."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlflow
import mlflow.onnx
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunStatus

from detflow.training.trackers.base import Tracked, TrackedRun

# What MLflow takes in names of metrics and parameters.
_ODD = re.compile(r"[^\w\-./ ]", re.ASCII)
_MAX_PARAMETERS = 100
_MAX_VALUE = 6_000


class MlflowTracker:
    """One run of the server that MLFLOW_TRACKING_URI names."""

    def __init__(self) -> None:
        self._client = MlflowClient()
        self._id = ""

    def start(self, run: TrackedRun) -> Tracked:
        """Creates the run in the experiment of the project's name, or opens it again."""
        found = self._open(run)
        self._id = found.info.run_id
        known = found.data.params
        new = [
            Param(_plain(name), value[:_MAX_VALUE])
            for name, value in run.parameters.items()
            if _plain(name) not in known
        ]
        for first in range(0, len(new), _MAX_PARAMETERS):
            self._client.log_batch(self._id, params=new[first : first + _MAX_PARAMETERS])
        uri = self._client.tracking_uri
        experiment = found.info.experiment_id
        return Tracked(self._id, f"{uri}/#/experiments/{experiment}/runs/{self._id}")

    def _open(self, run: TrackedRun) -> Run:
        if run.known_id is not None:
            self._client.update_run(run.known_id, status=RunStatus.to_string(RunStatus.RUNNING))
            return self._client.get_run(run.known_id)
        experiment = self._client.get_experiment_by_name(run.project)
        experiment_id = (
            experiment.experiment_id
            if experiment is not None
            else self._client.create_experiment(run.project)
        )
        return self._client.create_run(experiment_id, run_name=run.name)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Adds metrics."""
        now = int(time.time() * 1000)
        metrics = [Metric(_plain(name), value, now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def log_files(self, paths: Sequence[Path]) -> None:
        """Adds artifacts."""
        for path in paths:
            self._client.log_artifact(self._id, str(path))

    def log_export(self, folder: Path) -> None:
        """Adds the folder as artifacts, and its ONNX file, if it has one, as a logged model."""
        self._client.log_artifacts(self._id, str(folder), "export")
        path = folder / "model.onnx"
        if path.is_file():
            import onnx

            with warnings.catch_warnings(), mlflow.start_run(run_id=self._id):
                # MLflow warns of the type hints of its own modules, which it imports here.
                warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType")
                mlflow.onnx.log_model(
                    onnx.load(path), name="detector", pip_requirements=["onnx", "onnxruntime"]
                )

    def end(self, *, is_whole: bool) -> None:
        """Closes the run as finished, or as killed where it was interrupted."""
        status = RunStatus.FINISHED if is_whole else RunStatus.KILLED
        self._client.set_terminated(self._id, RunStatus.to_string(status))


def _plain(name: str) -> str:
    return _ODD.sub("_", name)
