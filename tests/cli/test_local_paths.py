"""Where only a path works, a URL is refused in one line instead of becoming a folder `s3:`."""

import inspect
import os
from pathlib import Path

import click
import pytest

import detflow
from detflow.api.common import to_location, to_path
from detflow.cli.main import cli
from detflow.cli.options import LocalType
from detflow.errors import ConfigError
from detflow.storage.location import Url

URL = "s3://key:secret@bucket/out"


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "photos", "--model", ".", "--output", URL),
        ("init", ".", "--output", URL),
        ("check", ".", "--report", URL),
        ("check", ".", "--questions", URL),
        ("benchmark", ".", "--output", URL),
        ("benchmark", URL),
        ("convert", ".", "--to", "voc", "--output", URL),
        ("diff", ".", ".", "--page", URL),
        ("make-records", ".", "--output", "records", "--write-fixed", URL),
        ("make-records", ".", "--output", "records", "--keep-splits", URL),
    ],
)
def test_a_url_is_refused_where_only_a_path_works(run, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "detflow: error: s3://bucket/out: a URL does not work here; name a local path\n"
    )
    assert os.listdir(tmp_path) == []


def test_every_path_on_the_command_line_is_of_the_type_that_refuses():
    others = [
        f"{name} {parameter.name}"
        for name, command in cli.commands.items()
        for parameter in command.params
        if isinstance(parameter.type, click.Path) and not isinstance(parameter.type, LocalType)
    ]
    assert others == []


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (detflow.predict, "output"),
        (detflow.convert, "output"),
        (detflow.init, "output"),
        (detflow.check, "report"),
        (detflow.check, "questions"),
        (detflow.make_records, "write_fixed"),
        (detflow.diff, "page"),
    ],
)
def test_python_refuses_it_too(tmp_path, monkeypatch, call, name):
    monkeypatch.chdir(tmp_path)
    given = {"to": "voc", name: URL}
    for parameter in inspect.signature(call).parameters.values():
        if parameter.default is parameter.empty:
            given.setdefault(parameter.name, ".")
    if call is detflow.diff:
        given["old"] = "."
    given = {
        key: value for key, value in given.items() if key in inspect.signature(call).parameters
    }
    with pytest.raises(ConfigError, match=r"^s3://bucket/out: a URL does not work here"):
        call(**given)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("read", [to_path, to_location])
def test_a_url_that_went_through_pathlib_is_refused(read):
    with pytest.raises(ConfigError, match=r"^s3:/bucket/x: a Path cannot hold a URL"):
        read(Path("s3://bucket/x"))
    assert read("a/b") == read(Path("a/b")) == Path("a/b")


def test_a_url_object_is_no_path():
    with pytest.raises(ConfigError, match="a URL does not work here"):
        to_path(Url.parse("s3://bucket/x"))
