"""The command that trains, here or on a cluster."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from detflow.cli.options import LOCATION, PATH, announce, require_ray, runner_options, set_option

if TYPE_CHECKING:
    from detflow.config.schema import ExperimentConfig
    from detflow.distributed.topology import Topology
    from detflow.storage.location import Location


@click.command()
@click.option(
    "--config",
    "config_path",
    type=PATH,
    required=True,
    help="YAML file; see configs/ and `detflow config --explain`.",
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
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of processes that train.",
)
@click.option(
    "--parameter-servers",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Number of parameter-server processes; workers then update asynchronously.",
)
@click.option(
    "--max-restarts",
    type=click.IntRange(0),
    default=3,
    show_default=True,
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
    workers: int,
    parameter_servers: int,
    max_restarts: int,
    runner: Literal["local", "ray"],
    ray_address: str | None,
) -> None:
    """Train a detector; run it again to resume.

    The newest good checkpoint of the model directory is continued, to the same weights as if
    nothing had happened. The first Ctrl-C or SIGTERM saves and stops, a second one stops at once.
    Where TF_CONFIG describes a cluster, this process is one of it.
    """
    began = time.monotonic()
    from detflow.api.model import choose_model_dir, list_overrides
    from detflow.config.reading import read_config
    from detflow.distributed.start import Processes, TrainCommand, from_anywhere, start_training

    require_ray(runner, ray_address)
    settings = list_overrides(records, overrides, time_budget, overfit)
    config = read_config(config_path, settings)
    target = choose_model_dir(config_path, model_dir)
    accepts = ["--accept-changes"] if accept_changes else []
    code = start_training(
        config,
        Processes(
            workers=workers,
            parameter_servers=parameter_servers,
            max_restarts=max_restarts,
            runner=runner,
            ray_address=ray_address,
        ),
        TrainCommand(
            settings=(f"--config={config_path}", *(f"--set={setting}" for setting in settings)),
            options=(f"--model-dir={from_anywhere(target)}", *accepts),
            is_debug=click.get_current_context().find_root().params["debug"],
        ),
        lambda topology: _train_here(config, target, topology, accept_changes, began),
        announce,
    )
    if code:
        sys.exit(code)


def _train_here(
    config: ExperimentConfig,
    target: Location,
    topology: Topology | None,
    accept_changes: bool,
    began: float,
) -> int:
    """Trains in this process and tells how it ended; returns the exit code."""
    from detflow.runs.run_dir import RunDir
    from detflow.training.preflight import prepare_start

    run = RunDir(target)
    is_chief = topology is None or topology.is_chief
    with run.locked() if is_chief else nullcontext():
        start = prepare_start(
            config, run, accept_changes=accept_changes, topology=topology, began=began
        )

        from detflow.training.recipe import train as run_recipe

        result = run_recipe(run, start)
    code = 0 if result.stopped_by is None else 128 + result.stopped_by
    if is_chief and result.state and result.state.best_step is not None:
        from detflow.tables import format_metric

        best = f"{target}/ckpt-{result.state.best_step}"
        value = format_metric(result.state.best_value)
        click.echo(f"best checkpoint: {best} ({config.evaluate.metric} {value})")
    if is_chief and code:
        saved = f"at step {result.state.step:,}" if result.state else "before the first step"
        click.echo(f"stopped {saved}; the same command resumes", err=True)
    return code
