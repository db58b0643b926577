"""The ONNX file and OpenVINO's: what they detect, on what, and what they say of themselves."""

import json
import shutil
import subprocess
import sys
from contextlib import ExitStack

import numpy as np
import onnx
import pytest
import tensorflow as tf
from detflow.inference.onnx import load_with_onnxruntime, load_with_opencv
from detflow.inference.openvino import has_openvino, load_openvino

from detflow.artifact import CONTRACT, OUTPUT_NAMES, ArtifactDir
from detflow.cli.main import cli
from detflow.errors import ArtifactError, EnvironmentFault
from detflow.exporting import onnx as onnx_export
from detflow.exporting import openvino as openvino_export
from detflow.exporting.formats import parse_formats
from detflow.inference import openvino as openvino_runtime
from detflow.inference.load import load_detector
from detflow.inference.trained import load_trained_model
from detflow.label_map import LabelMap
from detflow.models import preprocess

pytestmark = pytest.mark.tf

needs_openvino = pytest.mark.skipif(
    not has_openvino(), reason="OpenVINO, an extra, is not installed"
)
SIZES = [(1, 1), (1, 400), (37, 20), (64, 64), (300, 500), (90, 61)]


@pytest.fixture(scope="module")
def reference(model_dir):
    return load_trained_model(model_dir).serving.detect_traced


@pytest.fixture(
    scope="module", params=["onnxruntime", "opencv", pytest.param("openvino", marks=needs_openvino)]
)
def run(request, onnx_dir):
    if request.param == "openvino":
        return load_openvino(onnx_dir / "openvino" / "model.xml")
    return {"onnxruntime": load_with_onnxruntime, "opencv": load_with_opencv}[request.param](
        onnx_dir / "model.onnx"
    )


def draw(height, width, seed=1):
    """Smooth enough that scores spread; noise alone is grey to an antialiased network."""
    coarse = np.random.default_rng(seed).integers(
        0, 256, (3, height // 9 + 1, width // 9 + 1, 3), np.uint8
    )
    return np.repeat(np.repeat(coarse, 9, 1), 9, 2)[:, :height, :width]


@pytest.mark.parametrize("size", SIZES)
def test_every_size_gives_what_tensorflow_gives_whatever_the_batch(size, run, reference):
    images = draw(*size)
    together = run(images)
    expected = reference(tf.constant(images))
    # Some of these have none, which is a case of its own.
    assert (expected["num_detections"].numpy().max() > 0) == (min(size) > 1 or size == (1, 1))
    assert tuple(together) == OUTPUT_NAMES
    for name in OUTPUT_NAMES:
        assert together[name].dtype == np.float32
        # Class by class: a suppression that mixed them would keep others.
        np.testing.assert_allclose(together[name], expected[name], rtol=0, atol=2e-5, err_msg=name)
    for row in range(3):
        alone = run(images[row : row + 1])
        for name in OUTPUT_NAMES:
            np.testing.assert_allclose(
                alone[name][0], together[name][row], rtol=0, atol=2e-5, err_msg=name
            )


@pytest.mark.parametrize("size", [*SIZES, (1500, 1000)])
def test_the_resize_in_the_graph_is_the_training_s(size, onnx_path, tmp_path):
    import onnxruntime

    canvases = tmp_path / "canvases.onnx"
    onnx.utils.extract_model(onnx_path, canvases, ["image_tensor"], ["canvases"])
    images = np.random.default_rng(2).integers(0, 256, (2, *size, 3), np.uint8)
    (found,) = onnxruntime.InferenceSession(canvases).run(None, {"image_tensor": images})
    fitted, _ = preprocess.fit_to_canvas(images, (64, 64))
    expected = preprocess.normalize(fitted).numpy().transpose(0, 3, 1, 2)
    # A thousandth of a grey level.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 / min(preprocess.STDDEV_RGB))


def test_the_file_says_what_it_is(onnx_path, onnx_dir):
    model = onnx.load(onnx_path)
    onnx.checker.check_model(model, full_check=True)
    (image,) = model.graph.input
    assert (image.name, image.type.tensor_type.elem_type) == (
        "image_tensor",
        onnx.TensorProto.UINT8,
    )
    assert [output.name for output in model.graph.output] == list(OUTPUT_NAMES)
    properties = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert properties["class_names"] == ["disc", "Ringe & Ösen", "it's"]
    assert properties["contract"] == CONTRACT
    assert properties["thresholds"] == ArtifactDir(onnx_dir).verify()["thresholds"]


def test_the_card_tells_of_both_readers(onnx_dir):
    found = ArtifactDir(onnx_dir).verify()["formats"]["onnx"]
    assert list(found["entries"]) == ["model.onnx", "model.onnx OpenCV"]
    assert found["refused"] == {}
    assert all(entry["share_found"] >= 0.999 for entry in found["entries"].values())
    assert all(entry["num_detections"] > 50 for entry in found["entries"].values())
    assert abs(found["change"]["AP"]) <= 0.005


def test_an_export_is_loaded_by_the_runtime_that_starts_fastest(onnx_dir):
    assert load_detector(onnx_dir).source == onnx_dir / "model.onnx"
    assert load_detector(onnx_dir / "frozen_inference_graph.pb").source.suffix == ".pb"


@needs_openvino
def test_openvino_s_files_are_chosen_by_name_and_hold_the_labels(onnx_dir):
    import openvino

    path = onnx_dir / "openvino" / "model.xml"
    assert load_detector(path).label_map == load_detector(onnx_dir).label_map
    model = openvino.Core().read_model(path)
    assert model.get_rt_info(["model_info", "labels"]).astype(str) == "disc Ringe_&_Ösen it's"


@needs_openvino
def test_signals_are_handled_after_openvino_s_models_are_gone(onnx_dir):
    program = """
import gc, os, signal, sys
from pathlib import Path
from detflow.inference.openvino import load_openvino
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
        str(onnx_dir / "openvino" / "model.xml"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_without_openvino_the_remedy_is_told(onnx_dir, model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(openvino_runtime, "has_openvino", lambda: False)
    for use in (
        lambda: load_openvino(onnx_dir / "openvino" / "model.xml"),
        lambda: parse_formats("frozen,openvino"),
        lambda: cli.main(
            [
                "export",
                "--ckpt",
                str(model_dir),
                "--output",
                str(tmp_path / "out"),
                "--formats",
                "openvino",
            ],
            standalone_mode=False,
        ),
    ):
        with pytest.raises(EnvironmentFault, match=r"pip install detflow\[openvino\]"):
            use()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "load",
    [load_with_onnxruntime, load_with_opencv, pytest.param(load_openvino, marks=needs_openvino)],
)
@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x08\x12\x03abc" * 50])
def test_what_is_no_model_is_refused(load, content, tmp_path, capfd):
    path = tmp_path / ("model.xml" if load is load_openvino else "model.onnx")
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="model") as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "load",
    [load_with_onnxruntime, load_with_opencv, pytest.param(load_openvino, marks=needs_openvino)],
)
def test_a_model_of_another_kind_is_refused(load, tmp_path):
    path = tmp_path / "model.onnx"
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [value("x", 1, [1, 3])],
        [value("y", 1, [1, 3])],
    )
    onnx.save(
        onnx.helper.make_model(
            graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 18)]
        ),
        path,
    )
    with pytest.raises(ArtifactError, match="not a detector"):
        load(path)


def test_a_disk_that_refuses_onnx_is_no_fault_of_the_format(
    onnx_path, tmp_path, monkeypatch, small_files
):
    monkeypatch.setattr(onnx_export, "build_onnx_model", lambda *_: onnx.load(onnx_path))
    with small_files(100_000), pytest.raises(OSError, match="File too large"):
        onnx_export.write_onnx(None, None, tmp_path / "model.onnx")


@needs_openvino
def test_a_disk_that_refuses_openvino_is_no_fault_of_the_format(
    onnx_path, tmp_path, monkeypatch, small_files
):
    import openvino

    monkeypatch.setattr(
        openvino_export, "write_onnx", lambda serving, label_map, path: shutil.copy(onnx_path, path)
    )
    convert = openvino.convert_model
    with ExitStack() as stack:
        # The file that it converts is as large as what it writes.
        monkeypatch.setattr(
            openvino,
            "convert_model",
            lambda path: (convert(path), stack.enter_context(small_files(100_000)))[0],
        )
        with pytest.raises(EnvironmentFault, match="the disk refuses") as caught:
            openvino_export.write_openvino(
                None, LabelMap(("a",)), tmp_path / "openvino" / "model.xml"
            )
    assert caught.value.exit_code == 5
