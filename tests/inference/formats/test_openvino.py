"""OpenVINO's files, where OpenVINO is installed and where it is not."""

import subprocess
import sys

import pytest

from detflow.cli.main import cli
from detflow.errors import EnvironmentFault
from detflow.inference.formats import find_format
from detflow.inference.formats import openvino as openvino_format
from detflow.inference.formats.openvino import has_openvino
from detflow.inference.load import load_detector

needs_openvino = pytest.mark.skipif(
    not has_openvino(), reason="OpenVINO, an extra, is not installed"
)


@pytest.mark.tf
@needs_openvino
def test_signals_are_handled_after_openvino_s_models_are_gone(export_dir):
    program = """
import gc, os, signal, sys
from pathlib import Path
from detflow.inference.formats.openvino import load_openvino
signal.signal(signal.SIGUSR1, lambda signum, frame: print("handled"))
models = [load_openvino(Path(sys.argv[1])) for _ in range(2)]
while models:
    del models[0]
    gc.collect()
os.kill(os.getpid(), signal.SIGUSR1)
"""
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        "-c",
        program,
        str(export_dir / "openvino" / "model.xml"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


@pytest.fixture
def without_openvino(monkeypatch):
    monkeypatch.setattr(openvino_format, "has_openvino", lambda: False)


REMEDY = r"OpenVINO is not installed.*pip install '\.\[openvino\]'"


def test_without_openvino_the_remedy_is_told_of_a_file(without_openvino, tmp_path):
    path = tmp_path / "model.xml"
    path.touch()
    openvino = find_format("openvino")
    with pytest.raises(EnvironmentFault, match=REMEDY):
        openvino.load(path, openvino.entries[0])
    with pytest.raises(EnvironmentFault, match=REMEDY):
        load_detector(path)


def test_without_openvino_the_remedy_is_told_of_an_export(without_openvino, tmp_path):
    output = tmp_path / "out"
    command = ["export", "--ckpt", str(tmp_path), "--output", str(output)]
    with pytest.raises(EnvironmentFault, match=REMEDY):
        cli.main([*command, "--formats", "openvino"], standalone_mode=False)
    assert not output.exists()
