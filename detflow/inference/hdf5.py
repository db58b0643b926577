"""Keras' weights in HDF5, read within bounds into a network that is built anew.

A foreign file is hostile. What HDF5 has to lead out of the file is refused: links to other files,
data that lies outside, data that is put together from elsewhere, and filters that are plug-ins.
Numbers are read only where network and file agree on their shape, so that a file cannot ask for
more memory than the network that it describes, whose sizes are bounded. Nothing is unpickled: only
numbers are read, lists of names, and one text. Texts have the length that their type says: those
of variable length lie elsewhere in the file, where a few bytes each can name one long text a
million times.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import pydantic
import tensorflow as tf
import tf_keras

from detflow.config.schema import EvaluateConfig, ModelConfig
from detflow.errors import ArtifactError, ConfigError, EnvironmentFault
from detflow.inference.serving import ServingModel
from detflow.label_map import LabelMap
from detflow.models.build import build_model
from detflow.text import first_line

DESCRIPTION_NAME: Final = "detflow"
"""The text in the file: JSON with the sections `model` and `evaluate`, and `class_names`."""

_MAX_TEXT_BYTES: Final = 4 << 20
_FORMAT_VERSION: Final = 1
# What HDF5 itself can undo; others are loaded from a folder of plug-ins.
_FILTERS: Final = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
# Largest sides, filters and the like of a network that a file may ask for, and its largest width.
_MAX_NUMBER: Final = 8192
_MAX_WIDTH: Final = 8.0


@dataclass(frozen=True)
class Description:
    """What a file of weights says that they belong to.

    Attributes:
        model: The model's section of the configuration.
        evaluate: What counts as a detection.
        label_map: The classes.
    """

    model: ModelConfig
    evaluate: EvaluateConfig
    label_map: LabelMap

    def to_json(self) -> str:
        """Returns the text that `read_description` reads."""
        return json.dumps(
            {
                "format_version": _FORMAT_VERSION,
                "model": self.model.model_dump(mode="json"),
                "evaluate": self.evaluate.model_dump(mode="json"),
                "class_names": list(self.label_map),
            },
            ensure_ascii=False,
        )


def write_hdf5(path: Path, network: tf_keras.Model, description: Description) -> None:
    """Writes a network's weights as `tf_keras` does, and what they belong to beside them.

    Its lists of names get names of one length, which Keras reads as well.

    Raises:
        OSError: The disk refuses.
    """
    network.save_weights(path, save_format="h5")
    with h5py.File(path, "r+") as file:
        for group in (file, *_list_groups(file)):
            for name, value in group.attrs.items():
                if isinstance(value, np.ndarray) and value.dtype.kind == "O":
                    texts = [one if isinstance(one, bytes) else one.encode() for one in value]
                    group.attrs[name] = np.array(texts)
        file.create_dataset(DESCRIPTION_NAME, data=np.bytes_(description.to_json().encode()))


def _list_groups(file: h5py.File) -> list[h5py.Group]:
    groups: list[h5py.Group] = []
    file.visititems(
        lambda _, found: groups.append(found) if isinstance(found, h5py.Group) else None
    )
    return groups


def read_description(path: Path) -> Description:
    """Reads what a file's weights belong to.

    Raises:
        ArtifactError: It is no such file.
    """
    with _open(path) as file:
        return _read_description(file, path)


def build_serving(path: Path) -> tuple[ServingModel, LabelMap]:
    """Builds the network that a file describes, and gives it the file's weights.

    Returns:
        The network with preprocessing and suppression around it, and its classes.

    Raises:
        ArtifactError: The file is damaged, belongs to another network, or leads out of itself.
    """
    told = read_description(path)
    try:
        model = build_model(told.model, len(told.label_map))
    except tf.errors.ResourceExhaustedError as error:
        raise EnvironmentFault(
            f"its network does not fit into memory: {first_line(error)}", path=path
        ) from None
    except (ConfigError, KeyError, TypeError, ValueError, RuntimeError, tf.errors.OpError) as error:
        raise ArtifactError(
            f"the network that it describes cannot be built: {first_line(error)}", path=path
        ) from None
    with _open(path) as file:
        read_weights(file, model.network, path)
    return ServingModel(model, told.evaluate), told.label_map


def read_weights(file: h5py.File, network: tf_keras.Model, path: Path) -> None:
    """Reads the weights of a file that is open into a network, layer by layer in its order.

    Raises:
        ArtifactError: They are not the network's, not finite, or lead out of the file.
    """
    layers = [layer for layer in network.layers if layer.weights]
    names = [
        name for name in _read_names(file, "layer_names", path) if _weights_of(file, name, path)
    ]
    if len(names) != len(layers):
        raise ArtifactError(
            f"it has weights of {len(names)} layers, and the network has {len(layers)}", path=path
        )
    pairs: list[tuple[tf.Variable, Any]] = []
    for name, layer in zip(names, layers, strict=True):
        # Keras' own order in such a file.
        variables = [*layer.trainable_weights, *layer.non_trainable_weights]
        datasets = _weights_of(file, name, path)
        if len(datasets) != len(variables):
            raise ArtifactError(
                f"layer {name} has {len(datasets)} weights instead of {len(variables)}", path=path
            )
        pairs += zip(variables, datasets, strict=True)
    for variable, dataset in pairs:
        if dataset.shape != tuple(variable.shape) or dataset.dtype.kind not in "fiu":
            raise ArtifactError(
                f"{dataset.name} is {dataset.dtype} {list(dataset.shape)}; the network has "
                f"{variable.dtype.name} {variable.shape.as_list()}",
                path=path,
            )
        values = dataset[()]
        if not np.isfinite(values).all():
            raise ArtifactError(f"{dataset.name} holds a number that is not finite", path=path)
        variable.assign(values)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    """Opens a file to read; turns what HDF5 raises of a damaged one into ArtifactError."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        # h5py has no class of its own: a damaged file is any of these.
        raise ArtifactError(f"not a file of weights: {first_line(error)}", path=path) from None


def _read_description(file: h5py.File, path: Path) -> Description:
    dataset = _find(file, DESCRIPTION_NAME, path) if DESCRIPTION_NAME in file else None
    if dataset is None or dataset.shape != () or dataset.dtype.kind != "S":
        raise ArtifactError(
            f"it does not say what network its weights are of: there is no text {DESCRIPTION_NAME} "
            "of a fixed length",
            path=path,
        )
    if dataset.dtype.itemsize > _MAX_TEXT_BYTES:
        raise ArtifactError(f"its text {DESCRIPTION_NAME} is too long", path=path)
    try:
        told = json.loads(dataset[()])
        if told["format_version"] != _FORMAT_VERSION:
            raise ArtifactError("it is of another version of detflow", path=path)
        _require_moderate(told["model"])
        model = ModelConfig.model_validate(told["model"])
        evaluate = EvaluateConfig.model_validate(told["evaluate"])
        label_map = LabelMap(tuple(map(str, told["class_names"])))
        if len(label_map) > _MAX_NUMBER:
            raise ValueError(f"more than {_MAX_NUMBER:,} classes")
    except (KeyError, TypeError, ValueError, RecursionError, pydantic.ValidationError) as error:
        raise ArtifactError(
            f"its text {DESCRIPTION_NAME} is damaged: {first_line(error)}", path=path
        ) from None
    return Description(model, evaluate, label_map)


def _require_moderate(section: Any) -> None:
    """Raises ValueError for a network whose building alone would take all memory."""
    if isinstance(section, dict):
        if float(section.get("width_multiplier", 1.0)) > _MAX_WIDTH:
            raise ValueError(f"a width_multiplier above {_MAX_WIDTH}")
        section = list(section.values())
    if isinstance(section, list):
        for value in section:
            _require_moderate(value)
    elif isinstance(section, int | float) and not abs(section) <= _MAX_NUMBER:
        raise ValueError(f"{section} is larger than anything in a network")


def _weights_of(file: h5py.File, layer: str, path: Path) -> list[Any]:
    """Returns the datasets of a layer, in the order in which Keras wrote them."""
    group = file.get(layer) if _require_inside(file, layer, path) else None
    if not isinstance(group, h5py.Group):
        raise ArtifactError(f"there is no layer {layer}", path=path)
    return [_find(group, name, path) for name in _read_names(group, "weight_names", path)]


def _read_names(group: h5py.Group, key: str, path: Path) -> list[str]:
    """Reads a list of names, which Keras divides over several attributes where it is long."""
    parts = [key]
    if key not in group.attrs:
        parts = list(
            itertools.takewhile(
                lambda part: part in group.attrs, (f"{key}{n}" for n in itertools.count())
            )
        )
    if not parts:
        raise ArtifactError(f"it has no {key}: Keras did not write it", path=path)
    names: list[str] = []
    for part in parts:
        attribute = group.attrs.get_id(part)
        # An empty list has a type of its own.
        if attribute.dtype.kind != "S" and math.prod(attribute.shape):
            raise ArtifactError(f"its list {part} is none of names of a fixed length", path=path)
        if math.prod(attribute.shape) * attribute.dtype.itemsize > _MAX_TEXT_BYTES:
            raise ArtifactError(f"its list {part} is too long", path=path)
        names += [name.decode() for name in np.asarray(group.attrs[part], "S").ravel().tolist()]
        if len(names) > _MAX_NUMBER:
            raise ArtifactError(f"its list {key} has more than {_MAX_NUMBER:,} names", path=path)
    return names


def _find(group: h5py.Group, name: str, path: Path) -> Any:
    """Returns a dataset whose numbers lie in the file as they are.

    Raises:
        ArtifactError: There is none, or its numbers lie elsewhere.
    """
    dataset = group.get(name) if _require_inside(group, name, path) else None
    if not isinstance(dataset, h5py.Dataset):
        raise ArtifactError(f"{name} is missing", path=path)
    created = dataset.id.get_create_plist()
    filters = {created.get_filter(place)[0] for place in range(created.get_nfilters())}
    if dataset.is_virtual or dataset.external or filters - _FILTERS:
        raise ArtifactError(
            f"the numbers of {name} lie outside of the file, or need a plug-in to be read",
            path=path,
        )
    return dataset


def _require_inside(group: h5py.Group, name: str, path: Path) -> bool:
    """Tells whether a name leads somewhere; raises ArtifactError where a link leads elsewhere."""
    here: Any = group
    for part in name.split("/"):
        if not isinstance(here, h5py.Group) or part not in here:
            return False
        if not isinstance(here.get(part, getlink=True), h5py.HardLink):
            raise ArtifactError(f"{name} is a link", path=path)
        here = here[part]
    return True
