"""The hook that `.pre-commit-hooks.yaml` declares, run as pre-commit would run it."""

import re
import shlex
from pathlib import Path

import yaml
from PIL import Image

HOOKS = yaml.safe_load((Path(__file__).resolve().parents[2] / ".pre-commit-hooks.yaml").read_text())


def test_the_hook_runs_detflow_check(run, tmp_path, monkeypatch):
    (hook,) = HOOKS
    assert {"id", "name", "entry", "language"} <= hook.keys()
    assert hook["pass_filenames"] is False
    program, *words = shlex.split(hook["entry"])
    assert program == "detflow"
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg")
    (tmp_path / "a.xml").write_text("<annotation>")
    monkeypatch.chdir(tmp_path)
    done = run(*words, *hook["args"])
    assert done.code == 3
    assert "a.xml:1" in done.out
    assert run(*words, tmp_path, "--strict").code == 3


def test_the_hook_looks_at_what_datasets_are_made_of():
    (hook,) = HOOKS
    for name in ("a.xml", "b/C.JPG", "train.txt", "x.tfrecord", "labels.yaml", "a.jpeg"):
        assert re.search(hook["files"], name), name
    assert not re.search(hook["files"], "train.py")
