"""Where a training runs: in this process, in several that this one starts, or on a Ray cluster.

Does not import TensorFlow.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from detflow.config.schema import ExperimentConfig
from detflow.distributed.topology import Topology, read_topology, require_divisible
from detflow.errors import ConfigError
from detflow.storage.location import Location, parse_location


@dataclass(frozen=True)
class Processes:
    """The processes that are to train together.

    Attributes:
        workers: How many train.
        parameter_servers: How many hold the weights, so that the workers update them
            asynchronously; with 0 the workers share each batch.
        max_restarts: How often processes are started again after one was lost.
        runner: Where they run: here, or on a Ray cluster.
        ray_address: Head of the Ray cluster; None takes RAY_ADDRESS, or starts a cluster here.
    """

    workers: int = 1
    parameter_servers: int = 0
    max_restarts: int = 3
    runner: Literal["local", "ray"] = "local"
    ray_address: str | None = None

    @property
    def are_started(self) -> bool:
        """Whether this process starts others and does not train itself."""
        return self.workers > 1 or self.parameter_servers > 0 or self.runner == "ray"


@dataclass(frozen=True)
class TrainCommand:
    """The command line of `detflow train` for each process that is started.

    Attributes:
        settings: The options that the configuration comes from, `--config` and `--set`.
        options: The other ones; paths are absolute.
        is_debug: Whether tracebacks are shown.
    """

    settings: tuple[str, ...]
    options: tuple[str, ...]
    is_debug: bool = False

    def arguments(self) -> list[str]:
        """Returns the whole command, the interpreter first."""
        debug = ["--debug"] if self.is_debug else []
        return [
            *(sys.executable, "-m", "detflow"),
            *debug,
            *("train", *self.options, *self.settings),
        ]


def start_training(
    config: ExperimentConfig,
    processes: Processes,
    command: TrainCommand,
    train_here: Callable[[Topology | None], int],
    announce: Callable[[str], None],
) -> int:
    """Trains where it is to be done, and waits for the end.

    Args:
        config: The resolved configuration.
        processes: Those that train together.
        command: What each of them runs.
        train_here: Trains in this process, as the part of a cluster that it is given (None alone);
            returns the exit code.
        announce: Takes a line for people.

    Returns:
        The exit code.

    Raises:
        ConfigError: The processes do not go together, or TF_CONFIG is not as it must be.
        EnvironmentFault: Processes cannot be started, or were lost too often.
    """
    topology = read_topology()
    if processes.parameter_servers and processes.runner == "ray":
        raise ConfigError("--parameter-servers goes with --runner local, or with TF_CONFIG")
    if not processes.are_started:
        if topology is not None and topology.has_parameter_servers and not topology.is_chief:
            from detflow.distributed.parameter_servers.server import serve_task

            signum = serve_task(topology, config.runtime.threads)
            return 0 if signum is None else 128 + signum
        return train_here(topology)
    if topology is not None:
        raise ConfigError(
            "TF_CONFIG says that this process is one of a cluster",
            remedy="leave out --workers, --parameter-servers and --runner, or unset it",
        )
    if not processes.parameter_servers:
        require_divisible(config.train.batch_size, processes.workers)
    if processes.runner == "ray":
        from detflow.distributed.ray import run_on_ray

        records = str(from_anywhere(parse_location(config.data.records)))
        placed = config.model_copy(
            update={"data": config.data.model_copy(update={"records": records})}
        )
        return run_on_ray(
            placed,
            command.options,
            num_workers=processes.workers,
            max_restarts=processes.max_restarts,
            address=processes.ray_address,
            announce=announce,
        )
    from detflow.distributed.launcher import run_workers

    return run_workers(
        command.arguments(),
        processes.workers,
        processes.max_restarts,
        announce,
        num_parameter_servers=processes.parameter_servers,
    )


def from_anywhere(location: Location) -> Location:
    """Returns a location as it reads from any working directory."""
    return location.absolute() if isinstance(location, Path) else location
