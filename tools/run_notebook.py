#!/usr/bin/env python
"""Runs docs/notebook.ipynb from its first cell to its last and stores what they show.

    pip install nbclient ipykernel    # no lock has them: nothing else needs them
    python tools/run_notebook.py

It takes some minutes. A cell that fails ends it, and the file stays as it was.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "notebook.ipynb"


def main() -> None:
    """Runs the notebook in the environment of this process."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    language = dict(notebook.metadata["language_info"])
    # As Jupyter does, it starts in the notebook's own folder.
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=resources).execute()
    # The version of Python would be in it, and differ from machine to machine.
    notebook.metadata["language_info"] = language
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            # IPython shows a Pillow image in two forms; one is enough.
            output.get("data", {}).pop("image/jpeg", None)
    nbformat.write(notebook, NOTEBOOK)
    print(f"{NOTEBOOK}: {len(notebook.cells)} cells")


if __name__ == "__main__":
    main()
