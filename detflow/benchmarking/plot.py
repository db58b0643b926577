"""AP against latency, as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from detflow.benchmarking.run import Measurement
from detflow.pages.colours import LIGHT, class_colour, to_hex
from detflow.text import count_noun

__all__ = ["draw_benchmark"]

_SIZE_INCHES = (7.2, 4.6)
_DPI = 150
_MARKERS = "osD^vP"


def draw_benchmark(found: Sequence[Measurement]) -> bytes:
    """Draws each format by its latency and its AP.

    The latency is the median at batch 1, from JPEG file to detections. Formats whose AP is not
    known stand on the ground line.

    Returns:
        A PNG file's bytes.
    """
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 10, "text.parse_math": False}):
        figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for number, one in enumerate(found, start=1):
            latency = one.first["milliseconds"]["end_to_end"]["p50"]
            colour = to_hex(class_colour(number))
            label = f"{one.name}, {latency:.1f} ms" + ("" if one.ap is not None else ", AP unknown")
            # Formats of one network have nearly the same AP: their marks overlap, so they differ in
            # shape as well.
            marker = _MARKERS[number % len(_MARKERS)]
            axes.plot(
                latency,
                one.ap or 0.0,
                marker,
                color=colour,
                markersize=9,
                markeredgecolor=LIGHT.ink,
                label=label,
                alpha=0.85,
            )
        known = [one.ap for one in found if one.ap is not None]
        low, high = (min(known), max(known)) if known else (0.0, 1.0)
        margin = max(0.02, high - low)
        axes.set_ylim(
            max(0.0, low - margin) if len(known) == len(found) else -0.02, min(1.0, high + margin)
        )
        axes.set_xlim(left=0.0)
        axes.set_xlabel(
            "ms from JPEG file to detections, batch 1, "
            f"{count_noun(int(next(iter(found[0].by_threads))), 'thread')}, p50"
        )
        axes.set_ylabel("AP")
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
