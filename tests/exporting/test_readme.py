"""README.md of an export, as people and model hubs read it."""

import re

import pytest
import yaml

from detflow.exporting.readme import render_readme
from detflow.exporting.snippets import choose_snippets

HOSTILE = "<script>|`*[a](b)\n# x\u202e"


@pytest.fixture
def metadata(card_values):
    def read(**changes):
        text = render_readme(card_values | changes, "pets")
        assert text.startswith("---\n")
        return yaml.safe_load(text.split("---\n")[1])

    return read


def test_a_hub_finds_the_task_the_licence_the_tags_and_the_metrics(metadata):
    found = metadata()
    assert (found["pipeline_tag"], found["license"]) == ("object-detection", "unknown")
    assert found["tags"] == ["object-detection", "detflow", "retinanet", "frozen", "tflite"]
    (model,) = found["model-index"]
    (result,) = model["results"]
    assert (model["name"], result["dataset"]["split"]) == ("pets", "test")
    assert [metric["value"] for metric in result["metrics"]] == [0.614, 0.803]


def test_a_hub_s_own_library_reads_the_metadata(card_values):
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(render_readme(card_values, "pets")).data
    assert (data.model_name, data.pipeline_tag) == ("pets", "object-detection")
    assert [one.metric_value for one in data.eval_results] == [0.614, 0.803]


def test_without_an_ap_there_is_no_result_to_boast(metadata):
    assert "model-index" not in metadata(quality={"role": "none", "why_not": "because"})


def test_it_has_the_numbers_the_snippets_and_the_contract(card_values):
    text = render_readme(card_values, "pets")
    assert "AP 0.614 (0.55–0.68 at 90 %)" in text
    assert "Recommended score threshold: 0.42" in text
    assert "| cat | 200 | 0.650 |" in text
    assert re.findall("```python\n(.*?)```", text, re.DOTALL) == [
        code for _, code in choose_snippets(["frozen", "tflite"])
    ]
    assert "| frozen\\_inference\\_graph.pb | image\\_tensor uint8" in text


def test_names_stay_text_on_one_line(card_values):
    quality = card_values["quality"]
    classes = {HOSTILE: quality["classes"]["cat"]}
    text = render_readme(card_values | {"quality": quality | {"classes": classes}}, HOSTILE)
    assert "<script>" not in text.split("---\n", 2)[2]
    assert "\u202e" not in text.split("---\n", 2)[2]
    (row,) = [line for line in text.splitlines() if line.startswith("| \\<script")]
    # Unescaped bars part the cells.
    assert len(re.split(r"(?<!\\)\|", row)) == 2 + 9
    assert yaml.safe_load(text.split("---\n")[1])["model-index"][0]["name"] == HOSTILE
