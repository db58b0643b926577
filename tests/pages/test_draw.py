import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from detflow.pages import draw
from detflow.pages.colours import class_colour
from detflow.pages.draw import draw_boxes
from detflow.types import Box

GREY = (128, 128, 128)


def plain(width=200, height=150, colour=GREY):
    return Image.new("RGB", (width, height), colour)


def changed(before, after):
    """Returns (left, top, right, bottom) around what differs, with exclusive ends, or None."""
    rows, columns = np.nonzero(
        (np.asarray(before.convert("RGB")) != np.asarray(after)).any(axis=-1)
    )
    return None if not len(rows) else (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_the_outline_is_where_the_box_is():
    image = draw_boxes(
        plain(), [Box(20 / 150, 40 / 200, 70 / 150, 90 / 200)], ["cat"], [1], labels=False
    )
    assert changed(plain(), image) == (40, 20, 90, 70)
    assert image.getpixel((40, 20)) == image.getpixel((89, 69)) == class_colour(1)
    assert image.getpixel((65, 45)) == GREY


def test_the_whole_image_can_be_a_box():
    image = draw_boxes(plain(), [Box(0, 0, 1, 1)], ["cat"], [2], labels=False)
    assert changed(plain(), image) == (0, 0, 200, 150)


def test_a_box_thinner_than_a_pixel_is_still_seen():
    image = draw_boxes(plain(), [Box(0.5, 0.5, 0.5001, 0.5001)], ["cat"], [1], labels=False)
    assert changed(plain(), image) == (100, 75, 101, 76)


def test_the_input_is_left_alone():
    pixels = np.full((60, 80, 3), 90, np.uint8)
    image = Image.fromarray(pixels.copy())
    for source in (image, pixels):
        drawn = draw_boxes(source, [Box(0.1, 0.1, 0.9, 0.9)], ["cat"], [1])
        assert drawn.size == (80, 60)
        assert changed(Image.fromarray(np.full((60, 80, 3), 90, np.uint8)), drawn)
    assert (pixels == 90).all()
    assert (np.asarray(image) == 90).all()
    assert np.array_equal(
        np.asarray(draw_boxes(pixels, [Box(0, 0, 1, 1)], ["a"], [1])),
        np.asarray(draw_boxes(image, [Box(0, 0, 1, 1)], ["a"], [1])),
    )


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16", "1"])
def test_any_mode_becomes_rgb(mode):
    assert (
        draw_boxes(Image.new(mode, (50, 50)), [Box(0.2, 0.2, 0.8, 0.8)], ["cat"], [1]).mode == "RGB"
    )


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32), np.zeros((5, 5, 4), np.uint8)],
)
def test_other_arrays_are_refused(pixels):
    with pytest.raises(ValueError, match="expected uint8"):
        draw_boxes(pixels, [], [], [])


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="1 boxes, 0 names, 1 class ids"):
        draw_boxes(plain(), [Box(0, 0, 1, 1)], [], [1])
    with pytest.raises(ValueError, match="expected one of each"):
        draw_boxes(plain(), [Box(0, 0, 1, 1)], ["a"], [1], scores=[])


def test_no_objects_change_nothing():
    assert changed(plain(), draw_boxes(plain(), [], [], [])) is None


def test_lines_and_text_grow_with_the_image():
    def line_px(side):
        drawn = np.asarray(
            draw_boxes(plain(side, side), [Box(0.1, 0.1, 0.9, 0.9)], ["cat"], [1], labels=False)
        )
        return int((drawn[side // 2, : side // 2] == class_colour(1)).all(axis=-1).sum())

    assert [line_px(side) for side in (60, 400, 2000)] == [1, 2, 11]
    small, large = (
        changed(plain(s, s), draw_boxes(plain(s, s), [Box(0.5, 0.5, 0.6, 0.6)], ["cat"], [1]))
        for s in (300, 1500)
    )
    assert (large[3] - large[1]) > 3 * (small[3] - small[1])


def test_truth_is_dashed_and_a_prediction_is_solid():
    def top_line(style):
        drawn = draw_boxes(
            plain(400, 400), [Box(0.1, 0.1, 0.9, 0.9)], ["cat"], [1], style=style, labels=False
        )
        return {drawn.getpixel((x, 40)) for x in range(40, 360)}

    assert top_line("solid") == {class_colour(1)}
    assert top_line("dashed") == {class_colour(1), (0, 0, 0)}


def test_the_highest_score_is_on_top():
    boxes = [Box(0.2, 0.2, 0.6, 0.6), Box(0.2, 0.2, 0.6, 0.6)]
    for scores, winner in (([0.9, 0.3], 1), ([0.3, 0.9], 2)):
        drawn = draw_boxes(plain(), boxes, ["a", "b"], [1, 2], scores=scores, labels=False)
        assert drawn.getpixel((100, 30)) == class_colour(winner)


def label_of(text, size=(300, 200)):
    """The pixels that the label adds to a picture."""
    box = [Box(0.5, 0.3, 0.8, 0.6)]
    bare = draw_boxes(plain(*size), box, [text], [1], labels=False)
    return np.asarray(draw_boxes(plain(*size), box, [text], [1])).astype(int) - np.asarray(bare)


def test_the_label_shows_the_score():
    box = [Box(0.5, 0.3, 0.8, 0.6)]
    assert np.array_equal(
        draw_boxes(plain(), box, ["cat"], [1], scores=[0.876]),
        draw_boxes(plain(), box, ["cat 0.88"], [1]),
    )


@pytest.mark.parametrize("name", ["cat", "café", "кошка", "γάτα", "猫", "ねこ", "고양이", "قط"])
def test_a_name_in_any_of_these_scripts_is_drawn_as_itself(name):
    assert draw._to_legible(name) == name
    assert label_of(name).any()
    assert not np.array_equal(label_of(name), label_of("?" * len(name)))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("🐈", "\\U0001f408"),
        ("a\nb", "a\\nb"),
        ("\ud800", "\\ud800"),
        ("\u200b", "\\u200b"),
        ("a\0", "a\\x00"),
        ("क", "\\u0915"),
    ],
)
def test_what_no_font_has_is_shown_as_its_escape(name, shown):
    assert np.array_equal(label_of(name), label_of(shown))


def test_an_older_opencv_has_no_font(monkeypatch):
    monkeypatch.delattr(cv2, "FontFace")
    draw._is_drawable.cache_clear()
    try:
        assert draw._to_legible("a猫") == "a\\u732b"
    finally:
        draw._is_drawable.cache_clear()


def test_labels_do_not_cover_each_other():
    crowd = [Box(0.4, 0.4, 0.6, 0.6)] * 4
    names = ["one", "two", "three", "four"]
    drawn = np.asarray(draw_boxes(plain(400, 300), crowd, names, [1, 2, 3, 4]))
    for class_id in (1, 2, 3, 4):
        alone = label_of(names[class_id - 1], (400, 300)).any(axis=-1).sum()
        assert (drawn == class_colour(class_id)).all(axis=-1).sum() > 0.6 * alone


@given(
    st.integers(1, 120),
    st.integers(1, 120),
    st.tuples(*[st.floats(0, 0.999)] * 2),
    st.text(min_size=1, max_size=40),
    st.sampled_from(["solid", "dashed"]),
)
def test_nothing_crashes_and_the_size_stays(width, height, corner, name, style):
    box = Box(corner[0], corner[1], min(1.0, corner[0] + 0.2), min(1.0, corner[1] + 0.2))
    assert draw_boxes(plain(width, height), [box], [name], [1], scores=[0.5], style=style).size == (
        width,
        height,
    )


@pytest.mark.parametrize("corner", [(0.0, 0.0), (0.0, 0.9), (0.9, 0.0), (0.9, 0.9), (0.45, 0.45)])
@pytest.mark.parametrize("name", ["cat", "a very long class name that is wider than the picture"])
def test_a_label_is_whole_wherever_its_box_is(corner, name):
    """The frame of the label's own colour is complete, so no edge of the image cuts it."""
    box = Box(*corner, corner[0] + 0.1, corner[1] + 0.1)
    text = draw._fit_text(name, draw._MIN_FONT_PX, (120, 90))
    drawn = draw_boxes(plain(120, 90), [box], [name], [1])
    area = (np.asarray(drawn) != GREY).any(axis=-1).sum()
    assert area >= text.width * text.height


def test_five_thousand_objects_take_seconds_not_minutes():
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 0.95, (5000, 2))
    boxes = [Box(y, x, y + 0.04, x + 0.04) for y, x in corners]
    start = time.process_time()
    draw_boxes(
        plain(640, 480), boxes, ["cell"] * 5000, [1] * 5000, scores=rng.uniform(0, 1, 5000).tolist()
    )
    assert time.process_time() - start < 10


def test_tensorflow_is_not_needed():
    code = (
        "import sys, detflow.pages.draw\n"
        "sys.exit('tensorflow' in sys.modules or 'cv2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
