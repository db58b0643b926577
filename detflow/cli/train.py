"""The command that trains, here or on a cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from detflow.cli.options import (
    LOCATION,
    PATH,
    FieldOption,
    announce,
    given,
    require_ray,
    runner_options,
    set_option,
)
from detflow.cli.output import print_text
from detflow.cli.talk import is_debug
from detflow.progress import is_quiet

if TYPE_CHECKING:
    from detflow.config.schema import ExperimentConfig
    from detflow.distributed.topology import Topology
    from detflow.storage.location import Location

_PROCESSES = "detflow.distributed.start:Processes"


@click.command()
@click.option(
    "--config",
    "config_path",
    type=PATH,
    required=True,
    help="YAML file, as `detflow init` writes one; `detflow config --explain` lists the settings.",
)
@click.option(
    "--records", type=LOCATION, help="Records directory, instead of the file's data.records."
)
@click.option(
    "--model-dir",
    type=LOCATION,
    help="Where checkpoints and logs go.  [default: runs/ and the config's name]",
)
@set_option
@click.option(
    "--time-budget",
    metavar="12m",
    help="Train for this long instead of train.steps; evaluations count.",
)
@click.option(
    "--overfit",
    type=click.IntRange(1),
    metavar="N",
    help="Train on N images only, to see whether the path can learn.",
)
@click.option(
    "--accept-changes",
    is_flag=True,
    help="Resume although data, config or machine differ; the changes are recorded.",
)
@click.option(
    "--workers",
    cls=FieldOption,
    field=f"{_PROCESSES}.workers",
    type=click.IntRange(1),
    help="Number of processes that train.",
)
@click.option(
    "--parameter-servers",
    cls=FieldOption,
    field=f"{_PROCESSES}.parameter_servers",
    type=click.IntRange(0),
    help="Number of parameter-server processes; workers then update asynchronously.",
)
@click.option(
    "--max-restarts",
    cls=FieldOption,
    field=f"{_PROCESSES}.max_restarts",
    type=click.IntRange(0),
    help="How often to restart after a process is lost.",
)
@runner_options("Where the workers run: on this machine, or on a Ray cluster.")
def train(
    config_path: Path,
    records: Location | None,
    model_dir: Location | None,
    overrides: tuple[str, ...],
    time_budget: str | None,
    overfit: int | None,
    accept_changes: bool,
    runner: Literal["local", "ray"],
    ray_address: str | None,
    **processes: int | None,
) -> None:
    """Train a detector; run it again to resume.

    The newest good checkpoint of the model directory is continued, to the same weights as if
    nothing had happened. The first Ctrl-C or SIGTERM saves and stops, a second one stops at once.
    Where TF_CONFIG describes a cluster, this process is one of it.
    """
    from detflow.api.settings import choose_model_dir, list_overrides, read_settings
    from detflow.distributed.start import Processes, TrainCommand, from_anywhere, start_training
    from detflow.process.libraries import require_library
    from detflow.process.platform import process_start

    require_ray(runner, ray_address)
    if runner == "local":
        require_library("tensorflow", "training")
    settings = list_overrides(records, overrides, time_budget, overfit)
    config = read_settings(config_path, overrides=settings)
    target = choose_model_dir(config_path, model_dir)
    command = TrainCommand(
        (f"--config={config_path}", *(f"--set={setting}" for setting in settings)),
        (
            f"--model-dir={from_anywhere(target)}",
            *(["--accept-changes"] if accept_changes else []),
        ),
        is_debug=is_debug(sys.argv),
    )
    sys.exit(
        start_training(
            config,
            Processes(runner=runner, ray_address=ray_address, **given(processes)),
            command,
            lambda topology: _train_here(config, target, accept_changes, topology, process_start()),
            announce,
        )
    )


def _suggest_next(config: ExperimentConfig, target: Location) -> str:
    """Returns the command that judges what was trained, or exports it where nothing is left."""
    from detflow.data.records.manifest import read_manifest
    from detflow.storage.location import parse_location

    records = parse_location(config.data.records)
    if isinstance(records, Path) and "test" in read_manifest(records).splits:
        options = f"--model {target} --records {records} --output reports/{target.name}"
        return f"detflow evaluate {options}"
    return f"detflow export --ckpt {target} --output exports/{target.name}"


def _train_here(
    config: ExperimentConfig,
    target: Location,
    accept_changes: bool,
    topology: Topology | None,
    began: float,
) -> int:
    """Trains in this process, says how that ended, and returns the exit code."""
    from detflow.api.training import train_here
    from detflow.process.ending import require_immediate_exit
    from detflow.process.platform import keep_freed_memory

    keep_freed_memory()
    result = train_here(
        config,
        target,
        accept_changes=accept_changes,
        silent=is_quiet(),
        topology=topology,
        began=began,
    )
    if topology is None:
        # Everything is saved, and nobody else needs this process. Python would take TensorFlow's
        # objects apart one by one first, for seconds that a time budget does not have.
        require_immediate_exit()
    stopped = 0 if result.stopped_by is None else 128 + result.stopped_by
    if topology is not None and not topology.is_chief:
        return stopped
    if result.best_checkpoint is not None:
        from detflow.tables import format_metric

        name = config.evaluate.metric
        value = format_metric(result.metrics.get(name))
        print_text(f"best checkpoint: {result.best_checkpoint} ({name} {value})")
    if stopped:
        saved = f"at step {result.step:,}" if result.step else "before the first step"
        print_text(f"stopped {saved}; the same command resumes", err=True)
    elif result.step:
        announce(f"next: {_suggest_next(config, target)}")
    return stopped
