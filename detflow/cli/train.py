"""The command that trains, here or on a cluster."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from detflow.cli.options import LOCATION, PATH, announce, require_ray, runner_options, set_option

if TYPE_CHECKING:
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
    runner: str,
    ray_address: str | None,
) -> None:
    """Train a detector; run it again to resume.

    The newest good checkpoint of the model directory is continued, to the same weights as if
    nothing had happened. The first Ctrl-C or SIGTERM saves and stops, a second one stops at once.
    Where TF_CONFIG describes a cluster, this process is one of it.
    """
    from detflow.api.model import choose_model_dir, list_overrides
    from detflow.config.reading import read_config

    settings = list_overrides(records, overrides, time_budget, overfit)
    config = read_config(config_path, settings)

    from detflow.distributed.topology import read_topology, require_divisible

    target, topology = choose_model_dir(config_path, model_dir), read_topology()
    require_ray(runner, ray_address)
    if parameter_servers and runner == "ray":
        raise click.UsageError("--parameter-servers goes with --runner local, or with TF_CONFIG")
    if workers > 1 or parameter_servers or runner == "ray":
        if topology is not None:
            raise click.UsageError(
                "TF_CONFIG says that this process is one of a cluster; "
                "leave out --workers, --parameter-servers and --runner, or unset it"
            )
        if not parameter_servers:
            require_divisible(config.train.batch_size, workers)
        options = [
            f"--model-dir={_anywhere(target)}",
            *(["--accept-changes"] if accept_changes else []),
        ]
        if runner == "ray":
            from detflow.distributed.ray import run_on_ray
            from detflow.storage.location import parse_location

            placed = config.data.model_copy(
                update={"records": str(_anywhere(parse_location(config.data.records)))}
            )
            sys.exit(
                run_on_ray(
                    config.model_copy(update={"data": placed}),
                    options,
                    num_workers=workers,
                    max_restarts=max_restarts,
                    address=ray_address,
                    announce=announce,
                )
            )

        from detflow.distributed.launcher import run_workers

        options += [f"--config={config_path}", *(f"--set={setting}" for setting in settings)]
        debug = ["--debug"] if click.get_current_context().find_root().params["debug"] else []
        command = [sys.executable, "-m", "detflow", *debug, "train", *options]
        sys.exit(
            run_workers(
                command, workers, max_restarts, announce, num_parameter_servers=parameter_servers
            )
        )
    if topology is not None and topology.has_parameter_servers and not topology.is_chief:
        from detflow.distributed.parameter_servers.server import serve_task

        signum = serve_task(topology, config.runtime.threads)
        sys.exit(0 if signum is None else 128 + signum)

    from detflow.runs.run_dir import RunDir
    from detflow.training.preflight import prepare_start

    run = RunDir(target)
    with run.locked() if topology is None or topology.is_chief else nullcontext():
        start = prepare_start(config, run, accept_changes=accept_changes, topology=topology)

        from detflow.training.recipe import train as run_training

        result = run_training(run, start)
    if topology is not None and not topology.is_chief:
        sys.exit(128 + result.stopped_by if result.stopped_by is not None else 0)
    if result.state and result.state.best_step is not None:
        from detflow.tables import format_metric

        best = f"{target}/ckpt-{result.state.best_step}"
        value = format_metric(result.state.best_value)
        click.echo(f"best checkpoint: {best} ({config.evaluate.metric} {value})")
    if result.stopped_by is not None:
        saved = f"at step {result.state.step:,}" if result.state else "before the first step"
        click.echo(f"stopped {saved}; the same command resumes", err=True)
        sys.exit(128 + result.stopped_by)


def _anywhere(location: Location) -> Location:
    """Returns a location as it reads from any working directory."""
    return location.absolute() if isinstance(location, Path) else location
