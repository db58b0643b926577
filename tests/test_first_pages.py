"""README and the pages that a newcomer reads first: what they show fits a terminal and is so."""

import re
import tomllib

import pytest
from documented import ROOT, read_blocks
from PIL import Image

FIRST = ("README.md", "docs/tutorial.md", "docs/install.md", "docs/comparison.md")
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", FIRST)
def test_no_line_of_a_block_is_wider_than_a_terminal(page):
    lines = [line for block in read_blocks(page) for line in block.splitlines()]
    assert [line for line in lines if len(line) > 80] == []


def test_the_figures_to_expect_are_those_that_were_measured():
    table = README.partition("## What to expect")[2].partition("\n\nAP is")[0]
    rows = [line for line in table.splitlines() if re.match(r"\| \d", line)]
    assert len(rows) > 3
    measured = "".join(
        (ROOT / "docs" / page).read_text(encoding="utf-8")
        for page in ("benchmarks.md", "training.md")
    )
    for figure in re.findall(r"(?<![\d.])\.\d{3}", "".join(rows)):
        assert figure in measured, figure


def test_the_gpu_s_libraries_are_those_of_the_tensorflow_that_is_required():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [required] = [
        one
        for one in pyproject["project"]["optional-dependencies"]["train"]
        if one.startswith("tensorflow>")
    ]
    assert required == "tensorflow>=2.20,<2.21"
    for page in ("README.md", "docs/install.md"):
        assert "'tensorflow[and-cuda]==2.20.*'" in (ROOT / page).read_text(encoding="utf-8")


def test_the_pictures_are_small_and_there():
    places = [
        (ROOT / page).parent / target
        for page in FIRST
        for target in re.findall(
            r"!\[[^\]]+\]\(([^)]+)\)", (ROOT / page).read_text(encoding="utf-8")
        )
    ]
    assert len(places) >= 3
    for place in places:
        assert place.stat().st_size < 250_000, place
        with Image.open(place) as picture:
            assert picture.width <= 1600


def test_no_line_of_prose_is_longer_than_100_characters():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("datasets/*.md")]
    long = [
        f"{page.relative_to(ROOT)}:{number}"
        for page in pages
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
        # Rows of tables and addresses cannot be wrapped.
        if len(line) > 100 and not line.startswith("|") and "](http" not in line
    ]
    assert len(pages) > 20
    assert long == []
