"""How good an exported checkpoint is: on images that it was not trained on, or not at all."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from detflow.data.records.manifest import (
    MANIFEST_NAME,
    RecordsManifest,
    read_manifest,
    resolve_split,
)
from detflow.data.records.reading import read_samples
from detflow.data.records.twins import count_twins
from detflow.exporting.proof.images import local_records
from detflow.inference.detector import Detector
from detflow.inference.evaluate import detect_samples
from detflow.inference.tensorflow import eager_outputs
from detflow.inference.trained import TrainedModel
from detflow.metrics.coco import CocoEvaluation
from detflow.metrics.curves import class_curves, overall_curve
from detflow.metrics.intervals import LEVEL, draw_precision, find_intervals

MAX_IMAGES: Final = 500
"""Most images that the headline is measured on; make-records has shuffled their order."""

NOTHING_HELD_OUT: Final = "there is no split that the model was not trained on"
"""Why a card states no AP, where the records are there."""

_GONE = "the records that it was trained on are not there"


def choose_judged_split(
    manifest: RecordsManifest, train_split: str, eval_split: str | None
) -> tuple[str, str] | None:
    """Returns a split that the model was not trained on, and what it is.

    Args:
        manifest: Of the records.
        train_split: What the run was trained on.
        eval_split: What chose its best checkpoint; None where nothing did.

    Returns:
        A split whose name begins with test, and "test"; else what chose the checkpoint, and
        "validation"; None where there is neither, or only pictures that were trained on.
    """
    learnt = set(resolve_split(manifest, train_split))
    chose = set(resolve_split(manifest, eval_split)) if eval_split else set()
    for name, split in manifest.splits.items():
        if name.casefold().startswith("test") and split.objects and name not in learnt | chose:
            return name, "test"
    if eval_split and not chose & learnt and any(manifest.splits[name].objects for name in chose):
        return eval_split, "validation"
    return None


def describe_training_data(trained: TrainedModel, records: Path | None) -> dict[str, Any]:
    """Returns what a checkpoint was trained on, as JSON values.

    Args:
        trained: The checkpoint.
        records: The records that it was trained on; None where they are not there.
    """
    data = trained.state.record.config.data
    described: dict[str, Any] = {
        "fingerprint": trained.state.record.data_fingerprint,
        "split": data.train_split,
        "images": None,
        "objects_per_class": None,
    }
    if records is not None:
        manifest = read_manifest(records)
        splits = [manifest.splits[name] for name in resolve_split(manifest, data.train_split)]
        images = sum(split.images for split in splits)
        described["images"] = min(images, data.overfit) if data.overfit else images
        described["objects_per_class"] = {
            name: sum(split.objects_per_class.get(name, 0) for split in splits)
            for name in trained.label_map
        }
    return described


def find_training_records(trained: TrainedModel, chosen: Path | None) -> Path | None:
    """Returns the records that a checkpoint was trained on; None where they are gone or changed.

    Args:
        trained: The checkpoint.
        chosen: A folder that the user named; it is looked at first.

    Raises:
        ArtifactError: The records are damaged.
        EnvironmentFault: They are at a URL, and the store or the disk refuses.
    """
    record = trained.state.record
    # Records at a URL are copied here, which is left out where the user has named them.
    if chosen is not None and _has_fingerprint(chosen, record.data_fingerprint):
        return chosen
    own = local_records(record.config.data.records)
    return own if _has_fingerprint(own, record.data_fingerprint) else None


def _has_fingerprint(path: Path, fingerprint: str) -> bool:
    return (path / MANIFEST_NAME).is_file() and read_manifest(path).fingerprint == fingerprint


def measure_quality(trained: TrainedModel, records: Path | None) -> dict[str, Any]:
    """Judges a checkpoint on images that it was not trained on.

    Args:
        trained: The checkpoint.
        records: The records that it was trained on; None where they are not there.

    Returns:
        JSON values: the split's `role` ("test", "validation", or "none", with `why_not`), its
        images and objects, metrics with their intervals, and the threshold with the best F1, over
        all and for each class.

    Raises:
        DataError: An image cannot be decoded.
        ArtifactError: The records are damaged.
    """
    if records is None:
        return {"role": "none", "why_not": _GONE}
    manifest, data = read_manifest(records), trained.state.record.config.data
    chosen = choose_judged_split(manifest, data.train_split, data.eval_split)
    if chosen is None or data.overfit:
        return {"role": "none", "why_not": NOTHING_HELD_OUT}
    split, role = chosen
    detector = Detector(
        eager_outputs(trained.serving.detect_traced, trained.checkpoint_path, has_variables=True),
        trained.label_map,
        trained.checkpoint_path,
    )
    samples = itertools.islice(read_samples(records, manifest, split), MAX_IMAGES)
    _, images = detect_samples(detector, samples, trained.label_map)
    splits = resolve_split(manifest, split)
    difficult = sum(item.difficult for image in images for item in image.objects)
    return {
        "role": role,
        "split": split,
        "images": len(images),
        "images_of_split": sum(manifest.splits[name].images for name in splits),
        "objects": sum(len(image.objects) for image in images) - difficult,
        "difficult": difficult,
        "twins": count_twins(records, splits, resolve_split(manifest, data.train_split)),
        **_measure(CocoEvaluation(images, trained.label_map), trained),
    }


def _measure(coco: CocoEvaluation, trained: TrainedModel) -> Mapping[str, Any]:
    metrics, matches, label_map = coco.metrics(), coco.matches(), trained.label_map
    drawn = draw_precision(coco.rankings())
    intervals = find_intervals(drawn, label_map)
    best = overall_curve(matches).best
    classes = {}
    for name, curve in class_curves(matches, label_map).items():
        of_class = curve.best
        classes[name] = {
            "objects": curve.num_truths,
            "AP": metrics[f"AP/{name}"],
            "AP50": metrics[f"AP50/{name}"],
            "interval": intervals[f"AP/{name}"],
            "best_f1": asdict(of_class) if of_class else None,
        }
    return {
        "metrics": {name: metrics[name] for name in ("AP", "AP50")},
        "level": LEVEL,
        "intervals": {name: intervals[name] for name in ("AP", "AP50")},
        "best_f1": asdict(best) if best else None,
        "classes": classes,
    }
