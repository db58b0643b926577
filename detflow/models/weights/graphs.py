"""Initial weights as objects with named children, whatever wrote them.

A checkpoint that somebody else wrote is never handed to TensorFlow's checkpoint manager: a hostile
index file makes the manager delete files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from detflow.artifact import SAVED_MODEL_NAME, ArtifactDir
from detflow.models.base import DetectionModel
from detflow.models.build import build_model
from detflow.models.weights.foreign import ForeignGraph
from detflow.models.weights.sources import InitialWeights
from detflow.process.tensorflow_faults import checkpoint_faults
from detflow.runs.checkpoints import WeightAverage, restore_weights
from detflow.runs.record import RunRecord
from detflow.runs.states import read_state


class Graph(Protocol):
    """Objects with named children; some have a value."""

    def part(self, name: str) -> Any:
        """Returns the object of a part, or None."""

    def children(self, node: Any) -> Mapping[str, Any]:
        """Returns the objects inside an object."""

    def value(self, node: Any, shape: tuple[int, ...]) -> npt.NDArray[Any] | tuple[int, ...] | None:
        """Returns an object's value where it has this shape.

        Otherwise it returns the shape that the object has, or None where it is no variable.
        """


def open_graph(weights: InitialWeights, model: DetectionModel) -> Graph:
    """Opens initial weights as objects with the names that the model's have.

    Args:
        weights: The weights.
        model: The model that is to take them.

    Raises:
        ArtifactError: What is there is damaged.
    """
    if weights.kind == "run":
        return _open_run(weights.path)
    if weights.kind == "checkpoint":
        return _CheckpointGraph(weights.path)
    if weights.kind == "export":
        return _open_export(ArtifactDir(weights.path))
    return ForeignGraph(weights, model.parts)


def children_of(node: Any) -> dict[str, Any]:
    """Returns an object's tracked children.

    Keras lists a layer with weights twice; the name that does not count the layers without weights
    is the one that lasts.
    """
    children = tf.train.TrackableView.children(node)
    numbered = any(name.startswith("layer_with_weights-") for name in children)
    return {
        name: child
        for name, child in children.items()
        if not (numbered and name.startswith("layer-"))
    }


class _ModelGraph:
    """A model in memory."""

    def __init__(self, model: DetectionModel) -> None:
        self._parts = model.parts

    def part(self, name: str) -> Any:
        return self._parts.get(name)

    def children(self, node: Any) -> Mapping[str, Any]:
        return children_of(node)

    def value(self, node: Any, shape: tuple[int, ...]) -> npt.NDArray[Any] | tuple[int, ...] | None:
        if not isinstance(node, tf.Variable):
            return None
        found = tuple(node.shape)
        return node.numpy() if found == shape else found


class _CheckpointGraph:
    """A TensorFlow checkpoint; its objects are numbers."""

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        with checkpoint_faults(prefix, "not an object checkpoint of TensorFlow 2"):
            self._reader = tf.train.load_checkpoint(os.fspath(prefix))
            self._shapes = self._reader.get_variable_to_shape_map()
            self._types = self._reader.get_variable_to_dtype_map()
            graph = TrackableObjectGraph.FromString(
                self._reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")
            )
        self._nodes = graph.nodes

    def part(self, name: str) -> Any:
        top = self.children(0)
        return top.get(name, self.children(top["model"]).get(name) if "model" in top else None)

    def children(self, node: Any) -> Mapping[str, Any]:
        count = len(self._nodes)
        if node >= count:
            return {}
        return {
            child.local_name: child.node_id
            for child in self._nodes[node].children
            if 0 <= child.node_id < count
        }

    def value(self, node: Any, shape: tuple[int, ...]) -> npt.NDArray[Any] | tuple[int, ...] | None:
        key = next(
            (
                item.checkpoint_key
                for item in self._nodes[node].attributes
                if item.name == "VARIABLE_VALUE"
            ),
            None,
        )
        if key not in self._shapes or not self._types[key].is_floating:
            return None
        found = tuple(self._shapes[key])
        if found != shape:
            return found
        with checkpoint_faults(self._prefix, f"{key} cannot be read"):
            return self._reader.get_tensor(key)  # type: ignore[no-any-return]


def _open_run(checkpoint_path: Path) -> _ModelGraph:
    record = read_state(checkpoint_path).record
    model = build_model(record.config.model, len(record.label_map))
    restore_weights(
        checkpoint_path, model.network, WeightAverage(model.network, record.config.train.ema_decay)
    )
    return _ModelGraph(model)


def _open_export(artifact: ArtifactDir) -> _ModelGraph:
    """Builds the network of an export and gives it the variables of its SavedModel."""
    record = RunRecord.from_json(artifact.read_card()["training"], artifact.manifest_path)
    model = build_model(record.config.model, len(record.label_map))
    prefix = artifact.path / SAVED_MODEL_NAME / "variables" / "variables"
    with checkpoint_faults(prefix, "not the variables of an export"):
        reader = tf.train.load_checkpoint(os.fspath(prefix))
        for number, variable in enumerate(model.network.variables):
            variable.assign(reader.get_tensor(f"weights/{number}/.ATTRIBUTES/VARIABLE_VALUE"))
    return _ModelGraph(model)
