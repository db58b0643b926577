"""The Dockerfiles, as far as they can be tested without Docker: their files, users and commands."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from detflow.cli.main import cli

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


def read_lines(path):
    """Returns (instruction, rest) of each instruction, its continued lines joined."""
    text = re.sub(r"\\\n\s*", "", path.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(" ", 1)) for line in lines]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_image_copies_what_is_there_and_does_not_run_as_root(path):
    lines = read_lines(path)
    for source in (one for kind, rest in lines if kind == "COPY" for one in rest.split()[:-1]):
        assert (ROOT / source).exists(), source
    users = [rest for kind, rest in lines if kind == "USER"]
    assert users == ["detflow"]
    made = next(rest for kind, rest in lines if kind == "RUN" and "useradd" in rest)
    assert made.endswith(f" {users[0]}")
    kinds = [kind for kind, _ in lines]
    assert kinds.index("USER") > max(i for i, kind in enumerate(kinds) if kind in ("COPY", "RUN"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_image_runs_a_command_that_there_is(path):
    lines = dict(read_lines(path))
    command = json.loads(lines["ENTRYPOINT"]) + json.loads(lines["CMD"])
    assert command[0] == "detflow"
    if len(command) > 2:
        options = [option for one in cli.commands[command[1]].params for option in one.opts]
        assert {word for word in command if word.startswith("--")} <= set(options)


def test_the_trainer_s_constraints_are_the_lock_s_versions():
    lines = read_lines(ROOT / "docker/trainer.Dockerfile")
    line = next(rest for _, rest in lines if rest.startswith("sed"))
    command = line.partition(" > ")[0]
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True)
    pins = done.stdout.splitlines()
    assert len(pins) > 150
    assert all(re.fullmatch(r"[a-z0-9.-]+==[^ ]+( ; .+)?", pin) for pin in pins if pin)


def test_the_health_check_tells_a_server_that_serves_from_one_that_does_not(served_dir, kit):
    lines = dict(read_lines(ROOT / "docker/server.Dockerfile"))
    command = json.loads(lines["HEALTHCHECK"].partition("CMD ")[2])
    port = re.search(r"127\.0\.0\.1:(\d+)/", command[-1])[1]
    assert lines["EXPOSE"] == port

    def check(url):
        words = [sys.executable, "-c", command[2].replace(f"http://127.0.0.1:{port}", url)]
        return subprocess.run(words, capture_output=True, check=False).returncode

    with kit.running(served_dir) as server:
        assert check(str(server.client.base_url).rstrip("/")) == 0
    with socket.create_server(("127.0.0.1", 0)) as closed:
        free = closed.getsockname()[1]
    assert check(f"http://127.0.0.1:{free}") != 0
