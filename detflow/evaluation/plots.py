"""Plots of an analysis, by matplotlib.

They can be read at half a page's width, with any kind of colour blindness, for 1 class or 1,000.
A class has the colour that it has in pictures and tables; since colours repeat, lines differ in
their dashes too. With many classes the worst ones are named and the others stay grey.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patheffects import withStroke

from detflow.evaluation.analysis import Analysis
from detflow.metrics.coco import Floats
from detflow.pages.colours import LIGHT, Rgb, Theme, class_colour, to_hex
from detflow.tables import format_metric

MAX_BARS = 80
"""Classes that a bar chart has room for; the worst are shown."""

MAX_MATRIX_CLASSES = 80
"""Classes that a confusion matrix has room for; those with the most errors are shown."""

_MAX_NAMED_LINES = 8
_MAX_COUNTED_CELLS = 12
_MAX_NAME = 22
_SIZE_INCHES = (5.8, 4.6)
_DPI = 165
_DASHES: Final[Sequence[Any]] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))
_RECALL_POINTS = np.linspace(0.0, 1.0, 101)
_THRESHOLD_POINTS = np.linspace(0.0, 1.0, 201)


def draw_plot(name: str, analysis: Analysis, theme: Theme = LIGHT) -> bytes:
    """Returns a plot as a PNG file's bytes.

    Args:
        name: A key of `PLOTS`.
        analysis: What to show.
        theme: The colours of the screen that it is for.
    """
    settings = {
        "font.family": "DejaVu Sans",
        "font.size": 10,
        # A class name may have dollar signs.
        "text.parse_math": False,
        "text.color": theme.ink,
        "axes.labelcolor": theme.ink,
        "axes.edgecolor": theme.line,
        "axes.facecolor": theme.card,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "figure.facecolor": theme.card,
        "grid.color": theme.line,
        "xtick.color": theme.soft,
        "ytick.color": theme.soft,
        "legend.frameon": False,
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
        PLOTS[name](figure, analysis, theme)
        buffer = io.BytesIO()
        # There is no time stamp in it, so that the same numbers give the same file.
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def _draw_precision_recall(figure: Figure, analysis: Analysis, theme: Theme) -> None:
    axes = _unit_axes(figure, "recall", "precision", "Precision over recall, IoU .5")
    lines = {
        name: _interpolate(curve.recall, curve.precision)
        for name, curve in analysis.curves.items()
        if analysis.class_metrics[name]["AP50"] is not None
    }
    values = {name: analysis.class_metrics[name]["AP50"] for name in lines}
    _draw_lines(axes, analysis, theme, _RECALL_POINTS, lines, values)
    # One class is its own mean.
    if len(lines) > 1:
        label = f"mean of {len(lines)} classes  {format_metric(analysis.metrics['AP50'])}"
        axes.plot(
            _RECALL_POINTS,
            np.mean(list(lines.values()), axis=0),
            color=theme.ink,
            linewidth=2.6,
            label=label,
            zorder=4,
        )
    _finish(figure, axes, theme, "AP50", bool(lines))


def _draw_f1(figure: Figure, analysis: Analysis, theme: Theme) -> None:
    axes = _unit_axes(figure, "score threshold", "F1", "F1 over the score threshold, IoU .5")
    lines, values = {}, {}
    for name, curve in analysis.curves.items():
        if curve.num_truths:
            lines[name] = curve.f1_at(_THRESHOLD_POINTS)
            values[name] = curve.best.f1 if curve.best else 0.0
    _draw_lines(axes, analysis, theme, _THRESHOLD_POINTS, lines, values)
    best = analysis.overall.best
    if len(lines) > 1:
        label = f"all objects pooled  {format_metric(best.f1 if best else 0.0)}"
        pooled = analysis.overall.f1_at(_THRESHOLD_POINTS)
        axes.plot(_THRESHOLD_POINTS, pooled, color=theme.ink, linewidth=2.6, label=label, zorder=4)
    if best:
        axes.axvline(best.threshold, color=theme.soft, linewidth=1.2, linestyle=(0, (3, 3)))
        side, shift = ("right", -5) if best.threshold > 0.5 else ("left", 5)
        axes.annotate(
            f"best at {best.threshold:.2f}",
            (best.threshold, 0.03),
            xytext=(shift, 0),
            textcoords="offset points",
            ha=side,
            color=theme.ink,
            path_effects=[withStroke(linewidth=3, foreground=theme.card)],
            zorder=5,
        )
    _finish(figure, axes, theme, "best F1", bool(lines))


def _draw_confusion(figure: Figure, analysis: Analysis, theme: Theme) -> None:
    counts, names = analysis.confusion.counts, list(analysis.label_map)
    title = (
        f"Truth and detections (score ≥ {analysis.score_threshold:.2f}, "
        f"IoU ≥ {analysis.confusion.iou:g})"
    )
    if len(names) > MAX_MATRIX_CLASSES:
        off = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
        worst = np.sort(np.argsort(-off[:-1], kind="stable")[:MAX_MATRIX_CLASSES])
        chosen = np.append(worst, len(names))
        title += f"\nthe {MAX_MATRIX_CLASSES} classes with the most errors, of {len(names):,}"
        counts, names = counts[np.ix_(chosen, chosen)], [names[i] for i in worst.tolist()]
    side = min(16.0, max(_SIZE_INCHES[0], 3.4 + 0.36 * len(names)))
    figure.set_size_inches(side, side * (0.92 if len(names) > 4 else 0.8))
    axes = figure.add_subplot()
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    scale = LinearSegmentedColormap.from_list("share", [theme.low, theme.high])
    # Like imshow, but every cell has the same size and sharp edges.
    mesh = axes.pcolormesh(
        shares,
        cmap=scale,
        vmin=0,
        vmax=1,
        edgecolors=theme.card,
        linewidth=1.2 if len(names) < 30 else 0.3,
    )
    axes.invert_yaxis()
    axes.set_title(title)
    places = np.arange(len(names) + 1) + 0.5
    size = 10 if len(names) <= 14 else 7
    shown = [_shorten(name) for name in names]
    axes.set_xticks(
        places, [*shown, "(missed)"], rotation=90 if len(names) > 4 else 0, fontsize=size
    )
    axes.set_yticks(places, [*shown, "(nothing there)"], fontsize=size)
    axes.tick_params(length=0)
    axes.set_xlabel("detected as")
    axes.set_ylabel("truth")
    for spine in axes.spines.values():
        spine.set_visible(False)
    if len(names) <= _MAX_COUNTED_CELLS:
        for (row, column), count in np.ndenumerate(counts):
            if row == column == len(names):
                continue
            colour = theme.card if shares[row, column] > 0.5 else theme.ink
            axes.text(
                column + 0.5,
                row + 0.5,
                f"{count:,}",
                ha="center",
                va="center",
                color=colour,
                fontsize=10 if count < 1e5 else 8,
            )
    bar = figure.colorbar(mesh, ax=axes, shrink=0.7, aspect=26, label="share of the row")
    bar.outline.set_visible(False)


def _draw_class_ap(figure: Figure, analysis: Analysis, theme: Theme) -> None:
    values = [
        (value, name)
        for name in analysis.label_map
        if (value := analysis.class_metrics[name]["AP"]) is not None
    ]
    shown = sorted(values, key=lambda pair: pair[0])[:MAX_BARS]
    figure.set_size_inches(_SIZE_INCHES[0], max(2.2, 1.1 + 0.24 * len(shown)) if shown else 2.2)
    axes = figure.add_subplot()
    axes.set_title(
        "AP and AP50 of each class"
        + (f", the {MAX_BARS} worst of {len(values):,}" if len(values) > MAX_BARS else "")
    )
    if not shown:
        _note_absence(axes, theme)
        return
    places = np.arange(len(shown))
    for place, (value, name) in enumerate(shown):
        colour = to_hex(class_colour(analysis.label_map.id_of(name)))
        at50 = analysis.class_metrics[name]["AP50"] or 0.0
        axes.barh(place, at50, height=0.72, color=theme.line, edgecolor=theme.soft, linewidth=0.6)
        axes.barh(place, value, height=0.42, color=colour, edgecolor=theme.soft, linewidth=0.6)
        axes.annotate(
            f"{format_metric(value)} / {format_metric(at50)}",
            (max(value, at50), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=theme.soft,
        )
    axes.set_yticks(places, [_shorten(name) for _, name in shown], color=theme.ink, fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.18)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(axis="x", linewidth=0.7)
    axes.set_xlabel("thick: AP50, thin: AP")


PLOTS: Final[dict[str, Callable[[Figure, Analysis, Theme], None]]] = {
    "precision_recall": _draw_precision_recall,
    "f1_threshold": _draw_f1,
    "confusion_matrix": _draw_confusion,
    "ap_per_class": _draw_class_ap,
}
"""How each plot is drawn, by its file's stem."""


def _unit_axes(figure: Figure, x_label: str, y_label: str, title: str) -> Any:
    axes = figure.add_subplot()
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_xlim(0, 1.003)
    axes.set_ylim(0, 1.015)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title)
    axes.grid(linewidth=0.7)
    return axes


def _draw_lines(
    axes: Any,
    analysis: Analysis,
    theme: Theme,
    places: Floats,
    lines: dict[str, Floats],
    values: dict[str, float | None],
) -> None:
    """Draws a line for each class, the worst ones on top; only a few are named."""
    worst = sorted(lines, key=lambda name: values[name] or 0.0)[:_MAX_NAMED_LINES]
    for name in [name for name in lines if name not in worst]:
        axes.plot(places, lines[name], color=theme.soft, linewidth=0.7, alpha=0.35)
    used: set[tuple[Rgb, int]] = set()
    for number, name in enumerate(sorted(worst, key=lambda name: analysis.label_map.id_of(name))):
        colour = class_colour(analysis.label_map.id_of(name))
        dashes = [(number + shift) % len(_DASHES) for shift in range(len(_DASHES))]
        dash = next((one for one in dashes if (colour, one) not in used), dashes[0])
        used.add((colour, dash))
        axes.plot(
            places,
            lines[name],
            color=to_hex(colour),
            linestyle=_DASHES[dash],
            linewidth=1.9,
            label=f"{_shorten(name)}  {format_metric(values[name])}",
            # A pale seam keeps yellow visible on white and indigo on black. Dashes have none,
            # because it would fill their gaps.
            path_effects=[withStroke(linewidth=2.9, foreground=theme.soft, alpha=0.45)]
            if dash == 0
            else None,
            zorder=3,
        )


def _finish(figure: Figure, axes: Any, theme: Theme, what: str, has_lines: bool) -> None:
    if not has_lines:
        _note_absence(axes, theme)
        return
    # Handles long enough to show the dashes.
    figure.legend(
        loc="outside lower center",
        ncols=2,
        handlelength=3.2,
        fontsize=9,
        title=f"class and {what}",
        title_fontsize=9,
    )


def _note_absence(axes: Any, theme: Theme) -> None:
    axes.text(
        0.5,
        0.5,
        "no objects to measure with",
        transform=axes.transAxes,
        ha="center",
        va="center",
        color=theme.soft,
    )


def _interpolate(recall: Floats, precision: Floats) -> Floats:
    """Returns the best precision at each of COCO's recalls or beyond."""
    if not len(recall):
        return np.zeros(len(_RECALL_POINTS))
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return np.append(best, 0.0)[np.searchsorted(recall, _RECALL_POINTS, side="left")]


def _shorten(name: str) -> str:
    """Returns a class name in what the font can draw, cut in the middle where it is long."""
    legible = "".join(
        c if _is_drawable(c) else c.encode("unicode_escape").decode("ascii") for c in name
    )
    return legible if len(legible) <= _MAX_NAME else f"{legible[: _MAX_NAME - 9]}…{legible[-8:]}"


@functools.cache
def _glyphs() -> frozenset[int]:
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def _is_drawable(character: str) -> bool:
    return character.isprintable() and ord(character) in _glyphs()
