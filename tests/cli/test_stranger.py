import json
import re
from pathlib import Path

import pytest

from detflow.cli.stranger import DISTRIBUTION, find_stranger

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def install(tmp_path):
    """Puts the metadata of a distribution where Python looks for them."""

    def put(name, version, **files):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        for file, content in files.items():
            (folder / f"{file}.json").write_text(json.dumps(content))

    return put


def test_a_stranger_is_named_with_the_remedy(install, tmp_path):
    install("detflow_vision", "0.1.0")
    assert find_stranger([str(tmp_path)]) is None
    install("detflow", "0.2.0")
    told = find_stranger([str(tmp_path)])
    assert "an unrelated project, detflow 0.2.0, is installed" in told
    assert f"install {DISTRIBUTION} again" in told


def test_a_checkout_from_before_the_name_is_no_stranger(install, tmp_path):
    install("detflow", "0.1.0", direct_url={"url": "file:///src", "dir_info": {"editable": True}})
    assert find_stranger([str(tmp_path)]) is None


def test_nothing_advises_to_install_from_the_index():
    """The public index has the name for another project, and this one is not there."""
    assert re.search(r'^name = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[
        1
    ] == (DISTRIBUTION)
    files = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("docs/*.ipynb")]
    files += [*ROOT.glob("detflow/**/*.py"), *ROOT.glob("detflow/**/*.html")]
    advised = re.compile(r"pip install (?:-\S+ )*['\"`]?(detflow[\w-]*)")
    found = [
        (path.relative_to(ROOT), match[1])
        for path in files
        for match in advised.finditer(path.read_text(encoding="utf-8"))
    ]
    assert len(files) > 100
    assert found == []
