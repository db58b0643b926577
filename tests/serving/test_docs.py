"""docs/serving.md: its calls work as they stand, and its table has the server's limits."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from detflow.cli.main import cli

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
# A call goes on behind a backslash at the end of its line.
CALLS = re.findall(r"^curl (?:.*\\\n)*.*$", DOCS, re.MULTILINE)
CASES = list(zip(CALLS, ("images", "model_version_status", "predictions"), strict=True))


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize(("call", "key"), CASES, ids=["form", "status", "predict"])
def test_a_call_is_answered(call, key, served, kit, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(kit.encode(image_format="JPEG"))
    call = call.replace("127.0.0.1:8501", f"127.0.0.1:{served.port}").replace(
        "/models/pets", "/models/cells"
    )
    done = subprocess.run(["bash", "-c", call], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert key in json.loads(done.stdout)


def test_the_limits_are_the_servers():
    rows = re.findall(
        r"^\| .* \| ([\d,]+)(?: MiB)? \| `(--[\w-]+)` \| (?:4\d\d|504)", DOCS, re.MULTILINE
    )
    documented = {option: int(default.replace(",", "")) for default, option in rows}
    command = cli.commands["serve"]
    context = click.Context(command)
    options = {
        name: parameter.get_help_extra(context).get("default", "").replace(",", "")
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in parameter.opts
    }
    assert documented == {option: float(options[option]) for option in documented}
    assert len(documented) == 7
