"""Joining the team that trains."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from detflow.distributed.parameter_servers.coordinator import Coordinator
from detflow.distributed.parameter_servers.team import ServersTeam
from detflow.distributed.team import MirroredTeam, Team, WorkersTeam
from detflow.distributed.topology import Topology
from detflow.process.quiet import native_stderr_closed


def join_team(topology: Topology | None, announce: Callable[[str], None]) -> Team:
    """Decides what a training runs on, and meets the other processes where there are any.

    Args:
        topology: This process' place in a cluster; None trains alone, on all GPUs that TensorFlow
            sees, or on the CPU.
        announce: Takes a line for people where other processes are waited for.

    Raises:
        ConfigError: The workers of parameter servers have several GPUs each.
        EnvironmentFault: The parameter servers or their workers do not come.
    """
    if topology is not None and topology.has_parameter_servers:
        return ServersTeam(Coordinator(topology, announce), topology)
    # Model Garden asks for synchronised batch norms by a name that TensorFlow calls outdated, which
    # is a line for each of them.
    tf.get_logger().setLevel("ERROR")
    if topology is not None:
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({job: list(hosts) for job, hosts in topology.cluster.items()}),
            task_type=topology.job,
            task_id=topology.index,
            rpc_layer="grpc",
        )
        # The server that the strategy starts prints its address.
        with native_stderr_closed():
            return WorkersTeam(tf.distribute.MultiWorkerMirroredStrategy(resolver), topology)
    gpus = tf.config.list_logical_devices("GPU")
    return (
        MirroredTeam(tf.distribute.MirroredStrategy([gpu.name for gpu in gpus]))
        if len(gpus) > 1
        else Team()
    )
