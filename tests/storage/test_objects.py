import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from detflow.errors import ConfigError, EnvironmentFault
from detflow.storage import objects
from detflow.storage.folders import LocalFolder, open_folder
from detflow.storage.location import Url
from detflow.storage.publishing import publish_folder, require_replaceable

ALL = frozenset({"a.txt", "folder/empty", "folder/ü b.txt"})


@pytest.fixture(params=["local", "memory", "s3"])
def folder(request, tmp_path):
    """A folder of each kind with the same three files."""
    if request.param == "local":
        (tmp_path / "set" / "folder").mkdir(parents=True)
        folder = LocalFolder.of(tmp_path / "set")
    elif request.param == "memory":
        folder = open_folder(Url("memory", f"bucket/{tmp_path.name}"))
    else:
        folder = open_folder(request.getfixturevalue("s3_url") / tmp_path.name)
    folder.write("a.txt", b"0123456789")
    folder.write("folder/empty", b"")
    folder.write("folder/ü b.txt", b"other")
    return folder


def names(folder, skip=lambda name: False):
    return {entry.path for entry in folder.walk(skip) if entry.outside is None}


def break_off(folder):
    with folder.build("a.txt") as path:
        path.write_bytes(b"half")
        raise ZeroDivisionError


def test_all_folders_are_alike(folder, tmp_path):
    assert names(folder) == ALL
    assert names(folder, lambda name: name in ("folder", "b")) == {"a.txt"}
    assert (folder.read("a.txt", 100), folder.read("a.txt", 4)) == (b"0123456789", b"0123")
    assert folder.read("folder/empty", 4) == b""
    assert (
        list(folder.read_many((name for name in sorted(ALL) * 20), 3)) == [b"012", b"", b"oth"] * 20
    )
    assert folder.digest("a.txt")["bytes"] == 10
    assert folder.digest("gone") is None
    for missing in ("gone", "folder/gone"):
        with pytest.raises(FileNotFoundError) as caught:
            folder.read(missing, 4)
        assert caught.value.filename == missing
    folder.fetch("folder/ü b.txt", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == b"other"
    with pytest.raises(ZeroDivisionError):
        break_off(folder)
    assert folder.read("a.txt", 100) == b"0123456789"
    folder.remove("a.txt")
    folder.remove("a.txt")
    assert names(folder) == ALL - {"a.txt"}


def test_a_neighbour_whose_name_begins_alike_is_not_inside(s3_url):
    open_folder(s3_url / "settle").write("a", b"")
    open_folder(s3_url / "set").write("b", b"")
    assert names(open_folder(s3_url / "set")) == {"b"}


def test_keys_that_clients_resolve_lead_outside(s3_url):
    import boto3

    bucket, _, prefix = s3_url.key.partition("/")
    for key in ("../secret.xml", "a/./b.xml", "a//c.xml", "plain.xml", "marker/"):
        boto3.client("s3").put_object(Bucket=bucket, Key=f"{prefix}/hostile/{key}", Body=b"x")
    folder = open_folder(s3_url / "hostile")
    found = {entry.path: entry.outside is not None for entry in folder.walk(lambda name: False)}
    assert found == {"../secret.xml": True, "a/./b.xml": True, "a//c.xml": True, "plain.xml": False}
    for action in (
        lambda: folder.read("../secret.xml", 9),
        lambda: folder.write("../x", b""),
        lambda: folder.remove("a/../../x"),
    ):
        with pytest.raises(EnvironmentFault, match="no plain name"):
            action()


def test_an_upload_that_was_cut_short_is_detected(s3_url, monkeypatch):
    folder = open_folder(s3_url / "cut")
    store = objects._file_system("s3")
    monkeypatch.setattr(
        store, "put_file", lambda file, key: store.pipe_file(key, Path(file).read_bytes()[:-1])
    )
    refused = pytest.raises(
        EnvironmentFault, match=r"10 bytes, SHA-256 \w+…, were written, the store holds 9 bytes"
    )
    with refused, folder.build("shard") as path:
        path.write_bytes(b"0123456789")
    monkeypatch.setattr(store, "pipe_file", lambda key, content: None)
    with pytest.raises(EnvironmentFault, match="the store holds nothing"):
        folder.write("manifest", b"{}")


@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_the_marker_comes_last_and_goes_first(kind, request, tmp_path, monkeypatch):
    url = (
        Url("memory", f"bucket/{tmp_path.name}")
        if kind == "memory"
        else request.getfixturevalue("s3_url") / "published"
    )
    folder = open_folder(url)
    with publish_folder(url, "manifest.json") as staging:
        for name in ("a", "manifest.json", "z"):
            (staging.path / name).write_text(f"old {name}")
    seen = []
    write = objects.ObjectFolder._require

    def note(self, path, expected):
        seen.append((path, "manifest.json" in names(folder)))
        write(self, path, expected)

    monkeypatch.setattr(objects.ObjectFolder, "_require", note)
    with publish_folder(url, "manifest.json", resume="0" * 12) as staging:
        staging.notes.write("a.done", b"note")
        for name in ("a", "b", "manifest.json"):
            (staging.path / name).write_text(f"new {name}")
        assert folder.read("manifest.json", 99) == b"old manifest.json"
    assert seen == [("a.done", True), ("a", False), ("b", False), ("manifest.json", True)]
    assert names(folder) == {"a", "b", "manifest.json"}
    assert folder.read("a", 99) == b"new a"
    with pytest.raises(ZeroDivisionError), publish_folder(url, "manifest.json"):
        raise ZeroDivisionError
    assert names(folder) == {"a", "b", "manifest.json"}


def test_only_what_detflow_made_is_replaced(tmp_path):
    url = Url("memory", f"bucket/{tmp_path.name}")
    require_replaceable(url, "manifest.json")
    open_folder(url).write("thesis.pdf", b"")
    with pytest.raises(ConfigError, match=r"holds no manifest\.json"):
        require_replaceable(url, "manifest.json")
    open_folder(url).write("manifest.json", b"")
    require_replaceable(url, "manifest.json")
    with pytest.raises(ConfigError, match="a whole bucket"):
        require_replaceable(Url("memory", "bucket"), "manifest.json")


# Lists URLs, each with its settings in a process of its own: a fork of one that has imported what
# it takes. Prints the errors.
LISTING = """
import json, os, sys
import s3fs
from detflow.errors import EnvironmentFault
from detflow.storage.folders import open_folder
from detflow.storage.location import Url

for url, settings in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        os.environ.update(settings)
        try:
            list(open_folder(Url.parse(url)).walk(lambda name: False))
        except EnvironmentFault as error:
            print(json.dumps(str(error)), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


def test_what_a_store_refuses_is_one_line_with_a_remedy(s3_server):
    nothing_there = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    nobody = {
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "HOME": "/nonexistent",
        "AWS_CONFIG_FILE": "/nonexistent",
    }
    cases = [("s3://nowhere/x", {}), ("s3://b/x", nothing_there), ("s3://b/x", nobody)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LISTING, json.dumps(cases)],
        capture_output=True,
        text=True,
        env={**os.environ, "AWS_EC2_METADATA_DISABLED": "true"},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    no_bucket, no_store, no_credentials = map(json.loads, done.stdout.splitlines())
    assert "no such bucket" in no_bucket
    assert "Could not connect to the endpoint" in no_store
    assert "credentials" in no_credentials
    assert "\n" not in no_bucket + no_store + no_credentials


def test_a_missing_library_is_named_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(EnvironmentFault, match=r"pip install '\.\[gcs\]'"):
        open_folder(Url("gs", "bucket/x"))
