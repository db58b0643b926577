"""The files of an evaluation: numbers for programs, plots, and the page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from detflow.data.records.places import SamplePlace
from detflow.evaluation.analysis import Analysis, describe_analysis
from detflow.evaluation.cards import choose_images
from detflow.evaluation.page import render_evaluation
from detflow.evaluation.plots import PLOTS, draw_plot
from detflow.label_map import LabelMap
from detflow.metrics.errors import ErrorType
from detflow.pages.colours import DARK, LIGHT
from detflow.types import Sample

_THRESHOLDS = np.arange(101) / 100
# pycocotools leaves an object out of the count for two reasons: `iscrowd`, which also changes how
# its IoU is computed and lets it be found many times; or an area outside of the range that is being
# measured. Only the second means what `difficult` means, and no range holds a negative area.
_NO_AREA = -1.0
_TRUTH_NOTE = (
    "Written by detflow. An object with difficult = 1 has the area -1, which lies in no range of "
    "areas, so that COCOeval counts it neither as a hit nor as a miss, as detflow does."
)


def write_evaluation(
    folder: Path,
    page_name: str,
    analysis: Analysis,
    samples: Sequence[Sample],
    places: Mapping[int, SamplePlace],
    read_pictures: Callable[[Collection[int]], Mapping[int, bytes]],
) -> None:
    """Writes the numbers, the plots and the page.

    The numbers are metrics.json, results.csv, curves.csv, predictions.json and ground_truth.json.

    Args:
        folder: An empty folder.
        page_name: Name of the page's file.
        analysis: What was measured.
        samples: The samples of the analysis' images, for their names and ids.
        places: Where they come from, by their ids, as far as that is known.
        read_pictures: Returns the JPEG files of images by their indices.
    """
    document = json.dumps(describe_analysis(analysis), indent=2, allow_nan=False)
    (folder / "metrics.json").write_text(document + "\n", encoding="utf-8")
    _write_csv(folder / "results.csv", _class_rows(analysis))
    _write_csv(folder / "curves.csv", _curve_rows(analysis))
    (folder / "predictions.json").write_text(
        _to_json_lines(_predictions(analysis, samples)), encoding="utf-8"
    )
    (folder / "ground_truth.json").write_text(
        json.dumps(_ground_truth(analysis.label_map, samples)) + "\n", encoding="utf-8"
    )
    plots = {}
    for name in PLOTS:
        light = draw_plot(name, analysis, LIGHT)
        (folder / f"{name}.png").write_bytes(light)
        plots[name] = (light, draw_plot(name, analysis, DARK))
    pictures = read_pictures(frozenset(choose_images(analysis)))
    page = render_evaluation(analysis, samples, places, plots, pictures)
    (folder / page_name).write_text(page, encoding="utf-8")


def _write_csv(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    # csv writes None as an empty cell and floats with repr(), which reads back to the same bits.
    csv.writer(text).writerows(rows)
    path.write_bytes(text.getvalue().encode("utf-8", "backslashreplace"))


def _class_rows(analysis: Analysis) -> Iterator[Sequence[Any]]:
    metrics = list(next(iter(analysis.class_metrics.values()), {}))
    points = ("precision", "recall", "f1")
    yield [
        *("class", "id", "images", "objects", "difficult"),
        *metrics,
        *(f"{name}_{end}" for name in ("AP", "AP50") for end in ("low", "high")),
        *("score_threshold", *points),
        *("best_threshold", *(f"best_{name}" for name in points)),
        *(f"errors_{kind.value}" for kind in ErrorType),
    ]
    errors = analysis.error_counts()
    for name, curve in analysis.curves.items():
        best = asdict(curve.best) if curve.best else dict.fromkeys(("threshold", *points))
        yield [
            *(name, analysis.label_map.id_of(name), *asdict(analysis.counts[name]).values()),
            *analysis.class_metrics[name].values(),
            *(analysis.intervals[f"AP/{name}"] or (None, None)),
            *(analysis.intervals[f"AP50/{name}"] or (None, None)),
            *asdict(curve.at(analysis.score_threshold)).values(),
            *best.values(),
            *(errors[name][kind] for kind in ErrorType),
        ]


def _curve_rows(analysis: Analysis) -> Iterator[Sequence[Any]]:
    yield ["class", "id", "threshold", "precision", "recall", "f1"]
    # All classes pooled have the id 0 and no name.
    for name, curve in [("", analysis.overall), *analysis.curves.items()]:
        class_id = analysis.label_map.id_of(name) if name else 0
        yield from (
            [name, class_id, *asdict(curve.at(threshold)).values()]
            for threshold in _THRESHOLDS.tolist()
        )


def _predictions(analysis: Analysis, samples: Sequence[Sample]) -> Iterator[dict[str, Any]]:
    """Yields the detections in COCO's results format (https://cocodataset.org/#format-results)."""
    for sample, image in zip(samples, analysis.images, strict=True):
        for detection in image.detections:
            box = list(detection.box.to_coco(image.size))
            yield {
                "image_id": sample.source_id,
                "category_id": detection.class_id,
                "bbox": box,
                "score": detection.score,
            }


def _ground_truth(label_map: LabelMap, samples: Sequence[Sample]) -> dict[str, Any]:
    """Returns the truth in COCO's dataset format.

    Other tools can judge the predictions with it and come to the same numbers: difficult objects
    have no area (see `_NO_AREA`).
    """
    annotations: list[dict[str, Any]] = []
    for sample in samples:
        for item in sample.objects:
            box = list(item.box.to_coco(sample.size))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": sample.source_id,
                    "category_id": label_map.id_of(item.name),
                    "bbox": box,
                    "area": _NO_AREA if item.difficult else box[2] * box[3],
                    "iscrowd": 0,
                    "ignore": int(item.difficult),
                    "difficult": int(item.difficult),
                }
            )
    return {
        "info": {"description": _TRUTH_NOTE},
        "images": [
            {
                "id": sample.source_id,
                "file_name": sample.filename,
                "width": sample.size.width,
                "height": sample.size.height,
            }
            for sample in samples
        ],
        "categories": [{"id": label_map.id_of(name), "name": name} for name in label_map],
        "annotations": annotations,
    }


def _to_json_lines(entries: Iterable[dict[str, Any]]) -> str:
    """Returns a JSON array with one entry a line."""
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    return f"[\n{lines}\n]\n"
