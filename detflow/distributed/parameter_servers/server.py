"""A parameter server or a worker of one: it does what the chief asks until the chief has ended."""

from __future__ import annotations

import os
import time

import tensorflow as tf

from detflow.distributed.parameter_servers.coordinator import answers
from detflow.distributed.topology import Topology
from detflow.errors import EnvironmentFault
from detflow.process.quiet import native_stderr_closed
from detflow.process.signals import Requests, gather_requests

# Before the chief listens it may have to fetch and verify records, or wait for a machine.
_FIRST_CONTACT_SECONDS = 3600.0
# Servers outlive their chief by this long, so that one that was killed and started again finds
# them.
_GONE_SECONDS = 60.0
_TICK_SECONDS = 1.0
# Operations that wait for other processes hold a thread. With one a core, a worker of one core
# waited for ever.
_INTER_OP_THREADS = 16


def serve_task(topology: Topology, threads: int) -> int | None:
    """Serves the chief until it is gone.

    A signal only shortens the wait for that, so that the chief can still save.

    Args:
        topology: Of the cluster; this process is a parameter server or a worker.
        threads: For computing; 0 takes one a core.

    Returns:
        The signal that was to stop this process, or None.

    Raises:
        EnvironmentFault: The port is taken, or no chief came.
    """
    (chief,) = topology.cluster["chief"]
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=threads,
        inter_op_parallelism_threads=max(threads, _INTER_OP_THREADS),
    )
    cluster = tf.train.ClusterSpec({job: list(hosts) for job, hosts in topology.cluster.items()})
    # The server prints all that it does; the chief hears of what goes wrong.
    with native_stderr_closed():
        try:
            server = tf.distribute.Server(
                cluster, topology.job, topology.index, protocol="grpc", config=config
            )
        except tf.errors.OpError:
            address = topology.cluster[topology.job][topology.index]
            raise EnvironmentFault(
                f"{topology} cannot listen at {address}", remedy="another process has the port"
            ) from None
        # Only now: starting the server makes TensorFlow take SIGTERM for itself.
        with gather_requests() as requests:
            signum = _outlast(chief, topology, requests)
        # A reference kept it alive: a server stops when it is garbage-collected.
        del server
    return signum


def _outlast(chief: str, topology: Topology, requests: Requests) -> int | None:
    began, last_seen = time.monotonic(), None
    while True:
        now, signums = time.monotonic(), requests.signums
        if len(signums) > 1:
            os._exit(128 + signums[0])
        if answers(chief):
            last_seen = now
        elif signums or (last_seen is not None and now - last_seen > _GONE_SECONDS):
            return signums[0] if signums else None
        elif last_seen is None and now - began > _FIRST_CONTACT_SECONDS:
            raise EnvironmentFault(
                f"{topology} waited {now - began:.0f} s for a chief at {chief}", remedy="start it"
            )
        time.sleep(_TICK_SECONDS)
