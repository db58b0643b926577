import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager

import httpx
import pytest

from detflow.cli.main import run
from detflow.errors import ArtifactError, ConfigError
from detflow.serving import server
from detflow.serving.limits import Limits
from detflow.serving.server import read_token

# The real command, but its network is a rule. DELAY is how long a batch takes after the first one,
# with which a server tries what it has loaded; LOAD=hang never ends loading.
PROGRAM = """
import os, sys, time
import detflow.serving.models as models
from detflow.label_map import LabelMap
from detflow.types import Box, Detection

class Detector:
    label_map = LabelMap(("red", "green", "<b>blue</b>"))
    canvas_sizes = ()
    is_tried = False
    def detect(self, images):
        if self.is_tried:
            print("detecting", flush=True)
            time.sleep(float(os.environ.get("DELAY", "0")))
        self.is_tried = True
        for _ in images:
            yield [Detection("red", 1, 0.5, Box(0.0, 0.0, 1.0, 1.0))]

def load(path, threads):
    print("loading", flush=True)
    if os.environ.get("LOAD") == "hang":
        time.sleep(60)
    return Detector()

models.load_export = load
from detflow.cli.main import main
main()
"""


@contextmanager
def command(*arguments, environment=(), program=("-c", PROGRAM)):
    """Runs the server. However it ends, it leaves no process and no temporary file."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, *program, "serve", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": folder, **dict(environment)},
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
        assert os.listdir(folder) == []


def wait_for_line(process, start):
    for line in process.stdout:
        if line.startswith(start):
            return line.strip()
    raise AssertionError(process.stderr.read())


def start_serving(process):
    return wait_for_line(process, "serving ").rpartition(" ")[2]


def ask_in_thread(url, content, answers):
    def ask():
        try:
            answers.append(
                httpx.post(f"{url}/predict", files={"f": content}, timeout=300, trust_env=False)
            )
        except httpx.TransportError as error:
            answers.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def test_a_shutdown_answers_what_is_in_flight(served_dir, kit):
    with command(served_dir, "--port", 0, environment={"DELAY": "0.5"}.items()) as process:
        line = wait_for_line(process, "serving ")
        assert line.startswith("serving cells on http://127.0.0.1:")
        url, answers = line.rpartition(" ")[2], []
        # Whoever keeps a connection open, or stops within a request's head, holds nobody up.
        host, _, port = url.removeprefix("http://").partition(":")
        with (
            httpx.Client(trust_env=False) as idle,
            socket.create_connection((host, int(port))) as half,
        ):
            assert idle.get(f"{url}/healthz").status_code == 200
            half.sendall(b"GET / HT")
            thread = ask_in_thread(url, kit.encode(), answers)
            wait_for_line(process, "detecting")
            process.send_signal(signal.SIGINT)
            thread.join()
            assert answers[0].json()["images"][0]["detections"][0]["name"] == "red"
            assert process.wait(300) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(url, trust_env=False)
        assert process.stderr.read() == ""


def test_a_shutdown_s_patience_ends(served_dir, kit):
    with command(
        served_dir, "--port", 0, "--drain-s", 1, environment={"DELAY": "60"}.items()
    ) as process:
        url, answers = start_serving(process), []
        thread = ask_in_thread(url, kit.encode(), answers)
        wait_for_line(process, "detecting")
        process.terminate()
        thread.join()
        assert (answers[0].status_code, answers[0].json()["error"]) == (
            503,
            "the server is shutting down",
        )
        assert process.wait(300) == 0
        # Each line of the log is an object.
        assert [json.loads(line)["level"] for line in process.stderr.read().splitlines()] == [
            "error"
        ]


def test_a_second_signal_leaves_at_once(served_dir, kit):
    with command(served_dir, "--port", 0, environment={"DELAY": "60"}.items()) as process:
        url = start_serving(process)
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as connection:
            body = kit.encode()
            head = (
                "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            connection.sendall(head.encode() + body)
            wait_for_line(process, "detecting")
            process.terminate()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1)
            process.terminate()
            assert process.wait(300) == 143


def test_a_server_that_is_killed_leaves_its_port_and_no_client_waiting(served_dir, kit):
    with command(served_dir, "--port", 0, environment={"DELAY": "60"}.items()) as process:
        url, answers = start_serving(process), []
        # Large enough that a server which spools bodies would have a file of it.
        thread = ask_in_thread(url, kit.encode() + bytes(4 << 20), answers)
        wait_for_line(process, "detecting")
        process.kill()
        thread.join()
        assert isinstance(answers[0], httpx.TransportError)
        assert process.wait(300) == -signal.SIGKILL
        socket.create_server(("127.0.0.1", int(url.rpartition(":")[2]))).close()


def test_a_shutdown_does_not_wait_for_a_model_that_is_being_loaded(served_dir):
    with command(served_dir, "--port", 0, environment={"LOAD": "hang"}.items()) as process:
        wait_for_line(process, "loading")
        process.terminate()
        assert process.wait(300) == 0


def test_what_cannot_be_served_ends_the_command_with_one_line(
    served_dir, kit, tmp_path, monkeypatch, capsys
):
    def fail(path, threads):
        raise ArtifactError("the graph is damaged", path=path)

    monkeypatch.setattr(server, "load_export", fail)
    damaged = kit.publish_export(tmp_path / "damaged")
    (damaged / "weights.json").write_text("{}")
    (tmp_path / "token").write_text("short\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, code, reason in (
            ((tmp_path,), 4, ", not an exported folder"),
            ((damaged,), 4, "weights.json: the file has 2 bytes"),
            ((served_dir, "--port", 0), 4, "the graph is damaged"),
            (
                (served_dir, "--port", port),
                5,
                f"127.0.0.1:{port}: cannot listen: Address already in use",
            ),
            ((served_dir, "--host", "192.0.2.1"), 5, "192.0.2.1:8501: cannot listen"),
            ((served_dir, "--name", "a/b"), 2, "cannot be part of an address"),
            ((served_dir, "--max-queue", 4), 2, "no room for a request of 32 pictures"),
            ((served_dir, "--token-file", tmp_path / "token"), 2, "the token has 5 characters"),
        ):
            assert run(["serve", *map(str, arguments)]) == code, arguments
            printed = capsys.readouterr().err
            assert reason in printed
            assert printed.count("\n") == 1, printed


def test_headers_have_a_time_and_a_size(served):
    with socket.create_connection(("127.0.0.1", served.port)) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-")
        assert slow.recv(100) == b""
    with socket.create_connection(("127.0.0.1", served.port)) as second:
        # Nor may the second request of a connection take longer.
        second.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while b"ok" not in answer:
            answer += second.recv(1000)
        second.sendall(b"GET /hea")
        assert second.recv(100) == b""
    with socket.create_connection(("127.0.0.1", served.port)) as large:
        large.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Large: " + b"x" * 20_000)
        assert large.recv(100).startswith(b"HTTP/1.1 400 ")
    # One piece has them all, and so nothing is incomplete.
    headers = {f"X-{i}": "x" * 1_000 for i in range(20)}
    assert served.client.get("/healthz", headers=headers).status_code in (400, 431)
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"PO ST / HTTP/1.1\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", served.port)) as odd:
            odd.sendall(garbage)
            assert odd.recv(100).startswith(b"HTTP/1.1 400 ")
    assert served.client.get("/healthz").status_code == 200


def test_one_connection_too_many_is_closed(served_dir, kit):
    with kit.running(served_dir, max_connections=3) as server:
        # The client holds one.
        kept = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
        with socket.create_connection(("127.0.0.1", server.port)) as refused:
            try:
                refused.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert refused.recv(100) == b""
            except ConnectionError:
                pass
        assert server.client.get("/healthz").status_code == 200
        for connection in kept:
            connection.close()


def test_answers_are_not_held_back(served):
    """With Nagle's algorithm a body would wait 40 ms for the acknowledgement of its head."""
    served.client.get("/healthz")
    sockets = [
        connection.transport.get_extra_info("socket")
        for connection in served.server.server_state.connections
    ]
    assert sockets
    assert all(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in sockets)


def test_a_token_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("DETFLOW_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("DETFLOW_TOKEN", "from-the-environment")
    assert read_token(None) == "from-the-environment"
    (tmp_path / "token").write_text("from-a-file-of-mine\n")
    assert read_token(tmp_path / "token") == "from-a-file-of-mine"
    for bad in ("", "two words two words", "ünsägliche Zeichen"):
        monkeypatch.setenv("DETFLOW_TOKEN", bad)
        with pytest.raises(ConfigError, match="DETFLOW_TOKEN: the token has"):
            read_token(None)
    with pytest.raises(ConfigError, match="cannot read the token"):
        read_token(tmp_path / "none")


def test_limits_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match="max_batch is 0"):
        Limits(max_batch=0)
    with pytest.raises(
        ConfigError, match="no room for a body of 10 bytes and a picture of 2 pixels"
    ):
        Limits(max_body_bytes=10, max_pixels=2, max_held_bytes=75)
    # A body lies there thrice, and a pixel takes 3 bytes and 20 for the work on it.
    assert Limits(max_body_bytes=10, max_pixels=2, max_held_bytes=76).max_pixels == 2


@pytest.mark.tf
@pytest.mark.slow
def test_an_export_is_served_by_the_real_command(onnx_dir, pictures_dir, tmp_path):
    from detflow.data.images.pictures import read_picture
    from detflow.inference.load import load_detector

    names = ["p00.jpg", "p01.jpg", "p03.jpg"]
    expected = list(
        load_detector(onnx_dir).detect(read_picture(pictures_dir / name).pixels for name in names)
    )
    with command(onnx_dir, "--port", 0, "--threads", 1, program=("-m", "detflow")) as process:
        url = start_serving(process)
        files = [("f", (name, (pictures_dir / name).read_bytes())) for name in names]
        answer = httpx.post(f"{url}/predict", files=files, timeout=60, trust_env=False).json()
        for image, found in zip(answer["images"], expected, strict=True):
            assert [one["name"] for one in image["detections"]] == [one.name for one in found] != []
            for one, other in zip(image["detections"], found, strict=True):
                assert one["score"] == pytest.approx(other.score, abs=1e-5)
                assert one["box"] == pytest.approx(
                    [other.box.ymin, other.box.xmin, other.box.ymax, other.box.xmax], abs=1e-5
                )
        process.terminate()
        assert process.wait(300) == 0
