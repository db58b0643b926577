import io
import sys

from detflow.data.terminal import format_summary
from detflow.progress import show_progress

MANIFEST = {
    "annotations_found": 10,
    "annotations_usable": 8,
    "images_found": 9,
    "images_unlabelled": 1,
    "classes": [f"c{index:02d}" for index in range(20)],
    "splits": {
        "train": {
            "images": 6,
            "objects_per_class": {f"c{index:02d}": index for index in range(20)},
        },
        "val": {"images": 2, "objects_per_class": {f"c{index:02d}": 0 for index in range(20)}},
    },
    "unions": {"trainval": ["train", "val"]},
    "split_rule": {"by": "lists"},
    "repairs": {"box_clipped": 3},
    "quarantined": {"image_missing": 2},
    "noted": {},
    "decided": {
        "corners": [
            {"tool": name, "boxes": 190, "frame": "zero-based", "by": "3 minima in [0, 1)"}
            for name in ("", "Unknown", "b", "c", "d")
        ],
        "exif": [],
        "renditions": [],
    },
}


def test_the_summary_adds_up_and_fits_a_screen():
    text = format_summary(MANIFEST)
    assert "10 found = 8 usable + 2 quarantined" in text
    assert "train 6, val 2 (by lists)" in text
    assert "trainval = train + val" in text
    assert "objects       190: c19 19, c18 18" in text
    assert "and 8 more classes" in text
    assert "corners       zero-based: 3 minima in [0, 1) (190 boxes)" in text
    assert "corners       zero-based for 'Unknown': 3 minima" in text
    assert "and 2 more groups, see the manifest" in text
    assert "3 × box_clipped" in text
    assert len(text.splitlines()) < 24


def test_a_bar_is_drawn_on_a_terminal_only(monkeypatch):
    plain = io.StringIO()
    monkeypatch.setattr(sys, "stderr", plain)
    with show_progress() as progress:
        progress("reading", 1, 2)
    assert plain.getvalue() == ""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with show_progress() as progress:
        for done in range(1, 101):
            progress("reading annotations", done, 100)
        progress("checking images", 1, 100)
    assert "reading annotations" in terminal.getvalue()
    assert "100/100" in terminal.getvalue()
