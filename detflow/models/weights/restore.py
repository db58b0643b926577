"""Loads initial weights into a new model, part by part, as far as names and shapes agree.

Variables are found by walking the object graphs of the weights and of the model side by side, and
only values of a variable's name and shape are read.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from detflow.errors import ArtifactError
from detflow.models.base import ClassAxis, DetectionModel
from detflow.models.weights.foreign import ForeignGraph, Photos, measure_statistics
from detflow.models.weights.graphs import Graph, children_of, open_graph
from detflow.models.weights.published import describe_terms
from detflow.models.weights.sources import InitialWeights
from detflow.text import count_noun

_MAX_NAMES = 4
_REASONS = {
    "other_classes": "the classes there are others, or nobody knows them",
    "other_shape": "of another shape there",
    "missing": "not there",
}


@dataclass
class PartReport:
    """What became of the variables of a part.

    Attributes:
        restored: Number of variables that took a value.
        other_classes: Names of the variables of the classes, none of which is known to be there.
        other_shape: Names of the variables whose counterpart has another shape.
        missing: Names of the variables without a counterpart.
    """

    restored: int = 0
    other_classes: list[str] = field(default_factory=list)
    other_shape: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Number of variables of the part."""
        left = (self.other_classes, self.other_shape, self.missing)
        return self.restored + sum(map(len, left))


@dataclass(frozen=True)
class RestoreReport:
    """What was restored, by part.

    Attributes:
        weights: Where from.
        classes: The classes of the model.
        parts: By the part's name.
        photos: The images that the statistics of the batch norms are of, where the weights have
            none.
    """

    weights: InitialWeights
    classes: tuple[str, ...]
    parts: Mapping[str, PartReport]
    photos: Photos | None = None

    @property
    def fresh_classes(self) -> list[str]:
        """The classes that the weights do not know; they begin as initialised."""
        known = self.weights.classes or ()
        return [name for name in self.classes if name not in known]

    def lines(self) -> Iterator[str]:
        """Yields the report as lines of text."""
        counts = ", ".join(
            f"{name} {part.restored} of {part.total} variables" for name, part in self.parts.items()
        )
        yield f"initial weights from {self.weights.source}: {counts}"
        if terms := self.weights.terms:
            yield f"they were made from {describe_terms(terms)}"
        if self.photos:
            yield (
                f"batch norms have the statistics of {count_noun(len(self.photos.names), 'image')} "
                f"of the training split, from {self.photos.names[0]} on"
            )
        theirs, fresh = self.weights.classes, self.fresh_classes
        if theirs is not None and theirs != self.classes:
            taken = [name for name in self.classes if name not in fresh]
            left = [name for name in theirs if name not in self.classes]
            parts = (("taken by name", taken), ("as initialised", fresh), ("not needed", left))
            yield "classes " + "; ".join(
                f"{what}: {_list(names)}" for what, names in parts if names
            )
        for kind, reason in _REASONS.items():
            names = [name for part in self.parts.values() for name in getattr(part, kind)]
            if names:
                yield f"left as initialised, {reason}: {_list(names)}"

    def record(self) -> dict[str, Any]:
        """Returns the report as the run's provenance keeps it."""
        restored = {
            name: {"variables": part.total, **asdict(part)} for name, part in self.parts.items()
        }
        return {
            "source": self.weights.source,
            "files": dict(self.weights.digests),
            "terms": dict(self.weights.terms),
            "statistics_of": list(self.photos.names) if self.photos else None,
            "restored": restored,
            "fresh_classes": self.fresh_classes,
        }


def restore_initial_weights(
    weights: InitialWeights,
    model: DetectionModel,
    classes: tuple[str, ...],
    read_photos: Callable[[], Photos] | None = None,
) -> RestoreReport:
    """Loads what fits into a model that has been initialised and not trained.

    What belongs to a class is taken by the class' name, wherever it stands there, and stays as it
    is where the name is not there, or nobody knows the names.

    Args:
        weights: A checkpoint of a detflow run, of which the averaged weights are taken, or another
            TensorFlow checkpoint whose objects have Model Garden's names: `backbone`, `decoder`,
            `head` and so on, at the top or below `model`; or a file of another program, which holds
            a backbone.
        model: The model; its `parts` are filled.
        classes: The model's classes.
        read_photos: Reads images like those that will be trained on; it is called where the weights
            have no statistics of their batch norms, which then are those of these images.

    Raises:
        ArtifactError: The checkpoint is damaged, holds numbers that are not finite, or nothing in
            it fits.
        ValueError: The weights need images, and there are none.
    """
    graph = open_graph(weights, model)
    mapping = _ClassMapping(model.class_axes, classes, weights.classes)
    parts = {name: _restore_part(name, part, graph, mapping) for name, part in model.parts.items()}
    report = RestoreReport(weights, classes, parts)
    if not any(part.restored for part in report.parts.values()):
        raise ArtifactError(
            f"nothing in it fits the model: {'; '.join(report.lines())}",
            path=weights.path,
            remedy="choose a model section like the one it was trained with, or train from scratch "
            "without train.init_from",
        )
    if isinstance(graph, ForeignGraph) and not graph.has_statistics:
        if read_photos is None:
            raise ValueError(f"{weights.source} has no statistics, and there are no images")
        photos = read_photos()
        measure_statistics(model.parts["backbone"], photos.canvases)
        report = replace(report, photos=photos)
    return report


def restore_parts(weights: InitialWeights, model: DetectionModel) -> Mapping[str, PartReport]:
    """Loads what fits into a model, but for what belongs to its classes.

    Args:
        weights: As of `restore_initial_weights`.
        model: The model.

    Returns:
        What became of its variables, by the name of the part; nothing may have fitted.

    Raises:
        ArtifactError: The checkpoint is damaged, or holds numbers that are not finite.
    """
    graph = open_graph(weights, model)
    nameless = tuple(map(str, range(model.num_classes)))
    mapping = _ClassMapping(model.class_axes, nameless, None)
    return {name: _restore_part(name, part, graph, mapping) for name, part in model.parts.items()}


class _ClassMapping:
    """Puts what belongs to a class of theirs where the class of that name is in ours.

    Args:
        axes: As `DetectionModel.class_axes`.
        ours: Our classes.
        theirs: Their classes; None where nobody knows them.
    """

    def __init__(
        self,
        axes: Mapping[str, ClassAxis],
        ours: tuple[str, ...],
        theirs: tuple[str, ...] | None,
    ) -> None:
        self._axes = {re.compile(pattern): axis for pattern, axis in axes.items()}
        self._ours, self._theirs = ours, theirs

    def find_axis(self, path: str) -> ClassAxis | None:
        """Returns how classes lie in a variable; None where it has none."""
        return next((axis for pattern, axis in self._axes.items() if pattern.fullmatch(path)), None)

    @property
    def has_common(self) -> bool:
        """Whether there is a class to take."""
        return not set(self._ours).isdisjoint(self._theirs or ())

    def their_shape(self, shape: tuple[int, ...], axis: ClassAxis) -> tuple[int, ...]:
        """Returns the shape of theirs that belongs to a shape of ours."""
        groups = shape[-1] // axis.depth(len(self._ours))
        return (*shape[:-1], groups * axis.depth(len(self._theirs or ())))

    def apply(
        self, ours: npt.NDArray[Any], theirs: npt.NDArray[Any], axis: ClassAxis
    ) -> npt.NDArray[Any]:
        """Returns our value with theirs in the place of each class that both have."""
        names = self._theirs or ()
        groups = ours.shape[-1] // axis.depth(len(self._ours))
        mixed = ours.reshape(*ours.shape[:-1], groups, axis.depth(len(self._ours))).copy()
        source = theirs.reshape(*theirs.shape[:-1], groups, axis.depth(len(names)))
        mixed[..., : axis.before] = source[..., : axis.before]
        for index, name in enumerate(self._ours):
            if name in names:
                at, place = (axis.before + axis.each * i for i in (index, names.index(name)))
                mixed[..., at : at + axis.each] = source[..., place : place + axis.each]
        return mixed.reshape(ours.shape)


def _restore_part(name: str, part: Any, graph: Graph, mapping: _ClassMapping) -> PartReport:
    """Walks our object and theirs side by side, along children of the same name."""
    report = PartReport()
    queue = deque([(name, part, graph.part(name))])
    seen: set[int] = set()
    while queue:
        path, ours, theirs = queue.popleft()
        if id(ours) in seen:
            continue
        seen.add(id(ours))
        if isinstance(ours, tf.Variable):
            _restore_variable(path, ours, theirs, graph, mapping, report)
            continue
        inside = {} if theirs is None else graph.children(theirs)
        queue.extend(
            (f"{path}/{child}", ours_inside, inside.get(child))
            for child, ours_inside in children_of(ours).items()
        )
    return report


def _restore_variable(
    path: str,
    ours: tf.Variable,
    theirs: Any,
    graph: Graph,
    mapping: _ClassMapping,
    report: PartReport,
) -> None:
    axis, shape = mapping.find_axis(path), tuple(ours.shape)
    if axis is not None and theirs is not None and not mapping.has_common:
        report.other_classes.append(path)
        return
    wanted = shape if axis is None else mapping.their_shape(shape, axis)
    value = None if theirs is None else graph.value(theirs, wanted)
    if value is None:
        report.missing.append(path)
    elif isinstance(value, tuple):
        report.other_shape.append(path)
    else:
        if not np.isfinite(value.astype(np.float32)).all():
            raise ArtifactError(
                f"{path} holds numbers that are not finite",
                remedy="choose other weights for train.init_from",
            )
        if axis is not None:
            value = mapping.apply(ours.numpy(), value, axis)
        ours.assign(tf.cast(value, ours.dtype))
        report.restored += 1


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return f"{', '.join(names[:_MAX_NAMES])}{more}"
