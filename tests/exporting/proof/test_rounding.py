"""Files of rounded numbers against the same in floats, drawn by hand."""

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from detflow.errors import ArtifactError
from detflow.exporting.proof.rounding import require_rounded

KINDS = {
    np.float32: schema.TensorType.FLOAT32,
    np.float16: schema.TensorType.FLOAT16,
    np.int8: schema.TensorType.INT8,
    np.int32: schema.TensorType.INT32,
}
WEIGHTS = np.random.default_rng(0).normal(0.0, 0.1, (4, 3)).astype(np.float32)
BIAS = np.array([0.5, -0.25, 0.0, 1e-3], np.float32)


class Drawing:
    """A model of fully connected operations with constants."""

    def __init__(self):
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version = 3
        self.model.buffers, self.model.operatorCodes = [schema.BufferT()], []
        self.model.subgraphs = [self.graph]
        self.graph.tensors, self.graph.operators = [], []
        self.graph.inputs = self.graph.outputs = [self.tensor()]

    def tensor(self, values=None, scale=None, zero=0, axis=0):
        tensor = schema.TensorT()
        tensor.buffer, tensor.shape = 0, []
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer, tensor.shape = len(self.model.buffers) - 1, list(values.shape)
            tensor.type = KINDS[values.dtype.type]
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.atleast_1d(scale).tolist()
            tensor.quantization.zeroPoint = [zero] * len(tensor.quantization.scale)
            tensor.quantization.quantizedDimension = axis
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def add(self, name, *inputs):
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        self.model.operatorCodes.append(code)
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = list(inputs), [self.tensor()]
        self.graph.operators.append(operator)
        return operator.outputs[0]

    def pack(self):
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def draw_floats(weights=WEIGHTS, bias=BIAS):
    drawing = Drawing()
    drawing.add("FULLY_CONNECTED", 0, drawing.tensor(weights), drawing.tensor(bias))
    return drawing.pack()


def draw_int8(weights=WEIGHTS, bias=BIAS, **changes):
    """Weights in 8 bits with a scale for each row, biases in 32."""
    drawing = Drawing()
    scales = np.abs(weights).max(1) / 127
    rounded = np.round(weights / scales[:, np.newaxis]).astype(np.int8)
    source = drawing.add("QUANTIZE", 0)
    drawing.add(
        changes.get("name", "FULLY_CONNECTED"),
        source,
        drawing.tensor(rounded, scales * changes.get("scale", 1.0)),
        drawing.tensor(np.round(bias / 1e-6).astype(np.int32), 1e-6),
    )
    return drawing.pack()


def draw_float16(weights=WEIGHTS):
    drawing = Drawing()
    places = [
        drawing.add("DEQUANTIZE", drawing.tensor(values.astype(np.float16)))
        for values in (weights, BIAS)
    ]
    drawing.add("FULLY_CONNECTED", 0, *places)
    return drawing.pack()


@pytest.fixture
def judge(tmp_path):
    def judge(content, twin=None):
        path = tmp_path / "model.tflite"
        path.write_bytes(content)
        return require_rounded(path, twin or draw_floats())

    return judge


@pytest.mark.parametrize("draw", [draw_floats, draw_int8, draw_float16])
def test_rounded_numbers_pass(judge, draw):
    found = judge(draw())
    assert (found.constants, found.numbers) == (2, 16)
    assert found.max_steps == 0.0 if draw is draw_floats else 0.3 < found.max_steps <= 0.5


def test_steps_of_all_rows_alike_pass_too(judge):
    # As activations' and a normalisation's constants are rounded: one scale, and a zero of its own.
    drawing, scale = Drawing(), float(np.ptp(WEIGHTS)) / 250
    rounded = np.round(WEIGHTS / scale - 3).astype(np.int8)
    bias = drawing.tensor(BIAS)
    drawing.add("FULLY_CONNECTED", 0, drawing.tensor(rounded, scale, zero=-3), bias)
    assert judge(drawing.pack()).max_steps <= 0.5


def noisy(share):
    return WEIGHTS * (1 + share * np.random.default_rng(1).normal(size=WEIGHTS.shape))


@pytest.mark.parametrize(
    "content",
    [
        draw_int8(noisy(0.05).astype(np.float32)),
        draw_int8(WEIGHTS[:, ::-1]),
        draw_int8(bias=BIAS + np.float32(1e-4)),
        draw_int8(scale=1.02),
        draw_float16(noisy(0.005).astype(np.float32)),
        draw_floats(noisy(1e-4).astype(np.float32)),
        draw_int8(np.where(WEIGHTS[2, 1] == WEIGHTS, np.float32(0), WEIGHTS)),
    ],
    ids=["noise", "order", "bias", "scale", "float16", "floats", "one"],
)
def test_other_numbers_fail(judge, content):
    with pytest.raises(ArtifactError, match=r"^model\.tflite: a constant of operation 0, FULLY_"):
        judge(content)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (draw_int8(name="CONV_2D"), "its operations are not those of the network in floats"),
        (draw_floats(WEIGHTS.T), "another shape"),
        (Drawing().pack(), "its operations are not those"),
    ],
)
def test_another_network_fails(judge, content, told):
    with pytest.raises(ArtifactError, match=told):
        judge(content)


def test_a_constant_that_is_not_there_fails(judge):
    drawing = Drawing()
    drawing.add("FULLY_CONNECTED", 0, drawing.tensor(WEIGHTS))
    with pytest.raises(ArtifactError, match="has other constants"):
        judge(drawing.pack())
