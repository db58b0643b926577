"""Who trains together: one device, several of one machine, or several processes; and how they agree.

All members of a team compute the same steps, each on its own rows of every batch. One process, the
chief, decides whatever is not a function of the step, and is the only one that writes. A team of
one answers the same questions, so that nobody needs to ask how many there are.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from typing_extensions import override

from detflow.distributed.steps import BuildTrainee, ImmediateSteps, Steps, Trainee
from detflow.distributed.topology import Topology, require_divisible
from detflow.errors import ArtifactError, EnvironmentFault
from detflow.text import first_line


class Team:
    """A team of one: this process alone, on the device that TensorFlow chooses.

    Attributes:
        num_replicas: Devices that share each batch, over all processes.
        num_workers: Processes that compute each step together.
        is_chief: Whether this process decides and writes.
    """

    num_replicas: int = 1
    num_workers: int = 1
    is_chief: bool = True

    def __str__(self) -> str:
        """Returns what the batch is split over, as the beginning of a line; empty for one device."""
        return "" if self.num_replicas == 1 else f"{self.num_replicas} replicas{self._processes}, "

    def notes(self) -> Iterator[str]:
        """Yields lines for people about how this team trains."""
        yield from ()

    def scope(self) -> contextlib.AbstractContextManager[None]:
        """Variables that are made inside the block exist on every replica, with equal values."""
        return contextlib.nullcontext()

    def rows(self, batch_size: int, num_batches: int) -> npt.NDArray[np.int64]:
        """Returns which images of a step this process computes.

        Each replica has an equal part of each batch, in order. The rows are those of the first
        replica of this process, then those of the next.

        Args:
            batch_size: Images of a batch.
            num_batches: Batches of a step.

        Raises:
            ConfigError: A batch cannot be split evenly.
        """
        require_divisible(batch_size, self.num_replicas)
        numbers = np.arange(num_batches * batch_size, dtype=np.int64)
        by_replica = numbers.reshape(num_batches, self.num_replicas, -1).swapaxes(0, 1)
        first = self._first_replica
        rows: npt.NDArray[np.int64] = by_replica[first : first + self._local_replicas].reshape(-1)
        return rows

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Runs a function on every replica of this process; called inside a `tf.function`.

        Args:
            function: (number of the replica in this process, *args) → tensors that are equal on all
                replicas.
            args: Tensors of this process.
        """
        return function(tf.constant(0), *args)

    def build_steps(self, trainee: Trainee, build_trainee: BuildTrainee) -> Steps:
        """Returns what takes the steps of a training, compiled.

        Args:
            trainee: Built on this team.
            build_trainee: Builds another one elsewhere, for teams that train a copy.
        """
        return ImmediateSteps(trainee, self)

    def add_up(self, values: Sequence[int]) -> list[int]:
        """Returns the sums over the processes of equally many integers; all processes call this."""
        return list(values)

    def share(self, values: Sequence[int]) -> list[int]:
        """Returns the chief's integers to all processes, which all call this with equally many."""
        return self.add_up(values if self.is_chief else [0] * len(values))

    def share_variables(self, variables: Sequence[tf.Variable]) -> None:
        """Gives the chief's values to all processes, which all call this."""

    def require_equal(self, variables: Sequence[tf.Variable]) -> str:
        """Compares the values of all processes with the chief's, bit by bit; all processes call this.

        No process leaves it before the others have arrived.

        Returns:
            A line for people; empty where there is nothing to compare.

        Raises:
            ArtifactError: The values differ: a step was not the same everywhere, and no checkpoint
                of the run is to be trusted.
        """
        return ""

    def losses_of_others(self) -> contextlib.AbstractContextManager[None]:
        """Turns the loss of another process inside the block into `EnvironmentFault`."""
        return contextlib.nullcontext()

    @property
    def _local_replicas(self) -> int:
        return self.num_replicas // self.num_workers

    @property
    def _first_replica(self) -> int:
        """Number of this process' first replica among those of all processes."""
        return 0

    @property
    def _processes(self) -> str:
        return ""


class MirroredTeam(Team):
    """Several devices of this process, each with a copy of every variable.

    Args:
        strategy: Of the replicas.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy
        self.num_replicas = strategy.num_replicas_in_sync

    @override
    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        with self._strategy.scope(), tf.variable_creator_scope(_equal_on_all_replicas):
            yield

    @override
    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        def run_replica(*args: Any) -> Any:
            context = tf.distribute.get_replica_context()
            return function(context.replica_id_in_sync_group - self._first_replica, *args)

        results = self._strategy.run(run_replica, args)
        return tf.nest.map_structure(
            lambda value: self._strategy.experimental_local_results(value)[0], results
        )


class WorkersTeam(MirroredTeam):
    """Several processes, each with one device or several.

    Args:
        strategy: Of the replicas of all processes.
        topology: Of the processes.
    """

    def __init__(self, strategy: tf.distribute.Strategy, topology: Topology) -> None:
        super().__init__(strategy)
        self._topology = topology
        self.num_workers = topology.num_workers
        self.is_chief = topology.is_chief
        self._sum = tf.function(self._sum_over_workers, autograph=False)

    @override
    def add_up(self, values: Sequence[int]) -> list[int]:
        with self.losses_of_others():
            return [int(value) for value in self._sum(tf.constant(values, tf.int64)).numpy()]

    @override
    def share_variables(self, variables: Sequence[tf.Variable]) -> None:
        # Those of one type travel together.
        for dtype in {variable.dtype: None for variable in variables}:
            self._share_variables([variable for variable in variables if variable.dtype == dtype])

    @override
    def require_equal(self, variables: Sequence[tf.Variable]) -> str:
        digest = hashlib.sha256()
        for variable in variables:
            digest.update(variable.numpy().tobytes())
        mine = int.from_bytes(digest.digest()[:8], "big") >> 1
        (chiefs,) = self.share([mine])
        (num_different,) = self.add_up([int(mine != chiefs)])
        if num_different:
            raise ArtifactError(
                f"the weights of {num_different} of {self.num_workers} workers "
                "are not those of the chief"
            )
        return f"{self.num_workers} workers ended with equal weights"

    @override
    @contextlib.contextmanager
    def losses_of_others(self) -> Iterator[None]:
        try:
            yield
        except (
            tf.errors.UnavailableError,
            tf.errors.AbortedError,
            tf.errors.CancelledError,
            tf.errors.InternalError,
        ) as error:
            reason = first_line(error.message or type(error).__name__)
            raise EnvironmentFault(
                f"{self._topology} has lost another worker: {reason}",
                remedy="start all of them again: the run goes on from its last checkpoint",
            ) from None

    @property
    @override
    def _first_replica(self) -> int:
        topology = self._topology
        # The chief's replicas come before those of the workers.
        chiefs = len(topology.cluster.get("chief", ())) if topology.job == "worker" else 0
        return (topology.index + chiefs) * self._local_replicas

    @property
    @override
    def _processes(self) -> str:
        return f" of {self.num_workers} processes"

    def _share_variables(self, variables: Sequence[tf.Variable]) -> None:
        def take(replica: tf.Tensor) -> list[tf.Tensor]:
            counts = (replica == 0) & self.is_chief
            mine = [tf.where(counts, variable, tf.zeros_like(variable)) for variable in variables]
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, mine)  # type: ignore[no-any-return]

        with self.losses_of_others():
            for variable, value in zip(
                variables, tf.function(lambda: self.run(take), autograph=False)(), strict=True
            ):
                variable.assign(value)

    def _sum_over_workers(self, values: tf.Tensor) -> tf.Tensor:
        def add(replica: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
            mine = tf.where(replica == 0, values, tf.zeros_like(values))
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, mine)

        return self.run(add, values)


def _equal_on_all_replicas(create: Callable[..., tf.Variable], **kwargs: Any) -> tf.Variable:
    """Mirrors a variable that would have another value on each replica.

    These are the statistics of synchronised batch norms. All replicas assign it the same value, and the chief can read it without waiting for anybody.
    """
    if kwargs.get("synchronization") == tf.VariableSynchronization.ON_READ:
        kwargs["synchronization"] = tf.VariableSynchronization.ON_WRITE
        kwargs["aggregation"] = tf.VariableAggregation.ONLY_FIRST_REPLICA
    return create(**kwargs)
