"""Training on a real Ray cluster of this machine."""

import pytest

from detflow.distributed.ray import cores_per_worker
from detflow.errors import ConfigError


@pytest.mark.parametrize(
    ("nodes", "workers", "cores"),
    [
        ([8], 1, 8),
        ([8], 3, 2),
        ([4, 4, 4], 3, 4),
        ([4, 4, 4], 2, 4),
        ([8, 2], 3, 2),
        ([0, 1, 1], 2, 1),
    ],
)
def test_each_worker_has_its_cores_on_one_node(nodes, workers, cores):
    assert cores_per_worker(nodes, workers) == cores


@pytest.mark.parametrize("nodes", [[], [0], [1, 1]])
def test_a_cluster_with_too_few_cores_is_refused(nodes):
    with pytest.raises(
        ConfigError, match=rf"has {sum(nodes)} cores for 3 workers; lower --workers"
    ):
        cores_per_worker(nodes, 3)
