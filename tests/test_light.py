"""The light core: what it may import, on which systems, and what it says without the rest."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from detflow.cli.main import run
from detflow.errors import EnvironmentFault
from detflow.inference.formats import find_format
from detflow.inference.load import load_detector
from detflow.process import libraries

ROOT = Path(__file__).parents[1]

# Modules that need TensorFlow or Matplotlib; all others belong to the light core.
HEAVY = (
    r"benchmarking\.plot|distributed\..*|evaluation\.(files|page|plots)"
    r"|exporting\.(build|card|page|quality|formats\..*|proof\..*)"
    r"|inference\.(graphs|hdf5|serving|tensorflow|trained)"
    r"|models\.(?!anchors|precision).*|process\.tensorflow_faults|runs\.checkpoints"
    r"|training\.(?!fit).*"
)

# Hides what the light installation lacks, and what Windows lacks.
BARE = """
import os, sys

HIDDEN = {"av", "flatbuffers", "matplotlib", "official", "openvino", "pandas", "setuptools",
    "tensorboard", "tensorflow", "tf2onnx", "tf_keras", "tf_slim", "fcntl", "grp", "pwd",
    "resource", "termios"}

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"{name} is hidden", name=name)

sys.meta_path.insert(0, Hide())
for name in HIDDEN & set(sys.modules):
    del sys.modules[name]
for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "pidfd_open", "posix_fallocate", "pread",
        "pwrite", "sched_getaffinity", "sched_setaffinity"):
    delattr(os, name)
"""


def run_bare(program, *arguments):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BARE + program, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_light_modules_need_neither_tensorflow_nor_matplotlib_nor_what_windows_lacks():
    program = """
import importlib, pkgutil, re
import detflow
for found in pkgutil.walk_packages(detflow.__path__, "detflow."):
    name = found.name.removeprefix("detflow.")
    if name != "__main__" and not found.ispkg and not re.fullmatch(sys.argv[1], name):
        importlib.import_module(found.name)
        print(name)
"""
    imported = run_bare(program, HEAVY).split()
    assert {"cli.main", "api.data", "data.making", "evaluation.run", "prediction.run"} <= {
        *imported
    }


def test_files_and_folders_are_published_where_only_portable_locks_are(tmp_path):
    program = """
from pathlib import Path
from detflow import publish
from detflow.errors import Locked
from detflow.process import platform
from detflow.runs.run_dir import RunDir

assert platform.fcntl is platform.resource is None
def cannot_exchange(first, second):
    raise OSError(38, "not here")
publish.exchange_folders = cannot_exchange
root = Path(sys.argv[1])
final = root / "set"
for content in ("old", "new"):
    with publish.publish_directory(final, "0123456789ab") as staging:
        (staging / "a.txt").write_text(content)
        publish.sweep(root)
        assert staging.is_dir()
        try:
            with publish.publish_directory(final, "0123456789ab"):
                raise SystemExit("two build one folder")
        except Locked:
            pass
    assert (final / "a.txt").read_text() == content
publish.publish_file(root / "b.txt", "text")
(root / ".set.tmp-aaaaaaaaaaaa").mkdir()
(root / ".b.txt.tmp-aaaaaaaaaaaa").write_text("half")
publish.sweep(root)
assert sorted(os.listdir(root)) == ["b.txt", "set"], os.listdir(root)
run = RunDir(root / "run")
with run.locked():
    try:
        with run.locked():
            raise SystemExit("two train in one folder")
    except Locked as error:
        assert f"pid {os.getpid()}" in str(error), error
with run.locked():
    pass
assert platform.count_cores() >= 1 and platform.raise_open_files(100) == 100
assert platform.peak_memory() is None
print("done")
"""
    assert run_bare(program, str(tmp_path)) == "done\n"


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr(libraries.importlib.util, "find_spec", lambda name: None)


def test_without_tensorflow_training_and_export_name_the_command_that_installs_it(
    nothing_installed, tmp_path, capsys
):
    (tmp_path / "a.yaml").write_text("data: {records: r}")
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    commands = {
        "training": ["train", "--config", str(tmp_path / "a.yaml")],
        "an export": ["export", "--ckpt", str(tmp_path), "--output", str(tmp_path / "out")],
        "a model directory or checkpoint": [
            *("predict", str(tmp_path), "--model", str(tmp_path / "run")),
            *("--output", str(tmp_path / "out")),
        ],
    }
    for what, command in commands.items():
        assert run(command) == 5
        assert capsys.readouterr().err == (
            f"detflow: error: {what} needs TensorFlow, which is not installed; "
            "pip install '.[train]' in the checkout of detflow\n"
        )


def test_without_tensorflow_its_formats_are_refused_by_name(nothing_installed, tmp_path):
    (tmp_path / "a.pb").write_bytes(b"")
    with pytest.raises(EnvironmentFault, match=r"^TensorFlow is not installed; pip install '\.\["):
        load_detector(tmp_path / "a.pb")
    assert not find_format("saved_model").is_installed()


def test_an_import_that_nobody_looked_for_before_is_one_line_too(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "detflow.data.check", None)
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ImportError):
        run(["check", "."])

    def fail(*arguments, **options):
        import tf2onnx

        return tf2onnx

    monkeypatch.setattr("detflow.cli.main.cli.main", fail)
    assert run(["check", "."]) == 5
    assert "this needs tf2onnx, which is not installed; pip install '.[train]'" in (
        capsys.readouterr().err
    )


def read_pins(name):
    return set(re.findall(r"^[a-z0-9-]+==[^ ;]+", (ROOT / name).read_text(), re.MULTILINE))


def test_the_light_lock_has_the_versions_of_the_full_one_and_no_tensorflow():
    light, full = read_pins("requirements-light.lock"), read_pins("requirements.lock")
    assert light < full
    names = {pin.partition("==")[0] for pin in light}
    assert not names & {"tensorflow", "tf-keras", "tf-models-official", "matplotlib", "av"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {re.split(r"[^a-z0-9-]", wanted)[0] for wanted in project["dependencies"]} <= names


def test_every_library_that_may_be_missing_belongs_to_an_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {extra for _, extra in libraries._LIBRARIES.values()}
    assert extras <= set(project["optional-dependencies"])
