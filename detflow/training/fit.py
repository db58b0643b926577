"""`detflow init`: a configuration fitted to the data, with the reason for each value."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from detflow.config.reading import parse_config
from detflow.config.schema import ExperimentConfig, ModelConfig
from detflow.data.making import RecordOptions, publish_records
from detflow.data.records.manifest import MANIFEST_NAME, RecordsManifest, read_manifest
from detflow.data.records.reading import read_samples
from detflow.data.sources.splits import VALIDATION_NAMES
from detflow.errors import ConfigError, DataError
from detflow.process.libraries import is_installed
from detflow.storage.archives import drop_archive_suffix
from detflow.text import count_noun, find_nearest
from detflow.training.fit_recipe import (
    Clock,
    Speed,
    choose_intervals,
    choose_length,
    choose_mosaic,
    choose_parts,
    choose_repeats,
    compare_with_scratch,
    prefers_scratch,
)
from detflow.training.fit_shapes import Boxes, choose_anchor, choose_canvases
from detflow.training.fit_text import Choice, format_choices
from detflow.training.fit_weights import Beginning, choose_beginning, choose_weights
from detflow.types import ImageSize, ObjectAnnotation

_SECTIONS = ("data", "model", "train", "augment", "evaluate", "checkpoint", "runtime")


@dataclass(frozen=True)
class FitOptions:
    """What a user says of the training beside the data.

    Attributes:
        time_budget: Seconds that the training may take; None for as many as its steps need.
        start_from: `scratch`, or what `train.init_from` takes; None leaves it to init.
        offline: Whether nothing may be fetched.
        probe: Whether this machine's speed is measured; otherwise the configuration is a function
            of the data, the weights at hand and these options.
        folder: The folder that the configuration is for, where its paths start; None for the
            working directory.
    """

    time_budget: float | None = None
    start_from: str | None = None
    offline: bool = False
    probe: bool = True
    folder: Path | None = None


@dataclass(frozen=True)
class Shape:
    """Canvases, and what follows from them.

    Attributes:
        choices: The settings of canvases, anchors and mosaics.
        area: Of the first canvas in pixels.
        is_dense: Whether images hold many or small objects, so that mosaics are off.
    """

    choices: list[Choice]
    area: int
    is_dense: bool

    @classmethod
    def choose(
        cls,
        boxes: Boxes,
        settings: Mapping[str, Any] = MappingProxyType({}),
        affordable: float = math.inf,
    ) -> Shape:
        """Chooses them.

        Args:
            boxes: Of the training split.
            settings: What the weights want of the section `model`.
            affordable: As of `choose_canvases`.
        """
        model = ModelConfig.model_validate(dict(settings))
        canvases, chosen = choose_canvases(boxes, model, affordable)
        chosen += choose_anchor(boxes, canvases, model)
        mosaic = choose_mosaic(boxes, canvases)
        return cls(
            [*(one for one in chosen if one.name.split(".")[1] not in settings), mosaic],
            math.prod(canvases[0]),
            not mosaic.value,
        )


def read_time_budget(value: str | float | None) -> float | None:
    """Reads a time budget as `train.time_budget` does: 5m, 1h30m, seconds.

    Raises:
        ConfigError: It is none.
    """
    name = "train.time_budget"
    given = [f"{name}={json.dumps(value)}"]
    settings = json.dumps({"data": {"records": "."}})
    return parse_config(settings, given, flags={name: "--time-budget"}).train.time_budget


def choose_train_split(manifest: RecordsManifest) -> str:
    """Returns the split that is for training.

    Raises:
        DataError: There is none.
    """
    name = "train" if "train" in manifest.splits else find_nearest("train", manifest.splits)
    if name is None or not manifest.splits[name].objects:
        raise DataError(
            f"no split to train on among {', '.join(manifest.splits) or 'none'}",
            remedy="make-records --split-by seed",
        )
    return name


def fit_config(
    manifest: RecordsManifest,
    records: Path,
    samples: Iterable[tuple[ImageSize, Sequence[ObjectAnnotation]]],
    begin: Callable[[], Beginning] = lambda: Beginning(None),
    time_budget: float | None = None,
    measure: Callable[[ExperimentConfig, int], Speed] | None = None,
) -> list[Choice]:
    """Chooses a configuration for a records directory.

    Args:
        manifest: Of the records.
        records: Where they are, as it shall stand in the configuration.
        samples: Size and objects of each image of the training split.
        begin: Returns the weights to start from.
        time_budget: Seconds that the training may take, or None.
        measure: Measures how fast a configuration trains here, with so many objects an image; None
            for a function of the other arguments alone.

    Returns:
        The settings that depend on the data or that a user should think about, section by section.

    Raises:
        DataError: There is nothing to train on.
    """
    train = choose_train_split(manifest)
    boxes = Boxes(samples)
    info = manifest.splits[train]
    eval_split = _choose_eval_split(manifest)
    num_evaluated = 0 if eval_split.value is None else manifest.splits[eval_split.value].images
    first = [
        Choice("data.records", str(records), "where make-records put them"),
        Choice(
            "data.train_split",
            train,
            f"{count_noun(info.images, 'image')}, {count_noun(info.objects, 'object')}",
        ),
        eval_split,
        Choice(
            "data.max_boxes",
            max(100, math.ceil(boxes.most / 100) * 100),
            f"the fullest image has {count_noun(boxes.most, 'object')}",
        ),
        choose_repeats(boxes.image_shares),
    ]
    beginning, clock = begin(), Clock(time_budget)
    shape = Shape.choose(boxes, beginning.model)
    if measure is not None:
        objects = math.ceil(len(boxes.names) / max(1, info.images))

        def measure_from(some: Beginning) -> Speed:
            choices = [*first, *shape.choices, *choose_weights(some), *choose_parts(some)]
            return measure(parse_config(format_choices(_in_order(choices), [])), objects)

        speed = measure_from(beginning)
        if beginning.is_automatic and beginning.source is not None and shape.is_dense:
            fresh = measure_from(Beginning(None))
            if prefers_scratch(speed, fresh):
                beginning, speed = compare_with_scratch(speed, fresh), fresh
        clock = Clock.of(time_budget, speed, num_evaluated)
        affordable = shape.area * clock.share_of_least_images()
        if affordable < shape.area:
            smaller = Shape.choose(boxes, beginning.model, affordable)
            clock = clock.on_area(smaller.area / shape.area)
            shape = smaller
    parts = choose_parts(beginning)
    length = choose_length(beginning, info.images, clock, is_dense=shape.is_dense)
    chosen = {choice.name: choice.value for choice in length}
    steps, batch_size = chosen["train.steps"], chosen["train.batch_size"]
    return _in_order(
        [
            *first,
            *shape.choices,
            *choose_weights(beginning),
            *parts,
            *length,
            *choose_intervals(steps, num_evaluated, clock, batch_size),
            Choice(
                "augment.vertical_flip",
                False,
                "set it to true where images have no up and no down, as under a microscope",
            ),
        ]
    )


def _in_order(choices: Sequence[Choice]) -> list[Choice]:
    """Returns choices section by section."""
    return sorted(choices, key=lambda choice: _SECTIONS.index(choice.name.split(".")[0]))


def fit_source(source: Path, options: RecordOptions, fit: FitOptions = FitOptions()) -> str:
    """Fits a configuration to a records directory, or to a dataset by way of temporary records.

    Args:
        source: The records directory, or the dataset's folder.
        options: How a dataset is judged.
        fit: What the user says of the training.

    Returns:
        The configuration as YAML text.

    Raises:
        ConfigError: The options are for a dataset, and these are records; or nothing can start from
            the weights.
        DataError: The dataset cannot be used, or there is nothing to train on.
        ArtifactError: The records are damaged.
    """
    val_from = options.audit.val_from
    if (source / MANIFEST_NAME).is_file():
        if val_from is not None:
            raise ConfigError(
                "--val-from is for a dataset, and these are records",
                path=source,
                remedy="pass it to make-records",
            )
        return _fit_records(source, _seen_from(fit.folder, source), fit)
    with tempfile.TemporaryDirectory(prefix="detflow-init-") as temporary:
        publish_records(source, Path(temporary) / "records", options)
        name = Path("records") / drop_archive_suffix(source.resolve().name)
        chosen = "" if val_from is None else f" --val-from {val_from}"
        records = Path(temporary) / "records"
        return _fit_records(records, _seen_from(fit.folder, name), fit, chosen)


def _seen_from(folder: Path | None, path: Path) -> Path:
    if folder is None or path.is_absolute():
        return path
    return Path(os.path.relpath(path, folder))


def _with_path_from(folder: Path | None, choice: Choice) -> Choice:
    """Returns the choice of initial weights with a path as it is seen from the configuration."""
    if choice.name != "train.init_from" or not choice.value or not os.path.exists(choice.value):
        return choice
    return dataclasses.replace(choice, value=str(_seen_from(folder, Path(choice.value))))


def _fit_records(records: Path, name: Path, fit: FitOptions, chosen: str = "") -> str:
    manifest = read_manifest(records)
    samples = read_samples(records, manifest, choose_train_split(manifest))

    def begin() -> Beginning:
        num_classes = len(manifest.label_map)
        return choose_beginning(fit.start_from, offline=fit.offline, num_classes=num_classes)

    def measure(config: ExperimentConfig, objects: int) -> Speed:
        # TensorFlow takes seconds to import, and without a measurement nothing needs it.
        from detflow.training.probe import measure_speed

        return measure_speed(config, manifest.label_map, objects)

    can_measure = is_installed("tensorflow")
    choices = fit_config(
        manifest,
        name,
        ((sample.size, sample.objects) for sample in samples),
        begin,
        fit.time_budget,
        # A light installation has nothing to train with, and so nothing to measure.
        measure if fit.probe and can_measure else None,
    )
    why = "" if can_measure else " This machine's speed was not measured: that needs TensorFlow."
    return format_choices(
        [_with_path_from(fit.folder, choice) for choice in choices],
        [
            f"Fitted to {name} by detflow init{chosen}.{why}",
            "`detflow config --explain` lists every setting.",
            "",
        ],
    )


def _choose_eval_split(manifest: RecordsManifest) -> Choice:
    name = next(
        (
            name
            for name in VALIDATION_NAMES
            if name in manifest.splits and manifest.splits[name].objects
        ),
        None,
    )
    if name is None:
        empty = next((name for name in VALIDATION_NAMES if name in manifest.splits), None)
        why = (
            "there is no validation split"
            if empty is None
            else f"the validation split {empty} has no objects"
        )
        remedy = (
            "make-records --val-from train=0.1 takes one from the training"
            if empty is None
            else f"give {empty} images with objects, and make the records again"
        )
        return Choice(
            "data.eval_split",
            None,
            f"{why}: no checkpoint is the best, and the last is exported; {remedy}",
        )
    return Choice(
        "data.eval_split",
        name,
        f"its {count_noun(manifest.splits[name].images, 'image')} choose the best checkpoint; "
        "test stays unseen",
    )
