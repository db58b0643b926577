"""Which processes train together, as TF_CONFIG says it. Does not import TensorFlow.

TF_CONFIG is what Kubeflow, Vertex AI and scripts for SLURM tell a process about its cluster in
(https://www.tensorflow.org/guide/distributed_training#TF_CONFIG). It is text from outside: nothing
in it is believed unread.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detflow.errors import ConfigError

TF_CONFIG = "TF_CONFIG"
_MAX_BYTES = 1 << 20
# A chief trains as the workers do, and decides beside it; with parameter servers it only hands out
# the steps.
_TRAINING_JOBS = ("chief", "worker")
_JOBS = (*_TRAINING_JOBS, "ps")
_REFUSED_JOBS = {"evaluator": "leave it out: the chief evaluates"}
# A name or IPv4 address, or an IPv6 address in brackets; then the port.
_ADDRESS = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\]):(\d{1,5})")


@dataclass(frozen=True)
class Topology:
    """A cluster as one of its processes sees it.

    Attributes:
        cluster: `host:port` of every process by its job: `chief`, `worker`, `ps`.
        job: This process' job.
        index: Its number among those of its job.
    """

    cluster: Mapping[str, tuple[str, ...]]
    job: str
    index: int

    @property
    def has_parameter_servers(self) -> bool:
        """Whether the weights live on parameter servers.

        Then each worker takes whole steps that the chief gives it.
        """
        return "ps" in self.cluster

    @property
    def num_workers(self) -> int:
        """Processes that train: the workers and, without parameter servers, the chief."""
        jobs = ("worker",) if self.has_parameter_servers else _TRAINING_JOBS
        return sum(len(self.cluster.get(job, ())) for job in jobs)

    @property
    def is_chief(self) -> bool:
        """Whether this process writes and decides: the chief or, without one, the first worker."""
        return self.index == 0 and self.job == next(
            job for job in _TRAINING_JOBS if job in self.cluster
        )

    def __str__(self) -> str:
        return f"{self.job} {self.index}"


def read_topology() -> Topology | None:
    """Reads this process' place in a cluster from its environment; None where it trains alone.

    Raises:
        ConfigError: TF_CONFIG is not as it must be.
    """
    text = os.environ.get(TF_CONFIG, "")
    return parse_topology(text) if text.strip() else None


def parse_topology(text: str) -> Topology | None:
    """Like `read_topology`, from the text of TF_CONFIG."""
    if len(text) > _MAX_BYTES:
        raise _fault(f"longer than {_MAX_BYTES:,} characters")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _fault(f"not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise _fault("expected a JSON object")
    # Vertex AI and Kubeflow set it for a single process as well.
    if not content.get("cluster"):
        return None
    cluster = _read_cluster(content["cluster"])
    job, index = _read_task(content.get("task"), cluster)
    if content.get("rpc_layer", "grpc") != "grpc":
        raise _fault(f"rpc_layer is {content['rpc_layer']!r}", "grpc is what is built in")
    topology = Topology(cluster, job, index)
    return topology if topology.num_workers > 1 or topology.has_parameter_servers else None


def format_topology(cluster: Mapping[str, Sequence[str]], job: str, index: int) -> str:
    """Returns the TF_CONFIG of a process."""
    return json.dumps(
        {
            "cluster": {name: list(hosts) for name, hosts in cluster.items()},
            "task": {"type": job, "index": index},
        }
    )


def split_address(address: str) -> tuple[str, int]:
    """Returns host and port of an address of a topology; brackets around an IPv6 address go."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def require_divisible(batch_size: int, num_replicas: int) -> None:
    """Refuses a batch that cannot be split evenly.

    Raises:
        ConfigError: With the nearest sizes that can.
    """
    if batch_size % num_replicas:
        below, above = (
            batch_size // num_replicas * num_replicas,
            -(-batch_size // num_replicas) * num_replicas,
        )
        near = f"{below} or {above}" if below else f"{above}"
        raise ConfigError(
            f"train.batch_size {batch_size} cannot be split evenly over {num_replicas} replicas",
            remedy=f"set it to {near}, or change the number of workers",
        )


def _read_cluster(value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise _fault("cluster must be an object that lists addresses by job")
    for job in sorted(set(value) - set(_JOBS)):
        raise _fault(
            f"cluster has the job {job!r}", _REFUSED_JOBS.get(job, f"known are {', '.join(_JOBS)}")
        )
    cluster = {}
    seen: set[str] = set()
    for job, hosts in value.items():
        if not isinstance(hosts, list):
            raise _fault(f"cluster.{job} must be a list of addresses")
        for host in hosts:
            match = _ADDRESS.fullmatch(host) if isinstance(host, str) else None
            if match is None or not 0 < int(match.group(1)) < 1 << 16:
                raise _fault(f"cluster.{job} has {host!r}, expected host:port")
            if host in seen:
                raise _fault(f"cluster has {host} twice")
            seen.add(host)
        if hosts:
            cluster[job] = tuple(hosts)
    if len(cluster.get("chief", ())) > 1:
        raise _fault("cluster has more than one chief")
    if not any(job in cluster for job in _TRAINING_JOBS):
        raise _fault("cluster has nobody to train: neither a chief nor a worker")
    if "ps" in cluster and "chief" not in cluster:
        raise _fault(
            "cluster has parameter servers and no chief",
            "add a chief: it hands out the steps, evaluates and saves",
        )
    if "ps" in cluster and "worker" not in cluster:
        raise _fault(
            "cluster has parameter servers and no worker", "add workers: the chief does not train"
        )
    return cluster


def _read_task(value: Any, cluster: Mapping[str, tuple[str, ...]]) -> tuple[str, int]:
    if not isinstance(value, dict):
        raise _fault("task is missing", 'add "task": {"type": …, "index": …}')
    job, index = value.get("type"), value.get("index")
    if not isinstance(job, str) or job not in cluster:
        raise _fault(f"task.type is {job!r}, the cluster has {', '.join(cluster)}")
    # Launchers that write it from a shell variable make it text.
    if isinstance(index, str) and re.fullmatch("[0-9]{1,6}", index):
        index = int(index)
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(cluster[job]):
        raise _fault(f"task.index is {index!r}, the cluster has {len(cluster[job])} of {job}")
    return job, index


def _fault(cause: str, remedy: str = "unset TF_CONFIG to train on one machine") -> ConfigError:
    return ConfigError(f"TF_CONFIG: {cause}", remedy=remedy)
