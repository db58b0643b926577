"""The parts of an ONNX file around its network: the resize before it and the suppression after it.

TensorFlow's antialiased resize has no counterpart in ONNX that runtimes agree on (onnxruntime's
differs by 12 grey levels, OpenCV's does not filter), so it stands in the graph as two matrix
products whose weights follow from the image's size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from detflow.artifact import BOXES_NAME, CANVASES_NAME, INPUT_NAME, OUTPUT_NAMES, SCORES_NAME
from detflow.config.schema import EvaluateConfig
from detflow.geometry import MEAN_RGB, STDDEV_RGB

# Output rows that share one product. Of 4, 8 and 16 this is the second fastest; 4 is faster, but
# takes more memory.
_BLOCK: Final = 8

_Side: TypeAlias = int | str
"""The length of a canvas' side; or the name of a tensor [1] int64, if the image decides it."""


class Graph:
    """Nodes and constants of an ONNX graph, in the order in which they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Appends a node of one output; returns the output's name."""
        output = name or f"detflow/{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def add_pair(self, op: str, *inputs: str, **attributes: Any) -> tuple[str, str]:
        """Appends a node of two outputs; returns their names."""
        outputs = f"detflow/{len(self.nodes)}:0", f"detflow/{len(self.nodes)}:1"
        self.nodes.append(helper.make_node(op, list(inputs), list(outputs), **attributes))
        return outputs

    def constant(self, value: Any, dtype: type[np.generic] = np.float32) -> str:
        """Appends a constant; returns its name."""
        name = f"detflow/constant/{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def integers(self, *values: int) -> str:
        """Appends an int64 vector, as shapes and axes are; returns its name."""
        return self.constant(values, np.int64)

    def shape(self, *sides: _Side) -> str:
        """Appends a shape whose sides are known now or when the graph runs; returns its name."""
        if all(isinstance(side, int) for side in sides):
            return self.constant(sides, np.int64)
        return self.add(
            "Concat",
            *(side if isinstance(side, str) else self.integers(side) for side in sides),
            axis=0,
        )

    def add_converted(self, graph: onnx.GraphProto) -> None:
        """Appends a graph that takes its inputs from nodes which are there already."""
        self.nodes += graph.node
        self.constants += graph.initializer


class _ChosenCanvas(NamedTuple):
    """The canvas that an image is fitted into.

    Attributes:
        size: [2] float32: its height and width.
        height: Its height.
        width: Its width.
        block: Divides height and width.
    """

    size: str
    height: _Side
    width: _Side
    block: int


def _add_canvas(
    graph: Graph, image_size: str, canvas_sizes: Sequence[tuple[int, int]]
) -> _ChosenCanvas:
    """Adds what `models.preprocess.choose_canvas` does for an image of size [2] int64."""
    block = math.gcd(_BLOCK, *itertools.chain(*canvas_sizes))
    if len(canvas_sizes) == 1:
        height, width = canvas_sizes[0]
        return _ChosenCanvas(graph.constant(canvas_sizes[0]), height, width, block)
    add, integers = graph.add, graph.integers
    sizes = graph.constant(canvas_sizes, np.int64)
    products = add("Mul", sizes, add("Gather", image_size, integers(1, 0)))
    scales = add("ReduceMin", products, integers(1), keepdims=0)
    chosen = add("Gather", sizes, add("ArgMax", scales, axis=0, keepdims=0))
    rows, columns = graph.add_pair("Split", chosen, axis=0, num_outputs=2)
    return _ChosenCanvas(
        add("Cast", chosen, to=TensorProto.FLOAT),
        rows,
        columns,
        block,
    )


def add_resize(graph: Graph, canvas_sizes: Sequence[tuple[int, int]]) -> str:
    """Adds what `models.preprocess.fit_to_canvas` and `normalize` do.

    Args:
        graph: The graph; it gets the tensor `canvases` [N, 3, height, width].
        canvas_sizes: (height, width) in pixels of each canvas.

    Returns:
        The name of the ratio [2] = (rows, columns) that an image covers as a share of the canvas.
    """
    add, integers, shape = graph.add, graph.integers, graph.shape
    image_size = add("Slice", add("Shape", INPUT_NAME), integers(1), integers(3))
    sides = add("Cast", image_size, to=TensorProto.FLOAT)
    canvas, height, width, block = _add_canvas(graph, image_size, canvas_sizes)
    scale = add("ReduceMin", add("Div", canvas, sides), keepdims=1)
    fitted = add(
        "Max", add("Min", add("Round", add("Mul", sides, scale)), canvas), graph.constant([1.0])
    )

    image_sides, fitted_sides = (
        graph.add_pair("Split", values, axis=0, num_outputs=2) for values in (sides, fitted)
    )
    tall, wide = (
        _Axis(graph, *axis, block)
        for axis in zip((height, width), image_sides, fitted_sides, strict=True)
    )
    # [N, h, w·3] → [N, rows, w·3] → [N, w, 3·rows] → [N, columns, 3·rows] → [N, 3, rows, columns];
    # rows and columns are those that the image covers, to the end of a block.
    squeezed = tall.product(add("Reshape", INPUT_NAME, integers(0, 0, -1)))
    turned = add("Transpose", squeezed, perm=[0, 2, 1])
    thrice = add("Mul", tall.num_rows, integers(3))
    turned = add("Reshape", turned, shape(0, -1, thrice))
    canvases = add("Transpose", wide.product(turned), perm=[0, 2, 1])
    canvases = add("Reshape", canvases, shape(0, 3, tall.num_rows, wide.num_rows))
    none = integers(0, 0, 0, 0, 0, 0)
    canvases = add("Pad", canvases, add("Concat", none, tall.missing, wide.missing, axis=0))
    # The mean is subtracted where the image covers the canvas. The rest is zero, which is what the
    # mean becomes.
    covered = add(
        "Mul",
        add("Reshape", tall.covered, shape(height, 1)),
        add("Reshape", wide.covered, shape(1, width)),
    )
    mean, deviation = (
        np.reshape(np.array(values, np.float32), (3, 1, 1)) for values in (MEAN_RGB, STDDEV_RGB)
    )
    offset = add("Mul", covered, graph.constant(mean / deviation))
    add("Sub", add("Mul", canvases, graph.constant(1.0 / deviation)), offset, name=CANVASES_NAME)
    return add("Div", fitted, canvas)


class _Axis:
    """The resize along one axis, with the weights of `geometry.triangle_weights`.

    The output rows that the image covers form blocks of up to eight. Each block is the product of
    its weights with the input rows that it needs. All blocks need equally many, and none more than
    there are, so that one batched product computes all of them and holds little more than the
    image, however long and thin that is.

    Attributes:
        num_rows: [1] int64: number of rows of all blocks.
        missing: [1] int64: number of rows of the canvas behind them.
        covered: [side] float32: 1 where the image covers the canvas, else 0.
    """

    def __init__(self, graph: Graph, side: _Side, image_side: str, fitted: str, block: int) -> None:
        add, constant, integers = graph.add, graph.constant, graph.integers
        one, half, zero = constant(1.0), constant(0.5), constant(0.0)
        step = add("Div", one, add("Div", fitted, image_side))
        reach = add("Max", step, one)
        num_blocks = add("Ceil", add("Div", fitted, constant(float(block))))
        # [blocks, 1, 1] and [blocks, block, 1].
        begins = add("Range", zero, add("Squeeze", num_blocks, integers(0)), one)
        begins = add("Reshape", add("Mul", begins, constant(float(block))), integers(-1, 1, 1))
        outputs = add("Add", begins, constant(np.arange(block).reshape(1, block, 1)))
        centres = add("Mul", add("Add", outputs, half), step)
        num_rows = add(
            "Add", add("Mul", step, constant(block - 1.0)), add("Mul", reach, constant(2.0))
        )
        num_rows = add("Min", add("Add", add("Ceil", num_rows), constant(2.0)), image_side)
        # The first of the input rows that a block needs. The last blocks begin early enough to
        # find as many rows as the others.
        first = add("Sub", add("Sub", add("Mul", add("Add", begins, half), step), reach), half)
        first = add("Max", add("Floor", first), zero)
        first = add("Min", first, add("Sub", image_side, num_rows))
        rows = add("Add", first, add("Range", zero, add("Squeeze", num_rows, integers(0)), one))
        distance = add("Abs", add("Sub", add("Add", rows, half), centres))
        weights = add("Max", add("Sub", one, add("Div", distance, reach)), zero)
        covered = add("Cast", add("Less", outputs, fitted), to=TensorProto.FLOAT)
        weights = add("Mul", weights, covered)
        # Rows that the image does not cover have no weights; they are divided by 1 and stay 0.
        total = add("ReduceSum", weights, integers(2), keepdims=1)
        total = add("Add", total, add("Sub", one, covered))
        self._graph = graph
        self._weights = add("Div", weights, total)
        self._rows = add("Cast", add("Reshape", rows, integers(0, -1)), to=TensorProto.INT64)
        self.num_rows = add(
            "Cast", add("Mul", num_blocks, constant(float(block))), to=TensorProto.INT64
        )
        whole = integers(side) if isinstance(side, int) else side
        self.missing = add("Sub", whole, self.num_rows)
        covered = add("Reshape", covered, integers(-1))
        self.covered = add("Pad", covered, add("Concat", integers(0), self.missing, axis=0))

    def product(self, values: str) -> str:
        """Adds the product with values [N, rows, columns]; its result is [N, num_rows, columns]."""
        add, integers = self._graph.add, self._graph.integers
        gathered = add("Cast", add("Gather", values, self._rows, axis=1), to=TensorProto.FLOAT)
        columns = add("Slice", add("Shape", values), integers(2), integers(3))
        shape = add("Concat", integers(0), self.num_rows, columns, axis=0)
        return add("Reshape", add("MatMul", self._weights, gathered), shape)


def add_suppression(graph: Graph, config: EvaluateConfig, num_classes: int, ratio: str) -> None:
    """Adds suppression class by class, the best of all classes, and the way back to the image.

    Args:
        graph: The graph, with the tensors `boxes` and `scores`; it gets the contract's outputs.
        config: Thresholds and number of detections.
        num_classes: Number of classes, without background.
        ratio: The name of what `add_resize` returns.
    """
    add, constant, integers = graph.add, graph.constant, graph.integers
    limit = config.max_detections
    thresholds = (constant([config.nms_iou]), constant([config.score_threshold]))
    # The rows are (image, class, anchor). OpenCV crashes on a tensor without entries, so one row is
    # added that points to a class that does not exist.
    selected = add("NonMaxSuppression", BOXES_NAME, SCORES_NAME, integers(limit), *thresholds)
    selected = add("Concat", selected, constant([[0, num_classes, 0]], np.int64), axis=0)
    scores = add("Pad", SCORES_NAME, integers(0, 0, 0, 0, 1, 0))
    nothing = add(
        "ConstantOfShape",
        add("Shape", scores),
        value=numpy_helper.from_array(np.zeros(1, np.float32)),
    )
    kept = add("ScatterND", nothing, selected, add("GatherND", scores, selected))
    flat = add("Reshape", kept, integers(0, -1))
    # TopK needs as many values as it returns.
    flat = add("Pad", flat, integers(0, 0, 0, limit))
    scores, places = graph.add_pair("TopK", flat, integers(limit), axis=1)
    is_valid = add("Cast", add("Greater", scores, constant(0.0)), to=TensorProto.FLOAT)
    num_anchors = add("Slice", add("Shape", SCORES_NAME), integers(2), integers(3))
    classes = add("Cast", add("Div", places, num_anchors), to=TensorProto.FLOAT)
    anchors = add("Unsqueeze", add("Mod", places, num_anchors), integers(2))
    boxes = add(
        "Clip", add("GatherND", BOXES_NAME, anchors, batch_dims=1), constant(0.0), constant(1.0)
    )
    boxes = add(
        "Clip", add("Div", boxes, add("Concat", ratio, ratio, axis=0)), constant(0.0), constant(1.0)
    )
    names = iter(OUTPUT_NAMES)
    add("Mul", boxes, add("Unsqueeze", is_valid, integers(2)), name=next(names))
    add("Identity", scores, name=next(names))
    add("Add", add("Mul", classes, is_valid), constant(1.0), name=next(names))
    add("ReduceSum", is_valid, integers(1), keepdims=0, name=next(names))
