"""Commands in this process: what they print, and the exit code that they would end with."""

from types import SimpleNamespace

import pytest

from detflow.cli import main


@pytest.fixture
def run(capsys):
    def run_command(*arguments):
        try:
            code = main.run([str(argument) for argument in arguments])
        except SystemExit as error:
            code = error.code
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err)

    return run_command
