"""tools/environment, with an interpreter that makes no real environment."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Stands in for Python: `-m venv FOLDER` puts itself there, and all else succeeds.
INTERPRETER = """#!/bin/sh
if [ "$1 $2" = "-m venv" ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; fi
if [ "$3" = install ]; then echo "$*" >> installed; fi
if [ "$1" = --version ]; then echo "Python 3.12.0"; fi
"""


@pytest.fixture
def checkout(tmp_path):
    for name in ("tools/environment", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / "python"
    python.write_text(INTERPRETER)
    python.chmod(0o755)
    return tmp_path


def make_environment(checkout):
    done = subprocess.run(
        [checkout / "tools/environment"],
        env={**os.environ, "PYTHON": str(checkout / "python")},
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(done.stdout.strip()), "creating" in done.stderr


def test_an_environment_is_made_once_and_again_when_the_lock_changes(checkout):
    assert make_environment(checkout) == (checkout / ".venv", True)
    installed = (checkout / "installed").read_text()
    assert "--require-hashes --requirement requirements.lock" in installed
    assert make_environment(checkout) == (checkout / ".venv", False)
    with (checkout / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    assert make_environment(checkout) == (checkout / ".venv", True)


def test_an_environment_that_was_not_finished_is_made_again(checkout):
    (checkout / ".venv").mkdir()
    (checkout / ".venv/detflow-stamp").write_text("not finished\n")
    (checkout / ".venv/half").touch()
    assert make_environment(checkout) == (checkout / ".venv", True)
    assert not (checkout / ".venv/half").exists()


def test_an_environment_of_the_users_own_is_left_alone(checkout):
    own = checkout / ".venv/lib/mine.py"
    own.parent.mkdir(parents=True)
    own.touch()
    assert make_environment(checkout) == (checkout / ".venv-tools", True)
    assert make_environment(checkout) == (checkout / ".venv-tools", False)
    assert own.exists()
