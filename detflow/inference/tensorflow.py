"""Everything that TensorFlow runs: model directories, checkpoints, frozen graphs and SavedModels.

Graphs and SavedModels are run without importing Model Garden. `detflow.inference.load` finds out
what a path is; it loads these and all other formats.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel as SavedModelProto
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from detflow.artifact import CLASS_NAMES_NODE, OUTPUT_NAMES
from detflow.errors import ArtifactError, EnvironmentFault
from detflow.geometry import Images
from detflow.inference.detector import Detector, Outputs
from detflow.inference.graphs import read_graph
from detflow.inference.labels import to_label_map
from detflow.inference.tensors import Tensor, Tensors
from detflow.label_map import LabelMap
from detflow.models.precision import count_gpus, uses_onednn
from detflow.process.platform import cpu_flags
from detflow.text import first_line

AnyRunner: TypeAlias = Callable[[Images | Sequence[bytes]], Outputs]
"""A `Runner` that takes files where its input does."""

# The largest image that is duplicated into a batch of two. Both copies are resized, and a larger
# image takes more than 48 MB as floats each time.
_MAX_DOUBLED_PIXELS = 4_000_000


def load_checkpoint_detector(path: Path) -> Detector:
    """Builds the network of a run and loads a checkpoint's weights into it.

    Args:
        path: A model directory, whose best checkpoint is meant, or a checkpoint's folder.

    Raises:
        ArtifactError: The path is neither, or the checkpoint is damaged.
    """
    # Building a network needs Model Garden, which takes seconds to import.
    from detflow.inference.trained import load_trained_model

    trained = load_trained_model(path)
    source = trained.checkpoint_path
    return Detector(
        eager_outputs(trained.serving.detect_traced, source, has_variables=True),
        trained.label_map,
        source,
        trained.serving.model.canvas_sizes,
    )


def load_frozen_graph(path: Path, input_name: str, *, threads: int = 0) -> AnyRunner:
    """Loads a frozen graph for one of the serving contract's inputs; see `artifact.CONTRACT`.

    Args:
        path: The file.
        input_name: The input.
        threads: Threads of one operation, 0 for one a core. TensorFlow takes the number before it
            first runs anything, and keeps it.

    Returns:
        A function from [N, height, width, 3] uint8, or from N byte strings where the input takes
        those, to the outputs.

    Raises:
        ArtifactError: It is damaged, or has no such input.
    """
    set_threads(threads)
    with _graph_faults(path, input_name):
        graph = read_graph(path)
        function = tf.compat.v1.wrap_function(
            lambda: tf.graph_util.import_graph_def(graph, name=""), []
        )
        return eager_outputs(
            function.prune(f"{input_name}:0", {name: f"{name}:0" for name in OUTPUT_NAMES}),
            path,
            has_variables=False,
        )


def load_saved_model(path: Path, input_name: str, *, threads: int = 0) -> AnyRunner:
    """Loads a SavedModel's folder; arguments and errors are those of `load_frozen_graph`."""
    set_threads(threads)
    with _graph_faults(path, input_name):
        loaded = tf.saved_model.load(os.fspath(path))
        by_input = {
            tuple(serve.structured_input_signature[1]): serve
            for serve in loaded.signatures.values()
        }
        serve = by_input[(input_name,)]

    # The signature does not own its variables, so the function keeps the object that does.
    def run(values: tf.Tensor, owner: object = loaded) -> Mapping[str, tf.Tensor]:
        return serve(**{input_name: values})  # type: ignore[no-any-return]

    return eager_outputs(run, path, has_variables=True)


def read_graph_labels(path: Path) -> LabelMap | None:
    """Reads the constant `class_names` of a frozen graph that `load_frozen_graph` has accepted.

    Raises:
        ArtifactError: It has none.
    """
    graph = read_graph(path)
    node = next(
        (node for node in graph.node if node.name == CLASS_NAMES_NODE and node.op == "Const"), None
    )
    try:
        names = (
            []
            if node is None
            else [name.decode() for name in tf.make_ndarray(node.attr["value"].tensor).tolist()]
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"its class names are damaged: {first_line(error)}", path=path
        ) from None
    return to_label_map(names, path)


def read_graph_tensors(path: Path) -> Tensors:
    """Reads the inputs of a frozen graph, and those of the contract's outputs that it has."""
    graph = read_graph(path)
    nodes = {node.name: node for node in graph.node}
    return Tensors(
        tuple(_describe_node(node) for node in graph.node if node.op == "Placeholder"),
        tuple(_describe_node(nodes[name]) for name in OUTPUT_NAMES if name in nodes),
    )


def read_signature_tensors(path: Path, signature: str) -> Tensors:
    """Reads a signature of a SavedModel's folder as a server does that knows it by name."""
    saved = SavedModelProto.FromString((path / "saved_model.pb").read_bytes())
    declared = saved.meta_graphs[0].signature_def[signature]
    inputs, outputs = (
        {name: Tensor(name, tf.as_dtype(tensor.dtype).name) for name, tensor in part.items()}
        for part in (declared.inputs, declared.outputs)
    )
    # Outputs have no order there: the contract's, and after it what it does not know.
    ordered = [outputs.pop(name) for name in OUTPUT_NAMES if name in outputs]
    return Tensors(tuple(inputs.values()), (*ordered, *outputs.values()))


def cut_frozen_graph(path: Path, canvas_size: tuple[int, int]) -> Callable[[], object]:
    """Loads the part of a frozen graph between the normalised canvas and the suppression.

    Args:
        path: The file.
        canvas_size: (height, width) in pixels.

    Returns:
        A function that runs the part once, on a black canvas.
    """
    graph = read_graph(path)
    function = tf.compat.v1.wrap_function(
        lambda: tf.graph_util.import_graph_def(graph, name=""), []
    )
    return _cut_network(function, canvas_size)


def cut_saved_model(path: Path, canvas_size: tuple[int, int]) -> Callable[[], object]:
    """Does to a SavedModel's folder what `cut_frozen_graph` does to a frozen graph."""
    loaded = tf.saved_model.load(os.fspath(path))
    function = convert_variables_to_constants_v2(loaded.signatures["serving_default"])
    return _cut_network(function, canvas_size)


def eager_outputs(
    function: Callable[[tf.Tensor], Mapping[str, tf.Tensor]], source: Path, *, has_variables: bool
) -> AnyRunner:
    """Wraps a TensorFlow function of the serving contract: arrays or byte strings in, arrays out.

    Args:
        function: The function.
        source: The file or folder it was made from, for the errors that a `Runner` raises.
        has_variables: Whether its weights are variables; otherwise they are constants.
    """

    def run(values: Images | Sequence[bytes]) -> Outputs:
        count = len(values)
        if has_variables and isinstance(values, np.ndarray) and _runs_faster_as_two(values):
            values = np.repeat(values, 2, axis=0)
        try:
            return {
                name: value.numpy()[:count] for name, value in function(tf.constant(values)).items()
            }
        except tf.errors.ResourceExhaustedError as error:
            raise EnvironmentFault(
                f"the memory does not suffice: {first_line(error)}", path=source
            ) from None
        except tf.errors.OpError as error:
            raise ArtifactError(f"the model cannot run: {first_line(error)}", path=source) from None

    return run


def _describe_node(node: tf.compat.v1.NodeDef) -> Tensor:
    """Describes a node's first output."""
    kind = node.attr["dtype" if "dtype" in node.attr else "T"].type
    return Tensor(node.name, tf.as_dtype(kind).name)


def set_threads(threads: int) -> None:
    """Sets the threads of one operation; 0 leaves one a core. It has to come before the first."""
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)


@contextlib.contextmanager
def _graph_faults(path: Path, input_name: str) -> Iterator[None]:
    """Raises ArtifactError for what TensorFlow raises while it loads a graph."""
    try:
        yield
    except (tf.errors.OpError, ValueError, KeyError, OSError) as error:
        raise ArtifactError(
            f"not a detection graph with input {input_name}: {first_line(error)}", path=path
        ) from None


def _cut_network(function: Any, canvas_size: tuple[int, int]) -> Callable[[], object]:
    """Prunes a detection function to what lies between its canvas and its suppression."""
    operations = function.graph.get_operations()
    suppression = next(op for op in operations if op.type == "CombinedNonMaxSuppression")
    convolution = next(op for op in operations if op.type == "Conv2D")
    # Some networks pad the canvas before the first convolution; the padding belongs to them.
    canvases = convolution.inputs[0]
    while canvases.op.type == "Pad":
        canvases = canvases.op.inputs[0]
    network = function.prune(canvases, list(suppression.inputs[:2]))
    canvas = tf.zeros([1, *canvas_size, 3])
    return lambda: [value.numpy() for value in network(canvas)]


def _runs_faster_as_two(images: Images) -> bool:
    """Tells whether a batch for a network with variables is one image, and oneDNN slow with one.

    See docs/decisions/0003.
    """
    count, height, width, _ = images.shape
    return count == 1 and height * width <= _MAX_DOUBLED_PIXELS and _single_images_are_slow()


@functools.cache
def _single_images_are_slow() -> bool:
    flags = cpu_flags()
    return uses_onednn() and "avx2" in flags and "avx512f" not in flags and not count_gpus()
