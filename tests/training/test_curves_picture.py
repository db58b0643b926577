import io

import numpy as np
from fakes import course_of
from PIL import Image

from detflow.training.curves_picture import DrawCurves, draw_curves, read_curves


def test_columns_are_read_without_their_gaps(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("step,AP,AP50,AP/a\n10,0.5,,0.25\n20,0.75,0.9,\n")
    assert read_curves(path, lambda name: "/" not in name) == {
        "AP": ([10.0, 20.0], [0.5, 0.75]),
        "AP50": ([20.0], [0.9]),
    }


def test_a_panel_for_each_curve_and_the_same_bytes_again():
    steps = list(range(1, 101))
    losses = {name: (steps, [10 / step for step in steps]) for name in ("loss", "box", "class")}
    metrics = {"AP": ([50, 100], [0.25, 0.5])}
    drawn = draw_curves(losses, metrics)
    assert drawn == draw_curves(losses, metrics)
    picture = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB"))
    # Four panels stand side by side; each of them has a curve in it.
    assert picture.shape[1] > 4 * picture.shape[0]
    assert all((part < 200).any() for part in np.array_split(picture, 4, axis=1))
    fewer = draw_curves(losses, {})
    assert Image.open(io.BytesIO(fewer)).width < picture.shape[1]


def test_the_picture_appears_where_the_run_ends(tmp_path):
    losses, results, picture = (tmp_path / name for name in ("l.csv", "r.csv", "p.png"))
    results.write_text("step,AP\n")
    losses.write_text("step,loss\n")
    action = DrawCurves(losses, results, picture)
    action.on_end(course_of(1))
    assert not picture.exists()
    losses.write_text("step,loss\n1,2.5\n2,2.0\n")
    action.on_end(course_of(2))
    assert picture.read_bytes().startswith(b"\x89PNG")
