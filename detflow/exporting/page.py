"""card.html: what an exported folder holds, how it is used, and how well it was proved."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from detflow.exporting.facts import (
    CLASS_HEADS,
    describe_quality,
    describe_threshold,
    list_class_rows,
    list_contracts,
    list_origin,
    list_warnings,
)
from detflow.exporting.proof.latency import TIMED_IMAGES, TIMED_RUNS
from detflow.exporting.proof.process import ProofImage
from detflow.exporting.snippets import choose_snippets
from detflow.inference.detector import Outputs, to_detections
from detflow.label_map import LabelMap
from detflow.pages.charts import Chart, build_stack
from detflow.pages.draw import draw_boxes
from detflow.pages.render import Section, render_page
from detflow.tables import format_change, format_metric
from detflow.text import count_noun

NUM_EXAMPLES = 6
"""Pictures that the card shows."""

_EXAMPLE_SIDE_PX = 480
_EXAMPLE_QUALITY = 85
# A detection with a lower score claims too little to be shown to a person.
_SHOWN_SCORE = 0.3
_MAX_CLASSES = 200

Example = tuple[str, bytes]
"""The image's name, and a JPEG file with the detections drawn over it."""


def draw_example(image: ProofImage, outputs: Outputs, label_map: LabelMap) -> Example:
    """Draws what the checkpoint detects on an image of the proof."""
    detections = to_detections(outputs, label_map, Path(image.name))
    found = [detection for detection in detections if detection.score >= _SHOWN_SCORE]
    picture = Image.fromarray(image.pixels)
    picture.thumbnail((_EXAMPLE_SIDE_PX, _EXAMPLE_SIDE_PX))
    drawn = draw_boxes(
        picture,
        [detection.box for detection in found],
        [detection.name for detection in found],
        [detection.class_id for detection in found],
        scores=[detection.score for detection in found],
    )
    file = io.BytesIO()
    drawn.save(file, "JPEG", quality=_EXAMPLE_QUALITY)
    return image.name, file.getvalue()


def render_card(card: Mapping[str, Any], name: str, examples: Iterable[Example]) -> str:
    """Returns the page.

    Args:
        card: The content of `model.json`.
        name: What the model is called.
        examples: Pictures of the proof.
    """
    parity, classes = card["parity"], card["classes"]
    sections = {
        "quality": Section("How good"),
        "formats": Section("Formats", len(card["formats"])),
        "use": Section("Use"),
        "examples": Section("Examples"),
        "classes": Section("Classes", len(classes)),
        "contract": Section("Contract"),
        "origin": Section("Origin"),
    }
    return render_page(
        "card.html.j2",
        name=name,
        sections=sections,
        num_classes=len(classes),
        num_images=parity["num_images"],
        images=parity["images"],
        quality=describe_quality(card["quality"]),
        warnings=list_warnings(card),
        threshold=describe_threshold(card),
        class_heads=CLASS_HEADS,
        class_rows=list_class_rows(card["quality"])[:_MAX_CLASSES],
        contracts=[row for name in card["formats"] for row in list_contracts(name)],
        formats=_build_format_rows(card["formats"]),
        failed={name: found["reason"] for name, found in card["failed"].items()},
        timed_runs=TIMED_RUNS,
        timed_images=TIMED_IMAGES,
        ladders={
            name: [_build_rung_row(rung) for rung in found["rungs"]]
            for name, found in {**card["formats"], **card["failed"]}.items()
            if found.get("rungs")
        },
        snippets=choose_snippets(list(card["formats"])),
        examples=list(examples),
        shown_score=_SHOWN_SCORE,
        classes=classes[:_MAX_CLASSES],
        contract=card["contract"],
        tflite_contract=card.get("tflite_contract"),
        origin=list_origin(card),
        versions=card["versions"],
    )


@dataclass(frozen=True, slots=True)
class _FormatRow:
    """A format that is in the folder.

    Attributes:
        name: Of the format.
        paths: Its files and folders.
        refused: Why an entry of it was left out, by the entry.
        chart: Its size beside the others'.
        megabytes: Its size.
        metrics: AP, AP50 and the change of AP, as text.
        p50_ms: Median time of one image, as text.
        agreement: How alike its detections are to the checkpoint's, in a few words.
    """

    name: str
    paths: Sequence[str]
    refused: Mapping[str, str]
    chart: Chart
    megabytes: float
    metrics: Sequence[str]
    p50_ms: str
    agreement: str


def _build_format_rows(formats: Mapping[str, Mapping[str, Any]]) -> list[_FormatRow]:
    largest = max(found["bytes"] for found in formats.values())
    rows = []
    for name, found in formats.items():
        first = next(iter(found["entries"].values()))
        share = round(1000 * found["bytes"] / largest)
        rows.append(
            _FormatRow(
                name,
                found["paths"],
                found["refused"],
                build_stack([(share, "accent")], f"{found['bytes']:,} bytes", 1000),
                found["bytes"] / 1e6,
                [
                    format_metric((found["metrics"] or {}).get("AP")),
                    format_metric((found["metrics"] or {}).get("AP50")),
                    format_change((found["change"] or {}).get("AP")),
                ],
                f"{first['p50_ms']:.1f}" if "p50_ms" in first else "n/a",
                _describe_agreement(first),
            )
        )
    return rows


def _describe_agreement(entry: Mapping[str, Any]) -> str:
    """Returns a few words about how well an entry agrees; model.json has the numbers."""
    if differences := entry["max_differences"]:
        difference = differences["detection_scores"]
        return f"scores within {difference:.0e}" if difference else "the same scores"
    if entry["share_found"] is None:
        return "nothing to find again"
    return f"{entry['share_found']:.1%} found again"


@dataclass(frozen=True, slots=True)
class _RungRow:
    """One way of writing a format that was tried: `metrics` has AP and the change of AP."""

    name: str
    metrics: Sequence[str]
    failure: str | None


def _build_rung_row(rung: Mapping[str, Any]) -> _RungRow:
    name = rung["rung"]
    if tuning := rung.get("fine_tuning"):
        name += f", {count_noun(tuning['steps'], 'step')} at {tuning['learning_rate']:g}"
        name += f", {tuning['seconds']:.0f} s"
    metrics, change = rung["metrics"] or {}, rung["change"] or {}
    numbers = [format_metric(metrics.get("AP")), format_change(change.get("AP"))]
    return _RungRow(name, numbers, rung["failure"])
