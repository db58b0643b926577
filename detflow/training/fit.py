"""`detflow init`: a configuration fitted to the data, with the reason for each value."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from detflow.data.making import RecordOptions, publish_records
from detflow.data.records.manifest import MANIFEST_NAME, RecordsManifest, read_manifest
from detflow.data.records.reading import read_samples
from detflow.data.sources.splits import VALIDATION_NAMES
from detflow.errors import ConfigError, DataError
from detflow.storage.archives import drop_archive_suffix
from detflow.text import count_noun, find_nearest
from detflow.training.fit_shapes import Boxes, choose_anchor, choose_canvases
from detflow.training.fit_text import Choice, format_choices
from detflow.types import ImageSize, ObjectAnnotation

_BATCH_SIZE = 8
# Twice the epochs were better by AP .018 on BCCD (docs/decisions/0007-fitted-configuration.md).
_EPOCHS = 120
_MIN_STEPS, _MAX_STEPS = 1_500, 20_000
_EVALUATIONS = 8


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
) -> list[Choice]:
    """Chooses a configuration for a records directory.

    Args:
        manifest: Of the records.
        records: Where they are, as it shall stand in the configuration.
        samples: Size and objects of each image of the training split.

    Returns:
        The settings that depend on the data or that a user should think about, section by section.

    Raises:
        DataError: There is nothing to train on.
    """
    train = choose_train_split(manifest)
    boxes = Boxes(samples)
    num_images = manifest.splits[train].images
    canvases, chosen = choose_canvases(boxes)
    anchor = choose_anchor(boxes, canvases)
    steps = int(np.clip(round(_EPOCHS * num_images / _BATCH_SIZE, -2), _MIN_STEPS, _MAX_STEPS))
    every = max(100, int(round(steps / _EVALUATIONS, -2)))
    return [
        Choice("data.records", str(records), "where make-records put them"),
        Choice(
            "data.train_split",
            train,
            f"{count_noun(num_images, 'image')}, "
            f"{count_noun(manifest.splits[train].objects, 'object')}",
        ),
        _choose_eval_split(manifest),
        Choice(
            "data.max_boxes",
            max(100, math.ceil(boxes.most / 100) * 100),
            f"the fullest image has {count_noun(boxes.most, 'object')}",
        ),
        *chosen,
        *anchor,
        Choice(
            "train.steps",
            steps,
            f"{steps * _BATCH_SIZE / num_images:.0f} epochs; "
            "`--time-budget 12m` fits them to a clock instead",
        ),
        Choice("train.batch_size", _BATCH_SIZE, "the default"),
        Choice(
            "augment.vertical_flip",
            False,
            "set it to true where images have no up and no down, as under a microscope",
        ),
        Choice(
            "evaluate.every_steps",
            every,
            f"about {_EVALUATIONS} evaluations; the best checkpoint is exported",
        ),
        Choice("checkpoint.every_steps", every, "a checkpoint with each evaluation"),
    ]


def fit_source(source: Path, options: RecordOptions, folder: Path | None = None) -> str:
    """Fits a configuration to a records directory, or to a dataset by way of temporary records.

    Args:
        source: The records directory, or the dataset's folder.
        options: How a dataset is judged.
        folder: The folder that the configuration is for, where its paths start; None for the
            working directory.

    Returns:
        The configuration as YAML text.

    Raises:
        ConfigError: The options are for a dataset, and these are records.
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
        return _fit_records(source, _seen_from(folder, source))
    with tempfile.TemporaryDirectory(prefix="detflow-init-") as temporary:
        publish_records(source, Path(temporary) / "records", options)
        name = Path("records") / drop_archive_suffix(source.resolve().name)
        chosen = "" if val_from is None else f" --val-from {val_from}"
        return _fit_records(Path(temporary) / "records", _seen_from(folder, name), chosen)


def _seen_from(folder: Path | None, path: Path) -> Path:
    if folder is None or path.is_absolute():
        return path
    return Path(os.path.relpath(path, folder))


def _fit_records(records: Path, name: Path, chosen: str = "") -> str:
    manifest = read_manifest(records)
    samples = read_samples(records, manifest, choose_train_split(manifest))
    choices = fit_config(manifest, name, ((sample.size, sample.objects) for sample in samples))
    return format_choices(
        choices,
        [
            f"Fitted to {name} by detflow init{chosen}.",
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
        return Choice(
            "data.eval_split",
            None,
            "there is no validation split: no checkpoint is the best, and the last is exported; "
            "make-records --val-from train=0.1 takes one from the training",
        )
    return Choice(
        "data.eval_split",
        name,
        f"its {count_noun(manifest.splits[name].images, 'image')} choose the best checkpoint; "
        "test stays unseen",
    )
