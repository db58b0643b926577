import socket

import pytest
import tensorflow as tf

from detflow.distributed.parameter_servers import coordinator
from detflow.distributed.parameter_servers.coordinator import Coordinator, answers, lost_servers
from detflow.distributed.topology import Topology
from detflow.errors import EnvironmentFault

pytestmark = pytest.mark.tf


@pytest.fixture
def address():
    """Where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_an_address_answers_where_somebody_listens(address):
    assert answers(address)
    assert not answers("127.0.0.1:1")
    assert not answers("no-such-host.invalid:80")


def test_servers_that_do_not_come_are_named(address, monkeypatch):
    monkeypatch.setattr(coordinator, "_GATHER_SECONDS", 0.2)
    monkeypatch.setattr(coordinator, "_TICK_SECONDS", 0.05)
    lines = []
    cluster = {"chief": ("127.0.0.1:2",), "ps": (address,), "worker": ("127.0.0.1:1", address)}
    with pytest.raises(
        EnvironmentFault, match=r"waited 0 s for worker 0 at 127\.0\.0\.1:1; start them"
    ):
        Coordinator(Topology(cluster, "chief", 0), lines.append)
    assert lines == ["waiting for worker 0 at 127.0.0.1:1"]


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.UnavailableError(
            None,
            None,
            "Graph execution error:\n\nGRPC error information from remote target /job:ps",
        ),
        tf.errors.InvalidArgumentError(
            None, None, "Unable to find the relevant tensor remote_handle: remote target /job:ps"
        ),
    ],
)
def test_a_lost_parameter_server_is_an_environment_fault(error):
    with (
        pytest.raises(
            EnvironmentFault,
            match=r"has lost a parameter server: .*remote target /job:ps; start all",
        ),
        lost_servers(),
    ):
        raise error


def test_other_errors_of_a_worker_stay_what_they_are():
    with pytest.raises(tf.errors.InvalidArgumentError), lost_servers():
        raise tf.errors.InvalidArgumentError(None, None, "shapes differ")
