import importlib.util
from pathlib import Path

import pytest

import detflow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def make_docs():
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "tools" / "make_docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["api", "cli", "settings"])
def test_the_generated_page_is_up_to_date(make_docs, name):
    text = getattr(make_docs, f"render_{name}")()
    # Compared line by line, so that a difference is short.
    written = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert text.splitlines() == written.splitlines(), "run python tools/make_docs.py"


def test_the_page_has_every_public_name(make_docs):
    text = make_docs.render_api()
    for name in set(detflow.__all__) - {"__version__"}:
        assert f"### detflow.{name}\n" in text
