import errno
import os
import re

import pytest

from detflow.errors import (
    ArtifactError,
    ConfigError,
    DataError,
    DetflowError,
    EnvironmentFault,
    Locked,
    environment_faults,
    translate_fault,
)

PASSING = (
    FileNotFoundError,
    BlockingIOError,
    ConnectionError,
    TimeoutError,
    InterruptedError,
    ChildProcessError,
    ProcessLookupError,
)


def test_an_error_is_one_line_of_path_place_cause_remedy():
    error = DataError(
        "xmax 412 exceeds width 400", path="a/b.xml", place=23, remedy="correct the box"
    )
    assert str(error) == "a/b.xml:23: xmax 412 exceeds width 400; correct the box"


def test_line_breaks_in_names_cannot_break_the_line():
    assert "\n" not in str(DataError("bad", path="a\nb.xml"))


def test_exit_codes_are_the_documented_ones():
    codes = {
        cls: cls.exit_code
        for cls in (ConfigError, DataError, ArtifactError, EnvironmentFault, Locked)
    }
    assert list(codes.values()) == [2, 3, 4, 5, 6]


def test_a_full_disk_is_an_environment_fault_that_names_the_file():
    with (
        pytest.raises(EnvironmentFault, match=r"out\.bin: no space left"),
        environment_faults("out.bin"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "gone"),
        BlockingIOError(errno.EAGAIN, "locked"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        OSError("an error of a library"),
        KeyError("x"),
    ],
)
def test_other_errors_pass_through(error):
    with pytest.raises(type(error)), environment_faults("out.bin"):
        raise error


@pytest.mark.parametrize("number", sorted(set(errno.errorcode) - {0}))
def test_whatever_the_system_refuses_is_one_line_of_exit_code_5(number):
    error = OSError(number, "Strange refusal")
    fault = translate_fault(error, "out.bin")
    assert re.fullmatch(r"out\.bin: [^\n]{5,}", str(fault))
    assert fault.exit_code == 5
    if not isinstance(error, PASSING):
        with pytest.raises(EnvironmentFault), environment_faults("out.bin"):
            raise error


def test_the_file_that_the_system_names_is_named():
    for name in ("a.bin", b"a.bin"):
        error = OSError(errno.ELOOP, "Too many levels of symbolic links", name)
        expected = "a.bin: links lead to one another in a circle"
        assert str(translate_fault(error, "out.bin")) == expected
    assert str(translate_fault(OSError(errno.EBADF, "Bad", 3), "x")) == "x: Bad"


def test_a_circle_of_links_is_one_to_pathlib_too():
    error = RuntimeError("Symlink loop from 'a'")
    assert str(translate_fault(error, "a")) == "a: links lead to one another in a circle"
    with pytest.raises(EnvironmentFault), environment_faults("a"):
        raise error
    assert translate_fault(RuntimeError("a defect")) is None
    with pytest.raises(RuntimeError), environment_faults("a"):
        raise RuntimeError("a defect")


def test_a_working_directory_that_is_gone_is_said(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with (
        pytest.raises(EnvironmentFault, match="out: the working directory is gone"),
        environment_faults("out"),
    ):
        os.path.abspath("out")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://key:secret@bucket/a", "s3://bucket/a"),
        (
            "see https://user:p@ss@host:80/x@y, https://host/a@b",
            "see https://host:80/x@y, https://host/a@b",
        ),
        ("HTTP://token@host?x=1", "HTTP://host?x=1"),
        ("https:/user:secret@host/x", "https:/host/x"),
        ("a:/home/me@host: b", "a:/home/me@host: b"),
        ("mail me@host or s3://bucket/me@host", "mail me@host or s3://bucket/me@host"),
    ],
)
def test_no_error_shows_a_password(text, shown):
    error = DataError(text, path=text, remedy=text)
    assert str(error) == f"{shown}: {shown}; {shown}"
    assert (error.cause, error.path, error.remedy, error.args) == (shown, shown, shown, (shown,))


def test_every_error_is_a_detflow_error():
    assert all(
        issubclass(cls, DetflowError)
        for cls in (ConfigError, DataError, ArtifactError, EnvironmentFault, Locked)
    )
