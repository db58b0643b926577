"""evaluation.html: how good a model is, and why it is no better, for a person; one file, nothing fetched, nothing executed."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from detflow.evaluation.analysis import Analysis
from detflow.evaluation.gallery import (
    BadImage,
    describe_errors,
    draw_errors,
    worst_images,
    worst_images_of,
)
from detflow.evaluation.plots import MAX_BARS
from detflow.metrics.curves import OperatingPoint
from detflow.metrics.errors import ErrorType
from detflow.pages.document import Section, escape, render_page, render_table
from detflow.pages.draw import class_colour
from detflow.pages.svg import draw_stack, draw_swatch
from detflow.tables import format_metric

__all__ = ["chosen_images", "render_evaluation"]

_MAX_CLASS_ROWS = 200
_MAX_CONFUSIONS = 12
# More rows of a matrix are not readable at half a page's width.
_MAX_NARROW_CLASSES = 14
_MAX_WORST = 12
_MAX_CLASS_PICTURES, _MAX_GALLERIES, _MAX_OF_CLASS = 36, 12, 6
_MEANINGS = {
    ErrorType.CLASSIFICATION: "on an object of another class",
    ErrorType.LOCALISATION: "on an object of its class, but overlapping it too little (IoU .1 to .5)",
    ErrorType.BOTH: "overlaps an object of another class too little",
    ErrorType.DUPLICATE: "on an object that a better detection has found already",
    ErrorType.BACKGROUND: "where there is no object",
    ErrorType.MISSED: "an object that no detection of another kind comes near",
}
_HEADLINES = (
    ("AP", "AP", "COCO, mean over IoU .5 to .95"),
    ("AP50", "AP50", "at IoU .5"),
    ("AP75", "AP75", "at IoU .75"),
    ("AR100", "AR100", "recall at 100 detections an image"),
    ("VOC07_mAP", "VOC 2007", "mAP by 11 points"),
    ("VOC10_mAP", "VOC 2010", "mAP by area"),
    ("AP_small", "AP small", "objects below 32² pixels"),
    ("AP_medium", "AP medium", "32² to 96² pixels"),
    ("AP_large", "AP large", "above 96² pixels"),
)


def chosen_images(analysis: Analysis) -> set[int]:
    """Returns the indices of the images whose pictures the page shows."""
    return {bad.index for _, chosen in _galleries(analysis) for bad in chosen}


def render_evaluation(
    analysis: Analysis,
    filenames: Sequence[str],
    plots: Mapping[str, tuple[bytes, bytes]],
    pictures: Mapping[int, bytes],
) -> str:
    """Returns the page.

    Args:
        analysis: What it tells.
        filenames: Of the images.
        plots: PNG files for a bright and a dark screen, by the names of `plots.PLOTS`.
        pictures: JPEG files of at least `chosen_images`, by the index of the image.
    """
    (_, worst), *of_classes = _galleries(analysis)
    errors = len(analysis.errors)
    sections = [
        Section("numbers", "Numbers", _render_numbers(analysis)),
        Section("classes", "Classes", _render_classes(analysis, plots)),
        Section("curves", "Curves", _render_curves(analysis, plots)),
        Section("confusion", "Confusion", _render_confusion(analysis, plots)),
        Section("errors", "Errors", _render_errors(analysis), errors),
    ]
    if worst:
        lead = f'<p class="soft">{_GALLERY_LEAD}</p>'
        sections.append(
            Section(
                "worst", "Worst images", lead + _render_cards(analysis, worst, filenames, pictures)
            )
        )
    if of_classes:
        groups = "".join(
            _render_gallery(analysis, class_id, chosen, filenames, pictures)
            for class_id, chosen in of_classes
        )
        sections.append(
            Section("by-class", "Worst by class", f'<p class="soft">{_CLASS_LEAD}</p>{groups}')
        )
    footer = (
        f"Model {escape(analysis.subject.source)}, records {escape(analysis.subject.records)} "
        f"(fingerprint {escape(analysis.subject.fingerprint[:12])}). COCO's numbers are pycocotools'. Objects that VOC marks as "
        f"difficult are neither hits nor misses. n/a: there is no object to measure with."
    )
    name = f"{PurePath(analysis.subject.model).name} on {analysis.subject.split}"
    return render_page("Evaluation report", name, _render_lead(analysis), sections, footer)


def _render_lead(analysis: Analysis) -> str:
    """The whole story in three sentences."""
    objects = sum(count.objects for count in analysis.counts.values())
    classes = len(analysis.label_map)
    story = (
        f"AP {format_metric(analysis.metrics['AP'])}, AP50 {format_metric(analysis.metrics['AP50'])} on {len(analysis.images):,} "
        f"{'image' if len(analysis.images) == 1 else 'images'} with {objects:,} objects of {classes:,} "
        f"{'class' if classes == 1 else 'classes'}."
    )
    point = analysis.overall.at(analysis.score_threshold)
    if point.precision is not None and point.recall is not None:
        story += (
            f" From a score of {analysis.score_threshold:.2f} on, {_percent(point.recall)} of the objects are found, and "
            f"{_percent(point.precision)} of the detections are right."
        )
    costly = {
        kind: cost.ap50
        for kind, cost in analysis.costs.items()
        if cost.ap50 is not None and cost.ap50 >= 0.0005
    }
    if costly:
        kind = max(costly, key=lambda one: costly[one])
        story += (
            f" Most is lost to <b>{_KIND_NAMES[kind]}</b>: {format_metric(costly[kind])} of AP50."
        )
    return story


_KIND_NAMES = {
    ErrorType.CLASSIFICATION: "wrong classes",
    ErrorType.LOCALISATION: "wrong places",
    ErrorType.BOTH: "wrong class and place at once",
    ErrorType.DUPLICATE: "duplicates",
    ErrorType.BACKGROUND: "detections on background",
    ErrorType.MISSED: "missed objects",
}


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _threshold(point: OperatingPoint | None) -> str:
    return "n/a" if point is None else f"{point.threshold:.2f}"


# --- Sections -------------------------------------------------------------------------------------


def _render_numbers(analysis: Analysis) -> str:
    tiles = [
        (title, format_metric(analysis.metrics[name]), text) for name, title, text in _HEADLINES
    ]
    best = analysis.overall.best
    tiles.append(
        (
            "Best F1",
            format_metric(best.f1 if best else None),
            f"at a score of {best.threshold:.2f}" if best else "no hit",
        )
    )
    cells = "".join(
        f'<div class="tile"><span>{title}</span><b>{value}</b><span class="soft">{text}</span></div>'
        for title, value, text in tiles
    )
    return f'<div class="panel tiles">{cells}</div>'


def _render_classes(analysis: Analysis, plots: Mapping[str, tuple[bytes, bytes]]) -> str:
    names = list(analysis.label_map)
    if len(names) > _MAX_CLASS_ROWS:
        # Those that cannot be measured stand last.
        names = sorted(names, key=lambda name: _or_two(analysis.class_metrics[name]["AP"]))[
            :_MAX_CLASS_ROWS
        ]
    rows = [_render_class(analysis, name) for name in names]
    point = analysis.overall.at(analysis.score_threshold)
    objects, hard = (
        sum(getattr(one, what) for one in analysis.counts.values())
        for what in ("objects", "difficult")
    )
    foot = (
        f'<td>all</td><td class="bar"></td><td>{objects:,}</td>'
        + "".join(
            f"<td>{format_metric(analysis.metrics[name])}</td>"
            for name in ("AP", "AP50", "AP75", "VOC10_mAP")
        )
        + "".join(
            f"<td>{format_metric(value)}</td>"
            for value in (point.precision, point.recall, point.f1)
        )
        + f"<td>{_threshold(analysis.overall.best)}</td>"
    )
    heads = (
        "class",
        "",
        "objects",
        "AP",
        "AP50",
        "AP75",
        "VOC10 AP",
        "precision",
        "recall",
        "F1",
        "best score",
    )
    rest = len(analysis.label_map) - len(names)
    more = (
        f'<p class="more">The {len(names):,} worst classes of {len(analysis.label_map):,}.</p>'
        if rest
        else ""
    )
    difficult = f" {hard:,} objects are marked as difficult." if hard else ""
    lead = (
        f"The bar is AP50, its strong part AP. Precision, recall and F1 are at IoU .5 from score {analysis.score_threshold:.2f} "
        f"on; the best score is the threshold with the class' highest F1.{difficult}"
    )
    measured = sum(one["AP"] is not None for one in analysis.class_metrics.values())
    figure = _render_plot("ap_per_class", plots, "AP and AP50 of each class")
    # One bar a line: a chart for many classes is as long as the table, whose bars say the same.
    chart = (
        f"<details><summary>The {min(measured, MAX_BARS)} worst classes as a chart</summary>{figure}</details>"
        if measured
        else ""
    )
    return f'<p class="soft">{lead}</p><div class="panel by-class">{render_table(heads, rows, foot)}{more}{chart}</div>'


def _render_class(analysis: Analysis, name: str) -> tuple[str, ...]:
    class_id = analysis.label_map.id_of(name)
    metrics, curve = analysis.class_metrics[name], analysis.curves[name]
    point = curve.at(analysis.score_threshold)
    colour = class_colour(class_id)
    ap, at50 = metrics["AP"] or 0.0, metrics["AP50"] or 0.0
    label = f"AP {format_metric(metrics['AP'])}, AP50 {format_metric(metrics['AP50'])}"
    bar = draw_stack(
        [(round(1000 * ap), "accent"), (round(1000 * max(0.0, at50 - ap)), "accent-soft")],
        label,
        1000,
    )
    return (
        f"<td>{draw_swatch(colour)}{escape(name)}</td>",
        f'<td class="bar">{bar}</td>',
        f"<td>{analysis.counts[name].objects:,}</td>",
        *(f"<td>{format_metric(metrics[key])}</td>" for key in ("AP", "AP50", "AP75", "VOC10_AP")),
        *(
            f"<td>{format_metric(value)}</td>"
            for value in (point.precision, point.recall, point.f1)
        ),
        f"<td>{_threshold(curve.best)}</td>",
    )


def _render_curves(analysis: Analysis, plots: Mapping[str, tuple[bytes, bytes]]) -> str:
    figures = _render_plot("precision_recall", plots, "precision over recall") + _render_plot(
        "f1_threshold", plots, "F1 over the score threshold"
    )
    lead = (
        "How much precision each share of found objects costs, and how good each threshold is. curves.csv has the points. With "
        "many classes the eight worst are named."
    )
    return f'<p class="soft">{lead}</p><div class="plots">{figures}</div>'


def _render_confusion(analysis: Analysis, plots: Mapping[str, tuple[bytes, bytes]]) -> str:
    counts, names = analysis.confusion.counts, list(analysis.label_map)
    pairs = [
        (int(counts[row, column]), names[row], names[column])
        for row in range(len(names))
        for column in range(len(names))
        if row != column and counts[row, column]
    ]
    rows = [
        (
            f"<td>{draw_swatch(class_colour(analysis.label_map.id_of(true)))}{escape(true)}</td>",
            f"<td>{escape(detected)}</td>",
            f"<td>{number:,}</td>",
            f"<td>{_percent(number / int(counts[names.index(true)].sum()))}</td>",
        )
        for number, true, detected in sorted(pairs, key=lambda pair: -pair[0])[:_MAX_CONFUSIONS]
    ]
    missed, invented = int(counts[:, -1].sum()), int(counts[-1].sum())
    note = f"{missed:,} objects have no detection on them, {invented:,} detections have no object below them."
    if rows:
        table = render_table(("class", "taken for", "objects", "share"), rows)
        more = (
            f'<p class="more">The {len(rows)} most frequent of {len(pairs):,}.</p>'
            if len(pairs) > len(rows)
            else ""
        )
    else:
        table, more = "<p>No object is taken for another class.</p>", ""
    lead = (
        f"Objects and detections with a score of at least {analysis.confusion.score_threshold:.2f} that overlap with an IoU of at "
        f"least {analysis.confusion.iou:g} belong together, one to one; a detection of the right class goes first. {note}"
    )
    matrix = _render_plot(
        "confusion_matrix", plots, "confusion matrix", wide=len(names) > _MAX_NARROW_CLASSES
    )
    return (
        f'<p class="soft">{lead}</p><div class="plots">{matrix}'
        f'<div class="panel"><h3>Confused classes</h3>{table}{more}</div></div>'
    )


def _render_errors(analysis: Analysis) -> str:
    at_threshold = Counter(error.type for error in analysis.errors)
    most = max((cost.ap50 or 0.0 for cost in analysis.costs.values()), default=0.0)
    rows = []
    for kind in sorted(ErrorType, key=lambda kind: -(analysis.costs[kind].ap50 or 0.0)):
        cost = analysis.costs[kind]
        share = max(0.0, cost.ap50 or 0.0) / most if most > 0 else 0.0
        bar = draw_stack(
            [(round(1000 * share), "refused")], f"costs {format_metric(cost.ap50)}", 1000
        )
        rows.append(
            (
                f'<td>{kind.value}<div class="soft">{_MEANINGS[kind]}</div></td>',
                f'<td class="bar">{bar}</td>',
                f"<td>{format_metric(cost.ap50)}</td>",
                f"<td>{at_threshold[kind]:,}</td>",
                f"<td>{cost.count:,}</td>",
            )
        )
    heads = (
        "error",
        "",
        "AP50 it costs",
        f"from {analysis.score_threshold:.2f} on",
        "at any score",
    )
    lead = (
        "Every false positive, and every object that is missed, by its kind, as TIDE (arXiv:2008.08115) tells them apart. The cost "
        "is what AP50 would gain if this kind alone were mended; costs do not add up. Low scores matter to AP, so costs are of all "
        "detections; how many errors a user sees, the threshold decides."
    )
    return f'<p class="soft">{lead}</p><div class="panel errors">{render_table(heads, rows)}</div>'


# --- Galleries ------------------------------------------------------------------------------------

_GALLERY_LEAD = (
    "The images whose errors cost the most: an object that is missed weighs one over the number of objects of its class, a false "
    "positive as much of that as its score. Dashed: truth. Solid: detections. Only what is wrong is named."
)
_CLASS_LEAD = "The same for the errors of one class, from the class with the lowest AP on."


def _galleries(analysis: Analysis) -> list[tuple[int, list[BadImage]]]:
    """The worst images of all (class id 0), then those of each class that has any, from the lowest AP on."""
    galleries = [(0, worst_images(analysis)[:_MAX_WORST])]
    if len(analysis.label_map) == 1:
        return galleries
    rated = {
        class_id: worst
        for class_id in range(1, len(analysis.label_map) + 1)
        if (worst := worst_images_of(analysis, class_id))
    }
    names = analysis.label_map
    order = sorted(
        rated, key=lambda class_id: _or_two(analysis.class_metrics[names.name_of(class_id)]["AP"])
    )[:_MAX_GALLERIES]
    each = min(_MAX_OF_CLASS, _MAX_CLASS_PICTURES // max(1, len(order)))
    return [*galleries, *((class_id, rated[class_id][:each]) for class_id in order)]


def _render_gallery(
    analysis: Analysis,
    class_id: int,
    chosen: Sequence[BadImage],
    filenames: Sequence[str],
    pictures: Mapping[int, bytes],
) -> str:
    name = analysis.label_map.name_of(class_id)
    text = f"AP {format_metric(analysis.class_metrics[name]['AP'])}"
    head = f'<h3>{draw_swatch(class_colour(class_id))}{escape(name)}</h3><span class="soft">{text}</span>'
    return f'<div class="group"><div class="head">{head}</div>{_render_cards(analysis, chosen, filenames, pictures)}</div>'


def _render_cards(
    analysis: Analysis,
    chosen: Sequence[BadImage],
    filenames: Sequence[str],
    pictures: Mapping[int, bytes],
) -> str:
    cards = []
    for bad in chosen:
        picture = draw_errors(analysis, bad, pictures[bad.index])
        words, name = escape(describe_errors(analysis, bad)), escape(filenames[bad.index])
        cards.append(
            f'<figure class="card"><img class="picture" src="{_to_data(picture, "jpeg")}" alt="{name}">'
            f'<figcaption><div>{words}</div><div class="mono soft">{name}</div></figcaption></figure>'
        )
    return f'<div class="cards large">{"".join(cards)}</div>'


def _render_plot(
    name: str, plots: Mapping[str, tuple[bytes, bytes]], label: str, *, wide: bool = False
) -> str:
    light, dark = (_to_data(image, "png") for image in plots[name])
    kind = "plot wide" if wide else "plot"
    return (
        f'<figure class="panel {kind}"><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{escape(label)}"></picture></figure>'
    )


def _to_data(image: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"


def _or_two(value: float | None) -> float:
    """For sorting: what could not be measured stands after everything that was."""
    return 2.0 if value is None else value
