import io
import logging
import os
import sys
import time

import pytest

from detflow.cli import data, output
from detflow.cli.main import cli
from detflow.cli.talk import talking
from detflow.errors import ConfigError
from detflow.process.quiet import native_stderr_closed
from detflow.progress import choose_talk, erase_status, is_quiet, show_progress, tell_status


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def open_terminal(monkeypatch):
    def put_in_place():
        # Not before the test's body: until then the test runner puts streams of its own there.
        monkeypatch.setenv("COLUMNS", "40")
        monkeypatch.setattr(sys, "stderr", Terminal())
        return sys.stderr

    return put_in_place


def visible(text):
    """Returns the lines that stay on a terminal."""
    lines = [line.rpartition("\x1b[2K")[2].rpartition("\r")[2] for line in text.split("\n")]
    return [line for line in lines if line]


def test_a_terminal_says_at_once_what_a_command_does_and_nothing_of_it_stays(open_terminal):
    terminal = open_terminal()
    with talking():
        assert terminal.getvalue().endswith("starting…")
        tell_status("loading TensorFlow")
        assert terminal.getvalue().endswith("loading TensorFlow…")
        output.print_text("a line", err=True)
        tell_status("x" * 100)
        assert len(terminal.getvalue().rpartition("\x1b[2K")[2]) < 40
    assert visible(terminal.getvalue()) == ["a line"]
    before = terminal.getvalue()
    tell_status("after the command")
    assert terminal.getvalue() == before


def test_the_line_comes_back_with_the_time_until_a_result_is_printed(open_terminal, monkeypatch):
    open_terminal()
    drawn = []
    monkeypatch.setattr("detflow.progress._TICK_SECONDS", 0.01)
    monkeypatch.setattr("detflow.progress._TIMED_SECONDS", 0.0)
    monkeypatch.setattr("detflow.progress._PRINTING_SECONDS", 0.3)
    monkeypatch.setattr("detflow.progress._Status._draw", lambda self: drawn.append(self._text))
    with talking():
        tell_status("computing")
        erase_status()
        assert drawn.count("computing") == 1
        time.sleep(0.05)
        assert drawn.count("computing") == 1
        while drawn.count("computing") < 3:
            pass
        erase_status(is_done=True)
        count = len(drawn)
        tell_status("done")
        assert drawn[count:] == ["done"] * (len(drawn) - count)


def test_the_line_is_seen_while_native_code_is_kept_from_talking(tmp_path, capfd):
    with capfd.disabled(), open(tmp_path / "terminal", "w+") as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            with talking():
                choose_talk("verbose")
                with native_stderr_closed():
                    tell_status("converting")
                    os.write(2, b"native talk")
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        assert "converting" in (said := file.read())
        assert "native" not in said


def test_a_library_that_is_slow_to_import_is_named(open_terminal, monkeypatch):
    terminal = open_terminal()
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    with talking():
        for finder in sys.meta_path[:1]:
            assert finder.find_spec("tensorflow", None) is None
        assert terminal.getvalue().endswith("loading TensorFlow…")


def test_a_pipe_gets_no_status(run):
    assert run("check", "--help").err == ""


@pytest.mark.parametrize("place", ["before", "behind"])
def test_quiet_and_verbose_stand_before_or_behind_a_command(run, monkeypatch, place):
    seen = []

    def look(**choices):
        seen.append(is_quiet())
        tell_status("looking")
        with show_progress() as progress:
            progress("a", 1, 1)
        logging.getLogger("detflow.x").info("found it")

    monkeypatch.setattr(data.config, "callback", look)
    # Handlers of the test runner would take it.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    for option, quiet in (("-q", True), ("--quiet", True), ("-v", False), ("--verbose", False)):
        done = run(*((option, "config") if place == "before" else ("config", option)))
        assert seen.pop() == quiet
        assert ("looking" in done.err and "found it" in done.err) != quiet
        assert not is_quiet()
    assert run("config").err == ""


def test_debug_behind_a_command_lets_the_error_through(run, tmp_path):
    with pytest.raises(ConfigError):
        run("config", tmp_path / "none.yaml", "--debug")


def test_every_command_takes_the_same_options():
    for name, command in cli.commands.items():
        shown = [option for one in command.params for option in one.opts]
        assert {"--quiet", "--verbose", "--debug", "-q", "-v"} <= set(shown), name


def test_a_terminal_breaks_an_error_at_spaces_and_a_pipe_does_not(
    open_terminal, capsys, monkeypatch
):
    terminal = open_terminal()
    text = "a/long/path/that-has-no-spaces-at-all-in-it.yaml: there are words; and more of them"
    output.print_error(text)
    lines = terminal.getvalue().removesuffix("\n").split("\n")
    assert " ".join(line.strip() for line in lines) == f"detflow: error: {text}"
    assert "that-has-no-spaces-at-all-in-it.yaml:" in terminal.getvalue()
    assert all(len(line) <= 40 or " " not in line.strip() for line in lines)
    monkeypatch.undo()
    output.print_error(text)
    assert capsys.readouterr().err == f"detflow: error: {text}\n"


def test_a_warning_looks_like_an_error(run, monkeypatch):
    monkeypatch.setattr(
        data.config, "callback", lambda **choices: logging.getLogger("detflow.x").warning("look")
    )
    # Handlers of the test runner would take it.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    assert run("config").err == "detflow: warning: look\n"
