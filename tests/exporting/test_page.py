"""card.html: it loads nothing, runs its own script only, and shows what was measured."""

import json

import pytest

from detflow.artifact import CONTRACT, TFLITE_CONTRACT, ArtifactDir
from detflow.exporting.page import render_card
from detflow.exporting.snippets import choose_snippets
from detflow.inference.formats import FORMATS

HOSTILE = "\"><script>alert(1)</script>{{ 7*7 }}'\u202e"
SHOWN = HOSTILE.replace("\u202e", "\\u202e")
MEASURED = {"metrics": {"AP": 0.51234, "AP50": 0.9}, "change": {"AP": -0.1, "AP50": 0.0}}


def describe_format(paths, num_bytes, **entry):
    agreement = {"max_differences": None, "share_found": 0.985}
    entries = {paths[0]: {"path": paths[0], "p50_ms": 15.24} | agreement | entry}
    return {"paths": paths, "bytes": num_bytes, "entries": entries, "refused": {}, **MEASURED}


@pytest.fixture
def card(card_values):
    return card_values


@pytest.fixture
def render(card, parse_page):
    def render(name="pets", examples=(), **changes):
        return parse_page(render_card(card | changes, name, examples))

    return render


def test_the_page_is_whole_by_itself(render):
    page = render()
    page.require_inert()
    page.require_links("quality", "formats", "use", "examples", "classes", "contract", "origin")
    assert page.html == render().html


def test_the_page_shows_what_was_measured(render):
    page = render()
    assert page.text_of("p[@class='lead']") == (
        "A detector of 2 classes. AP 0.614 (0.55–0.68 at 90 %), AP50 0.803 on split test: "
        "54 images with 294 objects (and 26 difficult, which no number counts), which had no "
        "part in the training."
    )
    head, cat, dog = page.rows("section[@id='quality']")
    assert dict(zip(head, cat, strict=True))["threshold"] == "0.40"
    assert dog[:3] == ["dog", "0", "n/a"]
    _, frozen, tflite = page.rows("section[@id='formats']")
    assert frozen[2:] == ["12.4", "0.512", "0.900", "-0.1000", "15.2", "scores within 1e-07"]
    assert tflite[2:] == ["3.1", "0.512", "0.900", "-0.1000", "15.2", "98.5% found again"]
    tensors = [row[0] for row in page.rows("section[@id='contract']")]
    for part in ("inputs", "outputs"):
        for name, tensor in CONTRACT[part].items():
            assert name + tensor["meaning"] in tensors
    assert "TFLite keeps" not in page.text
    origin = dict(page.rows("section[@id='origin']"))
    assert origin["checkpoint"] == "ckpt-100, step 1,200"
    assert origin["chosen by"] == "its AP, 0.630, on split val"
    assert origin["canvas"].startswith("128 × 96 pixels")
    assert "further canvases" not in origin
    assert origin["initial weights"] == "none: trained from scratch"
    assert page.text_of("footer").startswith("Exported with python 3.11.7, detflow 0.1.0.")


def test_tflite_s_own_contract_is_told_where_there_is_such_a_file(render):
    page = render(tflite_contract=TFLITE_CONTRACT)
    rows = page.rows("section[@id='contract']")
    for part in ("inputs", "outputs"):
        for name, tensor in TFLITE_CONTRACT[part].items():
            sides = ", ".join(map(str, tensor["shape"]))
            assert [name + tensor["meaning"], tensor["dtype"], f"[{sides}]"] in rows
    told = page.text_of("section[@id='contract']")
    assert "normalised by the canvas, not by the image" in told
    assert "counted from 0" in told


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ({"max_differences": {"detection_scores": 0.0}}, "the same scores"),
        ({"share_found": None}, "nothing to find again"),
    ],
)
def test_agreement_is_told_in_a_few_words(render, entry, shown):
    page = render(formats={"tflite": describe_format(["model.tflite"], 1, **entry)})
    assert page.rows("section[@id='formats']")[1][-1] == shown


def test_a_format_whose_preferred_entry_failed_has_no_time(render):
    found = describe_format(["model.tflite"], 1)
    del found["entries"]["model.tflite"]["p50_ms"]
    found["refused"] = {"frozen": "it does not load"}
    page = render(formats={"tflite": found})
    row = page.rows("section[@id='formats']")[1]
    assert row[0].endswith("frozen fails: it does not load")
    assert row[-2] == "n/a"


def test_without_records_the_proof_is_told_without_metrics(render):
    parity = {"images": "synthetic", "source": None, "num_images": 1, "metrics": None}
    page = render(parity=parity | {"role": None})
    assert "compared with the checkpoint on 1 synthetic picture;" in page.text
    assert dict(page.rows("section[@id='origin']"))["proved on"] == "synthetic pictures, 1 image"


def test_hostile_text_stays_text(render, card):
    page = render(
        name=HOSTILE,
        classes=[HOSTILE],
        failed={HOSTILE: {"reason": HOSTILE, "gate": {}}},
        examples=[(HOSTILE, b"jpeg")],
        checkpoint=card["checkpoint"] | {"name": HOSTILE},
    )
    page.require_inert()
    assert "\u202e" not in page.html
    assert page.text_of("h1") == SHOWN
    assert page.texts("section[@id='classes']//li") == [f"1 {SHOWN}"]
    assert f"{SHOWN} is not in the folder: {SHOWN}" in page.texts("section[@id='formats']//p")
    assert page.texts("figcaption") == [SHOWN]
    assert dict(page.rows("section[@id='origin']"))["checkpoint"] == f"{SHOWN}, step 1,200"


def test_the_ways_that_were_tried_are_told(render, card):
    tuning = {"steps": 300, "learning_rate": 2e-4, "images": 1200, "seconds": 81.6}
    rungs = [
        {"rung": "calibrated", "failure": "AP is <0.5>", **MEASURED},
        {"rung": "float heads", "failure": "it does not load", "metrics": None, "change": None},
        {"rung": "fine-tuning", "failure": None, "fine_tuning": tuning, **MEASURED},
    ]
    formats = card["formats"] | {"tflite": card["formats"]["tflite"] | {"rungs": rungs}}
    failed = {"tflite_int8": {"reason": "AP is <0.5>", "gate": {}, "rungs": rungs[:2]}}
    page = render(formats=formats, failed=failed)
    passed_title, failed_title = page.texts("section[@id='formats']//h3")
    assert passed_title == "What was tried for tflite"
    assert failed_title == "What was tried for tflite_int8"
    head = ["way", "AP", "change of AP", "result"]
    told = [
        ["calibrated", "0.512", "-0.1000", "refused: AP is <0.5>"],
        ["float heads", "n/a", "n/a", "refused: it does not load"],
        ["fine-tuning, 300 steps at 0.0002, 82 s", "0.512", "-0.1000", "passed"],
    ]
    rows = page.rows("section[@id='formats']")
    assert rows[3:] == [head, *told, head, *told[:2]]


def test_names_of_files_break_between_their_words(render):
    [path] = page_paths = render().find("div[@class='mono soft path'][wbr]")[1:]
    assert len(page_paths) == 1
    assert list(path.itertext()) == ["frozen_", "inference_", "graph_", "encoded.pb"]


def test_code_keeps_its_lines(render):
    [*codes] = render().find("pre/code")
    assert [code.text.rstrip("\n") for code in codes] == [
        code.rstrip("\n") for _, code in choose_snippets(["frozen", "tflite"])
    ]


def test_every_format_has_a_short_snippet():
    for known in FORMATS:
        found = choose_snippets([known.name])
        assert len(found) >= 2, known.name
        assert any(entry.path in code for entry in known.entries for _, code in found)
        for title, code in found:
            assert len([line for line in code.splitlines() if line]) <= 16, title
            assert max(map(len, code.splitlines())) <= 100, title


@pytest.mark.tf
def test_an_export_has_the_page_and_its_digest(export_dir, parse_page):
    card = ArtifactDir(export_dir).verify()
    assert card["files"]["card.html"]["bytes"] == (export_dir / "card.html").stat().st_size
    assert json.loads((export_dir / "model.json").read_text()) == card
    page = parse_page((export_dir / "card.html").read_text(encoding="utf-8"))
    page.require_inert()
    assert len(page.find("section[@id='examples']//img")) == 6
    _, *rows = page.rows("section[@id='formats']//div[@class='panel'][1]")
    assert len(rows) == len(card["formats"])
    shown = [code.text.rstrip("\n") for code in page.find("pre/code")]
    chosen = choose_snippets(list(card["formats"]))
    assert shown == [code.rstrip("\n") for _, code in chosen]
    assert len(shown) >= 6


def test_a_model_without_pictures_that_it_was_not_trained_on_boasts_nothing(render, card):
    quality = {"role": "none", "why_not": "there is no split that the model was not trained on"}
    page = render(quality=quality, parity=card["parity"] | {"role": "training"})
    assert page.text_of("p[@class='lead']") == (
        "A detector of 2 classes. No AP is stated: there is no split that the model was not "
        "trained on."
    )
    (warning, *_) = page.texts("section[@id='quality']//p")
    assert warning.startswith("mind The formats were proved on pictures that the model was trained")
