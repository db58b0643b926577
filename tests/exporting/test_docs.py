"""The tables of docs/export.md are complete."""

from pathlib import Path

import pytest

from detflow.artifact import CONTRACT, TFLITE_CONTRACT
from detflow.inference.formats import FORMATS

pytestmark = pytest.mark.tf

DOCS = Path(__file__).resolve().parents[2] / "docs" / "export.md"


def test_the_tables_name_every_tensor_and_file(export_dir):
    text = DOCS.read_text(encoding="utf-8")
    for name in (*CONTRACT["inputs"], *CONTRACT["outputs"]):
        assert f"`{name}" in text
    for part in ("inputs", "outputs"):
        for name, tensor in TFLITE_CONTRACT[part].items():
            assert f"| `{tensor['tensor']}` | `{name}` | {tensor['dtype']} [" in text
    for known in FORMATS:
        assert f"`{known.name}`" in text
        for path in known.paths:
            assert f"`{path}" in text
    for entry in export_dir.iterdir():
        assert f"`{entry.name}{'/' if entry.is_dir() else ''}`" in text
