"""Exports from outside: what is published, what is refused, and what a kill leaves behind.

Converters are slow and have tests of their own: here most formats are written by copying the files
of one export that all tests share.
"""

import contextlib
import functools
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import forks
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from detflow.artifact import ArtifactDir
from detflow.cli.main import cli, main
from detflow.config.reading import parse_config
from detflow.errors import ArtifactError, ConfigError, EnvironmentFault
from detflow.exporting import build
from detflow.exporting.formats import onnx as onnx_export
from detflow.exporting.formats import tflite as tflite_export
from detflow.exporting.formats.base import Draft, FormatWriter
from detflow.exporting.proof.compare import SAME_NETWORK, Gate, Tolerance
from detflow.exporting.proof.latency import Timing
from detflow.exporting.run import export_model, find_failure
from detflow.inference.formats.onnx import load_onnx
from detflow.runs.run_dir import RunDir

pytestmark = pytest.mark.tf

QUICK = Timing(1, 1)
FLOAT = Gate(Tolerance(0.3, min_iou=0.9, max_score_difference=0.05, min_share=0.98), 0.005)
STRICT = Gate(
    Tolerance(score_threshold=0.3, min_iou=0.999, max_score_difference=1e-4, min_share=1.0), 0.02
)


@pytest.fixture(scope="module", autouse=True)
def load_once():
    """Builds the network of each checkpoint, and runs it on the proof's images, once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "load_trained_model", functools.cache(build.load_trained_model))
        yield


def build_writer(export_dir, gate):
    """A writer that copies a format's files from the shared export."""

    class Writer(FormatWriter):
        own_gate = gate

        def write(self, job):
            for path in self.format.paths:
                self.put(job, (export_dir / path).read_bytes())
            yield Draft()

        def put(self, job, content):
            (job.artifact.path / self.format.paths[0]).write_bytes(content)

    return Writer


@pytest.fixture
def copies(export_dir, monkeypatch):
    """Has ONNX and TFLite written by copying."""
    monkeypatch.setattr(onnx_export, "Writer", build_writer(export_dir, SAME_NETWORK))
    monkeypatch.setattr(tflite_export, "Writer", build_writer(export_dir, FLOAT))


def spoil(export_dir):
    """The ONNX file with a weight that makes it detect something else than its checkpoint."""
    model = onnx.load(export_dir / "model.onnx")
    bias = next(
        constant for constant in model.graph.initializer if "scores/BiasAdd" in constant.name
    )
    values = numpy_helper.to_array(bias).copy()
    values[1] += 0.01
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    return model.SerializeToString()


# --- What is published ----------------------------------------------------------------------------


def test_if_no_format_agrees_nothing_is_published_and_the_old_export_stays(
    model_dir, artifact_dir, export_dir, tmp_path, monkeypatch
):
    class Spoiled(build_writer(export_dir, SAME_NETWORK)):
        def write(self, job):
            self.put(job, spoil(export_dir))
            yield Draft()

    monkeypatch.setattr(onnx_export, "Writer", Spoiled)
    output = tmp_path / "artifact"
    shutil.copytree(artifact_dir, output)
    before = ArtifactDir(output).verify()
    with pytest.raises(ArtifactError, match=r"^model\.onnx: .* of ckpt-10's .*\.jpg") as caught:
        export_model(str(model_dir), output, formats="onnx", timing=QUICK)
    assert "nothing was published" in str(caught.value)
    assert caught.value.exit_code == 4
    assert ArtifactDir(output).verify() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["artifact"]


@pytest.fixture(scope="module")
def mixed(model_dir, export_dir, tmp_path_factory):
    """A command whose float file passes, and whose int8 file fails on both rungs of its ladder."""
    output, timed = tmp_path_factory.mktemp("mixed") / "artifact", []

    def find_writer(written):
        if written.name == "tflite":
            return build_writer(export_dir, FLOAT)(written)

        class Ladder(build_writer(export_dir, STRICT)):
            def write(self, job):
                for rung, file in enumerate(("model_int8.tflite", "model_dynamic.tflite")):
                    self.put(job, (export_dir / file).read_bytes())
                    yield Draft({"rung": f"rung {rung}"})

        return Ladder(written)

    def measure(fresh, candidate, images, timing):
        timed.append(candidate.name)
        return 7.123

    printed = io.StringIO()
    command = ["export", "--ckpt", str(model_dir), "--output", str(output)]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(tflite_export, "Writer", find_writer)
        patch.setattr(build, "measure_p50_ms", measure)
        with pytest.raises(ArtifactError) as caught:
            cli.main([*command, "--formats", "tflite,tflite_int8"], standalone_mode=False)
    card = ArtifactDir(output).verify()
    return SimpleNamespace(
        output=output, timed=timed, printed=printed.getvalue(), error=caught.value, card=card
    )


def test_a_format_that_disagrees_is_left_out_and_the_command_fails(mixed):
    message = (
        r"not published: tflite_int8: model_int8\.tflite: .*% of ckpt-10's .* image p\d\d\.jpg"
    )
    assert re.search(message, str(mixed.error))
    assert str(find_failure(mixed.card, mixed.output)) == str(mixed.error)
    assert mixed.error.exit_code == 4
    assert f"{mixed.output / 'model.tflite'}, " in mixed.printed
    assert list(mixed.card["formats"]) == ["tflite"]
    assert not (mixed.output / "model_int8.tflite").exists()


def test_only_what_passed_is_timed(mixed):
    assert mixed.timed == ["model.tflite"]
    assert mixed.card["formats"]["tflite"]["entries"]["model.tflite"]["p50_ms"] == 7.12


def test_a_writer_is_asked_for_better_files_as_long_as_the_gate_refuses(mixed):
    failed = mixed.card["failed"]["tflite_int8"]
    assert [rung["rung"] for rung in failed["rungs"]] == ["rung 0", "rung 1"]
    assert all(rung["failure"] and rung["metrics"]["AP"] is not None for rung in failed["rungs"])
    assert failed["rungs"][-1]["failure"] == failed["reason"]


@pytest.mark.slow
def test_options_and_words_choose_what_is_exported(model_dir, pictures_dir, tmp_path, capfd):
    output = tmp_path / "artifact"
    arguments = ["--ckpt", "last", "--model-dir", model_dir, "--images", pictures_dir]
    options = ["--score-threshold", "0.5", "--max-detections", "7", "--json"]
    command = ["export", *arguments, "--output", output, "--formats", "onnx", *options]
    cli.main(list(map(str, command)), standalone_mode=False)
    printed = capfd.readouterr()
    # Each format says when it begins and when it has passed.
    assert [line.partition(",")[0] for line in printed.err.splitlines()] == [
        "onnx: writing it",
        "onnx: passed",
    ]
    card = json.loads(printed.out)
    assert card == ArtifactDir(output).verify()
    assert card["checkpoint"]["name"] == "ckpt-20"
    assert card["thresholds"] == {"score_threshold": 0.5, "nms_iou": 0.6, "max_detections": 7}
    assert (card["parity"]["images"], card["parity"]["num_images"]) == ("folder", 24)
    assert card["parity"]["metrics"] is None
    squares = np.random.default_rng(1).integers(0, 256, (1, 5, 5, 3), np.uint8)
    found = load_onnx(output / "model.onnx")(squares.repeat(10, 1).repeat(10, 2))
    assert found["detection_boxes"].shape == (1, 7, 4)
    kept = found["detection_scores"][found["detection_scores"] > 0]
    assert kept.size
    assert kept.min() >= 0.5


@pytest.mark.slow
def test_a_model_of_several_canvases_is_exported_to_light_runtimes(canvases_dir, tmp_path):
    # The gates run the formats on portrait and landscape images in processes of their own.
    output = tmp_path / "artifact"
    card = export_model(
        str(canvases_dir), output, formats="onnx,tflite", max_ap_drop=1.0, timing=QUICK
    )
    assert card["failed"] == {}
    assert all(found["refused"] == {} for found in card["formats"].values())
    assert (card["canvas_size"], card["more_canvas_sizes"]) == (
        {"height": 64, "width": 96},
        [{"height": 96, "width": 64}],
    )
    # A TFLite file shows portraits smaller than the checkpoint does, which its AP may tell; ONNX
    # does what the checkpoint does.
    assert card["formats"]["tflite"]["input"]["shape"] == [1, 64, 96, 3]
    assert abs(card["formats"]["onnx"]["change"]["AP"]) <= 0.005
    assert "96 × 64; each image uses the canvas" in (output / "card.html").read_text()


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"ckpt": "best", "formats": "frozen,tflight"},
            "there is no format 'tflight'; choose from frozen, ",
        ),
        ({"ckpt": "best"}, "--model-dir"),
        ({"ckpt": "ckpt-10", "model_dir": Path("run")}, "together with --model-dir"),
    ],
)
def test_arguments_that_say_nothing_definite_are_refused(arguments, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        export_model(output=tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_network_of_two_stages_is_refused_before_its_weights_are_read(
    tmp_path, run_record, save_state
):
    config = parse_config("data: {records: x}", ["model.preset=faster_rcnn_resnet50"])
    save_state(RunDir(tmp_path / "run"), run_record(config))
    with pytest.raises(ConfigError, match=r"faster_rcnn cannot become tflite"):
        export_model(str(tmp_path / "run"), tmp_path / "out", formats="frozen,tflite")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_things_is_never_replaced(model_dir):
    before = sorted(path.name for path in model_dir.iterdir())
    with pytest.raises(ConfigError, match=r"holds no model\.json"):
        export_model(str(model_dir), model_dir)
    assert sorted(path.name for path in model_dir.iterdir()) == before


# The commands run one after the other in one process that has not imported TensorFlow.
REFUSED = """
import json, sys
from detflow.cli.main import main

for command in json.loads(sys.argv[1]):
    sys.argv = ["detflow", *command]
    try:
        main()
    except SystemExit as left:
        print(left.code)
    assert "tensorflow" not in sys.modules
"""


def test_what_can_be_refused_at_once_is_refused_before_tensorflow_is_imported(model_dir, tmp_path):
    (tmp_path / "file").write_text("in the way")
    commands = [
        ["export", "--ckpt", str(model_dir / ckpt), "--output", str(output)]
        for ckpt, output in (
            ("ckpt-10", "/sys/detflow-export"),
            ("ckpt-11", tmp_path / "out"),
            ("ckpt-10", tmp_path / "file" / "out"),
        )
    ]
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, json.dumps(commands)], capture_output=True, text=True
    )
    assert done.stdout.split() == ["5", "4", "5"], done.stderr
    assert done.stderr.count("\n") == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_too_little_space_is_told_with_both_numbers(model_dir, tmp_path, monkeypatch):
    usage = shutil._ntuple_diskusage(10**9, 10**9 - 12_345, 12_345)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    message = r"\d\d,\d{3},\d{3} bytes are needed and 12,345 are free"
    with pytest.raises(EnvironmentFault, match=message):
        export_model(str(model_dir), tmp_path / "out", formats="onnx,tflite")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_in_the_middle_publishes_nothing(
    model_dir, tmp_path, copies, small_files
):
    with small_files(20_000), pytest.raises(EnvironmentFault, match="size limit") as caught:
        export_model(str(model_dir), tmp_path / "out", formats="onnx")
    assert str(tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# --- What a signal leaves behind ------------------------------------------------------------------


def test_ctrl_c_in_the_middle_leaves_nothing(model_dir, tmp_path, monkeypatch, capsys):
    class Interrupted(FormatWriter):
        own_gate = SAME_NETWORK

        def write(self, job):
            (job.artifact.path / "model.onnx").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
            yield Draft()

    monkeypatch.setattr(onnx_export, "Writer", Interrupted)
    command = ["export", "--ckpt", str(model_dir), "--output", str(tmp_path / "export")]
    monkeypatch.setattr(sys, "argv", ["detflow", *command, "--formats", "onnx"])
    # The command line takes SIGTERM; pytest has it back afterwards.
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as left:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert left.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1] == "detflow: interrupted"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("formats", "stage"),
    [
        ("onnx", "model.onnx"),
        pytest.param("frozen", "frozen_inference_graph.pb", marks=pytest.mark.soak),
        pytest.param("frozen,saved_model", ".", marks=pytest.mark.soak),
        pytest.param("frozen,saved_model", "saved_model/saved_model.pb", marks=pytest.mark.soak),
    ],
)
def test_a_killed_export_leaves_no_folder_and_no_process(
    formats, stage, model_dir, copies, tmp_path
):
    output = tmp_path / "out"
    command = ["export", "--ckpt", model_dir, "--output", output, "--formats", formats]
    process = forks.start_command(command, tmp_path, DETFLOW_TEST=str(tmp_path))
    wait_for(lambda: list(tmp_path.glob(f".out.tmp-*/{stage}")))
    process.kill()
    process.join()
    assert not output.exists()
    # The kernel ends the fresh processes with their parent.
    marker = f"DETFLOW_TEST={tmp_path}".encode()
    wait_for(
        lambda: not any(marker in read_environment(entry) for entry in Path("/proc").glob("[0-9]*"))
    )
    # The next export sweeps the dead one's leftovers.
    assert export_model(str(model_dir), output, formats="tflite", timing=QUICK)["failed"] == {}
    assert {entry.name for entry in tmp_path.iterdir()} == {"out", "stdout", "stderr"}
    assert ArtifactDir(output).verify()


def wait_for(condition):
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def read_environment(process):
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""
