from types import SimpleNamespace

import numpy as np
import pytest

from detflow.distributed.team import Distribution
from detflow.distributed.topology import Topology
from detflow.errors import ConfigError

pytestmark = pytest.mark.tf


def rows(worker, *, batch_size=6, num_batches=1, workers=3, local=1):
    topology = Topology(
        {"worker": tuple(f"host{number}:1" for number in range(workers))}, "worker", worker
    )
    return (
        Distribution(SimpleNamespace(num_replicas_in_sync=workers * local), topology)
        .rows(batch_size, num_batches)
        .tolist()
    )


def test_each_process_has_a_part_of_each_batch_and_all_rows_are_had():
    assert [rows(worker) for worker in range(3)] == [[0, 1], [2, 3], [4, 5]]
    assert [rows(worker, num_batches=2) for worker in range(3)] == [
        [0, 1, 6, 7],
        [2, 3, 8, 9],
        [4, 5, 10, 11],
    ]
    # Of two devices each: first the rows of one, over all batches, then those of the other.
    assert [
        rows(worker, batch_size=4, num_batches=2, workers=2, local=2) for worker in range(2)
    ] == [[0, 4, 1, 5], [2, 6, 3, 7]]


def test_a_chief_comes_before_the_workers():
    cluster = {"worker": ("a:1", "b:1"), "chief": ("c:1",)}
    strategy = SimpleNamespace(num_replicas_in_sync=3)
    parts = [
        Distribution(strategy, Topology(cluster, *task))
        for task in (("chief", 0), ("worker", 0), ("worker", 1))
    ]
    assert [part.rows(3, 1).tolist() for part in parts] == [[0], [1], [2]]
    assert [part.is_chief for part in parts] == [True, False, False]


def test_one_device_has_all_rows_and_agrees_with_itself():
    alone = Distribution()
    np.testing.assert_array_equal(alone.rows(4, 2), np.arange(8))
    assert (alone.share([3, 4]), alone.total([5]), alone.is_chief, str(alone)) == (
        [3, 4],
        [5],
        True,
        "",
    )


def test_a_batch_that_does_not_split_is_refused():
    with pytest.raises(
        ConfigError,
        match=r"train\.batch_size 7 cannot be split evenly over 3 replicas; set it to 6 or 9",
    ):
        rows(0, batch_size=7)
