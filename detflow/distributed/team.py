"""What a training runs on: one device, several of one machine, or several processes; and how the processes agree.

All of them compute the same steps on their own rows of each batch. One of them, the chief, decides
whatever is not a function of the step, and is the only one that writes.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from detflow.distributed.topology import Topology, require_divisible
from detflow.errors import ArtifactError, EnvironmentFault
from detflow.process.quiet import native_stderr_closed
from detflow.text import first_line

__all__ = ["Distribution", "find_distribution"]


class Distribution:
    """Replicas that train together. Without a strategy there is one.

    Args:
        strategy: Of the replicas; None for one device, which TensorFlow chooses.
        topology: Of the processes; None for one.

    Attributes:
        num_replicas: Devices that share each batch, over all processes.
        num_workers: Processes.
        is_chief: Whether this process decides and writes.
    """

    def __init__(
        self, strategy: tf.distribute.Strategy | None = None, topology: Topology | None = None
    ) -> None:
        self._strategy = strategy
        self._topology = topology
        self.num_replicas: int = strategy.num_replicas_in_sync if strategy else 1
        self.num_workers = topology.num_workers if topology else 1
        self.is_chief = topology is None or topology.is_chief
        self._local_replicas = self.num_replicas // self.num_workers
        self._total = (
            tf.function(self._sum_over_workers, autograph=False) if self.num_workers > 1 else None
        )

    def __str__(self) -> str:
        """Tells what the batch is split over, for a line that goes on; empty for one device."""
        if self.num_replicas == 1:
            return ""
        processes = f" of {self.num_workers} processes" if self.num_workers > 1 else ""
        return f"{self.num_replicas} replicas{processes}, "

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Variables made inside the block exist on every replica, with equal values."""
        if self._strategy is None:
            yield
        else:
            with self._strategy.scope(), tf.variable_creator_scope(_equal_on_all_replicas):
                yield

    def rows(self, batch_size: int, num_batches: int) -> npt.NDArray[np.int64]:
        """Returns which images of a step this process computes: those of its first replica, then those of the next.

        Each replica has an equal part of each batch, in order.

        Args:
            batch_size: Images of a batch.
            num_batches: Batches of a step.

        Raises:
            ConfigError: A batch cannot be split evenly.
        """
        require_divisible(batch_size, self.num_replicas)
        numbers = np.arange(num_batches * batch_size, dtype=np.int64)
        by_replica = numbers.reshape(num_batches, self.num_replicas, -1).swapaxes(0, 1)
        first = self._worker_index * self._local_replicas
        rows: npt.NDArray[np.int64] = by_replica[first : first + self._local_replicas].reshape(-1)
        return rows

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Runs a function on every replica of this process; called inside a `tf.function`.

        Args:
            function: (number of the replica in this process, *args) → tensors that are equal on all
                replicas.
            args: Tensors of this process.
        """
        if self._strategy is None:
            return function(tf.constant(0), *args)

        def run_replica(*args: Any) -> Any:
            context = tf.distribute.get_replica_context()
            return function(
                context.replica_id_in_sync_group - self._worker_index * self._local_replicas, *args
            )

        results = self._strategy.run(run_replica, args)
        return tf.nest.map_structure(
            lambda value: self._strategy.experimental_local_results(value)[0], results
        )

    def share(self, values: Sequence[int]) -> list[int]:
        """Returns the chief's integers to all processes, which all call this; those of the others do not count."""
        return self.total(values if self.is_chief else [0] * len(values))

    def total(self, values: Sequence[int]) -> list[int]:
        """Returns the sums over the processes of equally many integers; all processes call this."""
        if self._total is None:
            return list(values)
        with self.lost_workers():
            return [int(value) for value in self._total(tf.constant(values, tf.int64)).numpy()]

    def share_variables(self, variables: Sequence[tf.Variable]) -> None:
        """Gives the chief's values to all processes."""
        if self._strategy is None or self.num_workers == 1:
            return

        # Those of one type travel together.
        for dtype in {variable.dtype: None for variable in variables}:
            self._share_variables([variable for variable in variables if variable.dtype == dtype])

    def require_equal(self, variables: Sequence[tf.Variable]) -> None:
        """Compares the values of all processes with the chief's, bit by bit; all processes call this.

        Raises:
            ArtifactError: They differ. Then a step was not the same everywhere, and no checkpoint
                of the run is to be trusted.
        """
        if self.num_workers == 1:
            return
        digest = hashlib.sha256()
        for variable in variables:
            digest.update(variable.numpy().tobytes())
        mine = int.from_bytes(digest.digest()[:8], "big") >> 1
        (theirs,) = self.share([mine])
        (num_different,) = self.total([int(mine != theirs)])
        if num_different:
            raise ArtifactError(
                f"the weights of {num_different} of {self.num_workers} workers are not those of the chief"
            )

    @contextlib.contextmanager
    def lost_workers(self) -> Iterator[None]:
        """Turns the loss of another process inside the block into `EnvironmentFault`."""
        if self.num_workers == 1:
            yield
            return
        try:
            yield
        except (
            tf.errors.UnavailableError,
            tf.errors.AbortedError,
            tf.errors.CancelledError,
            tf.errors.InternalError,
        ) as error:
            raise EnvironmentFault(
                f"{self._topology} has lost another worker: {first_line(error.message or type(error).__name__)}",
                remedy="start all of them again: the run goes on from its last checkpoint",
            ) from None

    @property
    def _worker_index(self) -> int:
        topology = self._topology
        if topology is None:
            return 0
        return topology.index + (
            len(topology.cluster.get("chief", ())) if topology.job == "worker" else 0
        )

    def _share_variables(self, variables: Sequence[tf.Variable]) -> None:
        def take(replica: tf.Tensor) -> list[tf.Tensor]:
            counts = (replica == 0) & self.is_chief
            mine = [tf.where(counts, variable, tf.zeros_like(variable)) for variable in variables]
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, mine)  # type: ignore[no-any-return]

        with self.lost_workers():
            for variable, value in zip(
                variables, tf.function(lambda: self.run(take), autograph=False)(), strict=True
            ):
                variable.assign(value)

    def _sum_over_workers(self, values: tf.Tensor) -> tf.Tensor:
        def add(replica: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
            mine = tf.where(replica == 0, values, tf.zeros_like(values))
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, mine)

        return self.run(add, values)


def find_distribution(topology: Topology | None) -> Distribution:
    """Decides what a training runs on, and meets the other processes where there are any.

    Args:
        topology: This process' place in a cluster; None trains alone, on all GPUs that TensorFlow
            sees, or on the CPU.
    """
    # Model Garden asks for synchronised batch norms by a name that TensorFlow calls outdated, a
    # line for each.
    tf.get_logger().setLevel("ERROR")
    if topology is not None:
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({job: list(hosts) for job, hosts in topology.cluster.items()}),
            task_type=topology.job,
            task_id=topology.index,
            rpc_layer="grpc",
        )
        # The server that it starts tells its address.
        with native_stderr_closed():
            return Distribution(tf.distribute.MultiWorkerMirroredStrategy(resolver), topology)
    gpus = tf.config.list_logical_devices("GPU")
    return Distribution(
        tf.distribute.MirroredStrategy([gpu.name for gpu in gpus]) if len(gpus) > 1 else None
    )


def _equal_on_all_replicas(create: Callable[..., tf.Variable], **kwargs: Any) -> tf.Variable:
    """Makes a variable mirrored that would have another value on each replica: the statistics of synchronised batch norms.

    All replicas assign it the same value, and reading it in the chief alone waits for nobody.
    """
    if kwargs.get("synchronization") == tf.VariableSynchronization.ON_READ:
        kwargs["synchronization"] = tf.VariableSynchronization.ON_WRITE
        kwargs["aggregation"] = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return create(**kwargs)
