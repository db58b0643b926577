import contextlib
import io
import os
import subprocess
import sys

import pytest
from PIL import Image

from detflow.cli import data, main
from detflow.cli.output import print_text

ENVIRONMENT = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}


@pytest.fixture
def close_pipe(monkeypatch):
    """Returns a function that has a stream write to a pipe that nobody reads any more."""
    opened = []

    def close(name, buffering=-1):
        reads, writes = os.pipe()
        os.close(reads)
        stream = io.TextIOWrapper(
            os.fdopen(writes, "wb", buffering), "utf-8", write_through=not buffering
        )
        monkeypatch.setattr(sys, name, stream)
        opened.append(stream)

    yield close
    for stream in opened:
        # What it could not write it tries to write again.
        with contextlib.suppress(BrokenPipeError):
            stream.close()


@pytest.fixture
def config_path(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("data:\n  records: nowhere\n")
    return path


@pytest.mark.parametrize("buffering", [-1, 0])
@pytest.mark.parametrize(
    "arguments", [("config", "c.yaml"), ("config", "--explain"), ("--help",), ("--version",)]
)
def test_a_reader_that_has_gone_ends_a_command_as_sigpipe_would(
    close_pipe, config_path, monkeypatch, arguments, buffering
):
    monkeypatch.chdir(config_path.parent)
    close_pipe("stdout", buffering)
    errors = io.StringIO()
    monkeypatch.setattr(sys, "stderr", errors)
    assert main.run(arguments) == 141
    assert errors.getvalue() == ""


def test_sets_that_are_equal_do_not_differ_because_nobody_reads_it(close_pipe, tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg")
    (tmp_path / "a.xml").write_text(
        "<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>3</ymin><xmax>9</xmax>"
        "<ymax>9</ymax></bndbox></object></annotation>"
    )
    close_pipe("stdout")
    assert main.run(["diff", str(tmp_path), str(tmp_path), "--jobs", "1"]) == 141


@pytest.mark.parametrize("option", ["--quiet", "--verbose", "--debug"])
def test_an_error_that_nobody_reads_ends_so_too(close_pipe, option):
    close_pipe("stderr")
    assert main.run(["diff", option]) == 141


def test_the_stack_is_unwound_as_by_any_error(close_pipe, monkeypatch):
    """A training goes out through its own blocks, and no signal kills it on the way."""
    done = []

    def work(**arguments):
        try:
            print_text("step 1")
        finally:
            done.append("cleaned up")

    monkeypatch.setattr(data.config, "callback", work)
    close_pipe("stdout")
    assert main.run(["config", "c.yaml"]) == 141
    assert done == ["cleaned up"]


def test_a_process_ends_with_the_code_and_without_a_word(config_path):
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "detflow", "config", str(config_path)]
    done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, env=ENVIRONMENT)
    os.close(writes)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk_behind_stdout_is_said_once(config_path):
    command = [sys.executable, "-m", "detflow", "config", str(config_path)]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT)
    assert done.returncode == 5
    assert done.stderr == b"detflow: error: no space left on the device\n"
