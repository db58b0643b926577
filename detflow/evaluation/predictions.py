"""Detections from a file: those of an evaluation or of `detflow predict`, or COCO's results."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from detflow.data.records.manifest import RecordsManifest
from detflow.errors import ConfigError, DataError
from detflow.evaluation.provenance import read_json, read_provenance
from detflow.label_map import LabelMap
from detflow.text import count_noun
from detflow.types import Box, Detection, ImageSize, Sample

PREDICTIONS_NAME: Final = "predictions.json"
# What `detflow predict` writes beside it.
_PREDICTS_RESULTS_NAME = "coco_results.json"


def find_predictions(path: Path) -> Path | None:
    """Returns the file of detections that a path means; None where it means something else.

    Args:
        path: A JSON file, or a folder that evaluate or predict published.
    """
    if path.suffix == ".json" and path.is_file():
        return path
    file = path / PREDICTIONS_NAME
    return file if file.is_file() else None


@dataclass(frozen=True, slots=True)
class FileDetections:
    """What a file has for the images of a split.

    Attributes:
        detections: Those of each image, from the highest score to the lowest; none where the file
            has none.
        warnings: What one should mind, as sentences: what was left out, and what the file lacks.
    """

    detections: Sequence[Sequence[Detection]]
    warnings: tuple[str, ...]


@dataclass
class _Found:
    """What a file has so far.

    Attributes:
        by_place: The detections of each image that the file speaks of, by its place in the split.
        num_entries: How many entries the file has.
        named_by: By what an entry names its image.
        strangers: The images that the split lacks: their ids, or the numbers of their entries.
        num_strange: How many entries are of such images.
        num_outside: How many entries have a box without area inside its image.
    """

    by_place: defaultdict[int, list[Detection]]
    num_entries: int
    named_by: str
    strangers: set[int] = field(default_factory=set)
    num_strange: int = 0
    num_outside: int = 0


def read_predictions(
    path: Path, samples: Sequence[Sample], manifest: RecordsManifest, split: str
) -> FileDetections:
    """Reads the detections on the images of a split.

    Args:
        path: The file, in COCO's results format, whose `image_id` is the `source_id` of a record;
            or as `detflow predict` writes it, whose images are found by their names.
        samples: The images.
        manifest: The manifest of their records.
        split: The split, as `resolve_split` takes it.

    Raises:
        ConfigError: The file is an evaluation's of other records or of other splits, or its images
            are numbered by `detflow predict`.
        DataError: It is no such file, or its images or classes are not those of the split.
    """
    ours = path.with_name(PREDICTIONS_NAME)
    if path.name == _PREDICTS_RESULTS_NAME and ours.is_file():
        raise ConfigError(
            "its images have predict's own numbers, which are not those of the records",
            path=path,
            remedy=f"name {ours}",
        )
    content = read_json(path)
    provenance = read_provenance(path, manifest, split)
    label_map = manifest.label_map
    lists_images = isinstance(content, dict) and isinstance(content.get("images"), list)
    if isinstance(content, list):
        found = _read_results(path, content, samples, label_map)
    elif lists_images:
        found = _read_images(path, content["images"], samples, label_map)
    else:
        raise DataError(
            "neither COCO's results nor what detflow predict writes",
            path=path,
            remedy="name predictions.json of an evaluation or of detflow predict",
        )
    if provenance.is_wider:
        # The other images were evaluated, too, and nothing may have been found on these.
        found.num_strange = 0
    else:
        _require_known(path, found)
    gaps = _describe_gaps(found, len(samples), split, lists_images=lists_images)
    # Equal scores keep the order of the file.
    return FileDetections(
        [
            sorted(found.by_place.get(place, ()), key=lambda one: -one.score)
            for place in range(len(samples))
        ],
        (*provenance.warnings, *gaps),
    )


def _describe_gaps(
    found: _Found, num_images: int, split: str, *, lists_images: bool
) -> Iterator[str]:
    """Yields what was left out and what the file lacks, as sentences."""
    num_absent = num_images - len(found.by_place)
    if found.num_strange:
        yield (
            f"Entries of images that are not in {split} are left out: "
            f"{found.num_strange:,} of {found.num_entries:,}."
        )
    if found.num_outside:
        yield (
            "Boxes without area inside their image are left out: "
            f"{found.num_outside:,} of {found.num_entries:,}."
        )
    # COCO's results have no place for an image without detections, and some rightly have none.
    is_suspicious = lists_images or found.num_strange or 2 * num_absent > num_images
    if num_absent and is_suspicious:
        lacks = "does not list" if lists_images else "has no detection on"
        yield (
            f"The file {lacks} {num_absent:,} of the {count_noun(num_images, 'image')} of {split}: "
            "objects there count as not found."
        )


def _read_results(
    path: Path, entries: Sequence[Any], samples: Sequence[Sample], label_map: LabelMap
) -> _Found:
    places = {sample.source_id: place for place, sample in enumerate(samples)}
    found = _Found(defaultdict(list), len(entries), "image_id")
    for number, entry in enumerate(entries):
        try:
            image_id, class_id = (_read_id(entry, name) for name in ("image_id", "category_id"))
            corners = _read_corners(entry["bbox"])
            score = _read_score(entry["score"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(
                f"entry {number}: not one of COCO's results: {type(error).__name__} {error}",
                path=path,
            ) from None
        if image_id not in places:
            found.strangers.add(image_id)
            found.num_strange += 1
            continue
        place = places[image_id]
        box = _to_box(corners, samples[place].size)
        name = _name_of(path, class_id, label_map)
        # The entry says that the image was detected on, whatever becomes of the box.
        detections = found.by_place[place]
        if box is None:
            found.num_outside += 1
        else:
            detections.append(Detection(name, class_id, score, box))
    return found


def _read_images(
    path: Path, entries: Sequence[Any], samples: Sequence[Sample], label_map: LabelMap
) -> _Found:
    by_name = _index_names(samples)
    found = _Found(defaultdict(list), len(entries), "file")
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
            found.strangers.add(number)
            found.num_strange += 1
        elif len(chosen) > 1 or chosen[0] in found.by_place:
            raise DataError(
                f"{file} is the name of several images", path=path, remedy="name a model instead"
            )
        else:
            found.by_place[chosen[0]] = detections
    return found


def _index_names(samples: Iterable[Sample]) -> Mapping[str, list[int]]:
    by_name: defaultdict[str, list[int]] = defaultdict(list)
    for place, sample in enumerate(samples):
        by_name[PurePosixPath(sample.filename).name].append(place)
    return by_name


def _require_known(path: Path, found: _Found) -> None:
    """Refuses a file about other images alone; of one about some of them the rest is told."""
    if found.strangers and not found.by_place:
        raise DataError(
            f"none of its {count_noun(len(found.strangers), 'image')} is in the split, "
            f"by {found.named_by}",
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


def _read_id(entry: Any, name: str) -> int:
    value = entry[name]
    number = int(value)
    # int() takes 17 from 17.7, and 1 from true.
    if isinstance(value, bool) or (isinstance(value, float) and value != number):
        raise ValueError(f"{name} {value}")
    return number


def _read_corners(values: Any) -> tuple[float, float, float, float]:
    """Returns left, top, right and bottom of COCO's left, top, width and height."""
    left, top, width, height = (float(value) for value in values)
    if not all(map(math.isfinite, (left, top, width, height))) or width < 0 or height < 0:
        raise ValueError(f"bbox {values}")
    return left, top, left + width, top + height


def _read_score(value: Any) -> float:
    score = float(value)
    if not math.isfinite(score):
        raise ValueError(f"score {value}")
    return score


def _to_box(corners: tuple[float, float, float, float], size: ImageSize) -> Box | None:
    """Returns corners in pixels as a box; None where it has no area inside the image."""
    left, top, right, bottom = corners
    ymin, ymax = (min(max(value / size.height, 0.0), 1.0) for value in (top, bottom))
    xmin, xmax = (min(max(value / size.width, 0.0), 1.0) for value in (left, right))
    return Box(ymin, xmin, ymax, xmax) if ymin < ymax and xmin < xmax else None
