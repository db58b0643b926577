"""Uploads to a model hub: a server on this machine speaks as much of its protocol as is needed."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from detflow.cli import main
from detflow.digests import digest_files, seal
from detflow.errors import ArtifactError, ConfigError, EnvironmentFault
from detflow.exporting.push import push_export
from detflow.storage.hub import parse_repository

constants = pytest.importorskip("huggingface_hub.constants")

# The library's own use of the one below it.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

TOKEN = "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"
LARGE = 1000


class Hub:
    """Repositories: their files, what is in the store, and what may go wrong.

    Attributes:
        repositories: The files of each repository by name, after its last commit.
        store: Large files by their SHA-256.
        sent: Digests of the large files that were sent, in order.
        refuse: Digest of a large file that is refused; empty for none.
        status: What every request is answered with, unless it is 200.
    """

    def __init__(self):
        self.repositories = {}
        self.store, self.sent, self.tokens = {}, [], set()
        self.refuse, self.status, self.messages, self.private = "", 200, [], None

    def answer(self, method, path, body):
        """Returns the status and the JSON of an answer."""
        parts = path.strip("/").split("/")
        if parts[0] == "store":
            return self.keep(parts[1], body)
        content = json.loads(body) if body and parts[-2:-1] != ["commit"] else body
        match (method, parts):
            case "POST", ["api", "repos", "create"]:
                name = f"{content['organization']}/{content['name']}"
                # Older releases of the library say it otherwise.
                self.private = content.get("private") or content.get("visibility") == "private"
                created = name not in self.repositories
                self.repositories.setdefault(name, {})
                return 200 if created else 409, {"url": f"{self.url}/{name}"}
            case "POST", ["api", "validate-yaml"]:
                yaml.safe_load(content["content"].split("---")[1])
                return 200, {"errors": [], "warnings": []}
            case "POST", ["api", "models", owner, name, "preupload", "main"]:
                files = self.repositories[f"{owner}/{name}"]
                return 200, {"files": [self.tell_mode(file, files) for file in content["files"]]}
            case "GET", ["api", "models", owner, name, "tree", "main"]:
                files = self.repositories[f"{owner}/{name}"]
                return 200, [
                    {"type": "file", "path": path, "size": len(data), "oid": "0" * 40}
                    for path, data in files.items()
                ]
            case "POST", [_, _, "info", "lfs", "objects", "batch"]:
                objects = [self.offer(wanted) for wanted in content["objects"]]
                return 200, {"transfer": "basic", "objects": objects}
            case "POST", ["verify"]:
                return 200 if content["oid"] in self.store else 404, {}
            case "POST", ["api", "models", owner, name, "commit", "main"]:
                self.commit(f"{owner}/{name}", [json.loads(line) for line in body.splitlines()])
                url = f"{self.url}/{owner}/{name}/commit/1"
                return 200, {"commitUrl": url, "commitOid": "1" * 40}
        return 404, {"error": f"no such thing: {method} {path}"}

    def tell_mode(self, file, files):
        mode = "lfs" if file["size"] > LARGE else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}

    def offer(self, wanted):
        found = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] not in self.store:
            found["actions"] = {
                "upload": {"href": f"{self.url}/store/{wanted['oid']}"},
                "verify": {"href": f"{self.url}/verify"},
            }
        return found

    def keep(self, digest, body):
        if digest == self.refuse:
            return 400, {"error": "the line is cut"}
        assert hashlib.sha256(body).hexdigest() == digest
        self.sent.append(digest)
        self.store[digest] = body
        return 200, {}

    def commit(self, name, operations):
        files = self.repositories[name]
        for operation in operations:
            value = operation["value"]
            match operation["key"]:
                case "header":
                    self.messages.append(value["summary"])
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.store[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
                case key:
                    raise AssertionError(key)


@contextmanager
def serve(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = unquote(urlsplit(self.path).path)
            if not path.startswith("/store/"):
                hub.tokens.add(self.headers.get("Authorization"))
            if hub.status == 200:
                status, content = hub.answer(self.command, path, body)
            else:
                # A hub that tells what it was sent.
                status, content = hub.status, {"error": dict(self.headers)}
            data = json.dumps(content).encode()
            self.send_response(status)
            if hub.status != 200:
                self.send_header("X-Error-Message", str(self.headers.get("Authorization")))
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", "application/json")
            # Whoever asked may have given up.
            with suppress(ConnectionError):
                self.end_headers()
                self.wfile.write(data)

        do_GET = do_POST = do_PUT = answer  # noqa: N815  (names that the server calls)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    yield hub
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def hub(monkeypatch):
    # With this library in its place large files go another way, which is no HTTP that one can test.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serve(Hub()) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def export(tmp_path):
    folder = tmp_path / "pets"
    (folder / "saved_model" / "variables").mkdir(parents=True)
    contents = {
        "model.onnx": b"onnx" * 400,
        "label_map.pbtxt": b"labels",
        "README.md": b"---\npipeline_tag: object-detection\n---\n",
        "card.html": b"<p>card",
        "saved_model/saved_model.pb": b"graph" * 400,
        "saved_model/variables/variables.index": b"index",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    card = {"files": digest_files(folder)}
    (folder / "model.json").write_text(json.dumps(seal(card)))
    return folder


def read_files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_all_files_and_a_card_come_in_one_commit(hub, export):
    (export / "notes.txt").write_text("unlisted files stay at home")
    url = push_export(export, "hub:someone/pets")
    assert url == f"{hub.url}/someone/pets/commit/1"
    files = hub.repositories["someone/pets"]
    expected = read_files(export)
    del expected["notes.txt"]
    assert files == expected
    assert hub.messages == ["Upload pets"]
    assert hub.tokens == {f"Bearer {TOKEN}"}


def test_what_arrived_before_an_interruption_is_not_sent_again(hub, export):
    first = hashlib.sha256((export / "model.onnx").read_bytes()).hexdigest()
    second = hashlib.sha256((export / "saved_model/saved_model.pb").read_bytes()).hexdigest()
    hub.refuse = second
    with pytest.raises(EnvironmentFault, match="HTTP 400; push again: what arrived is kept"):
        push_export(export, "hub:someone/pets")
    assert hub.repositories["someone/pets"] == {}
    hub.refuse = ""
    push_export(export, "hub:someone/pets")
    assert sorted(hub.sent) == sorted([first, second])
    assert "model.json" in hub.repositories["someone/pets"]


def test_files_of_an_earlier_export_go_and_other_people_s_stay(hub, export):
    names = ("model_int8.tflite", "openvino/model.xml", ".gitattributes", "notes/a.md")
    hub.repositories["someone/pets"] = dict.fromkeys(names, b"old")
    push_export(export, "hub:someone/pets")
    files = hub.repositories["someone/pets"]
    assert {".gitattributes", "notes/a.md", "model.onnx"} <= set(files)
    assert not {"model_int8.tflite", "openvino/model.xml"} & set(files)


def test_a_new_repository_may_be_private(hub, export):
    push_export(export, "hub:someone/pets", private=True)
    assert hub.private is True


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_a_hub_that_refuses_is_told_in_one_line_without_the_token(hub, export, status, capfd):
    hub.status = status
    code = main.run(["push", str(export), "hub:someone/pets"])
    printed = capfd.readouterr()
    assert code == 5
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert f"hub:someone/pets: the hub answers with HTTP {status}" in printed.err
    assert TOKEN not in printed.err
    assert ("HF_TOKEN" in printed.err) == (status in (401, 403))


def test_a_hub_that_is_not_there_is_told(hub, export, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(EnvironmentFault, match="the hub cannot be reached"):
        push_export(export, "hub:someone/pets")


def test_a_hub_that_never_answers_is_given_up(hub, export, monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(hub, "answer", lambda *_: (over.wait(30) and 500, {}))
    monkeypatch.setattr("detflow.storage.hub._PATIENCE_S", 0.1)
    with pytest.raises(EnvironmentFault, match="the hub cannot be reached: ReadTimeout"):
        push_export(export, "hub:someone/pets")
    over.set()


def test_a_damaged_export_is_not_sent(hub, export):
    (export / "model.onnx").write_bytes(b"flipped")
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        push_export(export, "hub:someone/pets")
    assert hub.repositories == {}


def test_the_command_prints_where_it_is(hub, export, capsys):
    assert main.run(["push", str(export), "hub:someone/pets"]) == 0
    assert capsys.readouterr().out == f"{hub.url}/someone/pets/commit/1\n"


def test_without_the_library_the_remedy_is_told(export, monkeypatch):
    from detflow.storage import hub as hub_module

    monkeypatch.setattr(hub_module, "is_installed", lambda name: False)
    with pytest.raises(EnvironmentFault, match=r"pip install '\.\[hub\]'"):
        push_export(export, "hub:someone/pets")


@pytest.mark.parametrize(
    "text",
    ["someone/pets", "hub:pets", "hub:a/b/c", "hub:/b", "hub:a/", "hub:a/b--c", "hub:a/../b",
     "hub:a/b.", "hub:a/b c", "hub:https://huggingface.co/a/b", "hub:a/b\n"],
)  # fmt: skip
def test_what_is_no_repository_is_refused(text):
    with pytest.raises(ConfigError, match="write hub:owner/name") as caught:
        parse_repository(text)
    assert caught.value.exit_code == 2


def test_a_repository_is_read():
    assert parse_repository("hub:some-one/Pets_1.0") == "some-one/Pets_1.0"
