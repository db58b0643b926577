"""The page that shows what an audit found: one file, nothing fetched, nothing executed, readable for any number of images.

Galleries are capped and say so; totals are of everything. The page depends on the dataset alone, so
it is the same on every run.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detflow.data.findings import Corners, Finding
from detflow.data.images.thumbnails import read_thumbnail
from detflow.data.images.transcode import Treatment
from detflow.data.judging.audit import Audit
from detflow.data.judging.sample import AuditedSample
from detflow.data.report.outlines import Outline, draw_key, draw_picture
from detflow.data.rules import RULES, Action
from detflow.data.sources.splits import unit_hash
from detflow.pages.document import Section, escape, render_page, render_table
from detflow.pages.draw import class_colour
from detflow.pages.svg import draw_heatmap, draw_histogram, draw_sparkline, draw_stack, draw_swatch

__all__ = ["CARDS_PER_CODE", "LINES_PER_CODE", "render_report"]

CARDS_PER_CODE = 8
"""Pictures of each kind of finding."""

LINES_PER_CODE = 40
"""Lines of each kind of finding below its pictures."""

_THUMBNAIL_PX = 320
_MAX_CLASS_ROWS = 60
_MAX_CLASS_GALLERIES = 16
_MAX_SAMPLE_PICTURES = 48
_MAX_OUTLINES = 300
_MAX_SIZES = 6
_ROWS_AT_A_TIME = 50_000
# Bins of the charts: box sides as shares of the image from 1/256 to 1, sides in pixels from 1 to
# 4096, aspects from 1/16 to 16.
_SHARE_BINS, _SIDE_BINS, _ASPECT_BINS, _CENTRE_BINS = 32, 36, 32, 24
_OBJECTS_EDGES = (0, 1, 2, 3, 5, 9, 17, 33, 65, 129)
_OBJECTS_TICKS = ("0", "1", "2", "3–4", "5–8", "9–16", "17–32", "33–64", "65–128", "129+")
_ACTION_TEXTS = {
    Action.REFUSED: (
        "refused",
        "Refused",
        "Nothing is written until a person has looked at these.",
    ),
    Action.QUARANTINED: (
        "quarantined",
        "Set aside",
        "These annotations are not in the records. What can be mended by hand is worth it.",
    ),
    Action.REPAIRED: (
        "repaired",
        "Mended",
        "Repaired by a stated rule, in the records only. Your files were not touched.",
    ),
    Action.NOTED: ("noted", "Noted", "Nothing was changed; worth knowing."),
}


def render_report(audit: Audit, content: Mapping[str, Any], ledger: str | None) -> str:
    """Returns the page.

    Args:
        audit: The audit; its dataset is read again for the pictures.
        content: What `describe_audit` says of it: the totals.
        ledger: Name of the file beside the page that has every finding; None where there is none.
    """
    gallery = _Gallery(audit)
    found = _collect_findings(audit)
    measured = _measure(audit)
    sections = [
        Section("totals", "Totals", _render_totals(content, found)),
        *_render_findings(gallery, found, ledger, Action.REFUSED),
        Section("classes", "Classes", _render_classes(content, measured)),
        Section("boxes", "Boxes", _render_charts(measured)),
        Section("samples", "Samples", _render_samples(gallery, measured)),
        *_render_findings(gallery, found, ledger, Action.QUARANTINED),
        *_render_findings(gallery, found, ledger, Action.REPAIRED),
        *_render_findings(gallery, found, ledger, Action.NOTED),
    ]
    footer = (
        f"Boxes are VOC pixel corners, counted from 1, both ends included. Galleries show at most {CARDS_PER_CODE} pictures and "
        f"{LINES_PER_CODE} lines of each kind; totals and plots are of everything."
    )
    return render_page(
        "Dataset report", content["dataset"], _render_lead(content, found), sections, footer
    )


# --- What the page needs of an audit --------------------------------------------------------------


@dataclass(slots=True)
class _Findings:
    """Counts, and the first examples of each code; objects that were left out of usable annotations."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: defaultdict[str, list[Finding]] = field(default_factory=lambda: defaultdict(list))
    left_out: int = 0


def _collect_findings(audit: Audit) -> _Findings:
    found = _Findings()
    for finding in audit.findings():
        found.counts[finding.code] += 1
        examples = found.examples[finding.code]
        if len(examples) < CARDS_PER_CODE + LINES_PER_CODE:
            examples.append(finding)
        is_left_out = (
            finding.action is Action.REPAIRED
            and finding.before is not None
            and finding.after is None
        )
        found.left_out += is_left_out and finding.path in audit.samples
    return found


@dataclass(slots=True)
class _Measured:
    """Histograms over all objects, and which samples to show of each class."""

    shares: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((_SHARE_BINS, _SHARE_BINS), np.int64)
    )
    sides: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_SIDE_BINS, np.int64))
    aspects: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_ASPECT_BINS, np.int64))
    centres: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((_CENTRE_BINS, _CENTRE_BINS), np.int64)
    )
    objects: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(len(_OBJECTS_EDGES), np.int64)
    )
    class_sides: defaultdict[str, NDArray[np.int64]] = field(
        default_factory=lambda: defaultdict(lambda: np.zeros(_SIDE_BINS, np.int64))
    )
    class_images: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)


def _measure(audit: Audit) -> _Measured:
    """Reads every sample's line once; memory does not grow with their number."""
    measured = _Measured()
    per_image: Counter[int] = Counter()
    names: list[str] = []
    rows: list[tuple[float, ...]] = []
    for sample in audit.read_samples():
        width, height = sample.size.width, sample.size.height
        measured.sizes[width, height] += 1
        per_image[bisect_right(_OBJECTS_EDGES, len(sample.columns.names)) - 1] += 1
        names += sample.columns.names
        rows += [(*box, width, height) for box in sample.columns.boxes_yxyx]
        if len(rows) > _ROWS_AT_A_TIME:
            _measure_objects(measured, names, rows)
            names, rows = [], []
    if rows:
        _measure_objects(measured, names, rows)
    for place, number in per_image.items():
        measured.objects[place] = number
    for summary in audit.samples.values():
        measured.class_images.update(count.name for count in summary.class_counts if count.objects)
    return measured


def _measure_objects(
    measured: _Measured, names: Sequence[str], rows: Sequence[tuple[float, ...]]
) -> None:
    """Adds objects to the histograms; a row is ymin, xmin, ymax, xmax as shares, then width and height of the image in pixels."""
    ymin, xmin, ymax, xmax, width, height = np.array(rows, np.float64).T
    wide, high = xmax - xmin, ymax - ymin
    side = _to_bins(np.sqrt(wide * width * high * height), 0.0, 3, _SIDE_BINS)
    np.add.at(
        measured.shares,
        (_to_bins(high, -8.0, 4, _SHARE_BINS), _to_bins(wide, -8.0, 4, _SHARE_BINS)),
        1,
    )
    np.add.at(measured.sides, side, 1)
    np.add.at(measured.aspects, _to_bins(wide * width / (high * height), -4.0, 4, _ASPECT_BINS), 1)
    from_top = np.minimum(((ymin + ymax) / 2 * _CENTRE_BINS).astype(int), _CENTRE_BINS - 1)
    columns = np.minimum(((xmin + xmax) / 2 * _CENTRE_BINS).astype(int), _CENTRE_BINS - 1)
    # Row 0 of a map is at the bottom.
    np.add.at(measured.centres, (_CENTRE_BINS - 1 - from_top, columns), 1)
    for (name, place), number in Counter(zip(names, side.tolist(), strict=True)).items():
        measured.class_sides[name][place] += number


def _to_bins(
    values: NDArray[np.float64], first_octave: float, bins_per_octave: int, count: int
) -> NDArray[np.int64]:
    places = np.floor((np.log2(values) - first_octave) * bins_per_octave)
    return np.clip(places, 0, count - 1).astype(np.int64)


# --- Sections -------------------------------------------------------------------------------------


def _render_totals(content: Mapping[str, Any], found: _Findings) -> str:
    splits = content["splits"]
    used = sum(split["images"] for split in splits.values())
    set_aside = sum(content["quarantined"].values())
    refused = content["annotations_found"] - used - set_aside
    objects = sum(split["objects"] for split in splits.values())
    images, unlabelled = content["images_found"], content["images_unlabelled"]
    rows = (
        (
            "Annotations",
            content["annotations_found"],
            (
                (used, "used", "used"),
                (set_aside, "quarantined", "set aside"),
                (refused, "refused", "refused"),
            ),
        ),
        (
            "Images",
            images,
            (
                (used, "used", "used"),
                (images - used - unlabelled, "quarantined", "of annotations that are not used"),
                (unlabelled, "noted", "without an annotation"),
            ),
        ),
        (
            "Objects of used annotations",
            objects + found.left_out,
            ((objects, "used", "used"), (found.left_out, "repaired", "left out")),
        ),
    )
    sums = "".join(_render_sum(*row) for row in rows)
    return f'<div class="panel sums">{sums}</div>{_render_splits(content)}'


def _render_sum(what: str, total: int, parts: Sequence[tuple[int, str, str]]) -> str:
    """One line: the total, a bar, and the parts that add up to it."""
    legend = "".join(
        f"<li>{draw_swatch(fill)}{number:,} {text}</li>"
        for number, fill, text in parts
        if number or text == "used"
    )
    label = f"{total:,} = " + " + ".join(f"{number:,} {text}" for number, _, text in parts)
    bar = draw_stack([(number, fill) for number, fill, _ in parts], label)
    return f'<div class="sum"><div class="what"><b>{total:,}</b>{what}</div><div>{bar}<ul class="legend">{legend}</ul></div></div>'


def _render_splits(content: Mapping[str, Any]) -> str:
    splits = content["splits"]
    total = sum(split["images"] for split in splits.values())
    rows = [
        (
            f"<td>{escape(name)}</td>",
            f"<td>{split['images']:,}</td>",
            f"<td>{split['objects']:,}</td>",
            f"<td>{100 * split['images'] / max(1, total):.1f} %</td>",
            f'<td class="bar">{draw_stack([(split["images"], "accent")], str(split["images"]), total)}</td>',
        )
        for name, split in splits.items()
    ]
    by = {
        "lists": "the dataset's own lists",
        "folders": "the dataset's folders",
        "seed": f"a seeded draw (seed {content['seed']})",
    }
    unions = "; ".join(
        f"{escape(name)} is {escape(' + '.join(parts))}"
        for name, parts in content["unions"].items()
    )
    note = f"Splits come from {by[content['split_rule']['by']]}.{f' {unions}.' if unions else ''}"
    objects = sum(split["objects"] for split in splits.values())
    foot = f'<td>all</td><td>{total:,}</td><td>{objects:,}</td><td></td><td class="bar"></td>'
    table = render_table(("split", "images", "objects", "share", ""), rows, foot)
    return f'<div class="panel"><p class="soft">{note}</p>{table}</div>'


def _render_classes(content: Mapping[str, Any], measured: _Measured) -> str:
    splits, classes = content["splits"], content["classes"]
    totals = {
        name: sum(split["objects_per_class"][name] for split in splits.values()) for name in classes
    }
    most = max(totals.values(), default=0)
    ids = {name: class_id for class_id, name in enumerate(classes, start=1)}
    shown = sorted(classes, key=lambda name: (-totals[name], ids[name]))[:_MAX_CLASS_ROWS]
    used = [i for i in range(_SIDE_BINS) if measured.sides[i]]
    view = slice(used[0], used[-1] + 1) if used else slice(0, 1)
    rows = []
    for name in shown:
        colour = class_colour(ids[name])
        bar = draw_stack([(totals[name], colour)], f"{totals[name]:,}", most)
        spark = draw_sparkline(measured.class_sides[name][view], colour, f"sizes of {name}")
        rows.append(
            (
                f'<td>{draw_swatch(colour)}{escape(name)} <span class="soft">{ids[name]}</span></td>',
                f'<td class="bar">{bar}</td>',
                f"<td>{totals[name]:,}</td>",
                *(f"<td>{split['objects_per_class'][name]:,}</td>" for split in splits.values()),
                f"<td>{measured.class_images[name]:,}</td>",
                f'<td class="spark">{spark}</td>',
            )
        )
    sums = "".join(f"<td>{split['objects']:,}</td>" for split in splits.values())
    foot = f'<td>all</td><td class="bar"></td><td>{sum(totals.values()):,}</td>{sums}<td></td><td></td>'
    table = render_table(("class", "", "objects", *splits, "images", "sizes"), rows, foot)
    more = (
        f'<p class="more">The {len(shown)} most frequent of {len(classes):,} classes.</p>'
        if len(classes) > len(shown)
        else ""
    )
    return (
        '<p class="soft">Objects of each class. The number beside a name is its id in the label map; the small plot is the '
        "distribution of its sizes, from small on the left to large on the right, on one scale for all.</p>"
        f'<div class="panel">{table}{more}</div>'
    )


def _render_charts(measured: _Measured) -> str:
    shares, share_ticks = _trim_shares(measured.shares)
    sides, first_side = _trim(measured.sides, 3)
    side_ticks = [
        (octave * 3.0, f"{2 ** (octave + first_side):,}") for octave in range(len(sides) // 3 + 1)
    ]
    marks = [((math.log2(pixels) - first_side) * 3, f"{pixels}") for pixels in (32, 96)]
    aspects, first_aspect = _trim(measured.aspects, 4)
    aspect_ticks = [
        (octave * 4.0, _to_ratio(octave + first_aspect - 4))
        for octave in range(len(aspects) // 4 + 1)
    ]
    centre_ticks = [(0.0, "left"), (float(_CENTRE_BINS), "right")]
    per_image, first_bin = _trim(measured.objects, 1)
    image_ticks = [
        (place + 0.43, _OBJECTS_TICKS[place + first_bin]) for place in range(len(per_image))
    ]
    charts = [
        (
            "Width and height",
            "Shares of the image; both axes are logarithmic.",
            draw_heatmap(shares, share_ticks, share_ticks, "box width and height"),
        ),
        (
            "Size",
            "Square root of the area, in pixels. COCO calls what is below 32 small and above 96 large.",
            draw_histogram(
                sides,
                side_ticks,
                "box sizes",
                [(place, text) for place, text in marks if 0 <= place <= len(sides)],
            ),
        ),
        (
            "Aspect",
            "Width to height, in pixels.",
            draw_histogram(aspects, aspect_ticks, "box aspects"),
        ),
        (
            "Where objects are",
            "Centres of the boxes in the image.",
            draw_heatmap(
                measured.centres,
                centre_ticks,
                [(0.0, "bottom"), (float(_CENTRE_BINS), "top")],
                "box centres",
            ),
        ),
        (
            "Objects per image",
            "How many images have so many objects.",
            draw_histogram(per_image, image_ticks, "objects per image"),
        ),
        ("Image sizes", "In pixels, as written to the records.", _render_sizes(measured)),
    ]
    panels = "".join(
        f'<figure class="panel"><h3>{title}</h3><p>{text}</p>{chart}</figure>'
        for title, text, chart in charts
    )
    return f'<div class="charts">{panels}</div>'


def _trim(counts: NDArray[np.int64], bins_per_octave: int) -> tuple[NDArray[np.int64], int]:
    """Cuts empty octaves off both ends; returns what is left and the number of its first octave."""
    used = np.flatnonzero(counts)
    if not len(used):
        return counts[:bins_per_octave], 0
    first, last = int(used[0]) // bins_per_octave, int(used[-1]) // bins_per_octave
    return counts[first * bins_per_octave : (last + 1) * bins_per_octave], first


def _trim_shares(shares: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[tuple[float, str]]]:
    """Cuts the octaves that are empty on both axes off the lower end."""
    _, first = _trim(shares.sum(axis=0) + shares.sum(axis=1), 4)
    left = shares[first * 4 :, first * 4 :]
    step = 2 if len(left) > 16 else 1
    octaves = range(len(left) // 4, -1, -step)
    return left, [(octave * 4.0, _to_percent(2.0 ** (octave + first - 8))) for octave in octaves]


def _to_ratio(octave: int) -> str:
    return f"{2**octave}:1" if octave >= 0 else f"1:{2**-octave}"


def _render_sizes(measured: _Measured) -> str:
    total = sum(measured.sizes.values())
    rows = "".join(
        f'<tr><td>{width:,} × {height:,}</td><td class="bar">{draw_stack([(number, "accent")], f"{number:,}", total)}</td>'
        f"<td>{number:,}</td></tr>"
        for (width, height), number in measured.sizes.most_common(_MAX_SIZES)
    )
    rest = len(measured.sizes) - _MAX_SIZES
    more = f'<p class="more">and {rest:,} other sizes</p>' if rest > 0 else ""
    return f"<table><tbody>{rows}</tbody></table>{more}"


def _render_samples(gallery: _Gallery, measured: _Measured) -> str:
    audit = gallery.audit
    names = [name for name in audit.label_map if measured.class_images[name]]
    shown = sorted(names, key=lambda name: -measured.class_images[name])[:_MAX_CLASS_GALLERIES]
    per_class = max(3, min(12, _MAX_SAMPLE_PICTURES // max(1, len(shown))))
    split_of = {
        annotation: split
        for split, members in audit.splits.members.items()
        for annotation in members
    }
    groups = []
    for name, chosen in _choose_samples(audit, shown, per_class).items():
        colour = class_colour(audit.label_map.id_of(name))
        cards = "".join(
            _render_sample(gallery, annotation, name, split_of[annotation]) for annotation in chosen
        )
        head = f'<h3>{draw_swatch(colour)}{escape(name)}</h3><span class="soft">in {measured.class_images[name]:,} images</span>'
        groups.append(
            f'<div class="group"><div class="head">{head}</div><div class="cards">{cards}</div></div>'
        )
    more = (
        f" The {len(shown)} classes in most images are shown, of {len(names):,}."
        if len(names) > len(shown)
        else ""
    )
    lead = f"Up to {per_class} images of each class, drawn at random but always the same. Other objects are outlined thinly.{more}"
    return f'<p class="soft">{lead}</p>{"".join(groups)}'


def _choose_samples(audit: Audit, names: Sequence[str], per_class: int) -> dict[str, list[str]]:
    """For each class, the annotations that have it whose hash is the smallest."""
    chosen: dict[str, list[tuple[float, str]]] = {name: [] for name in names}
    for annotation, summary in audit.samples.items():
        for name, objects, _ in summary.class_counts:
            if objects and name in chosen:
                rank = -unit_hash("report", name, annotation)
                heap = chosen[name]
                if len(heap) < per_class:
                    heapq.heappush(heap, (rank, annotation))
                elif rank > heap[0][0]:
                    heapq.heapreplace(heap, (rank, annotation))
    return {
        name: [annotation for _, annotation in sorted(heap, reverse=True)]
        for name, heap in chosen.items()
    }


def _render_sample(gallery: _Gallery, annotation: str, name: str, split: str) -> str:
    sample = gallery.read_sample(annotation)
    if sample is None:
        return ""
    ours = [one for one in sample.objects if one.name == name]
    others = [one for one in sample.objects if one.name != name]
    colour = class_colour(gallery.audit.label_map.id_of(name))
    outlines = [
        Outline(one.box.to_pixels(sample.size), "faint", one.name) for one in others[:_MAX_OUTLINES]
    ]
    outlines += [
        Outline(one.box.to_pixels(sample.size), colour, one.name) for one in ours[:_MAX_OUTLINES]
    ]
    picture = gallery.draw(sample.image, sample.treatment, outlines)
    count = f"{len(ours)} {escape(name)}" + (f", {len(others)} other" if others else "")
    caption = f'<div>{count} <span class="soft">· {escape(split)}</span></div><div class="mono soft">{escape(sample.image)}</div>'
    return f'<figure class="card">{picture}<figcaption>{caption}</figcaption></figure>'


# --- Findings -------------------------------------------------------------------------------------


def _render_findings(
    gallery: _Gallery, found: _Findings, ledger: str | None, action: Action
) -> list[Section]:
    """Returns the section of an action's findings, or none where there are no such findings."""
    codes = [code for code in sorted(found.counts) if RULES[code].action is action]
    if not codes:
        return []
    name, title, lead = _ACTION_TEXTS[action]
    groups = "".join(_render_group(gallery, found, code, ledger) for code in codes)
    has_boxes = any(
        finding.before is not None for code in codes for finding in found.examples[code]
    )
    key = f"<p>{_render_key()}</p>" if has_boxes else ""
    return [
        Section(
            name,
            title,
            f'<p class="soft">{lead}</p>{key}{groups}',
            sum(found.counts[code] for code in codes),
        )
    ]


def _render_group(gallery: _Gallery, found: _Findings, code: str, ledger: str | None) -> str:
    rule, number, examples = RULES[code], found.counts[code], found.examples[code]
    pictured, listed = examples[:CARDS_PER_CODE], examples[CARDS_PER_CODE:]
    head = (
        f'<h3><span class="count">{number:,}</span> × {escape(rule.meaning)}</h3>'
        f'<span class="tag {rule.action.value}">{code}</span>'
        f'<p class="soft">{escape(rule.remedy[:1].upper() + rule.remedy[1:])}.</p>'
    )
    cards = "".join(_render_finding(gallery, finding) for finding in pictured)
    lines = "".join(
        f'<li class="mono">{escape(_place(finding))} {escape(_describe(finding))}</li>'
        for finding in listed
    )
    listing = (
        f'<details><summary>{len(listed):,} more as text</summary><ul class="lines">{lines}</ul></details>'
        if listed
        else ""
    )
    where = f" {escape(ledger)} has all of them." if ledger else ""
    more = (
        f'<p class="more">{len(examples):,} of {number:,} are shown.{where}</p>'
        if number > len(examples)
        else ""
    )
    return f'<div class="group"><div class="head">{head}</div><div class="cards">{cards}</div>{listing}{more}</div>'


def _render_finding(gallery: _Gallery, finding: Finding) -> str:
    pictures = [
        gallery.draw_finding(finding, *named) for named in gallery.images_of(finding).items()
    ]
    shown = f'<div class="pictures">{"".join(pictures)}</div>' if pictures else ""
    wide = " wide" if len(pictures) > 1 else ""
    details = escape(_describe(finding))
    caption = f'<div class="mono">{escape(_place(finding))}</div><div class="soft">{details}</div>'
    return f'<figure class="card{wide}">{shown}<figcaption>{caption}</figcaption></figure>'


def _place(finding: Finding) -> str:
    return finding.path if finding.line is None else f"{finding.path}:{finding.line}"


def _describe(finding: Finding) -> str:
    """What is there, what should be, and what became of it."""
    parts = [] if finding.object_index is None else [f"object {finding.object_index}"]
    parts += [
        part
        for part in (finding.value, finding.expected and f"expected {finding.expected}")
        if part
    ]
    if finding.after is not None:
        parts.append(
            "now "
            + ", ".join(
                f"{tag} {value:g}" for tag, value in zip(_CORNERS, finding.after, strict=True)
            )
        )
    text = " · ".join(parts)
    return f"{text} [{', '.join(finding.related)}]" if finding.related else text


_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def _render_key() -> str:
    return (
        f'<span class="key">{draw_key("before")} as written</span><span class="key">{draw_key("after")} as mended</span>'
        '<span class="key">thin: the other objects</span>'
    )


class _Gallery:
    """Pictures of the dataset's images with boxes over them."""

    def __init__(self, audit: Audit) -> None:
        self.audit = audit
        self._images = frozenset(audit.files.images)

    def read_sample(self, annotation: str) -> AuditedSample | None:
        """Returns a usable annotation's sample."""
        return self.audit.read_sample(annotation)

    def images_of(self, finding: Finding) -> dict[str, str | None]:
        """The image that a finding is about, and the first other one that it names, each with its annotation if usable."""
        images: dict[str, str | None] = {}
        for name in (finding.path, finding.image, *finding.related):
            summary = self.audit.samples.get(name) if name is not None else None
            if summary is not None:
                images.setdefault(summary.image, name)
            elif name in self._images:
                images.setdefault(name, None)
        return dict(list(images.items())[:2])

    def draw_finding(self, finding: Finding, image: str, annotation: str | None) -> str:
        """Draws an image of a finding: the box as written and as mended, and the annotation's other objects."""
        sample = None if annotation is None else self.read_sample(annotation)
        outlines = []
        if sample is not None:
            outlines = [
                Outline(one.box.to_pixels(sample.size), "faint", one.name)
                for one in sample.objects[:_MAX_OUTLINES]
            ]
        if finding.before is not None:
            outlines.append(Outline(_to_continuous(finding.before), "before", "as written"))
        if finding.after is not None:
            outlines.append(Outline(_to_continuous(finding.after), "after", "as mended"))
        return self.draw(image, sample.treatment if sample else Treatment(), outlines)

    def draw(self, image: str, treatment: Treatment, outlines: Sequence[Outline]) -> str:
        """Draws an image, or says that it cannot be shown."""
        thumbnail = read_thumbnail(self.audit.files.source, image, treatment, _THUMBNAIL_PX)
        if thumbnail is None:
            return f'<div class="nothing">{escape(image)}<br>cannot be shown</div>'
        return draw_picture(thumbnail, outlines, image)


def _to_continuous(corners: Corners) -> Corners:
    """VOC's corners count pixels from 1 and include both ends (see `Box.from_voc`)."""
    xmin, ymin, xmax, ymax = corners
    return min(xmin, xmax) - 1.0, min(ymin, ymax) - 1.0, max(xmin, xmax), max(ymin, ymax)


def _render_lead(content: Mapping[str, Any], found: _Findings) -> str:
    """The whole story in two sentences."""
    used = sum(split["images"] for split in content["splits"].values())
    objects = sum(split["objects"] for split in content["splits"].values())
    classes = len(content["classes"])
    by_action = Counter[Action]()
    for code, number in found.counts.items():
        by_action[RULES[code].action] += number
    story = f"{used:,} images with {objects:,} objects of {classes:,} {'class' if classes == 1 else 'classes'}."
    if by_action[Action.REFUSED]:
        return f"{story} <b>{by_action[Action.REFUSED]:,} refused:</b> no records are written until these are settled."
    set_aside = sum(content["quarantined"].values())
    mended = by_action[Action.REPAIRED]
    if not set_aside and not mended:
        return f"{story} Every annotation could be used as it is."
    return f"{story} {mended:,} repairs, and {set_aside:,} annotations set aside."


def _to_percent(share: float) -> str:
    """With the digits that a power of two needs: "0.39 %", "6.2 %", "25 %"."""
    digits = 2 if share < 0.005 else 1 if share < 0.1 else 0
    return f"{100 * share:.{digits}f} %"
