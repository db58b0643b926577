"""How good an exported checkpoint is: on images that it was not trained on, or not at all."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from detflow.data.records.manifest import MANIFEST_NAME, read_manifest, resolve_split
from detflow.data.records.reading import read_samples
from detflow.data.records.twins import count_twins
from detflow.exporting.proof.images import local_records
from detflow.exporting.proof.references import load_eager
from detflow.exporting.training_data import choose_judged_split
from detflow.inference.detector import Detector
from detflow.inference.evaluate import detect_samples
from detflow.inference.trained import TrainedModel
from detflow.metrics.coco import CocoEvaluation
from detflow.metrics.curves import class_curves, overall_curve
from detflow.metrics.intervals import LEVEL, draw_precision, find_intervals
from detflow.runs.learnt import find_learnt_splits

MAX_IMAGES: Final = 500
"""Most images that the headline is measured on; make-records has shuffled their order."""

NOTHING_HELD_OUT: Final = "there is no split that the model was not trained on"
"""Why a card states no AP, where the records are there."""

_GONE = "the records that it was trained on are not there"
_OVERFIT = "it was trained on a few images, to see whether it can learn them (data.overfit)"


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
    manifest, record = read_manifest(records), trained.state.record
    if record.config.data.overfit:
        return {"role": "none", "why_not": _OVERFIT}
    chosen = choose_judged_split(manifest, record)
    if chosen is None:
        return {"role": "none", "why_not": NOTHING_HELD_OUT}
    split, role = chosen
    # As every evaluation sees them: far larger images are made smaller first.
    sizes = trained.serving.model.canvas_sizes
    detector = Detector(load_eager(trained), trained.label_map, trained.checkpoint_path, sizes)
    samples = itertools.islice(read_samples(records, manifest, split), MAX_IMAGES)
    _, images = detect_samples(detector, samples, trained.label_map)
    resolve = functools.partial(resolve_split, manifest)
    splits, learnt = resolve(split), find_learnt_splits(record, resolve)
    difficult = sum(item.difficult for image in images for item in image.objects)
    return {
        "role": role,
        "split": split,
        "images": len(images),
        "images_of_split": sum(manifest.splits[name].images for name in splits),
        "objects": sum(len(image.objects) for image in images) - difficult,
        "difficult": difficult,
        "twins": count_twins(records, splits, learnt),
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
