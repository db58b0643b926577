"""Writes frozen graphs, whose tensors are named as in the TF1 Object Detection API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from typing_extensions import override

from detflow.artifact import CLASS_NAMES_NODE, OUTPUT_NAMES
from detflow.exporting.formats.base import Draft, FormatWriter, Job
from detflow.exporting.proof.compare import EXACT
from detflow.inference.formats.frozen import Frozen
from detflow.label_map import LabelMap
from detflow.process.quiet import native_stderr_closed


class Writer(FormatWriter[Frozen]):
    """Writes one graph for pixels and one for files."""

    own_gate = EXACT

    @override
    def write(self, job: Job) -> Iterator[Draft]:
        serving, label_map = job.trained.serving, job.trained.label_map
        pixels_path, files_path = (job.artifact.path / entry.path for entry in self.format.entries)
        write_frozen_graph(serving.detect_traced.get_concrete_function(), label_map, pixels_path)
        write_frozen_graph(
            serving.detect_encoded_traced.get_concrete_function(), label_map, files_path
        )
        yield Draft()


def write_frozen_graph(
    function: tf.types.experimental.ConcreteFunction, label_map: LabelMap, path: Path
) -> None:
    """Writes the graph of `build_frozen_graph`; the same weights give the same bytes."""
    graph = build_frozen_graph(function, label_map)
    path.write_bytes(graph.SerializeToString(deterministic=True))


def build_frozen_graph(
    function: tf.types.experimental.ConcreteFunction, label_map: LabelMap
) -> tf.compat.v1.GraphDef:
    """Turns a serving function into a graph without variables and functions.

    Args:
        function: One of the functions of `ServingModel`.
        label_map: The classes.

    Returns:
        A graph from the function's input to the four outputs of the serving contract, with the
        class names in the constant `class_names` (string [C]; entry i names id i + 1), which can be
        read without running the graph.
    """
    # The optimiser prints notes on GPUs and sessions, and no setting of its own silences it.
    with native_stderr_closed():
        frozen = convert_variables_to_constants_v2(function)
    frozen_graph = frozen.graph.as_graph_def()
    nodes = {node.name: node for node in frozen_graph.node}
    # Constants captured from eager code are named by a counter of this process. Their order is the
    # same in every process, so they are numbered anew.
    captured = sorted((name for name in nodes if name.isdigit()), key=int)
    names = {name: f"constant_{i}" for i, name in enumerate(captured)}
    graph = tf.compat.v1.GraphDef(versions=frozen_graph.versions)
    # The optimiser emits the nodes of a loop in an order that differs from run to run, and with a
    # hint that does too.
    for node in sorted(
        (nodes[name] for name in _ancestors(nodes, OUTPUT_NAMES)),
        key=lambda node: names.get(node.name, node.name),
    ):
        node.name = names.get(node.name, node.name)
        node.input[:] = [names.get(name, name) for name in node.input]
        node.attr.pop("_has_manual_control_dependencies", None)
        graph.node.append(node)
    graph.node.append(_string_constant(CLASS_NAMES_NODE, label_map.names))
    return graph


def _ancestors(nodes: dict[str, tf.compat.v1.NodeDef], ends: tuple[str, ...]) -> set[str]:
    """Returns the names of all nodes that `ends` are computed from, themselves included."""
    ancestors: set[str] = set()
    waiting = list(ends)
    while waiting:
        name = waiting.pop()
        if name not in ancestors:
            ancestors.add(name)
            # An input is `node`, `node:output` or, for order alone, `^node`.
            waiting += [text.removeprefix("^").partition(":")[0] for text in nodes[name].input]
    return ancestors


def _string_constant(name: str, values: tuple[str, ...]) -> tf.compat.v1.NodeDef:
    node = tf.compat.v1.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = tf.string.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(
        tf.make_tensor_proto([value.encode() for value in values], tf.string)
    )
    return node
