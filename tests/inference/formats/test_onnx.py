"""ONNX files and OpenVINO's: what is refused, with one line and nothing on stderr."""

import os
import sys

import onnx
import pytest

from detflow.errors import ArtifactError
from detflow.inference.formats import onnx as onnx_format
from detflow.inference.formats.onnx import load_with_onnxruntime, load_with_opencv
from detflow.inference.formats.openvino import has_openvino, load_openvino

needs_openvino = pytest.mark.skipif(
    not has_openvino(), reason="OpenVINO, an extra, is not installed"
)


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


@pytest.mark.parametrize(("wanted", "found"), [(None, "1"), ("0", "0")])
def test_onnxruntime_does_not_report_to_its_maker_unless_somebody_asks_for_it(
    wanted, found, monkeypatch
):
    stand_in = object()
    monkeypatch.setitem(sys.modules, "onnxruntime", stand_in)
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", wanted or "")
    if wanted is None:
        monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    assert onnx_format._import_onnxruntime() is stand_in
    assert os.environ["ORT_DISABLE_TELEMETRY"] == found
