"""Writes the ONNX file: tf2onnx converts the network, `onnx_graph` makes what lies around it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import onnx
import tensorflow as tf
from onnx import TensorProto, helper
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from typing_extensions import override

from detflow.artifact import (
    BOXES_NAME,
    CANVASES_NAME,
    CLASS_NAMES_NODE,
    CONTRACT,
    INPUT_NAME,
    OUTPUT_NAMES,
    SCORES_NAME,
)
from detflow.errors import ArtifactError
from detflow.exporting.formats.base import Draft, FormatWriter, Job
from detflow.exporting.formats.onnx_graph import Graph, add_resize, add_suppression
from detflow.exporting.proof.compare import SAME_NETWORK
from detflow.inference.formats.onnx import Onnx
from detflow.inference.serving import ServingModel
from detflow.label_map import LabelMap
from detflow.process.quiet import native_stderr_closed
from detflow.text import first_line

# The newest operator set that tf2onnx writes; onnxruntime loads such files from 1.14 on.
_OPSET: Final = 18
_IR_VERSION: Final = 8


class Writer(FormatWriter[Onnx]):
    """Writes the file."""

    own_gate = SAME_NETWORK

    @override
    def write(self, job: Job) -> Iterator[Draft]:
        path = job.artifact.path / self.format.entries[0].path
        write_onnx(job.trained.serving, job.trained.label_map, path)
        yield Draft()


def write_onnx(serving: ServingModel, label_map: LabelMap, path: Path) -> None:
    """Writes the model as ONNX, after onnx's own checker has accepted it.

    Args:
        serving: The model, with its weights.
        label_map: The classes, whose names go into the file's metadata.
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
    graph = Graph()
    ratio = add_resize(graph, serving.model.canvas_sizes)
    graph.add_converted(_convert_network(serving))
    add_suppression(graph, serving.config, len(label_map), ratio)
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


def _describe_tensor(
    name: str, part: Mapping[str, Any], sides: Mapping[str, int]
) -> onnx.ValueInfoProto:
    """Describes an input or output as the contract does; `sides` fixes some of its sides."""
    kind = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}[part[name]["dtype"]]
    return helper.make_tensor_value_info(
        name, kind, [sides.get(side, side) for side in part[name]["shape"]]
    )


def _convert_network(serving: ServingModel) -> onnx.GraphProto:
    # tf2onnx imports much of TensorFlow's own tools, for which OpenVINO's and this module's other
    # importers should not wait.
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
    # tf2onnx calls deprecated parts of TensorFlow; the warnings are of no use to a user.
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
            # mode that tf2onnx chooses.
            if attribute.s == b"tf_half_pixel_for_nn":
                attribute.s = b"asymmetric"
        if height is None:
            _fix_padding(node)
    converted: onnx.GraphProto = model.graph
    return converted


def _fix_padding(node: onnx.NodeProto) -> None:
    """Replaces padding that is left to the runtime by the same in numbers.

    OpenCV 5 computes it wrongly in a file without fixed sizes. The sides of each canvas are
    multiples of every stride, so the padding does not depend on them.
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
