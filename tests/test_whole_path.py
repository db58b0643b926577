"""The whole path as a person walks it: each stage a command of its own, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.tf, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[1]
CONFIG = """
data: {records: records}
model: {input_size: [64, 64], width_multiplier: 0.25, num_filters: 16, num_head_convs: 1}
train: {steps: 24, batch_size: 4}
evaluate: {every_steps: 12}
checkpoint: {every_steps: 4}
"""


def run(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "detflow", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_from_pictures_and_xml_to_boxes(tmp_path):
    script = [
        sys.executable,
        ROOT / "tools" / "make_sample_dataset.py",
        "--images",
        "40",
        "--output",
        tmp_path / "dataset",
        "--defects",
    ]
    subprocess.run([str(part) for part in script], check=True, capture_output=True)
    (tmp_path / "config.yaml").write_text(CONFIG)

    manifest = json.loads(
        run(tmp_path, "make-records", "dataset", "--output", "records", "--json").stdout
    )
    truth = json.loads((tmp_path / "dataset" / "truth.json").read_text())
    assert {name: split["images"] for name, split in manifest["splits"].items()} == {
        name: split["images"] for name, split in truth["usable"].items()
    }

    # A kill in the middle, after the first checkpoint: the same command goes on where that was.
    command = [
        sys.executable,
        "-m",
        "detflow",
        "train",
        "--config",
        "config.yaml",
        "--model-dir",
        "run",
    ]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as trainer:
        while not list((tmp_path / "run").glob("ckpt-*")):
            assert trainer.poll() is None, trainer.stderr.read()
            time.sleep(0.01)
        trainer.send_signal(signal.SIGKILL)
    resumed = run(tmp_path, "train", "--config", "config.yaml", "--model-dir", "run")
    assert "resuming at step " in resumed.stderr
    assert resumed.stdout.startswith("best checkpoint: run")

    evaluated = json.loads(
        run(
            tmp_path,
            "evaluate",
            "--model",
            "run",
            "--records",
            "records",
            "--split",
            "test",
            "--json",
        ).stdout
    )
    assert evaluated["num_images"] == truth["usable"]["test"]["images"]

    run(tmp_path, "export", "--ckpt", "run", "--output", "export")
    card = json.loads((tmp_path / "export" / "model.json").read_text())
    assert (card["failed"], card["parity"]["images"]) == ({}, "records")

    pictures = "dataset/JPEGImages"
    run(
        tmp_path,
        "predict",
        pictures,
        "--model",
        "export",
        "--output",
        "found",
        "--score-threshold",
        "0.01",
    )
    overlays = os.listdir(tmp_path / "found" / "overlays")
    assert (
        len(overlays)
        == len(json.loads((tmp_path / "found" / "predictions.json").read_text())["images"])
        > 30
    )
