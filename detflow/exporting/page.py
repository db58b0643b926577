"""card.html: what an exported folder holds, how it is used and how well it was proved, for a person; one file, nothing fetched."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from detflow.exporting.proof.latency import TIMED_IMAGES, TIMED_RUNS
from detflow.exporting.proof.process import ProofImage
from detflow.exporting.snippets import choose_snippets
from detflow.inference.detector import Outputs, to_detections
from detflow.label_map import LabelMap
from detflow.pages.document import Section, escape, render_page, render_table
from detflow.pages.draw import class_colour, draw_boxes
from detflow.pages.svg import draw_stack, draw_swatch
from detflow.tables import format_change, format_metric

__all__ = ["NUM_EXAMPLES", "Example", "draw_example", "render_card"]

NUM_EXAMPLES = 6
"""Pictures that the card shows."""

_EXAMPLE_SIDE_PX = 480
_EXAMPLE_QUALITY = 85
# Below, a detection is no claim that a person should read.
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
    sections = [
        Section("formats", "Formats", _render_formats(card), len(card["formats"])),
        Section("use", "Use", _render_use(card)),
        Section("examples", "Examples", _render_examples(examples)),
        Section("classes", "Classes", _render_classes(card["classes"]), len(card["classes"])),
        Section("contract", "Contract", _render_contract(card)),
        Section("origin", "Origin", _render_origin(card)),
    ]
    versions = ", ".join(f"{package} {version}" for package, version in card["versions"].items())
    return render_page(
        "Model card", name, _render_lead(card), sections, f"Exported with {escape(versions)}."
    )


def _render_lead(card: Mapping[str, Any]) -> str:
    parity, formats, classes = card["parity"], len(card["formats"]), len(card["classes"])
    kinds = {"records": "images", "folder": "images", "synthetic": "synthetic pictures"}
    story = (
        f"A detector of {_count(classes, 'class', 'classes')} in {_count(formats, 'format', 'formats')}, each run in a process of "
        f"its own and compared with the checkpoint on {parity['num_images']:,} {kinds[parity['images']]}."
    )
    if parity["metrics"] is not None:
        story += f" AP {format_metric(parity['metrics']['AP'])}, AP50 {format_metric(parity['metrics']['AP50'])} there."
    return story


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _render_formats(card: Mapping[str, Any]) -> str:
    largest = max(found["bytes"] for found in card["formats"].values())
    rows = [_render_format(name, found, largest) for name, found in card["formats"].items()]
    heads = ("format", "", "MB", "AP", "AP50", "change of AP", "p50 ms", "agreement")
    failed = "".join(
        f'<p><span class="tag refused">{escape(name)}</span> is not in the folder: {escape(one["reason"])}</p>'
        for name, one in card["failed"].items()
    )
    lead = (
        "The bar is the size. The time is from pixels to detections at batch 1, the resize and the suppression included: the "
        f"median of up to {TIMED_RUNS} runs on the proof's first {TIMED_IMAGES} images. detflow benchmark also measures decoding, "
        "start and memory, by number of threads."
    )
    tried = {**card["formats"], **card["failed"]}
    ladders = "".join(
        _render_ladder(name, found["rungs"]) for name, found in tried.items() if found.get("rungs")
    )
    return f'<p class="soft">{lead}</p><div class="panel">{render_table(heads, rows)}{failed}</div>{ladders}'


def _render_format(name: str, found: Mapping[str, Any], largest: int) -> tuple[str, ...]:
    first = next(iter(found["entries"].values()))
    metrics, change = found["metrics"] or {}, found["change"] or {}
    notes = [f"{entry} fails: {reason}" for entry, reason in found["refused"].items()]
    paths = "".join(
        f'<div class="mono soft path">{_escape_path(path)}</div>' for path in found["paths"]
    )
    more = "".join(f'<div class="soft">{escape(note)}</div>' for note in notes)
    bar = draw_stack(
        [(round(1000 * found["bytes"] / largest), "accent")], f"{found['bytes']:,} bytes", 1000
    )
    return (
        f"<td>{escape(name)}{paths}{more}</td>",
        f'<td class="bar">{bar}</td>',
        f"<td>{found['bytes'] / 1e6:.1f}</td>",
        f"<td>{format_metric(metrics.get('AP'))}</td>",
        f"<td>{format_metric(metrics.get('AP50'))}</td>",
        f"<td>{format_change(change.get('AP'))}</td>",
        f"<td>{first['p50_ms']:.1f}</td>",
        f"<td>{escape(_agreement(first))}</td>",
    )


def _render_ladder(name: str, rungs: Sequence[Mapping[str, Any]]) -> str:
    """The ways that were tried until one passed, or to the last."""
    heads = ("rung", "AP", "change of AP", "what came of it")
    rows = [_render_rung(rung) for rung in rungs]
    return (
        f'<div class="panel"><h3>The ladder of {escape(name)}</h3>{render_table(heads, rows)}</div>'
    )


def _render_rung(rung: Mapping[str, Any]) -> tuple[str, ...]:
    what, metrics, change = rung["rung"], rung["metrics"] or {}, rung["change"] or {}
    if tuning := rung.get("fine_tuning"):
        what += (
            f", {tuning['steps']:,} steps at {tuning['learning_rate']:g}, {tuning['seconds']:.0f} s"
        )
    return (
        f"<td>{escape(what)}</td>",
        f"<td>{format_metric(metrics.get('AP'))}</td>",
        f"<td>{format_change(change.get('AP'))}</td>",
        f'<td class="wrap">{"passed" if rung["failure"] is None else "refused: " + escape(rung["failure"])}</td>',
    )


def _escape_path(path: str) -> str:
    """Escaped, and where it does not fit a line it breaks between words."""
    return escape(path).replace("_", "_<wbr>").replace("/", "/<wbr>")


def _agreement(entry: Mapping[str, Any]) -> str:
    """In a few words; model.json has all of it."""
    if differences := entry["max_differences"]:
        return f"scores within {differences['detection_scores']:.0e}"
    return (
        "nothing to find again"
        if entry["share_found"] is None
        else f"{entry['share_found']:.1%} found again"
    )


def _render_use(card: Mapping[str, Any]) -> str:
    lead = "Each runs as it stands in this folder, beside a picture photo.jpg. Boxes are [ymin, xmin, ymax, xmax], normalised."
    blocks = "".join(
        f'<div class="panel"><h3>{escape(title)}</h3><pre><code>{_escape_code(code)}</code></pre></div>'
        for title, code in choose_snippets(list(card["formats"]))
    )
    return f'<p class="soft">{lead}</p>{blocks}'


def _escape_code(code: str) -> str:
    """Markup made inert line by line: a line break is nothing that must be shown as its escape."""
    return "\n".join(escape(line) for line in code.rstrip("\n").split("\n"))


def _render_examples(examples: Iterable[Example]) -> str:
    cards = "".join(
        f'<figure class="card"><img class="picture" src="data:image/jpeg;base64,{base64.b64encode(picture).decode("ascii")}" '
        f'alt="{escape(name)}"><figcaption><div class="mono soft">{escape(name)}</div></figcaption></figure>'
        for name, picture in examples
    )
    lead = f"Images of the proof, and what the checkpoint detects on them with a score of {_SHOWN_SCORE:.2f} and more."
    return f'<p class="soft">{lead}</p><div class="cards large">{cards}</div>'


def _render_classes(names: Sequence[str]) -> str:
    items = "".join(
        f"<li>{draw_swatch(class_colour(class_id))}{class_id} {escape(name)}</li>"
        for class_id, name in enumerate(names[:_MAX_CLASSES], start=1)
    )
    more = (
        f'<p class="more">The first {_MAX_CLASSES} of {len(names):,}.</p>'
        if len(names) > _MAX_CLASSES
        else ""
    )
    return f'<div class="panel"><ul class="legend">{items}</ul>{more}</div>'


def _render_contract(card: Mapping[str, Any]) -> str:
    tables = "".join(
        f'<div class="panel"><h3>{title}</h3>{_render_tensors(card["contract"][part])}</div>'
        for part, title in (
            ("inputs", "A graph or signature takes one of"),
            ("outputs", "It gives"),
        )
    )
    labels = "".join(
        f"<li><b>{escape(where)}</b>: {escape(what)}</li>"
        for where, what in card["contract"]["labels"].items()
    )
    return f'{tables}<div class="panel"><h3>Where the class names are</h3><ul class="lines">{labels}</ul></div>'


def _render_tensors(tensors: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        (
            f'<td><span class="mono">{escape(name)}</span><div class="soft">{escape(tensor["meaning"])}</div></td>',
            f'<td class="mono">{escape(tensor["dtype"])}</td>',
            f'<td class="mono">[{escape(", ".join(map(str, tensor["shape"])))}]</td>',
        )
        for name, tensor in tensors.items()
    ]
    return render_table(("tensor", "dtype", "shape"), rows)


def _describe_canvases(sizes: Sequence[Mapping[str, int]]) -> str:
    if not sizes:
        return ""
    names = ", ".join(f"{size['height']} × {size['width']}" for size in sizes)
    return f"{names}; an image takes the one, of all, in which it is largest; a TFLite file has the first canvas alone"


def _render_origin(card: Mapping[str, Any]) -> str:
    checkpoint, thresholds, canvas = card["checkpoint"], card["thresholds"], card["canvas_size"]
    facts = {
        "checkpoint": f"{checkpoint['name']}, step {checkpoint['step']:,}",
        "its metrics in training": ", ".join(
            f"{key} {format_metric(value)}" for key, value in checkpoint["metrics"].items()
        ),
        "training data's fingerprint": str((card["training"] or {}).get("data_fingerprint", "")),
        "proved on": f"{card['parity']['source'] or 'synthetic pictures'}, {card['parity']['num_images']:,} images",
        "canvas": f"{canvas['height']} × {canvas['width']} pixels; an image is fitted into it and keeps its aspect",
        "further canvases": _describe_canvases(card["more_canvas_sizes"]),
        "score threshold": f"{thresholds['score_threshold']:g}",
        "overlap (IoU) above which a duplicate goes": f"{thresholds['nms_iou']:g}",
        "most detections of one image": f"{thresholds['max_detections']}",
    }
    rows = [
        (f"<td>{escape(what)}</td>", f'<td class="mono wrap">{escape(value)}</td>')
        for what, value in facts.items()
        if value
    ]
    return f'<div class="panel">{render_table(("what", "value"), rows)}</div>'
