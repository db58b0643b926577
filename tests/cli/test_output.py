import ast
import io
import sys
from pathlib import Path

import pytest
from PIL import Image

import detflow.cli
from detflow.cli import main
from detflow.cli.output import prepare_streams, print_text

EVIL = "\x1b[2J\x1b]0;owned\x07\u202e\x9b31m\udcff"


@pytest.fixture
def hostile_set(tmp_path):
    """Names of files, folders and classes that would steer a terminal."""
    root = tmp_path / f"set{EVIL}"
    root.mkdir()
    Image.new("RGB", (40, 30), (90, 60, 30)).save(root / "a.jpg")
    (root / "a.xml").write_text(
        "<annotation><filename>a.jpg</filename><size><width>40</width><height>30</height></size>"
        "<object><name>c&#x9b;31m\u202eat</name><bndbox><xmin>9</xmin><ymin>3</ymin><xmax>3</xmax>"
        "<ymax>9</ymax></bndbox></object></annotation>",
        encoding="utf-8",
    )
    (root / f"{EVIL}.xml").write_text("<annotation>")
    (root / f"b{EVIL}.jpg").write_bytes((root / "a.jpg").read_bytes())
    return root


def test_no_name_reaches_a_terminal_as_it_is(run, hostile_set, tmp_path):
    commands = (
        ("check", hostile_set, "--jobs", 1, "--strict"),
        ("check", hostile_set, "--jobs", 1, "--json"),
        ("check", hostile_set, "--jobs", 1, "--format", "sarif"),
        ("check", hostile_set, "--jobs", 1, "--format", "junit"),
        ("make-records", hostile_set, "--output", tmp_path / f"records{EVIL}", "--jobs", 1),
        ("runs", hostile_set),
        ("check", hostile_set / f"none{EVIL}"),
        ("check", hostile_set, f"--{EVIL}"),
        ("config", hostile_set / "a.xml"),
    )
    for command in commands:
        done = run(*command)
        shown = (done.out + done.err).replace("\n", "")
        assert shown, command
        # Documents for programs hold letters of all scripts, in JSON as escapes.
        assert shown.isprintable(), (command, shown)
    done = run("check", hostile_set, "--jobs", 1)
    assert r"\x1b[2J\x1b]0;owned\x07\u202e\x9b31m\udcff.xml" in done.out
    # What turns the direction is not even kept.
    assert r"c\x9b31mat 1" in done.out


def test_words_leave_through_one_door():
    for path in sorted(Path(detflow.cli.__file__).parent.glob("*.py")):
        if path.name == "output.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("print", "click.echo", "click.secho"), f"{path}:{node.lineno}"
                assert not called.startswith(("sys.stdout", "sys.stderr")), f"{path}:{node.lineno}"


@pytest.mark.parametrize("encoding", ["ascii", "cp1251"])
def test_a_terminal_of_8_bits_shows_what_it_can(hostile_set, monkeypatch, encoding):
    streams = [io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    prepare_streams()
    assert main.run(["check", str(hostile_set), "--jobs", "1"]) == 0
    assert main.run(["check", "кот"]) == 2
    for stream in streams:
        stream.flush()
    out, err = (stream.buffer.getvalue().decode(encoding) for stream in streams)
    assert "quarantined   1 x xml_malformed" in out
    assert ("кот" if encoding == "cp1251" else r"\u043a\u043e\u0442") in err


def test_a_line_is_there_at_once(monkeypatch):
    """Who waits for the server's address reads it from a pipe, which is buffered."""
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=False)
    monkeypatch.setattr(sys, "stdout", stream)
    print_text("serving")
    assert stream.buffer.getvalue() == b"serving\n"


def test_streams_that_are_no_files_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", None)
    prepare_streams()
