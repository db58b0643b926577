import numpy as np
import pytest

from detflow.pages.charts import (
    build_heatmap,
    build_histogram,
    build_sparkline,
    build_stack,
    format_px,
)


def test_a_stack_divides_its_width():
    chart = build_stack([(30, "used"), (0, "noted"), (10, (1, 2, 3))], "40 = 30 + 10")
    assert [(bar.x, bar.width, bar.fill) for bar in chart.bars] == [
        (0, 750, "used"),
        (750, 250, (1, 2, 3)),
    ]
    [bar] = build_stack([(30, "used")], "30 of 60", 60).bars
    assert bar.width == 500


def test_a_small_part_stays_visible_inside_the_bar():
    *_, last = build_stack([(1_000_000, "used"), (1, "refused")], "").bars
    assert last.width == 4
    assert last.x + last.width == 1000


def test_a_histogram_has_a_bar_for_each_count():
    chart = build_histogram(np.array([0, 10, 20]), [(0, "1")], "sizes", [(1.5, "32")])
    low, high = chart.bars
    assert high.height == 2 * low.height
    assert [bar.title for bar in chart.bars] == ["10", "20"]
    assert low.y + low.height == high.y + high.height
    assert [label.text for label in chart.labels] == ["32", "20", "1"]
    mark, axis = chart.lines
    assert (mark.kind, axis.kind) == ("mark", "axis")
    assert low.x < mark.x1 < high.x


@pytest.mark.parametrize(("peak", "text"), [(9_999, "9,999"), (12_345, "12.3k"), (2_000_000, "2M")])
def test_the_peak_of_a_histogram_is_short(peak, text):
    assert text in [label.text for label in build_histogram(np.array([peak]), [], "").labels]


def test_row_zero_of_a_heatmap_is_at_the_bottom():
    chart = build_heatmap(np.array([[4, 0], [0, 1]]), [], [(0, "bottom"), (2, "top")], "centres")
    ground, lower_left, upper_right = chart.bars
    assert ground.fill == "void"
    assert lower_left.x < upper_right.x
    assert lower_left.y > upper_right.y
    assert (lower_left.opacity, upper_right.opacity) == (1.0, pytest.approx(0.12 + 0.88 / 2))
    bottom, top = chart.labels
    assert bottom.y > top.y


def test_nothing_to_count_is_no_division_by_zero():
    none = np.zeros(3, np.int64)
    assert build_sparkline(none, "accent", "").bars == []
    assert build_histogram(none, [], "").bars == []
    assert len(build_heatmap(np.zeros((2, 2), np.int64), [], [], "").bars) == 1
    assert build_stack([(0, "used")], "").bars == []


def test_numbers_for_svg_are_short():
    numbers = (1.0, 0.5, 1 / 3, 100, -0.001)
    assert [format_px(number) for number in numbers] == ["1", "0.5", "0.33", "100", "0"]
