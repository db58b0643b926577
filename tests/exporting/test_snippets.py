"""Every snippet of card.html and of docs/export.md prints what `predict` finds."""

import contextlib
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import detflow
from detflow.exporting.snippets import choose_snippets
from detflow.geometry import pairwise_iou
from detflow.inference.formats import FORMATS

pytestmark = pytest.mark.tf

DOCS = Path(__file__).resolve().parents[2] / "docs" / "export.md"
IN_DOCS = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
# A format and a snippet.
CARD = {
    f"{known.name} {entry.name}": (known, code)
    for known in FORMATS
    if known.is_installed()
    for entry in known.entries
    if (code := known.snippet(entry)) is not None
}
CODES = {code for _, code in CARD.values()}
ELSEWHERE = [code for code in IN_DOCS if code not in CODES]
SNIPPETS = CARD | {f"docs {number}": (FORMATS[0], code) for number, code in enumerate(ELSEWHERE)}
NUMBER = r"[\d.]+(?:e-\d+)?"


@pytest.fixture(scope="module")
def folder(export_dir, tmp_path_factory):
    return shutil.copytree(export_dir, tmp_path_factory.mktemp("snippets") / "export")


@pytest.fixture(scope="module")
def photos(pictures_dir):
    """A landscape, a portrait, and a phone's portrait, which lies on its side in the file.

    None has the canvas' aspect, which is a square.
    """
    with Image.open(pictures_dir / "p00.jpg") as landscape:
        landscape.load()
    with Image.open(pictures_dir / "p01.jpg") as portrait:
        portrait.load()
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "landscape": (landscape, None),
        "portrait": (portrait, None),
        "phone": (portrait.transpose(Image.Transpose.ROTATE_90), turned),
    }


@pytest.fixture(scope="module")
def predict(folder):
    """Returns what an export detects on a photo, or a file of it whose detections are others."""
    detectors = {}

    def run(known, path):
        chosen = folder / known.entries[0].path if is_coarse(known) else folder
        if chosen not in detectors:
            detectors[chosen] = detflow.load_detector(chosen)
        return detectors[chosen].predict(path)

    return run


def is_coarse(known):
    """Tells whether a grey level more or less changes what a file detects.

    Random weights do not survive 8 bits.
    """
    return known.name in ("tflite_dynamic", "tflite_int8")


def execute(code):
    """Returns (name, score, box) of each detection that a snippet prints."""
    printed = io.StringIO()
    # Each has a namespace of its own, so it has to import what it needs.
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    # A long box is broken into two lines.
    lines = re.sub(r"\s*\n\s+", " ", printed.getvalue()).splitlines()
    found = []
    for line in lines:
        name, score, box = re.fullmatch(rf"(\D+) ({NUMBER}) (?:Box\(|\[)(.*)[)\]]", line).groups()
        found.append((name, float(score), [float(side) for side in re.findall(NUMBER, box)]))
    return found


def require_alike(expected, found):
    """Asserts that each detection is found again, and that nothing else is."""
    assert len(expected) > 2
    # A decoder of another library moves scores and boxes a little, and some over the threshold.
    for wanted, others in ((expected, found), (found, expected)):
        clear = [row for row in wanted if row[1] >= 0.32]
        assert clear
        overlaps = pairwise_iou([row[2] for row in clear], [row[2] for row in others])
        for row, ious in zip(clear, overlaps, strict=True):
            alike = [
                iou
                for iou, other in zip(ious, others, strict=True)
                if other[0] == row[0] and abs(other[1] - row[1]) < 0.02
            ]
            assert max(alike, default=0.0) > 0.9, row


def test_every_runtime_has_a_snippet_and_the_docs_show_six():
    assert len(IN_DOCS) == 6
    assert len(ELSEWHERE) == 3
    assert {known.runtime for known, _ in CARD.values()} == {
        known.runtime for known in FORMATS if known.is_installed()
    }
    shown = {code for _, code in choose_snippets([known.name for known, _ in CARD.values()])}
    # The card's own one for detflow is in the docs too.
    assert shown - CODES <= set(ELSEWHERE)


# A short snippet leaves it to the interpreter to close a file.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.slow
@pytest.mark.parametrize("name", SNIPPETS)
def test_a_snippet_prints_what_predict_finds(name, folder, photos, predict, monkeypatch):
    known, code = SNIPPETS[name]
    monkeypatch.chdir(folder)
    path = folder / "photo.jpg"
    # A graph that takes files does not know of EXIF, and the docs say so.
    takes_files = "encoded_image_string_tensor" in code
    for kind in ("landscape", "portrait" if takes_files else "phone"):
        photo, exif = photos[kind]
        if is_coarse(known):
            # It fits the canvas as it is, so that nothing is rounded.
            photo = photo.copy()
            photo.thumbnail((64, 64))
        photo.save(path, quality=95, subsampling=0, **({"exif": exif} if exif else {}))
        with Image.open(path) as saved:
            width, height = ImageOps.exif_transpose(saved).size
        assert (width < height) == (kind != "landscape")
        expected = [
            (
                found.name,
                found.score,
                (found.box.ymin, found.box.xmin, found.box.ymax, found.box.xmax),
            )
            for found in predict(known, path)
        ]
        found = execute(code)
        assert np.shape([box for *_, box in found]) == (len(found), 4)
        require_alike(expected, found)
