"""Gives a backbone the convolutions that another program's file holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras

from detflow.errors import ArtifactError
from detflow.models import preprocess
from detflow.models.garden.convolutions import ConvolutionLayers, list_convolutions
from detflow.models.weights.convolutions import NormedConvolution
from detflow.models.weights.sources import InitialWeights

# Images that are run at once while statistics are measured.
_BATCH = 8


@dataclass(frozen=True)
class Photos:
    """Images of the training split as the network will see them.

    Attributes:
        names: Their file names.
        canvases: Each [height, width, 3], pixel values from 0 to 255.
    """

    names: tuple[str, ...]
    canvases: Sequence[npt.NDArray[np.float32]]


class ForeignGraph:
    """Values for the variables of a model's backbone, found by the variables themselves.

    It is a graph as `restore` walks one: its objects are those of the model.

    Args:
        weights: Of another program.
        parts: Of the model, by name.

    Raises:
        ArtifactError: The file is damaged or holds another network.
    """

    def __init__(self, weights: InitialWeights, parts: Mapping[str, Any]) -> None:
        self._parts = {name: part for name, part in parts.items() if name == "backbone"}
        self._convolutions = weights.read_convolutions()
        self._layers = list_convolutions(parts["backbone"])
        if len(self._layers) != len(self._convolutions):
            raise ArtifactError(
                f"{len(self._convolutions)} convolutions in it, and the backbone has "
                f"{len(self._layers)}",
                path=weights.path,
            )
        self._values = {
            variable.ref(): value
            for layers, convolution in zip(self._layers, self._convolutions, strict=True)
            for variable, value in _values(layers, convolution)
        }

    @property
    def has_statistics(self) -> bool:
        """Whether the norms know how the convolutions' outputs are distributed over images."""
        return all(convolution.has_statistics for convolution in self._convolutions)

    def part(self, name: str) -> Any:
        """Returns the object of a part, or None."""
        return self._parts.get(name)

    def children(self, node: Any) -> Mapping[str, Any]:
        """Returns the objects inside an object."""
        return dict(tf.train.TrackableView.children(node))

    def value(self, node: Any, shape: tuple[int, ...]) -> npt.NDArray[Any] | tuple[int, ...] | None:
        """Returns an object's value where it has this shape, or its shape; None where it has none.

        Args:
            node: The object.
            shape: Of the model's variable.
        """
        value = self._values.get(node.ref()) if isinstance(node, tf.Variable) else None
        return value if value is None or value.shape == shape else value.shape


def measure_statistics(
    backbone: tf_keras.Model, canvases: Sequence[npt.NDArray[np.float32]]
) -> None:
    """Gives the batch norms of a backbone the statistics of images, and leaves its output alone.

    A norm that was folded into its convolution adds a bias and normalises nothing, so that training
    would change the network at its first step. Let the norm's output have the mean m and the
    variance v over the images: with gamma √(v + epsilon), beta m, and the mean m − bias and the
    variance v of its input the norm still gives the same, and normalising by the statistics of a
    batch changes little.

    Args:
        backbone: Its norms are as `NormedConvolution.from_bias` makes them.
        canvases: Each [height, width, 3], pixel values from 0 to 255; at least one.
    """
    norms = [layers.norm for layers in list_convolutions(backbone)]
    sums = [np.zeros((2, norm.gamma.shape[0])) for norm in norms]
    counts = [0] * len(norms)
    for start in range(0, len(canvases), _BATCH):
        batch = preprocess.normalize(np.stack(canvases[start : start + _BATCH]))
        with _watched(norms) as seen:
            backbone(batch, training=False)
        for number, norm in enumerate(norms):
            outputs = seen[id(norm)].numpy().astype(np.float64)
            values = outputs.reshape(-1, outputs.shape[-1])
            sums[number] += values.sum(0), np.square(values).sum(0)
            counts[number] += len(values)
    for norm, (total, squares), count in zip(norms, sums, counts, strict=True):
        mean = total / count
        variance = np.maximum(squares / count - np.square(mean), 0.0)
        # The first convolution's norm also takes away what detflow's input differs by.
        bias = norm.beta.numpy() - norm.moving_mean.numpy()
        norm.gamma.assign(np.sqrt(variance + norm.epsilon))
        norm.beta.assign(mean)
        norm.moving_mean.assign(mean - bias)
        norm.moving_variance.assign(variance)


@contextmanager
def _watched(norms: Sequence[tf_keras.layers.Layer]) -> Iterator[dict[int, tf.Tensor]]:
    """Yields what the norms put out inside the block, by their identity."""
    seen: dict[int, tf.Tensor] = {}

    def watch(norm: tf_keras.layers.Layer) -> Callable[..., tf.Tensor]:
        compute = norm.call

        def call(*args: Any, **kwargs: Any) -> tf.Tensor:
            seen[id(norm)] = compute(*args, **kwargs)
            return seen[id(norm)]

        return call

    for norm in norms:
        norm.call = watch(norm)
    try:
        yield seen
    finally:
        for norm in norms:
            # Without the attribute the method of the class counts again.
            del norm.call


def _values(
    layers: ConvolutionLayers, convolution: NormedConvolution
) -> Iterator[tuple[tf.Variable, npt.NDArray[np.float32]]]:
    norm = layers.norm
    yield layers.kernel, convolution.kernel
    yield norm.gamma, convolution.gamma
    yield norm.beta, convolution.beta
    yield norm.moving_mean, convolution.mean
    # The norm adds its own epsilon.
    yield norm.moving_variance, convolution.variance - np.float32(norm.epsilon)
