"""The snippets of docs/export.md run as they stand beside a photo, and its tables are complete."""

import re
import shutil
from pathlib import Path

import pytest

from detflow.artifact import CONTRACT
from detflow.inference.formats import FORMATS

pytestmark = pytest.mark.tf

DOCS = Path(__file__).resolve().parents[2] / "docs" / "export.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


def test_there_is_a_snippet_for_every_runtime():
    assert len(SNIPPETS) == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "snippet", SNIPPETS, ids=["tensorflow-1", "frozen-graph", "saved-model", "detflow", "tflite"]
)
def test_a_snippet_detects_something(
    snippet, export_dir, pictures_dir, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "export"
    shutil.copytree(export_dir, folder)
    shutil.copy(pictures_dir / "p00.jpg", folder / "photo.jpg")
    monkeypatch.chdir(folder)
    # The snippet has a namespace of its own, so what it needs it has to import.
    exec(snippet, {})
    assert re.search(r"0\.\d", capsys.readouterr().out)


def test_the_tables_name_every_tensor_and_file(export_dir):
    text = DOCS.read_text(encoding="utf-8")
    for name in (*CONTRACT["inputs"], *CONTRACT["outputs"]):
        assert f"`{name}" in text
    for known in FORMATS:
        assert f"`{known.name}`" in text
        for path in known.paths:
            assert f"`{path}" in text
    for entry in export_dir.iterdir():
        assert f"`{entry.name}{'/' if entry.is_dir() else ''}`" in text
