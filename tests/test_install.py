"""Each lock in a fresh environment: what it weighs, how long it takes, and what runs in it.

And README's own lines, as far as they install the light core.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from documented import ROOT, read_blocks

pytestmark = [
    pytest.mark.tf,
    pytest.mark.slow,
    pytest.mark.soak,
]


def run(*command, code=0, **options):
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, **options)
    assert done.returncode == code, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done


def install(folder, lock):
    """Installs detflow with a lock's versions; returns the seconds and the bytes on the disk."""
    began = time.monotonic()
    run(sys.executable, "-m", "venv", folder)
    pip = (folder / "bin/python", "-m", "pip", "install", "--quiet")
    run(*pip, "--require-hashes", "--requirement", ROOT / lock)
    run(*pip, "--no-deps", ROOT)
    seconds = time.monotonic() - began
    files = (Path(root) / name for root, _, names in os.walk(folder) for name in names)
    return seconds, sum(file.lstat().st_size for file in files)


@pytest.mark.parametrize(
    ("lock", "most_bytes"), [("requirements-light.lock", 0.5e9), ("requirements.lock", 4.5e9)]
)
def test_a_lock_installs_what_its_commands_need(
    lock, most_bytes, onnx_dir, pictures_dir, tmp_path, capsys
):
    is_light = lock == "requirements-light.lock"
    seconds, size = install(tmp_path / "venv", lock)
    assert size < most_bytes
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    detflow = tmp_path / "venv/bin/detflow"

    def detflow_run(*arguments, code=0):
        return run(detflow, *arguments, code=code, cwd=tmp_path, env=environment)

    began = time.monotonic()
    detflow_run("--help")
    help_seconds = time.monotonic() - began
    run(
        *(sys.executable, ROOT / "tools/make_sample_dataset.py", "--images", 40),
        *("--output", tmp_path / "set"),
    )
    detflow_run("check", "set")
    detflow_run("make-records", "set", "--output", "records")
    detflow_run("convert", "set", "--to", "coco", "--output", "coco")
    detflow_run("diff", "set", "records")
    detflow_run("init", "records", "--output", "set.yaml")
    detflow_run("predict", pictures_dir, "--model", onnx_dir, "--output", "found")
    assert json.loads((tmp_path / "found/predictions.json").read_text())
    measured = detflow_run("benchmark", onnx_dir, "--seconds", 0.1, "--threads", 1)
    assert ("not measured: frozen: TensorFlow is not installed" in measured.stderr) == is_light
    detflow_run("serve", "--help")
    program = "import detflow; print(sum(1 for _ in detflow.read_samples('records', 'train')))"
    samples = run(tmp_path / "venv/bin/python", "-c", program, cwd=tmp_path).stdout
    assert int(samples) > 0
    has_tensorflow = run(tmp_path / "venv/bin/python", "-c", "import tensorflow", code=is_light)
    assert ("No module named 'tensorflow'" in has_tensorflow.stderr) == is_light
    if is_light:
        told = detflow_run("train", "--config", "set.yaml", code=5).stderr
        assert told == (
            "detflow: error: training needs TensorFlow, which is not installed; "
            "pip install '.[train]' in the checkout of detflow\n"
        )
    with capsys.disabled():
        sys.stdout.write(
            f"\n{lock}: {size / 1e9:.2f} GB in {seconds:.0f} s, "
            f"detflow --help in {help_seconds:.2f} s\n"
        )


def test_readme_s_lines_install_the_light_core(tmp_path):
    checkout = shutil.copytree(
        ROOT, tmp_path / "checkout", ignore=shutil.ignore_patterns(".*", "tests", "docs", "demo")
    )
    *light, train, gpu, version = read_blocks("README.md", "sh")[0].splitlines()
    assert (len(light), version) == (3, "detflow --version")
    assert train.startswith("pip install '.[train]'")
    assert gpu.startswith("pip install 'tensorflow[")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = "\n".join(["set -e", *light, version, 'python -c "import tensorflow"'])
    done = run("bash", "-c", script, code=1, cwd=checkout, env={**os.environ, "PATH": path})
    assert "detflow, version " in done.stdout
    assert "No module named 'tensorflow'" in done.stderr
