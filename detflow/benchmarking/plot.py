"""Draws AP against latency."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from detflow.benchmarking.measurement import Measurement
from detflow.pages.colours import LIGHT, class_colour, to_hex
from detflow.text import count_noun

_SIZE_INCHES = (7.2, 4.6)
_DPI = 150
_MARKERS = "osD^vP"


def draw_benchmark(measurements: Sequence[Measurement]) -> bytes:
    """Returns a PNG file with a mark for each format.

    The mark's place is the p50 latency at batch 1, from JPEG file to detections, and the AP. A
    format whose AP is not known stands on the ground line.
    """
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 10, "text.parse_math": False}):
        figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for number, measurement in enumerate(measurements, start=1):
            latency = measurement.first["milliseconds"]["end_to_end"]["p50"]
            colour = to_hex(class_colour(number))
            label = f"{measurement.name}, {latency:.1f} ms"
            if measurement.ap is None:
                label += ", AP unknown"
            # Formats of one network have nearly the same AP. Their marks overlap, so they differ in
            # shape as well.
            marker = _MARKERS[number % len(_MARKERS)]
            axes.plot(
                latency,
                measurement.ap or 0.0,
                marker,
                color=colour,
                markersize=9,
                markeredgecolor=LIGHT.ink,
                label=label,
                alpha=0.85,
            )
        known = [item.ap for item in measurements if item.ap is not None]
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        margin = max(0.02, high - low)
        axes.set_ylim(
            max(0.0, low - margin) if len(known) == len(measurements) else -0.02,
            min(1.0, high + margin),
        )
        axes.set_xlim(left=0.0)
        num_threads = next(iter(measurements[0].by_threads))
        axes.set_xlabel(
            f"ms from JPEG file to detections, batch 1, {count_noun(num_threads, 'thread')}, p50"
        )
        axes.set_ylabel("AP")
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
