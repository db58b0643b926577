"""A parameter server as a process; its chief is a socket."""

import os
import signal
import socket

import forks
import pytest

from detflow.config.reading import format_config
from detflow.distributed.topology import TF_CONFIG, format_topology

pytestmark = [pytest.mark.tf, pytest.mark.slow]


@pytest.fixture
def serve(tiny_config, tmp_path):
    """Starts `detflow train` as parameter server 0.

    (address of the chief, its own, folder of its output) → process.
    """
    (tmp_path / "config.yaml").write_text(format_config(tiny_config()))
    command = ["train", f"--config={tmp_path / 'config.yaml'}", f"--model-dir={tmp_path / 'run'}"]
    processes = []

    def start(chief, own, folder):
        folder.mkdir()
        cluster = {"chief": [chief], "ps": [own], "worker": ["127.0.0.1:1"]}
        topology = format_topology(cluster, "ps", 0)
        processes.append(forks.start_command(command, folder, **{TF_CONFIG: topology}))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.join()


def test_a_server_lets_its_chief_save_and_tells_of_a_port_that_is_taken(serve, tmp_path):
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_server(("127.0.0.1", 0)) as free,
    ):
        taken, own = (f"127.0.0.1:{one.getsockname()[1]}" for one in (other, free))
        free.close()
        chief = socket.create_server(("127.0.0.1", 0))
        address = f"127.0.0.1:{chief.getsockname()[1]}"
        server = serve(address, own, tmp_path / "server")
        unlucky = serve(address, taken, tmp_path / "unlucky")
        # It asks for its chief.
        chief.settimeout(600)
        chief.accept()[0].close()
        os.kill(server.pid, signal.SIGTERM)
        server.join(2)
        assert server.is_alive()
        chief.close()
        server.join(600)
        assert server.exitcode == 128 + signal.SIGTERM
        unlucky.join(600)
        assert unlucky.exitcode == 5
    assert f"ps 0 cannot listen at {taken}" in (tmp_path / "unlucky" / "stderr").read_text()
    assert not (tmp_path / "run").exists()
