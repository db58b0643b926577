"""Executes the examples of docs/extending.md, a chapter at a time."""

from pathlib import Path

import pytest

from detflow.config.backbones import BACKBONES
from detflow.data.rules import RULES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extending.md"
NEEDS_TENSORFLOW = {"A backbone", "An augmentation", "An export format"}


def read_chapters():
    """Returns the examples of each chapter, padded so that a line has its number in the page."""
    chapters = {}
    title, block = None, None
    for number, line in enumerate(PAGE.read_text(encoding="utf-8").splitlines()):
        if block is None and line.startswith("## "):
            title = line.removeprefix("## ")
            chapters[title] = []
        elif line == "```python":
            block = ["\n" * (number + 1)]
        elif line == "```" and block is not None:
            chapters[title].append("".join(block))
            block = None
        elif block is not None:
            block.append(line + "\n")
    return chapters


CHAPTERS = read_chapters()


@pytest.fixture
def restored_tables(monkeypatch):
    """Takes out of the tables afterwards what the examples put into them."""
    monkeypatch.setitem(BACKBONES, "resnet26", None)
    monkeypatch.setitem(RULES, "box_whole_image", None)


@pytest.fixture
def restored_augmentations(monkeypatch):
    from detflow.training.augment import pipeline

    monkeypatch.setattr(pipeline, "AUGMENTATIONS", [*pipeline.AUGMENTATIONS])


@pytest.fixture
def trained_pets(model_dir, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "pets").symlink_to(model_dir)


FIXTURES = {"An augmentation": "restored_augmentations", "An export format": "trained_pets"}


@pytest.mark.parametrize(
    "title",
    [
        pytest.param(title, marks=[pytest.mark.tf] if title in NEEDS_TENSORFLOW else [])
        for title in CHAPTERS
    ],
)
@pytest.mark.usefixtures("restored_tables")
def test_the_examples_of_a_chapter_run(title, request, tmp_path, monkeypatch):
    if title in FIXTURES:
        request.getfixturevalue(FIXTURES[title])
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "extending"}
    assert CHAPTERS[title]
    for source in CHAPTERS[title]:
        exec(compile(source, str(PAGE), "exec"), namespace)


def test_the_page_has_a_chapter_for_each_seam():
    assert len(CHAPTERS) == 7
    assert set(CHAPTERS) >= NEEDS_TENSORFLOW | set(FIXTURES)
