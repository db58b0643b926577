"""The chief of a cluster with parameter servers: it connects to the others and hands out functions to run.

The weights live on the parameter servers, one variable here, the next there. A worker reads them,
computes, and sends its update, while others do the same: nobody waits for anybody (Dean et al.
2012, "Large scale distributed deep networks").
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from detflow.distributed.team import MirroredTeam
from detflow.distributed.topology import Topology, split_address
from detflow.errors import ConfigError, EnvironmentFault
from detflow.process.ending import require_immediate_exit
from detflow.process.quiet import native_stderr_closed
from detflow.text import first_line

# A scheduler may take this long to start all processes of a run.
_GATHER_SECONDS = 3600.0
_TICK_SECONDS = 0.5
_ANSWER_SECONDS = 5.0
# Messages that a lost or replaced server causes where the class of the error does not tell.
_LOST_MARKS = ("unknown device", "Unable to find the relevant tensor remote_handle")


class Coordinator:
    """The connection to parameter servers and workers, made once in a process.

    Args:
        topology: Of the cluster; this process is its chief.
        announce: Takes a line for people where processes are waited for.

    Attributes:
        num_workers: Processes that take steps.
        team: Its variables live on the parameter servers, and its functions are for the workers.

    Raises:
        ConfigError: The workers have several GPUs each.
        EnvironmentFault: The others do not come.
    """

    def __init__(self, topology: Topology, announce: Callable[[str], None]) -> None:
        _await_servers(topology, announce)
        cluster = tf.train.ClusterSpec(
            {job: list(hosts) for job, hosts in topology.cluster.items()}
        )
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            cluster, task_type=topology.job, task_id=topology.index, rpc_layer="grpc"
        )
        # TensorFlow logs each error of a worker at length, images included; an error that it cannot
        # recover from arrives as an exception.
        tf.get_logger().setLevel("CRITICAL")
        # The server that the strategy starts prints its address.
        with native_stderr_closed():
            strategy = tf.distribute.ParameterServerStrategy(resolver)
        if strategy.num_replicas_in_sync > 1:
            raise ConfigError(
                f"each worker has {strategy.num_replicas_in_sync} GPUs; with parameter servers a worker uses one",
                remedy="start a worker for each GPU, which CUDA_VISIBLE_DEVICES shows it alone",
            )
        self.num_workers = topology.num_workers
        self.team = MirroredTeam(strategy)
        # The coordinator's finaliser waits for a thread that reconnects to a lost worker. In a
        # process that ends that thread no longer runs, so the finaliser would wait for ever.
        require_immediate_exit()
        self._coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)

    def schedule(
        self, function: tf.types.experimental.ConcreteFunction, *args: Any
    ) -> tf.distribute.coordinator.RemoteValue:
        """Hands a function to the next free worker; where that is lost, to another one.

        The function must have been traced before: TensorFlow sends a new one to all processes,
        which must not be busy then.

        Returns:
            A value whose `fetch` waits for the result.
        """
        return self._coordinator.schedule(function, args=args)


@contextlib.contextmanager
def lost_servers() -> Iterator[None]:
    """Turns the loss of a parameter server inside the block into `EnvironmentFault`; the steps of a lost worker go to others."""
    try:
        yield
    except tf.errors.OpError as error:
        is_lost = isinstance(
            error, (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)
        )
        if not is_lost and not any(mark in error.message for mark in _LOST_MARKS):
            raise
        # The first line may say only that executing a graph failed.
        reason = next(
            (line for line in error.message.splitlines() if "remote target" in line),
            first_line(error.message or type(error).__name__),
        )
        raise EnvironmentFault(
            f"the chief has lost a parameter server: {reason.strip()}",
            remedy="start all of them again: the run goes on from its last checkpoint",
        ) from None


def answers(address: str) -> bool:
    """Tells whether anybody listens at `host:port`."""
    try:
        socket.create_connection(split_address(address), _ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


def _await_servers(topology: Topology, announce: Callable[[str], None]) -> None:
    """Waits until parameter servers and workers listen: TensorFlow would wait without a word."""
    missing = [
        f"{job} {index} at {host}"
        for job in ("ps", "worker")
        for index, host in enumerate(topology.cluster[job])
    ]
    last_told, end = "", time.monotonic() + _GATHER_SECONDS
    while missing := [task for task in missing if not answers(task.rpartition(" ")[2])]:
        if time.monotonic() > end:
            raise EnvironmentFault(
                f"waited {_GATHER_SECONDS:.0f} s for {', '.join(missing)}",
                remedy="start them, or mend TF_CONFIG",
            )
        if (waiting := f"waiting for {', '.join(missing)}") != last_told:
            announce(waiting)
            last_told = waiting
        time.sleep(_TICK_SECONDS)
