"""results.png: a run's losses and evaluations at a glance, drawn by matplotlib.

Does not import TensorFlow.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from typing_extensions import override

from detflow.pages.colours import LIGHT
from detflow.publish import publish_file
from detflow.training.loop import Action, Course

_PANEL_INCHES = (3.6, 2.6)
# What ticks, title and label of a panel need on each side. Matplotlib's own layouts draw everything
# twice to find it out, which takes longer than all the rest.
_LEFT, _RIGHT, _BOTTOM, _TOP = 0.55, 0.15, 0.45, 0.35
_MAX_COLUMNS = 4
_DPI = 110
_SMOOTHED_SHARE = 0.05
_SHOWN_METRICS = ("AP", "AP50", "AP75", "AR100")

Curve = tuple[Sequence[float], Sequence[float]]
"""Steps, and a value at each."""


class DrawCurves(Action):
    """Draws losses.csv and results.csv when the run ends, or is interrupted.

    Args:
        losses_path: losses.csv.
        results_path: results.csv.
        picture_path: The picture.
    """

    def __init__(self, losses_path: Path, results_path: Path, picture_path: Path) -> None:
        self._losses_path, self._results_path = losses_path, results_path
        self._picture_path = picture_path

    @override
    def on_end(self, course: Course) -> None:
        losses = read_curves(self._losses_path, lambda name: True)
        metrics = read_curves(self._results_path, _SHOWN_METRICS.__contains__)
        if losses:
            publish_file(self._picture_path, draw_curves(losses, metrics))


def read_curves(path: Path, is_wanted: Callable[[str], bool]) -> dict[str, Curve]:
    """Returns the columns of a CSV file whose first one is the step; empty cells are left out."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        names = next(rows, ["step"])[1:]
        curves: dict[str, tuple[list[float], list[float]]] = {
            name: ([], []) for name in names if is_wanted(name)
        }
        for row in rows:
            for name, cell in zip(names, row[1:], strict=True):
                if cell and name in curves:
                    curves[name][0].append(float(row[0]))
                    curves[name][1].append(float(cell))
    return {name: curve for name, curve in curves.items() if curve[0]}


def draw_curves(losses: Mapping[str, Curve], metrics: Mapping[str, Curve]) -> bytes:
    """Returns a PNG file's bytes with a panel for each loss and metric.

    Args:
        losses: Many points each: a line over the means of neighbours, which stay in the background.
        metrics: Few points each, which are marked.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    number = len(losses) + len(metrics)
    columns = min(number, _MAX_COLUMNS)
    rows = math.ceil(number / columns)
    settings = {
        "font.family": "DejaVu Sans",
        "font.size": 8,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": LIGHT.ink,
        "xtick.color": LIGHT.soft,
        "ytick.color": LIGHT.soft,
        "axes.edgecolor": LIGHT.line,
    }
    with mpl.rc_context(settings):
        size = (_PANEL_INCHES[0] * columns, _PANEL_INCHES[1] * rows)
        figure = Figure(figsize=size, dpi=_DPI)
        width, height = (
            panel - margins
            for panel, margins in zip(_PANEL_INCHES, (_LEFT + _RIGHT, _BOTTOM + _TOP), strict=True)
        )
        margins = {
            "left": _LEFT / size[0],
            "right": 1.0 - _RIGHT / size[0],
            "bottom": _BOTTOM / size[1],
            "top": 1.0 - _TOP / size[1],
            "wspace": (_LEFT + _RIGHT) / width,
            "hspace": (_BOTTOM + _TOP) / height,
        }
        panels = figure.subplots(rows, columns, squeeze=False, gridspec_kw=margins).ravel()
        for axes, (name, (steps, values)) in zip(
            panels, [*losses.items(), *metrics.items()], strict=False
        ):
            axes.set_title(name.replace("_", " "))
            axes.set_xlabel("step", color=LIGHT.soft)
            axes.grid(color=LIGHT.line, linewidth=0.6)
            if name in metrics:
                axes.plot(steps, values, color=LIGHT.accent, marker="o", markersize=3)
                axes.set_ylim(0.0, 1.0)
            else:
                axes.plot(steps, values, color=LIGHT.line, linewidth=0.8)
                axes.plot(steps, _smooth(values), color=LIGHT.accent, linewidth=1.5)
        for axes in panels[number:]:
            axes.axis("off")
        buffer = io.BytesIO()
        # There is no time stamp in it, so that the same numbers give the same file.
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def _smooth(values: Sequence[float]) -> Sequence[float]:
    """Returns at each place the mean of the values around it."""
    reach = round(len(values) * _SMOOTHED_SHARE / 2)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    first = np.maximum(places - reach, 0)
    last = np.minimum(places + reach + 1, len(values))
    means: list[float] = ((sums[last] - sums[first]) / (last - first)).tolist()
    return means
