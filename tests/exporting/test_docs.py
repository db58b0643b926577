"""The snippets of docs/export.md run as they stand, each in a process of its own beside a photo."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.tf

DOCS = Path(__file__).resolve().parents[2] / "docs" / "export.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


def test_there_is_a_snippet_for_every_runtime():
    assert len(SNIPPETS) == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "snippet", SNIPPETS, ids=["tensorflow-1", "frozen-graph", "saved-model", "detflow", "tflite"]
)
def test_a_snippet_detects_something(snippet, artifact_dir, model_dir, pictures_dir, tmp_path):
    folder = tmp_path / "export"
    if ".tflite" in snippet:
        from detflow.exporting.run import export_model

        export_model(str(model_dir), folder, formats="tflite")
    else:
        shutil.copytree(artifact_dir, folder)
    shutil.copy(pictures_dir / "p00.jpg", folder / "photo.jpg")
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"0\.\d", done.stdout)


def test_the_tables_name_every_tensor_and_file(artifact_dir):
    from detflow.artifact import CONTRACT, FORMATS

    text = DOCS.read_text(encoding="utf-8")
    for name in (*CONTRACT["inputs"], *CONTRACT["outputs"]):
        assert f"`{name}" in text
    for form in FORMATS.values():
        assert f"`{form.name}`" in text
        for entry in form.entries:
            assert f"`{entry.path.partition('/')[0]}" in text
    for entry in artifact_dir.iterdir():
        assert f"`{entry.name}{'/' if entry.is_dir() else ''}`" in text
