"""AP against latency, as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from detflow.benchmark.run import Measurement
from detflow.draw import class_colour

__all__ = ["draw_benchmark"]

_SIZE_INCHES = (7.2, 4.6)
_DPI = 150


def draw_benchmark(found: Sequence[Measurement]) -> bytes:
    """Returns a PNG file: each format where its p50 latency at batch 1, from JPEG file to detections, and its AP put it.

    The whisker leads to p95. Formats whose AP is not known stand on the ground line.
    """
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 10, "text.parse_math": False}):
        figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for number, one in enumerate(found, start=1):
            latency = one.first["milliseconds"]["end_to_end"]
            colour = tuple(side / 255 for side in class_colour(number))
            height = one.ap or 0.0
            axes.plot([latency["p50"], latency["p95"]], [height, height], color=colour, linewidth=1.5, alpha=0.6)
            axes.plot(latency["p50"], height, "o", color=colour, markersize=8)
            label = one.entry if one.ap is not None else f"{one.entry} (AP unknown)"
            # Formats of one network have nearly the same AP: their names take turns above and below.
            side = 1 if number % 2 else -1
            axes.annotate(
                label,
                (latency["p50"], height),
                xytext=(6, side * (7 + 11 * ((number - 1) // 2 % 3))),
                textcoords="offset points",
                fontsize=8.5,
                va="bottom" if side > 0 else "top",
            )
        known = [one.ap for one in found if one.ap is not None]
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        margin = max(0.02, high - low)
        axes.set_ylim(max(0.0, low - margin) if len(known) == len(found) else -0.02, min(1.0, high + margin))
        axes.set_xlim(left=0.0)
        axes.margins(x=0.25)
        axes.set_xlabel(f"ms from JPEG file to detections, batch 1, {next(iter(found[0].by_threads))} thread(s): p50, line to p95")
        axes.set_ylabel("AP")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
