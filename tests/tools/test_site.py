"""The documentation becomes a site without a dead link."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_site_builds_and_no_link_is_dead(tmp_path, monkeypatch):
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    # A page that the navigation lacks, or a link to nowhere, is a warning, and so an error.
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True))
    pages = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("index.html")}
    sources = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "datasets").glob("*.md")]
    assert len(pages) == len(sources) + len(["README", "CONTRIBUTING", "CHANGELOG"])
    first = (tmp_path / "index.html").read_text(encoding="utf-8")
    # README's links lead to pages of the site.
    assert 'href="repairs/"' in first
    assert not re.search(r'(href|src)="https?://fonts', first)
