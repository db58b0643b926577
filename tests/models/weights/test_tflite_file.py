import contextlib

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from detflow.errors import ArtifactError
from detflow.models.weights import tflite_file
from detflow.models.weights.tflite_file import read_mobilenet_v2

STEM, DEPTHWISE, OTHER = (
    f"FeatureExtractor/{name}" for name in ("MobilenetV2/Conv", "MobilenetV2/d", "x")
)
KERNEL = np.random.default_rng(0).normal(0, 1, (4, 3, 3, 3)).astype(np.float32)
BIAS = np.array([1, 2, 3, 4], np.float32)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(tflite_file, "_NUM_CONVOLUTIONS", 2)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "detector.tflite"


def build(kernel=KERNEL, bias=BIAS, tensor_type=schema.TensorType.FLOAT16):
    """Returns a TFLite file of a stem whose weights have 16 bits, and two more convolutions."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs = 3, [graph]
    model.buffers, graph.tensors, graph.operators = [schema.BufferT()], [], []
    model.operatorCodes = []
    codes = schema.BuiltinOperator
    for code in (codes.CONV_2D, codes.DEPTHWISE_CONV_2D, codes.DEQUANTIZE):
        entry = schema.OperatorCodeT()
        entry.builtinCode = entry.deprecatedBuiltinCode = code
        model.operatorCodes.append(entry)

    def add_tensor(name, values=None, tensor_type=schema.TensorType.FLOAT32):
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.shape, tensor.buffer = name, tensor_type, [], 0
        if values is not None:
            buffer = schema.BufferT()
            dtype = np.float16 if tensor_type == schema.TensorType.FLOAT16 else np.float32
            buffer.data = list(values.astype(dtype).tobytes())
            tensor.shape, tensor.buffer = list(values.shape), len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    def add_operator(code, inputs, outputs):
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
        graph.operators.append(operator)

    image = add_tensor("image")
    short = add_tensor("short", kernel, tensor_type)
    long = add_tensor("long")
    add_operator(2, [short], [long])
    stem = add_tensor(STEM)
    add_operator(0, [image, long, add_tensor("bias", bias)], [stem])
    other = add_tensor(OTHER)
    add_operator(0, [stem, long, add_tensor("bias", bias)], [other])
    each = add_tensor("each", np.ones((1, 3, 3, 4), np.float32))
    depthwise = add_tensor(DEPTHWISE)
    add_operator(1, [stem, each, add_tensor("bias", bias)], [depthwise])
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_the_extractor_s_convolutions_come_in_order_in_tensorflow_s_layout(path, monkeypatch):
    path.write_bytes(build())
    monkeypatch.setattr(tflite_file, "take_own_input", lambda first, centre, scale: first)
    first, second = read_mobilenet_v2(path)
    np.testing.assert_allclose(first.kernel, KERNEL.transpose(1, 2, 3, 0), atol=1e-3)
    np.testing.assert_array_equal(first.beta, BIAS)
    assert second.kernel.shape == (3, 3, 4, 1)
    assert not first.has_statistics


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no TFLite file"),
        (b"PK\x03\x04TFL9" + bytes(40), "no TFLite file"),
        (build(tensor_type=schema.TensorType.INT8), "is not of floats"),
        (build(kernel=KERNEL[:3]), "kernel and bias of other shapes"),
        (build(kernel=KERNEL[0]), "kernel and bias of other shapes"),
    ],
)
def test_what_is_no_such_detector_is_one_line(content, message, path):
    path.write_bytes(content)
    with pytest.raises(ArtifactError) as caught:
        read_mobilenet_v2(path)
    assert message in str(caught.value)
    assert path.name in str(caught.value)


def test_too_few_convolutions_and_too_large_a_file_are_refused(path, monkeypatch):
    path.write_bytes(build())
    monkeypatch.setattr(tflite_file, "_NUM_CONVOLUTIONS", 3)
    with pytest.raises(ArtifactError, match="2 float convolutions of a MobileNetV2 in it, not 3"):
        read_mobilenet_v2(path)
    monkeypatch.setattr(tflite_file, "_MAX_BYTES", 10)
    with pytest.raises(ArtifactError, match="more than 10"):
        read_mobilenet_v2(path)


def test_a_damaged_file_is_an_error_or_other_numbers_and_nothing_else(path):
    good = build()
    errors = []
    for bit in np.random.default_rng(0).choice(8 * len(good), 100, replace=False).tolist():
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            assert [len(found.beta) for found in read_mobilenet_v2(path)] == [4, 4]
        except ArtifactError as error:
            errors.append(error)
    assert errors
    for size in range(8, len(good), 101):
        path.write_bytes(good[:size])
        with contextlib.suppress(ArtifactError):
            read_mobilenet_v2(path)
