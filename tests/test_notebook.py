"""docs/notebook.ipynb: its cells run in order, and its stored outputs are of a whole run."""

import json
from pathlib import Path

import forks
import pytest

pytestmark = [pytest.mark.tf, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
# A few steps on a few images show that the way can be gone; a detector that is worth looking at
# takes a minute.
LESS = {
    "steps = 400\n": "steps = 4\n",
    '"--images", "150"': '"--images", "40"',
}


def read_cells():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_the_outputs_are_stored_in_order_and_none_is_an_error():
    cells = read_cells()
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert [output for output in outputs if output.get("name") == "stderr"] == []
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 3
    # Nothing tells on whose machine it ran.
    for folder in (ROOT, Path.home()):
        assert f"{folder}/" not in json.dumps([output.get("text") for output in outputs])


def test_the_cells_run(tmp_path):
    # As in IPython, a last line that is an expression has a value; here it is only computed.
    program = "\n\n".join("".join(cell["source"]) for cell in read_cells())
    for text, less in LESS.items():
        assert program.count(text) == 1
        program = program.replace(text, less)
    # Model Garden chooses another way to draw figures, and a notebook would show none.
    program += "\n\nprint('backend:', plt.get_backend())\n"
    program += "assert 'official.vision' in sys.modules\n"
    (tmp_path / "notebook.py").write_text(program, encoding="utf-8")
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    backend = "module://matplotlib.backends.backend_svg"
    done = forks.run_script("notebook.py", tmp_path, MPLBACKEND=backend, TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "annotations   " in done.stdout
    assert "<annotation>" in done.stdout
    assert f"backend: {backend}" in done.stdout
