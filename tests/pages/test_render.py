import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import jinja2
import pytest

from detflow.pages import render
from detflow.pages.charts import build_stack
from detflow.pages.render import Section, render_page

FRAME = """
{% extends "base.html.j2" %}
{% from "macros.html.j2" import chart, section, swatch, table %}
{% set kicker = "Page" %}
{% block lead %}{{ value }}{% endblock %}
{% block main %}
{% call section(sections, "one") %}
<p title="{{ value }}">{{ value }}</p>
{{ chart(shown) }}{{ swatch("used") }}{{ swatch((1, 2, 3)) }}
{% call table([value, ""]) %}<tbody><tr><td>{{ value }}</td></tr></tbody>{% endcall %}
{% endcall %}
{% endblock %}
{% block footer %}{{ value }}.{% endblock %}
"""

HOSTILE = {
    "a script": "<script>alert(1)</script>",
    "an attribute's end": "\"><img src=x onerror='alert(1)'>",
    "a template": "{{ 7*7 }}{% raw %}",
    "entities": "&lt;b&gt; &amp;",
    "a comment": "<!-- --></style></title>",
}
INVISIBLE = {
    "\x00\x1b[31m": "\\x00\\x1b[31m",
    "a\u202eb": "a\\u202eb",
    "\u2066\u200b": "\\u2066\\u200b",
    "line\nbreak\t": "line\\nbreak\\t",
    "lone \udcff": "lone \\udcff",
    "\U000e0041": "\\U000e0041",
}


@pytest.fixture
def show(monkeypatch, parse_page):
    """Renders a page whose every place shows a value."""
    environment = render._environment().overlay(
        loader=jinja2.ChoiceLoader(
            [jinja2.DictLoader({"frame.html.j2": FRAME}), jinja2.PackageLoader("detflow.pages")]
        )
    )
    monkeypatch.setattr(render, "_environment", lambda: environment)

    def show(value):
        return parse_page(
            render_page(
                "frame.html.j2",
                name=value,
                sections={"one": Section("One", 1234)},
                value=value,
                shown=build_stack([(1, "used")], value),
            )
        )

    return show


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_stays_text_in_every_place(show, value):
    page = show(value)
    page.require_inert()
    plain = show("plain")
    assert [e.tag for e in page.find("*")] == [e.tag for e in plain.find("*")]
    assert page.text == plain.text.replace("plain", value)
    [paragraph] = page.find("section/p")
    assert paragraph.get("title") == value
    assert value in [e.get("aria-label") for e in page.find("svg")]


@pytest.mark.parametrize("value", INVISIBLE, ids=ascii)
def test_what_cannot_be_seen_is_shown_as_its_escape(show, value):
    page = show(value)
    assert page.texts("section/p") == [INVISIBLE[value]]
    assert not any(c in page.html for c in value if not c.isprintable() and c != "\n")
    assert page.html.encode()


def test_scripts_of_the_world_are_shown_as_they_are(show):
    assert show("血小板 é ß 🦝").texts("section/p") == ["血小板 é ß 🦝"]


def test_a_missing_value_is_an_error(show):
    with pytest.raises(TypeError, match="None"):
        show(None)
    with pytest.raises(jinja2.UndefinedError, match="value"):
        render_page("frame.html.j2", name="a", sections={})


def test_links_lead_to_sections_and_show_counts(show):
    page = show("plain")
    page.require_links("one")
    assert page.texts("nav//a") == ["One 1,234"]


def test_only_style_sheet_and_script_are_trusted():
    """Whoever marks another text as safe has to say so here."""
    folder = Path(render.__file__).parent
    for path in (folder / "templates").iterdir():
        text = path.read_text()
        assert "|safe" not in text.replace(" ", ""), path
        assert "autoescape" not in text, path
    assert render._environment().autoescape is True
    trusted = [
        name for name, value in render._environment().globals.items() if hasattr(value, "__html__")
    ]
    assert trusted == ["style", "script"]


def test_a_wheel_has_templates_and_style(tmp_path):
    root = Path(render.__file__).parents[2]
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    templates = {path.name for path in (root / "detflow/pages/templates").iterdir()}
    assert {f"detflow/pages/templates/{name}" for name in templates} <= names
    for folder in ("pages/scripts", "serving/page"):
        files = {path.name for path in (root / "detflow" / folder).iterdir()}
        assert files
        assert {f"detflow/{folder}/{name}" for name in files} <= names
    # Installed, and run from elsewhere: the loader finds the templates of the package.
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    code = (
        "import json, detflow.pages.render as render\n"
        "environment = render._environment()\n"
        "for name in environment.list_templates(): environment.get_template(name)\n"
        "print(json.dumps([render.__file__, environment.list_templates()]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        check=True,
        capture_output=True,
        text=True,
    )
    place, found = json.loads(done.stdout)
    assert place.startswith(str(tmp_path))
    assert set(found) == templates
