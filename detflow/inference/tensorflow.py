"""What TensorFlow runs: a model directory, a checkpoint, a frozen graph or a SavedModel.

Graphs and SavedModels are run without importing Model Garden. `detflow.inference.load` loads these
and all other formats.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from detflow.artifact import CLASS_NAMES_NODE, OUTPUT_NAMES
from detflow.errors import ArtifactError, EnvironmentFault
from detflow.geometry import Images
from detflow.inference.detector import Detector, Outputs
from detflow.inference.labels import to_label_map
from detflow.label_map import LabelMap
from detflow.models.precision import count_gpus, cpu_flags, uses_onednn
from detflow.text import first_line

__all__ = [
    "eager_outputs",
    "load_bare_network",
    "load_checkpoint_detector",
    "load_runner",
    "read_graph_labels",
]

# Of an image that runs as two: it is resized twice, and a larger one takes more than 48 MB as
# floats each time.
_MAX_DOUBLED_PIXELS = 4_000_000


def load_checkpoint_detector(path: Path) -> Detector:
    """Builds the network of a model directory (its best checkpoint) or of a checkpoint folder, and loads the weights.

    Raises:
        ArtifactError: It is neither, or it is damaged.
    """
    # Building a network needs Model Garden, which takes seconds to import.
    from detflow.inference.trained import load_trained_model

    trained = load_trained_model(path)
    source = trained.checkpoint_path
    return Detector(
        eager_outputs(trained.serving.detect_traced, source, has_variables=True),
        trained.label_map,
        source,
    )


def load_runner(
    path: Path, input_name: str, *, threads: int = 0
) -> Callable[[Images | Sequence[bytes]], Outputs]:
    """Loads a frozen graph or a SavedModel for one of the serving contract's inputs; see `artifact.CONTRACT`.

    Args:
        path: The file or folder.
        input_name: The input.
        threads: Of one operation, 0 for one a core; to be set before TensorFlow first runs.

    Returns:
        From [N, height, width, 3] uint8, or N byte strings where that is what the input takes, to
        the outputs.

    Raises:
        ArtifactError: It is damaged, or has no such input.
    """
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    try:
        return (
            _graph_runner(path, input_name)
            if path.is_file()
            else _saved_model_runner(path, input_name)
        )
    except (tf.errors.OpError, ValueError, KeyError, OSError) as error:
        raise ArtifactError(
            f"not a detection graph with input {input_name}: {first_line(error)}", path=path
        ) from None
    except Exception as error:
        # protobuf's DecodeError is another class in each of its implementations.
        if type(error).__name__ != "DecodeError":
            raise
        raise ArtifactError(f"not a graph: {first_line(error)}", path=path) from None


def read_graph_labels(path: Path) -> LabelMap:
    """Reads the constant `class_names` of a frozen graph that `load_runner` has loaded.

    Raises:
        ArtifactError: It has none.
    """
    graph = tf.compat.v1.GraphDef.FromString(path.read_bytes())
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


def load_bare_network(path: Path, canvas_size: tuple[int, int]) -> Callable[[], object]:
    """Loads the part of a frozen graph or SavedModel between the normalised canvas and what is suppressed.

    Returns:
        Runs it once, on a black canvas.
    """
    if path.is_file():
        graph = tf.compat.v1.GraphDef.FromString(path.read_bytes())
        function = tf.compat.v1.wrap_function(
            lambda: tf.graph_util.import_graph_def(graph, name=""), []
        )
    else:
        loaded = tf.saved_model.load(os.fspath(path))
        function = convert_variables_to_constants_v2(loaded.signatures["serving_default"])
    suppression = next(
        op for op in function.graph.get_operations() if op.type == "CombinedNonMaxSuppression"
    )
    convolution = next(op for op in function.graph.get_operations() if op.type == "Conv2D")
    # The first convolution may pad its input itself.
    canvases = convolution.inputs[0]
    while canvases.op.type == "Pad":
        canvases = canvases.op.inputs[0]
    network = function.prune(canvases, list(suppression.inputs[:2]))
    canvas = tf.zeros([1, *canvas_size, 3])
    return lambda: [value.numpy() for value in network(canvas)]


def eager_outputs(
    function: Callable[[tf.Tensor], Mapping[str, tf.Tensor]], source: Path, *, has_variables: bool
) -> Callable[[Images | Sequence[bytes]], Outputs]:
    """Wraps a TensorFlow function of the serving contract: arrays or byte strings in, arrays out.

    Args:
        function: The function.
        source: What it was made from, for the errors that a `Runner` raises.
        has_variables: Whether its weights are variables, not constants.
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


def _runs_faster_as_two(images: Images) -> bool:
    """Tells whether the images, whose network has variables, are a single one for which oneDNN is slow; see docs/decisions/0003."""
    count, height, width, _ = images.shape
    return count == 1 and height * width <= _MAX_DOUBLED_PIXELS and _single_images_are_slow()


@functools.cache
def _single_images_are_slow() -> bool:
    flags = cpu_flags()
    return uses_onednn() and "avx2" in flags and "avx512f" not in flags and not count_gpus()


def _graph_runner(path: Path, input_name: str) -> Callable[[Images | Sequence[bytes]], Outputs]:
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(path.read_bytes())
    function = tf.compat.v1.wrap_function(
        lambda: tf.graph_util.import_graph_def(graph, name=""), []
    )
    return eager_outputs(
        function.prune(f"{input_name}:0", {name: f"{name}:0" for name in OUTPUT_NAMES}),
        path,
        has_variables=False,
    )


def _saved_model_runner(
    path: Path, input_name: str
) -> Callable[[Images | Sequence[bytes]], Outputs]:
    loaded = tf.saved_model.load(os.fspath(path))
    by_input = {
        tuple(serve.structured_input_signature[1]): serve for serve in loaded.signatures.values()
    }
    serve = by_input[(input_name,)]

    # The signature does not own its variables; whoever calls it keeps the object that does.
    def run(values: tf.Tensor, owner: object = loaded) -> Mapping[str, tf.Tensor]:
        return serve(**{input_name: values})  # type: ignore[no-any-return]

    return eager_outputs(run, path, has_variables=True)
