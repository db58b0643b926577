"""card.html: it fetches and runs nothing, shows what was measured, and its snippets run as they stand."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
import sys

import pytest
from detflow.inference.openvino import has_openvino

from detflow.artifact import FORMATS, ArtifactDir
from detflow.exporting.page import render_card
from detflow.exporting.snippets import choose_snippets

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def page(onnx_dir):
    return (onnx_dir / "card.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def card(onnx_dir):
    return ArtifactDir(onnx_dir).verify()


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
        for entry in found["entries"].values():
            assert entry["p50_ms"] > 0
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
    for name, form in FORMATS.items():
        found = choose_snippets([name])
        assert len(found) >= 2, name
        assert any(entry.path in code for entry in form.entries for _, code in found)
        for title, code in found:
            assert len([line for line in code.splitlines() if line]) <= 11, title
            assert max(map(len, code.splitlines())) <= 120, title


@pytest.mark.slow
def test_the_snippets_detect_something(page, onnx_dir, artifact_dir, pictures_dir, tmp_path):
    folder = tmp_path / "export"
    shutil.copytree(onnx_dir, folder)
    shutil.copytree(artifact_dir / "saved_model", folder / "saved_model")
    shutil.copy(pictures_dir / "p00.jpg", folder / "photo.jpg")
    _, (_, saved_model_code) = choose_snippets(["saved_model"])
    codes = [*snippets(page), saved_model_code]
    assert len(codes) == (7 if has_openvino() else 6)
    scores = []
    for code in codes:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        scores.append(re.search(r"\b0\.\d+", done.stdout.replace("array", "")).group())
    assert len(scores) == len(codes)


def test_the_page_is_covered_by_the_manifest(onnx_dir, card):
    assert card["files"]["card.html"]["bytes"] == (onnx_dir / "card.html").stat().st_size
    assert json.loads((onnx_dir / "model.json").read_text()) == card
