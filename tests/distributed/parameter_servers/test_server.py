"""A parameter server as a process; its chief is a socket."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from detflow.config.reading import format_config
from detflow.distributed.topology import TF_CONFIG, format_topology

pytestmark = [pytest.mark.tf, pytest.mark.slow]


@pytest.fixture
def serve(tiny_config, tmp_path):
    """Starts `detflow train` as parameter server 0: (address of the chief, its own) → process."""
    (tmp_path / "config.yaml").write_text(format_config(tiny_config()))
    processes = []

    def start(chief, own):
        topology = format_topology(
            {"chief": [chief], "ps": [own], "worker": ["127.0.0.1:1"]}, "ps", 0
        )
        command = [
            sys.executable,
            "-m",
            "detflow",
            "train",
            f"--config={tmp_path / 'config.yaml'}",
            f"--model-dir={tmp_path / 'run'}",
        ]
        processes.append(
            subprocess.Popen(
                command, env={**os.environ, TF_CONFIG: topology}, stderr=subprocess.PIPE, text=True
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_server_lets_its_chief_save_and_tells_of_a_port_that_is_taken(serve, tmp_path):
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_server(("127.0.0.1", 0)) as free,
    ):
        taken, own = (f"127.0.0.1:{one.getsockname()[1]}" for one in (other, free))
        free.close()
        chief = socket.create_server(("127.0.0.1", 0))
        address = f"127.0.0.1:{chief.getsockname()[1]}"
        server, unlucky = serve(address, own), serve(address, taken)
        # It asks for its chief.
        chief.settimeout(60)
        chief.accept()[0].close()
        server.send_signal(signal.SIGTERM)
        time.sleep(2)
        assert server.poll() is None
        chief.close()
        assert server.wait(20) == 128 + signal.SIGTERM
        assert unlucky.wait(60) == 5
    assert f"ps 0 cannot listen at {taken}" in unlucky.stderr.read()
    assert not (tmp_path / "run").exists()
