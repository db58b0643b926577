"""The fresh process: it runs what it loads, knows its runtime only, and its death is told."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from detflow.artifact import CONTRACT, INPUT_NAME
from detflow.errors import ArtifactError
from detflow.exporting.proof.process import (
    Candidate,
    FreshProcess,
    ProofImage,
    answer_questions,
)
from detflow.inference.formats import find_format
from detflow.inference.formats.base import EntryPoint

IMAGE = ProofImage("x", np.zeros((30, 40, 3), np.uint8), b"")


def candidate(path, name="onnx"):
    return Candidate(find_format(name), EntryPoint(path.name, INPUT_NAME), path)


def test_an_image_takes_the_shape_of_every_input_of_the_contract():
    from detflow.data.records.example import decode_example

    image = ProofImage("x", np.zeros((2, 3, 3), np.uint8), b"file")
    shapes = {name: image.as_input(name) for name in CONTRACT["inputs"]}
    assert shapes["image_tensor"].shape == (1, 2, 3, 3)
    assert shapes["encoded_image_string_tensor"] == [b"file"]
    assert [decode_example(example) for example in shapes["tf_example"]] == [
        {"image/encoded": (b"file",)}
    ]


@pytest.mark.tf
def test_a_fresh_process_runs_what_it_loads(export_dir):
    with FreshProcess("onnxruntime") as fresh:
        with pytest.raises(ArtifactError, match=r"gone\.onnx"):
            fresh.load(candidate(export_dir / "gone.onnx"))
        model = candidate(export_dir / "model.onnx")
        facts = fresh.load(model)
        assert list(facts.label_map) == ["disc", "Ringe & Ösen", "it's"]
        assert facts.tensors == model.format.expected_tensors(model.entry)
        assert fresh.run(model, IMAGE)["detection_boxes"].shape == (1, 100, 4)
        assert fresh.last_run_s > 0
        process = fresh._process
        assert process.poll() is None
        assert process.pid != os.getpid()
    assert process.poll() is not None


@pytest.mark.tf
def test_a_process_that_died_is_replaced_and_loads_again_what_it_is_to_run(export_dir):
    model = candidate(export_dir / "model.onnx")
    with FreshProcess("onnxruntime") as fresh:
        fresh.load(model)
        fresh._process.kill()
        with pytest.raises(ArtifactError, match="exit code -9"):
            fresh.run(model, IMAGE)
        assert fresh.run(model, IMAGE)["detection_boxes"].shape == (1, 100, 4)


@pytest.mark.tf
@pytest.mark.parametrize(
    ("runtime", "module", "message"),
    [("tensorflow", "official", "Model Garden"), ("onnxruntime", "tensorflow", "TensorFlow")],
)
def test_a_process_that_imported_too_much_proves_nothing(
    runtime, module, message, export_dir, monkeypatch
):
    """The far end of the pipe, run here with one question and the end of the stream."""
    if module == "official":
        monkeypatch.setitem(sys.modules, "official", object())
    else:
        monkeypatch.delitem(sys.modules, "official", raising=False)
        monkeypatch.setitem(sys.modules, "tensorflow", sys.modules.get("tensorflow", object()))
    ours, theirs = multiprocessing.Pipe()
    ours.send(("model", candidate(export_dir / "model.onnx")))
    with socket.socket(fileno=os.dup(ours.fileno())) as half:
        half.shutdown(socket.SHUT_WR)
    before = signal.getsignal(signal.SIGINT)
    try:
        answer_questions(os.dup(theirs.fileno()), runtime)
    finally:
        signal.signal(signal.SIGINT, before)
    answer = ours.recv()
    assert (answer.outputs, answer.fault) == (None, f"it needs {message} to run")
    ours.close()
    theirs.close()


def test_a_script_is_not_run_a_second_time_by_the_fresh_process(tmp_path):
    # The script has no `if __name__ == "__main__"`, as people write them.
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "script.py").write_text(
        "import pathlib\n"
        "from detflow.errors import ArtifactError\n"
        "from detflow.exporting.proof.process import Candidate, FreshProcess\n"
        "from detflow.inference.formats import find_format\n"
        "print('once')\n"
        "tflite = find_format('tflite')\n"
        "with FreshProcess('litert') as fresh:\n"
        "    try:\n"
        "        fresh.load(Candidate(tflite, tflite.entries[0], pathlib.Path('gone.tflite')))\n"
        "    except ArtifactError as error:\n"
        "        print(error)\n"
    )
    # Nothing that lies where the command is called is imported.
    (tmp_path / "numpy.py").write_text("raise SystemExit('a foreign numpy')")
    done = subprocess.run(
        [sys.executable, "scripts/script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    first, second = done.stdout.splitlines()
    assert first == "once"
    assert "gone.tflite" in second
    assert "exit code" not in second
    assert done.stderr == ""
