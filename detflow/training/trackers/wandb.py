"""Runs in Weights & Biases (https://wandb.ai)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from detflow.training.trackers.base import Tracked, TrackedRun


class WandbTracker:
    """One run of W&B.

    WANDB_MODE and WANDB_API_KEY hold as everywhere. Where neither is set and nobody has logged in,
    the run is written to the model directory alone, because W&B would ask at the terminal.
    """

    def __init__(self) -> None:
        self._run: Any = None

    def start(self, run: TrackedRun) -> Tracked:
        """Begins the run, or goes on with it."""
        is_left_open = "WANDB_MODE" not in os.environ and not wandb.login(prompt=False)
        self._run = wandb.init(
            project=run.project,
            name=run.name,
            id=run.known_id,
            resume="allow" if run.known_id else None,
            dir=run.folder,
            config=dict(run.parameters),
            mode="offline" if is_left_open else None,
            settings=wandb.Settings(silent=True, console="off"),
        )
        # A resumed run takes steps again that W&B, which counts upwards, has heard of.
        self._run.define_metric("*", step_metric="step")
        folder = Path(self._run.dir).parent
        place = (
            f"{folder} (offline: `wandb sync` uploads it)" if self._run.offline else self._run.url
        )
        return Tracked(self._run.id, place)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Adds figures, with the step as one of them."""
        self._run.log({"step": step, **values})

    def log_files(self, paths: Sequence[Path]) -> None:
        """Adds files as an artifact of the run."""
        artifact = wandb.Artifact(f"run-{self._run.id}", type="run")
        for path in paths:
            artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def log_export(self, folder: Path) -> None:
        """Adds the folder as an artifact of the kind "model"."""
        artifact = wandb.Artifact(f"export-{self._run.id}", type="model")
        artifact.add_dir(str(folder))
        self._run.log_artifact(artifact)

    def end(self, *, is_whole: bool) -> None:
        """Closes the run; W&B shows one that was interrupted as failed."""
        self._run.finish(exit_code=0 if is_whole else 1)
