"""The ONNX file and OpenVINO's: what they detect, on what, and what they say of themselves."""

import json
import shutil
from contextlib import ExitStack
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import tensorflow as tf

from detflow.artifact import CONTRACT, OUTPUT_NAMES, ArtifactDir
from detflow.errors import EnvironmentFault
from detflow.exporting.formats import onnx as onnx_export
from detflow.exporting.formats import openvino as openvino_export
from detflow.inference.formats import find_format
from detflow.inference.formats.onnx import load_with_onnxruntime, load_with_opencv
from detflow.inference.formats.openvino import has_openvino, load_openvino
from detflow.inference.load import load_detector
from detflow.label_map import LabelMap

pytestmark = pytest.mark.tf

needs_openvino = pytest.mark.skipif(
    not has_openvino(), reason="OpenVINO, an extra, is not installed"
)
SIZES = [(1, 1), (1, 400), (37, 20), (64, 64), (300, 500), (90, 61)]


@pytest.fixture(scope="module")
def reference(trained):
    return trained.serving.detect_traced


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
    side = max(1, min(height, width) // 6)
    coarse = np.random.default_rng(seed).integers(
        0, 256, (3, height // side + 1, width // side + 1, 3), np.uint8
    )
    return coarse.repeat(side, 1).repeat(side, 2)[:, :height, :width]


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


@needs_openvino
def test_openvino_s_files_are_chosen_by_name_and_hold_the_labels(onnx_dir):
    import openvino

    path = onnx_dir / "openvino" / "model.xml"
    assert load_detector(path).label_map == load_detector(onnx_dir).label_map
    # They need no label map beside them.
    assert find_format("openvino").read_names(path) == load_detector(onnx_dir).label_map
    model = openvino.Core().read_model(path)
    assert model.get_rt_info(["model_info", "labels"]).astype(str) == "disc Ringe_&_Ösen it's"


def test_a_disk_that_refuses_onnx_is_no_fault_of_the_format(
    onnx_path, tmp_path, monkeypatch, small_files
):
    monkeypatch.setattr(onnx_export, "build_onnx_model", lambda *_: onnx.load(onnx_path))
    with small_files(20_000), pytest.raises(OSError, match="File too large"):
        onnx_export.write_onnx(None, None, tmp_path / "model.onnx")


@needs_openvino
def test_nobody_is_told_that_openvino_converts(onnx_path, tmp_path, monkeypatch):
    import openvino_telemetry

    monkeypatch.setattr(openvino_telemetry, "Telemetry", None)
    monkeypatch.setattr(
        openvino_export, "write_onnx", lambda serving, label_map, path: shutil.copy(onnx_path, path)
    )
    path = tmp_path / "openvino" / "model.xml"
    openvino_export.write_openvino(None, LabelMap(("a", "b", "c")), path)
    assert path.with_suffix(".bin").stat().st_size > 10_000


@needs_openvino
def test_a_disk_that_refuses_openvino_is_no_fault_of_the_format(
    onnx_path, tmp_path, monkeypatch, small_files
):
    import openvino
    from openvino import opset13

    monkeypatch.setattr(
        openvino_export, "write_onnx", lambda serving, label_map, path: shutil.copy(onnx_path, path)
    )
    numbers = opset13.constant(np.zeros(50_000, np.float32))
    large = openvino.Model([opset13.relu(numbers)], [], "large")
    with ExitStack() as stack:

        def read(path):
            # The file that it converts is as large as what it writes.
            stack.enter_context(small_files(20_000))
            return large

        monkeypatch.setattr(openvino, "Core", lambda: SimpleNamespace(read_model=read))
        with pytest.raises(EnvironmentFault, match="the disk refuses") as caught:
            openvino_export.write_openvino(
                None, LabelMap(("a",)), tmp_path / "openvino" / "model.xml"
            )
    assert caught.value.exit_code == 5
