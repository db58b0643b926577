"""Detections from a file: those of an evaluation or of `detflow predict`, or COCO's results."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from detflow.errors import ConfigError, DataError, environment_faults
from detflow.label_map import LabelMap
from detflow.text import count_noun
from detflow.types import Box, Detection, ImageSize, Sample

PREDICTIONS_NAME: Final = "predictions.json"
_METRICS_NAME = "metrics.json"


def find_predictions(path: Path) -> Path | None:
    """Returns the file of detections that a path means; None where it means something else.

    Args:
        path: A JSON file, or a folder that evaluate or predict published.
    """
    if path.suffix == ".json" and path.is_file():
        return path
    file = path / PREDICTIONS_NAME
    return file if file.is_file() else None


def read_predictions(
    path: Path, samples: Sequence[Sample], label_map: LabelMap, fingerprint: str
) -> list[list[Detection]]:
    """Reads the detections on the images of a split.

    Args:
        path: The file, in COCO's results format, whose `image_id` is the `source_id` of a record;
            or as `detflow predict` writes it, whose images are found by their names.
        samples: The images.
        label_map: The classes.
        fingerprint: Of the records.

    Returns:
        The detections of each sample, from the highest score to the lowest; none where the file has
        none.

    Raises:
        ConfigError: The file is an evaluation's of other records.
        DataError: It is no such file, or its images or classes are not those of the split.
    """
    content = _read_json(path)
    _require_same_records(path, fingerprint)
    found: dict[int, list[Detection]]
    if isinstance(content, list):
        found = _read_results(path, content, samples, label_map)
    elif isinstance(content, dict) and isinstance(content.get("images"), list):
        found = _read_images(path, content["images"], samples, label_map)
    else:
        raise DataError(
            "neither COCO's results nor what detflow predict writes",
            path=path,
            remedy="name predictions.json of an evaluation or of detflow predict",
        )
    # Equal scores keep the order of the file.
    return [
        sorted(found.get(place, ()), key=lambda one: -one.score) for place in range(len(samples))
    ]


def _read_json(path: Path) -> Any:
    try:
        with environment_faults(path):
            return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}", path=path) from None


def _require_same_records(path: Path, fingerprint: str) -> None:
    """Refuses an evaluation of other records: its numbers of images mean other pictures."""
    beside = path.with_name(_METRICS_NAME)
    if not beside.is_file():
        return
    content = _read_json(beside)
    theirs = content.get("fingerprint") if isinstance(content, dict) else None
    if isinstance(theirs, str) and theirs != fingerprint:
        raise ConfigError(
            f"the evaluation is of records with the fingerprint {theirs[:12]}, "
            f"these have {fingerprint[:12]}",
            path=path,
            remedy="name the records that were evaluated on, or evaluate again",
        )


def _read_results(
    path: Path, entries: Sequence[Any], samples: Sequence[Sample], label_map: LabelMap
) -> dict[int, list[Detection]]:
    places = {sample.source_id: place for place, sample in enumerate(samples)}
    found: defaultdict[int, list[Detection]] = defaultdict(list)
    strangers = set()
    for number, entry in enumerate(entries):
        try:
            image_id, class_id = int(entry["image_id"]), int(entry["category_id"])
            left, top, width, height = (float(value) for value in entry["bbox"])
            score = _read_score(entry["score"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(
                f"entry {number}: not one of COCO's results: {type(error).__name__} {error}",
                path=path,
            ) from None
        if image_id not in places:
            strangers.add(image_id)
            continue
        size = samples[places[image_id]].size
        box = _to_box((left, top, left + width, top + height), size)
        name = _name_of(path, class_id, label_map)
        if box is not None:
            found[places[image_id]].append(Detection(name, class_id, score, box))
    _require_known(path, len(strangers), len(found), "image_id")
    return found


def _read_images(
    path: Path, entries: Sequence[Any], samples: Sequence[Sample], label_map: LabelMap
) -> dict[int, list[Detection]]:
    by_name = _index_names(samples)
    found: dict[int, list[Detection]] = {}
    strangers = 0
    for number, entry in enumerate(entries):
        try:
            file = str(entry["file"])
            detections = [
                Detection(
                    str(one["name"]),
                    label_map.id_of(str(one["name"])) if one["name"] in label_map else 0,
                    _read_score(one["score"]),
                    Box(*(float(value) for value in one["box"])),
                )
                for one in entry["detections"]
            ]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(
                f"image {number}: not one of detflow predict's: {type(error).__name__} {error}",
                path=path,
            ) from None
        for one in detections:
            if not one.class_id:
                raise _other_classes(path, one.name, label_map)
        candidates = by_name.get(PurePosixPath(file).name, [])
        exact = [
            place for place in candidates if f"/{file}".endswith(f"/{samples[place].filename}")
        ]
        chosen = exact or candidates
        if not chosen:
            strangers += 1
        elif len(chosen) > 1 or chosen[0] in found:
            raise DataError(
                f"{file} is the name of several images", path=path, remedy="name a model instead"
            )
        else:
            found[chosen[0]] = detections
    _require_known(path, strangers, len(found), "file")
    return found


def _index_names(samples: Iterable[Sample]) -> Mapping[str, list[int]]:
    by_name: defaultdict[str, list[int]] = defaultdict(list)
    for place, sample in enumerate(samples):
        by_name[PurePosixPath(sample.filename).name].append(place)
    return by_name


def _require_known(path: Path, strangers: int, known: int, what: str) -> None:
    """Refuses a file about other images; a file about more than the split is as good as one."""
    if strangers and not known:
        raise DataError(
            f"none of its {count_noun(strangers, 'image')} is in the split, by {what}",
            path=path,
            remedy="name the split that was detected on",
        )


def _name_of(path: Path, class_id: int, label_map: LabelMap) -> str:
    try:
        return label_map.name_of(class_id)
    except KeyError:
        raise _other_classes(path, f"category_id {class_id}", label_map) from None


def _other_classes(path: Path, what: str, label_map: LabelMap) -> DataError:
    return DataError(
        f"it has {what}, and the records have the classes {', '.join(label_map)}",
        path=path,
        remedy="name detections of a model with the classes of the records",
    )


def _read_score(value: Any) -> float:
    score = float(value)
    if not math.isfinite(score):
        raise ValueError(f"score {value}")
    return score


def _to_box(corners: tuple[float, float, float, float], size: ImageSize) -> Box | None:
    """Returns corners in pixels as a box; None where nothing of it is inside the image."""
    left, top, right, bottom = corners
    ymin, ymax = (min(max(value / size.height, 0.0), 1.0) for value in (top, bottom))
    xmin, xmax = (min(max(value / size.width, 0.0), 1.0) for value in (left, right))
    return Box(ymin, xmin, ymax, xmax) if ymin < ymax and xmin < xmax else None
