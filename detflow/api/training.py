"""The front door's function that trains, and the same for a process of a cluster."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from detflow.api.common import Place
from detflow.api.settings import Config, choose_model_dir, read_settings
from detflow.process.libraries import require_library
from detflow.storage.location import Location

if TYPE_CHECKING:
    from detflow.config.schema import ExperimentConfig
    from detflow.distributed.topology import Topology
    from detflow.training.loop import Action


@dataclass(frozen=True)
class Training:
    """How a training ended.

    Attributes:
        model_dir: The model directory.
        step: The step of the last checkpoint; 0 where the training was stopped before its first.
        best_checkpoint: The checkpoint whose metric was best; None where nothing was evaluated.
        metrics: The metrics of that checkpoint on the evaluation split, by name, such as "AP50".
            None stands for what cannot be measured.
        stopped_by: The number of the signal that ended the training early; None where it ran to its
            end. Another call with the same arguments goes on.
    """

    model_dir: Location
    step: int
    best_checkpoint: Location | None
    metrics: Mapping[str, float | None]
    stopped_by: int | None


def train(
    config: Config,
    *,
    records: Place | None = None,
    model_dir: Place | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    time_budget: str | float | None = None,
    overfit: int | None = None,
    accept_changes: bool = False,
    actions: Sequence[Action] = (),
    progress: bool = False,
) -> Training:
    """Trains a detector in this process; called again, it resumes.

    The newest good checkpoint of the model directory is continued, to the same weights as if
    nothing had happened. In the main thread the first SIGINT or SIGTERM saves and stops, and a
    second one stops at once.

    Args:
        config: The configuration: the object that `init` returns, a dict of its sections, or the
            path of a YAML file.
        records: The records directory, instead of the configuration's `data.records`.
        model_dir: The folder for checkpoints and logs; a path or a URL. Where the configuration is
            a file, the default is runs/ and the file's name.
        overrides: Settings that replace the configuration's: {"train.steps": 600}, or
            ["train.steps=600"].
        time_budget: Train for this long instead of `train.steps`: seconds, or a text such as "12m".
            Evaluations count.
        overfit: Train on this many images only, to see whether the path can learn.
        accept_changes: Whether to resume although data, configuration or machine differ; the
            changes are recorded.
        actions: What else is to happen after each step; see `Action`.
        progress: Whether to show the training's progress on stderr.

    Returns:
        The best checkpoint, its metrics, and how the training ended.

    Raises:
        ConfigError: The configuration is wrong, or the run was started differently.
        DataError: There is nothing to train on, or an image cannot be decoded.
        ArtifactError: Records or checkpoints are damaged, or the loss is no longer finite.
        EnvironmentFault: The machine refuses: disk, permission or memory.
        Locked: Another process trains in the same model directory.
    """
    began = time.monotonic()
    require_library("tensorflow", "training")
    settings = read_settings(
        config, records=records, overrides=overrides, time_budget=time_budget, overfit=overfit
    )
    location = choose_model_dir(config, model_dir)
    return train_here(
        settings,
        location,
        accept_changes=accept_changes,
        actions=actions,
        silent=not progress,
        began=began,
    )


def train_here(
    config: ExperimentConfig,
    model_dir: Location,
    *,
    accept_changes: bool = False,
    actions: Sequence[Action] = (),
    silent: bool = False,
    topology: Topology | None = None,
    began: float | None = None,
) -> Training:
    """Trains in this process, alone or as a part of a cluster.

    Args:
        config: The resolved configuration.
        model_dir: The model directory. The chief of a cluster alone holds its lock.
        accept_changes: As in `train`.
        actions: As in `train`.
        silent: Whether to show nothing on stderr.
        topology: The processes that train together; None for one.
        began: When a time budget began, in seconds of `time.monotonic`; None for now.

    Raises:
        DetflowError: As in `train`.
    """
    from detflow.runs.run_dir import RunDir
    from detflow.runs.states import is_checkpoint, read_state
    from detflow.training.preflight import prepare_start

    run = RunDir(model_dir)
    with run.locked() if topology is None or topology.is_chief else contextlib.nullcontext():
        start = prepare_start(
            config, run, accept_changes=accept_changes, topology=topology, began=began
        )

        from detflow.training.recipe import train as run_recipe

        result = run_recipe(run, start, actions, silent=silent)
        best = result.state.best_step if result.state else None
        # A best checkpoint that somebody has removed since is still named.
        path = None if best is None else run.checkpoint_path(best)
        return Training(
            model_dir=model_dir,
            step=result.state.step if result.state else 0,
            best_checkpoint=None if best is None else model_dir / f"ckpt-{best}",
            metrics=read_state(path).metrics if path and is_checkpoint(path) else {},
            stopped_by=result.stopped_by,
        )
