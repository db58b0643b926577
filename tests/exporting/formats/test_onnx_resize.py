"""The resize inside an ONNX file holds little more than the image, whatever its shape."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from detflow.artifact import CANVASES_NAME, INPUT_NAME
from detflow.exporting.formats.onnx_graph import Graph, add_resize

CANVAS = (64, 96)


@pytest.fixture(scope="module")
def run():
    """Returns the canvases, and the sizes of all tensors that the graph makes on the way."""
    graph = Graph()
    add_resize(graph, [CANVAS])
    names = [CANVASES_NAME, *(node.output[0] for node in graph.nodes if node.op_type == "Gather")]
    casts = [
        node.output[0]
        for node in graph.nodes
        if node.op_type in ("MatMul", "Cast", "Transpose", "Pad", "Div")
    ]
    names += [name for name in casts if name not in names]
    sizes = [f"axis {i}" for i in range(4)]
    image = helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, sizes)
    results = [helper.make_tensor_value_info(name, 0, None) for name in names]
    for result in results:
        result.ClearField("type")
    model = helper.make_model(
        helper.make_graph(graph.nodes, "resize", [image], results, graph.constants),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())

    def compute(image):
        values = session.run(names, {INPUT_NAME: image})
        return values[0], [value.size for value in values]

    return compute


@pytest.mark.parametrize("size", [(20, 6_550), (6_550, 20), (1, 9_000), (9_000, 1), (300, 400)])
def test_no_tensor_is_much_larger_than_the_image(run, size):
    image = np.full((1, *size, 3), 200, np.uint8)
    canvases, sizes = run(image)
    assert canvases.shape == (1, 3, *CANVAS)
    # A block has eight output rows and reads the input rows of ten.
    assert max(sizes) <= max(canvases.size, 10 * 3 * max(size), 2 * image.size)
