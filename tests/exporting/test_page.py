"""card.html: it fetches and runs nothing, shows what was measured, and its snippets run."""

import base64
import contextlib
import hashlib
import html
import io
import json
import re
import shutil

import pytest

from detflow.artifact import ArtifactDir
from detflow.exporting.page import render_card
from detflow.exporting.snippets import choose_snippets
from detflow.inference.formats import FORMATS

pytestmark = pytest.mark.tf

WRITABLE = [known for known in FORMATS if known.is_installed()]


@pytest.fixture(scope="module")
def page(export_dir):
    return (export_dir / "card.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def card(export_dir):
    return ArtifactDir(export_dir).verify()


def snippets(text):
    return [
        html.unescape(code)
        for code in re.findall(r"<pre><code>(.*?)</code></pre>", text, re.DOTALL)
    ]


def test_the_page_fetches_and_runs_nothing(page):
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'" in page
    assert not re.search(r"<script|https?://|\sstyle=|\son\w+=", page)


def test_the_page_shows_what_was_measured(page, card):
    text = html.unescape(re.sub(r"<[^>]+>", "|", page))
    for name, found in card["formats"].items():
        assert f"|{name}|" in text
        assert f"|{found['bytes'] / 1e6:.1f}|" in text
        assert f"|{next(iter(found['entries'].values()))['p50_ms']:.1f}|" in text
        assert f"|{found['metrics']['AP']:.3f}|" in text
    for part in ("inputs", "outputs"):
        assert all(tensor in text for tensor in card["contract"][part])
    assert all(name in text for name in card["classes"])
    assert page.count("data:image/jpeg;base64,") == 6


def test_what_failed_stands_beside_what_passed(card):
    failed = {"tflite_int8": {"reason": "AP is 0.01, 0.62 below <ckpt-10>'s", "gate": {}}}
    page = render_card(card | {"failed": failed}, "pets & <more>", [])
    assert "0.62 below &lt;ckpt-10&gt;&#x27;s" in page
    assert "<h1>pets &amp; &lt;more&gt;</h1>" in page


def test_the_ladder_that_a_format_climbed_is_told(card):
    measured = {"metrics": {"AP": 0.51234, "AP50": 0.9}, "change": {"AP": -0.1, "AP50": 0.0}}
    tuning = {"steps": 300, "learning_rate": 2e-4, "images": 1200, "seconds": 81.6}
    rungs = [
        {"rung": "calibrated", "failure": "AP is <0.5>", **measured},
        {"rung": "float heads", "failure": "it does not load", "metrics": None, "change": None},
        {"rung": "fine-tuning", "failure": None, "fine_tuning": tuning, **measured},
    ]
    formats = card["formats"] | {"tflite": card["formats"]["tflite"] | {"rungs": rungs}}
    told = [
        '<tr><td>calibrated</td><td>0.512</td><td>-0.1000</td><td class="wrap">refused: AP is &lt;0.5&gt;</td></tr>',
        '<tr><td>float heads</td><td>n/a</td><td>n/a</td><td class="wrap">refused: it does not load</td></tr>',
        '<tr><td>fine-tuning, 300 steps at 0.0002, 82 s</td><td>0.512</td><td>-0.1000</td><td class="wrap">passed</td></tr>',
    ]
    page = render_card(card | {"formats": formats}, "pets", [])
    assert "The ladder of tflite<" in page
    assert "".join(told) in page
    failed = {"tflite_int8": {"reason": "AP is <0.5>", "gate": {}, "rungs": rungs[:2]}}
    page = render_card(card | {"failed": failed}, "pets", [])
    assert "The ladder of tflite_int8" in page
    assert "".join(told[:2]) in page


def test_names_of_files_break_between_their_words(page):
    assert "frozen_<wbr>inference_<wbr>graph_<wbr>encoded.pb" in page


def test_every_format_has_a_snippet_of_ten_lines():
    for known in FORMATS:
        found = choose_snippets([known.name])
        assert len(found) >= 2, known.name
        assert any(entry.path in code for entry in known.entries for _, code in found)
        for title, code in found:
            assert len([line for line in code.splitlines() if line]) <= 13, title
            assert max(map(len, code.splitlines())) <= 100, title


@pytest.mark.slow
def test_the_snippets_detect_something(page, export_dir, pictures_dir, tmp_path, monkeypatch):
    folder = tmp_path / "export"
    shutil.copytree(export_dir, folder)
    shutil.copy(pictures_dir / "p00.jpg", folder / "photo.jpg")
    codes = snippets(page)
    assert len(codes) == len(choose_snippets([known.name for known in WRITABLE]))
    assert len(codes) >= 6
    monkeypatch.chdir(folder)
    for code in codes:
        printed = io.StringIO()
        # Each has a namespace of its own, so what it needs it has to import.
        with contextlib.redirect_stdout(printed):
            exec(code, {})
        assert re.search(r"\b0\.\d+", printed.getvalue().replace("array", "")), code


def test_the_page_is_covered_by_the_manifest(export_dir, card):
    assert card["files"]["card.html"]["bytes"] == (export_dir / "card.html").stat().st_size
    assert json.loads((export_dir / "model.json").read_text()) == card
