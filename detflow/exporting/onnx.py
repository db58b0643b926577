"""The ONNX file: the network as tf2onnx converts it, between a resize and a suppression written for ONNX.

TensorFlow's antialiased resize has no counterpart in ONNX that runtimes agree on (onnxruntime's
differs by 12 grey levels, OpenCV's does not filter), so it stands in the graph as two matrix
products whose weights follow from the image's size.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import onnx
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from detflow.artifact import (
    BOXES_NAME,
    CANVASES_NAME,
    CLASS_NAMES_NODE,
    CONTRACT,
    INPUT_NAME,
    OUTPUT_NAMES,
    SCORES_NAME,
)
from detflow.config.schema import EvaluateConfig
from detflow.errors import ArtifactError
from detflow.geometry import MEAN_RGB, STDDEV_RGB
from detflow.inference.serving import ServingModel
from detflow.label_map import LabelMap
from detflow.process.quiet import native_stderr_closed
from detflow.text import first_line

__all__ = ["build_onnx_model", "write_onnx"]

# The newest that tf2onnx writes; the files load in onnxruntime from 1.14 on.
_OPSET: Final = 18
_IR_VERSION: Final = 8
# Output rows that share one product: of 4, 8 and 16 the fastest but one, and 4 takes more memory.
_BLOCK: Final = 8

Side = int | str
"""The length of a canvas' side; the name of a tensor [1] int64 where the image decides it."""


def write_onnx(serving: ServingModel, label_map: LabelMap, path: Path) -> None:
    """Writes the model as ONNX, checked by onnx' own checker.

    Args:
        serving: With the weights.
        label_map: Stands in the file's metadata.
        path: The file.

    Raises:
        ArtifactError: onnx finds fault with it.
        OSError: The disk refuses.
    """
    model = build_onnx_model(serving, label_map)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ArtifactError(
            f"onnx finds fault with it: {first_line(error)}", path=path.name
        ) from None
    path.write_bytes(model.SerializeToString(deterministic=True))


def build_onnx_model(serving: ServingModel, label_map: LabelMap) -> onnx.ModelProto:
    """Returns the model; names, order and dtypes are those of the serving contract."""
    graph = _Graph()
    ratio = _add_resize(graph, serving.model.canvas_sizes)
    graph.add_converted(_convert_network(serving))
    _add_suppression(graph, serving.config, len(label_map), ratio)
    sides = {"K": serving.config.max_detections}
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "detector",
            [_describe_tensor(INPUT_NAME, CONTRACT["inputs"], {})],
            [_describe_tensor(name, CONTRACT["outputs"], sides) for name in OUTPUT_NAMES],
            graph.constants,
        ),
        producer_name="detflow",
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    properties = {
        CLASS_NAMES_NODE: json.dumps(list(label_map), ensure_ascii=False),
        "contract": json.dumps(CONTRACT),
        "thresholds": json.dumps(
            serving.config.model_dump(include={"score_threshold", "nms_iou", "max_detections"})
        ),
    }
    helper.set_model_props(model, properties)
    return model


# --- The network ----------------------------------------------------------------------------------


def _convert_network(serving: ServingModel) -> onnx.GraphProto:
    # It imports much of TensorFlow's own tools, for which the other formats should not wait.
    import tf2onnx

    height, width = (
        serving.model.input_size if len(serving.model.canvas_sizes) == 1 else (None, None)
    )
    spec = tf.TensorSpec([None, height, width, 3], tf.float32, name=CANVASES_NAME)

    def predict(canvases: tf.Tensor) -> dict[str, tf.Tensor]:
        boxes, scores = serving.model.predict(canvases)
        return {BOXES_NAME: boxes, SCORES_NAME: tf.transpose(scores, [0, 2, 1])}

    function = tf.function(predict, autograph=False, input_signature=[spec])
    with native_stderr_closed():
        frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    # It calls deprecated parts of TensorFlow, which is no news for a user.
    logger, level = tf.get_logger(), tf.get_logger().level
    logger.setLevel(logging.ERROR)
    try:
        with native_stderr_closed():
            model, _ = tf2onnx.convert.from_graph_def(
                frozen.graph.as_graph_def(),
                input_names=[tensor.name for tensor in frozen.inputs],
                output_names=[tensor.name for tensor in frozen.outputs],
                opset=_OPSET,
                inputs_as_nchw=[tensor.name for tensor in frozen.inputs],
            )
    finally:
        logger.setLevel(level)
    names = {model.graph.input[0].name: CANVASES_NAME}
    names |= {
        output.name: name
        for output, name in zip(model.graph.output, sorted((BOXES_NAME, SCORES_NAME)), strict=True)
    }
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            # Doubling by nearest neighbours is the same in both modes, and onnxruntime warns of the
            # one that tf2onnx chooses.
            if attribute.s == b"tf_half_pixel_for_nn":
                attribute.s = b"asymmetric"
        if height is None:
            _fix_padding(node)
    converted: onnx.GraphProto = model.graph
    return converted


def _fix_padding(node: onnx.NodeProto) -> None:
    """Replaces padding that is left to the runtime, which OpenCV 5 gets wrong where it reads a file without fixed sizes.

    The sides of each canvas are multiples of every stride, so that the padding does not depend on
    them.
    """
    attributes = {
        attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute
    }
    if attributes.get("auto_pad") != b"SAME_UPPER":
        return
    kernel = attributes["kernel_shape"]
    strides, dilations = (
        attributes.get(name, [1] * len(kernel)) for name in ("strides", "dilations")
    )
    totals = [
        max((k - 1) * d + 1 - s, 0) for k, d, s in zip(kernel, dilations, strides, strict=True)
    ]
    kept = [attribute for attribute in node.attribute if attribute.name != "auto_pad"]
    pads = helper.make_attribute(
        "pads", [total // 2 for total in totals] + [total - total // 2 for total in totals]
    )
    del node.attribute[:]
    node.attribute.extend([*kept, pads])


# --- Before and after it --------------------------------------------------------------------------


class _Graph:
    """Collects nodes and constants."""

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

    def shape(self, *sides: Side) -> str:
        """Appends a shape, whose sides are known now or when the graph runs; returns its name."""
        if all(isinstance(side, int) for side in sides):
            return self.constant(sides, np.int64)
        return self.add(
            "Concat",
            *(side if isinstance(side, str) else self.integers(side) for side in sides),
            axis=0,
        )

    def add_converted(self, graph: onnx.GraphProto) -> None:
        """Appends a graph whose inputs are there already."""
        self.nodes += graph.node
        self.constants += graph.initializer


def _describe_tensor(
    name: str, part: Mapping[str, Any], sides: Mapping[str, int]
) -> onnx.ValueInfoProto:
    """Says of an input or output what the contract does."""
    kind = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}[part[name]["dtype"]]
    return helper.make_tensor_value_info(
        name, kind, [sides.get(side, side) for side in part[name]["shape"]]
    )


class _Canvas(NamedTuple):
    """The canvas that an image is fitted into.

    Attributes:
        size: [2] float32: its height and width.
        height: Its height.
        width: Its width.
        thrice: Three times its height: the pixels of a column, channel by channel.
        block: Divides height and width.
    """

    size: str
    height: Side
    width: Side
    thrice: Side
    block: int


def _add_canvas(graph: _Graph, image_size: str, canvas_sizes: Sequence[tuple[int, int]]) -> _Canvas:
    """Adds `models.preprocess.choose_canvas` for an image of size [2] int64."""
    block = math.gcd(_BLOCK, *itertools.chain(*canvas_sizes))
    if len(canvas_sizes) == 1:
        height, width = canvas_sizes[0]
        return _Canvas(graph.constant(canvas_sizes[0]), height, width, 3 * height, block)
    add, integers = graph.add, graph.integers
    sizes = graph.constant(canvas_sizes, np.int64)
    products = add("Mul", sizes, add("Gather", image_size, integers(1, 0)))
    scales = add("ReduceMin", products, integers(1), keepdims=0)
    chosen = add("Gather", sizes, add("ArgMax", scales, axis=0, keepdims=0))
    rows, columns = graph.add_pair("Split", chosen, axis=0, num_outputs=2)
    return _Canvas(
        add("Cast", chosen, to=TensorProto.FLOAT),
        rows,
        columns,
        add("Mul", rows, integers(3)),
        block,
    )


def _add_resize(graph: _Graph, canvas_sizes: Sequence[tuple[int, int]]) -> str:
    """Adds `models.preprocess.fit_to_canvas` and `normalize`; returns the ratio [2]."""
    add, integers, shape = graph.add, graph.integers, graph.shape
    image_size = add("Slice", add("Shape", INPUT_NAME), integers(1), integers(3))
    sides = add("Cast", image_size, to=TensorProto.FLOAT)
    canvas, height, width, thrice, block = _add_canvas(graph, image_size, canvas_sizes)
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
    # [N, h, w·3] → [N, height, w·3] → [N, w, 3·height] → [N, width, 3·height] → [N, 3, height,
    # width].
    rows = add("Reshape", INPUT_NAME, integers(0, 0, -1))
    squeezed = tall.product(rows, shape(0, height, -1))
    turned = add("Reshape", add("Transpose", squeezed, perm=[0, 2, 1]), shape(0, -1, thrice))
    canvases = add("Transpose", wide.product(turned, shape(0, width, thrice)), perm=[0, 2, 1])
    canvases = add("Reshape", canvases, shape(0, 3, height, width))
    # Where the image covers the canvas its mean is taken off; the rest is zero, which is the mean.
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
    """The resize along one axis: see `runtime.canvas.triangle_weights`.

    Output rows go in blocks of up to eight, and each block is the product of its weights with the
    input rows that it takes. All blocks take equally many, so that one batched product makes them
    all.

    Attributes:
        covered: [side] float32: 1 where the image covers the canvas, else 0.
    """

    def __init__(self, graph: _Graph, side: Side, image_side: str, fitted: str, block: int) -> None:
        add, constant = graph.add, graph.constant
        one, half, zero = constant(1.0), constant(0.5), constant(0.0)
        step = add("Div", one, add("Div", fitted, image_side))
        reach = add("Max", step, one)
        outputs, middles, begins = _add_rows(graph, side, block)
        centres = add("Mul", middles, step)
        # The first and the number of the input rows that a block takes.
        first = add("Sub", add("Sub", add("Mul", begins, step), reach), half)
        first = add("Max", add("Floor", first), zero)
        taken = add(
            "Add", add("Mul", step, constant(block - 1.0)), add("Mul", reach, constant(2.0))
        )
        taken = add("Squeeze", add("Add", add("Ceil", taken), constant(2.0)), graph.integers(0))
        rows = add("Add", first, add("Range", zero, taken, one))
        distance = add("Abs", add("Sub", add("Add", rows, half), centres))
        weights = add("Max", add("Sub", one, add("Div", distance, reach)), zero)
        inside = add("Cast", add("Less", rows, image_side), to=TensorProto.FLOAT)
        covered = add("Cast", add("Less", outputs, fitted), to=TensorProto.FLOAT)
        weights = add("Mul", add("Mul", weights, inside), covered)
        # Rows beyond the image have no weight, and 0 / 1 is 0.
        total = add("ReduceSum", weights, graph.integers(2), keepdims=1)
        total = add("Add", total, add("Sub", one, covered))
        self._graph = graph
        self._weights = add("Div", weights, total)
        last = add("Sub", image_side, one)
        self._rows = add(
            "Cast",
            add("Reshape", add("Min", rows, last), graph.integers(0, -1)),
            to=TensorProto.INT64,
        )
        self.covered = covered

    def product(self, values: str, shape: str) -> str:
        """Adds the product with values [N, rows, columns]; `shape` names the result's, [N, side, columns]."""
        add = self._graph.add
        taken = add("Cast", add("Gather", values, self._rows, axis=1), to=TensorProto.FLOAT)
        return add("Reshape", add("MatMul", self._weights, taken), shape)


def _add_rows(graph: _Graph, side: Side, block: int) -> tuple[str, str, str]:
    """Adds the numbers of the output rows and their middles, both [side / block, block, 1], and the first middle of each block."""
    add, constant = graph.add, graph.constant
    if isinstance(side, int):
        rows = np.arange(side, dtype=np.float32).reshape(-1, block, 1)
        return constant(rows), constant(rows + 0.5), constant(rows[:, :1] + 0.5)
    end = add("Squeeze", add("Cast", side, to=TensorProto.FLOAT), graph.integers(0))
    outputs = add(
        "Reshape", add("Range", constant(0.0), end, constant(1.0)), graph.integers(-1, block, 1)
    )
    middles = add("Add", outputs, constant(0.5))
    return (
        outputs,
        middles,
        add("Slice", middles, graph.integers(0), graph.integers(1), graph.integers(1)),
    )


def _add_suppression(graph: _Graph, config: EvaluateConfig, num_classes: int, ratio: str) -> None:
    """Adds class-wise suppression, the choice of the best of all classes, and the way back from the canvas to the image."""
    add, constant, integers = graph.add, graph.constant, graph.integers
    limit = config.max_detections
    thresholds = (constant([config.nms_iou]), constant([config.score_threshold]))
    # Rows of (image, class, anchor). OpenCV dies of a tensor without entries, so one row more
    # points to a class that is not there.
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
    # As many as are asked for must be there.
    flat = add("Pad", flat, integers(0, 0, 0, limit))
    scores, places = graph.add_pair("TopK", flat, integers(limit), axis=1)
    found = add("Cast", add("Greater", scores, constant(0.0)), to=TensorProto.FLOAT)
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
    add("Mul", boxes, add("Unsqueeze", found, integers(2)), name=next(names))
    add("Identity", scores, name=next(names))
    add("Add", add("Mul", classes, found), constant(1.0), name=next(names))
    add("ReduceSum", found, integers(1), keepdims=0, name=next(names))
