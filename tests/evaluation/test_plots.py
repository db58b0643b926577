import functools
import io
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from detflow.evaluation import plots
from detflow.evaluation.plots import PLOTS, draw_plot
from detflow.pages.colours import DARK, LIGHT


def laid_out(name, analysis):
    """Draws without saving; returns figure and renderer to measure with."""
    figure = Figure(figsize=(5.8, 4.6), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    PLOTS[name](figure, analysis, LIGHT)
    figure.draw_without_rendering()
    return figure, canvas.get_renderer()


def overlapping(boxes):
    """Pairs of boxes that share more than a sliver."""
    return [
        (i, j)
        for i, one in enumerate(boxes)
        for j, other in enumerate(boxes[:i])
        if shared(one, other) > 1.0
    ]


def shared(one, other):
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return width * height if min(width, height) > 0 else 0.0


@pytest.fixture(scope="module")
def long_names(case):
    """Returns an analysis of so many classes of long names."""

    @functools.cache
    def analyse(number):
        names = [f"a class with a rather long name {place}" for place in range(number)]
        return case(names, 20, 10).analyse()

    return analyse


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_a_png_that_depends_on_the_numbers_alone(case, name):
    analysis = case(["cat", "dog"]).analyse()
    image = draw_plot(name, analysis)
    assert image == draw_plot(name, analysis)
    width, height = Image.open(io.BytesIO(image)).size
    assert width >= 900
    assert height >= 350
    dark = np.asarray(Image.open(io.BytesIO(draw_plot(name, analysis, DARK))).convert("L"))
    assert dark.mean() < 100 < 180 < np.asarray(Image.open(io.BytesIO(image)).convert("L")).mean()


# Curves name the eight worst classes only, and bars have a line each: more classes change nothing.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "num_classes"),
    [
        *((name, num_classes) for name in PLOTS for num_classes in (1, 9)),
        ("confusion_matrix", 80),
    ],
)
def test_no_text_overlaps_another_or_leaves_the_picture(long_names, name, num_classes):
    figure, renderer = laid_out(name, long_names(num_classes))
    [axes, *_] = figure.axes
    texts = [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
    texts += [*axes.get_xticklabels(), *axes.get_yticklabels()]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    boxes = [
        text.get_window_extent(renderer) for text in texts if text.get_text() and text.get_visible()
    ]
    assert not overlapping(boxes)
    for box in boxes:
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= figure.bbox.width + 1
        assert box.y1 <= figure.bbox.height + 1


@pytest.mark.parametrize("num_classes", [3, 30])
def test_named_lines_can_be_told_apart(case, num_classes):
    figure, _ = laid_out(
        "precision_recall", case([f"c{number}" for number in range(num_classes)], 20, 10).analyse()
    )
    named = [line for line in figure.axes[0].get_lines() if not line.get_label().startswith("_")]
    assert len(named) == min(num_classes, 8) + 1
    assert len({(line.get_color(), str(line._unscaled_dash_pattern)) for line in named}) == len(
        named
    )


def test_the_mean_of_the_curves_is_ap50(case):
    analysis = case(["cat", "dog", "owl"]).analyse()
    figure, _ = laid_out("precision_recall", analysis)
    for line in figure.axes[0].get_lines():
        assert float(line.get_label().split()[-1]) == pytest.approx(
            np.mean(line.get_ydata()), abs=6e-4
        )
    assert np.mean(figure.axes[0].get_lines()[-1].get_ydata()) == pytest.approx(
        analysis.metrics["AP50"], abs=1e-6
    )


@pytest.mark.parametrize("name", PLOTS)
def test_names_that_hurt_and_classes_that_cannot_be_measured(
    case, name, hostile_names, monkeypatch
):
    # A warning, say of a missing glyph, is an error here. Nobody looks at the picture.
    monkeypatch.setattr(plots, "_DPI", 40)
    draw_plot(name, case(hostile_names).analyse())
    draw_plot(name, case(["cat", "dog"], objects=0).analyse())
    only_truth = case(["cat"])
    only_truth.images = [type(image)(image.size, image.objects, []) for image in only_truth.images]
    draw_plot(name, only_truth.analyse())


def test_nothing_else_pays_for_plots_and_pages():
    code = (
        "import sys; import detflow.evaluation.run, detflow.evaluation.analysis\n"
        "found = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not found & {'jinja2', 'tensorflow', 'tf_keras'}\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
