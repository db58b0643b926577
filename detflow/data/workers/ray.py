"""Maps a function over many items, in order, on a Ray cluster.

The tasks are the same pure functions as in `processes`, so the bytes that they write are those of
one process. Ray runs a task again if its worker or node is lost. A task may be run again: a file
that it builds appears complete or not at all, and the second one is the same as the first.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import override

from detflow.data.versions import find_versions
from detflow.data.workers.processes import OrderedMap
from detflow.errors import EnvironmentFault
from detflow.text import first_line

Item = TypeVar("Item")
Result = TypeVar("Result")

# So many tasks for each core wait or run, so that no core waits for the driver; and so many results
# for each core may wait for an earlier one.
_TASKS_PER_CORE = 2
_RESULTS_PER_CORE = 4
# Each node that is lost takes one try from every task that it had.
_MAX_RETRIES = 8
_CONNECT_SECONDS = 10.0
_HOST_AND_PORT = re.compile(r"(?:ray://)?\[?([^\[\]/]+)\]?:(\d+)")


class RayMap(OrderedMap):
    """An `OrderedMap` over the cores of a cluster; this process only hands out and collects."""

    def __init__(self, ray: Any, cores: int) -> None:
        self._ray = ray
        self._cores = cores
        self._task = ray.remote(num_cpus=1, max_retries=_MAX_RETRIES)(_run)

    @override
    def __call__(
        self, function: Callable[[Item], Result], items: Iterable[Item], chunk: int
    ) -> Iterator[Result]:
        remaining = iter(items)
        pending: deque[Any] = deque()
        running: list[Any] = []
        try:
            while True:
                if running:
                    _, running = self._ray.wait(
                        running, num_returns=len(running), timeout=0, fetch_local=False
                    )
                while (
                    len(running) < _TASKS_PER_CORE * self._cores
                    and len(pending) < _RESULTS_PER_CORE * self._cores
                ):
                    if not (piece := list(islice(remaining, chunk))):
                        break
                    reference = self._task.remote(find_versions(), function, piece)
                    pending.append(reference)
                    running.append(reference)
                if not pending:
                    return
                results, error = self._ray.get(pending[0])
                pending.popleft()
                yield from results
                if error is not None:
                    raise error
        except self._ray.exceptions.RayError as error:
            cause = f"the Ray cluster failed: {first_line(error)}"
            raise EnvironmentFault(
                cause, remedy="run it again; it goes on after the shards that are finished"
            ) from None
        finally:
            for reference in pending:
                self._ray.cancel(reference)


@contextmanager
def open_cluster(
    address: str | None, jobs: int | None, shared: Sequence[Path] = ()
) -> Iterator[RayMap]:
    """Yields a map over the cores of a Ray cluster.

    Args:
        address: The address of the cluster's head; None takes the one that `RAY_ADDRESS` names, or
            else one on this machine, or else starts a cluster of this machine's cores.
        jobs: The most tasks at a time; None takes all cores.
        shared: Folders that every node must see.

    Raises:
        EnvironmentFault: Ray is not installed, the cluster cannot be reached, or a node does not
            see a folder.
    """
    _require_reachable(address or os.environ.get("RAY_ADDRESS"))
    # Unless told otherwise, Ray reports how it is used and warns of that, and it warns of a change
    # that is to come for accelerators.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray installs a handler of its own, which ends the process with another exit code.
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        import ray
    except ImportError as error:
        raise EnvironmentFault(
            f"Ray is not installed: {error}", remedy="pip install '.[ray]' in the checkout"
        ) from None
    try:
        ray.init(
            address=address,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        cause = f"no Ray cluster: {first_line(error)}"
        raise EnvironmentFault(
            cause, path=address, remedy="check --ray-address, and `ray status` there"
        ) from None
    try:
        signal.signal(signal.SIGTERM, on_terminate)
        cores = int(ray.cluster_resources().get("CPU", 0))
        if not cores:
            raise EnvironmentFault(
                "the Ray cluster has no CPU", path=address, remedy="start its nodes with --num-cpus"
            )
        _require_shared(ray, shared)
        yield RayMap(ray, min(cores, jobs or cores))
    finally:
        ray.shutdown()


def _require_reachable(address: str | None) -> None:
    """Refuses an address where nobody listens; Ray itself would try for many minutes."""
    match = _HOST_AND_PORT.fullmatch(address or "")
    if match is None:
        return
    try:
        socket.create_connection((match[1], int(match[2])), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise EnvironmentFault(
            f"no Ray cluster: {error}",
            path=address,
            remedy="check --ray-address, and `ray status` there",
        ) from None


def _require_shared(ray: Any, folders: Sequence[Path]) -> None:
    """Refuses nodes that do not see a folder; their tasks would report files as removed."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = (
        [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        if folders
        else []
    )
    look = ray.remote(num_cpus=0)(_find_missing)
    strategies = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=True) for node in nodes]
    for host, missing in ray.get(
        [look.options(scheduling_strategy=node).remote(folders) for node in strategies]
    ):
        for folder in missing:
            remedy = "put it on a file system that all nodes share, or into an object store"
            raise EnvironmentFault(
                f"node {host} does not see the folder", path=folder, remedy=remedy
            )


def _find_missing(folders: Sequence[Path]) -> tuple[str, list[Path]]:
    return socket.gethostname(), [folder for folder in folders if not folder.is_dir()]


def _run(
    versions: Mapping[str, str], function: Callable[[Item], Result], items: Sequence[Item]
) -> tuple[list[Result], Exception | None]:
    """Runs a function over items in a worker.

    An error comes back as a value beside the results before it, so that the driver can raise it in
    its turn.
    """
    if find_versions() != versions:
        cause = f"a node has other versions than the driver: {find_versions()}, {versions}"
        return [], EnvironmentFault(
            cause, path=socket.gethostname(), remedy="install the same on all nodes"
        )
    results = []
    for item in items:
        try:
            results.append(function(item))
        except Exception as error:  # noqa: BLE001  It is raised where the results are taken.
            return results, error
    return results, None
