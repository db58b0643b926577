"""Training processes on a Ray cluster.

Ray Train places them, gives them TF_CONFIG, and starts all again when one is lost. What Ray runs is
a small loop beside each process. The process is the same command that `launcher` starts: it needs a
main thread of its own for signals, and TensorFlow's threads set before anything else.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from detflow.config.reading import format_config
from detflow.config.schema import ExperimentConfig
from detflow.data.workers.ray import open_cluster
from detflow.distributed.topology import TF_CONFIG
from detflow.errors import ConfigError, EnvironmentFault
from detflow.process.platform import die_with
from detflow.process.signals import gather_requests
from detflow.text import count_noun

_TICK_SECONDS = 0.5


class _Relay:
    """An actor between the driver and the processes: their lines one way, a signal the other."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._signum = 0
        self._attempt = ""
        self._failure = 0

    def exchange(self, lines: Sequence[str]) -> int:
        """Takes lines of a process; returns the signal that it is to get, or 0."""
        self._lines += lines
        return self._signum

    def end(self, attempt: str, code: int) -> None:
        """Notes the exit code of a process; the first that is not 0 is the cause of the others."""
        if attempt != self._attempt:
            self._attempt, self._failure = attempt, 0
        self._failure = self._failure or code

    def take(self) -> list[str]:
        lines, self._lines = self._lines, []
        return lines

    def stop(self, signum: int) -> None:
        self._signum = signum

    def failure(self) -> int:
        return self._failure


def run_on_ray(
    config: ExperimentConfig,
    options: Sequence[str],
    *,
    num_workers: int,
    max_restarts: int,
    address: str | None,
    announce: Callable[[str], None],
) -> int:
    """Trains on a Ray cluster until all processes have ended.

    Args:
        config: What is to be done. Every node must see its records, and that of the chief, Ray's
            choice, the model directory.
        options: Of `detflow train`, beside `--config`.
        num_workers: Processes.
        max_restarts: How often all are started again, from the last checkpoint, after one was lost.
        address: Of the cluster's head; see `open_cluster`.
        announce: Takes a line for people.

    Returns:
        The exit code, as of `launcher.run_workers`.

    Raises:
        ConfigError: The cluster has too few cores.
        EnvironmentFault: Ray is not installed, the cluster cannot be reached, or processes were
            lost too often.
    """
    with open_cluster(address, None), tempfile.TemporaryDirectory(prefix="detflow-ray-") as storage:
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.tensorflow import TensorflowTrainer

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cores = cores_per_worker([int(node.get("CPU", 0)) for node in nodes], num_workers)
        if not config.runtime.threads:
            config = config.model_copy(
                update={"runtime": config.runtime.model_copy(update={"threads": cores})}
            )
        relay = ray.remote(num_cpus=0)(_Relay).remote()
        trainer = TensorflowTrainer(
            _train,
            train_loop_config={
                "config": format_config(config),
                "options": list(options),
                "relay": relay,
            },
            scaling_config=ScalingConfig(
                num_workers=num_workers,
                resources_per_worker={"CPU": cores},
                use_gpu=sum(int(node.get("GPU", 0)) for node in nodes) >= num_workers,
            ),
            run_config=RunConfig(
                name="detflow",
                storage_path=storage,
                failure_config=FailureConfig(max_failures=max_restarts),
            ),
        )
        with gather_requests() as requests, ThreadPoolExecutor(1) as thread:
            running = thread.submit(trainer.fit)
            while not running.done():
                if len(requests.signums) > 1:
                    # Ends every process of this job.
                    ray.shutdown()
                    return 128 + requests.signums[0]
                if requests.signums:
                    relay.stop.remote(requests.signums[0])
                _pass_on(ray, relay, announce)
                wait([running], _TICK_SECONDS)
            _pass_on(ray, relay, announce)
            if error := running.exception():
                raise EnvironmentFault(
                    f"training on Ray was given up after {count_noun(max_restarts, 'restart')}: "
                    f"{_last_line(error)}",
                    remedy="the same command goes on from the last checkpoint",
                )
        return int(ray.get(relay.failure.remote()))


def cores_per_worker(node_cores: Sequence[int], num_workers: int) -> int:
    """Returns the most cores that each worker can have, all of them on one node.

    Raises:
        ConfigError: There is not one for each.
    """
    for cores in range(max(node_cores, default=0), 0, -1):
        if sum(node // cores for node in node_cores) >= num_workers:
            return cores
    raise ConfigError(
        f"the Ray cluster has {sum(node_cores)} cores for {num_workers} workers",
        remedy="lower --workers, or add nodes",
    )


def _last_line(error: BaseException) -> str:
    """Returns the last line of an error's message, which is where Ray puts the cause."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _pass_on(ray: Any, relay: Any, announce: Callable[[str], None]) -> None:
    for line in ray.get(relay.take.remote()):
        announce(line)


def _train(settings: Mapping[str, Any]) -> None:
    """Runs beside each process, on its node, until it ends; raises where Ray is to restart all."""
    import ray

    relay, topology, parent = settings["relay"], json.loads(os.environ[TF_CONFIG]), os.getpid()
    number = topology["task"]["index"]
    with tempfile.TemporaryDirectory(prefix="detflow-") as folder:
        config_path = Path(folder) / "config.yaml"
        config_path.write_text(settings["config"], encoding="utf-8")
        with subprocess.Popen(  # noqa: S603  The command is our own.
            [
                sys.executable,
                "-m",
                "detflow",
                "train",
                f"--config={config_path}",
                *settings["options"],
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            preexec_fn=lambda: die_with(parent),
        ) as process:
            pipe, tail, is_open, stopped = process.stdout, b"", True, False
            while is_open and pipe is not None:
                lines: list[bytes] = []
                if select.select([pipe], [], [], _TICK_SECONDS)[0]:
                    data = os.read(pipe.fileno(), 1 << 16)
                    *lines, tail = (tail + data).split(b"\n")
                    is_open = bool(data)
                prefix = f"[worker {number}] " if number else ""
                signum = ray.get(
                    relay.exchange.remote(
                        [f"{prefix}{line.decode(errors='replace')}" for line in lines]
                    )
                )
                if signum and not stopped:
                    process.send_signal(signum)
                    stopped = True
            code = process.wait()
    if code < 0:
        raise RuntimeError(f"worker {number} was killed by {signal.Signals(-code).name}")
    ray.get(relay.end.remote(json.dumps(topology["cluster"]), code))
