"""The whole path as a person walks it: each stage a command of its own, in a process of its own."""

import importlib
import json
import os
import signal
import time
from pathlib import Path

import forks
import pytest

pytestmark = [pytest.mark.tf, pytest.mark.slow]

TOOLS = Path(__file__).resolve().parents[1] / "tools"
CONFIG = """
data: {records: records}
model:
  {input_size: [64, 64], max_level: 4, width_multiplier: 0.25, num_filters: 16, num_head_convs: 1}
train: {steps: 12, batch_size: 4}
evaluate: {every_steps: 6}
checkpoint: {every_steps: 2}
"""


@pytest.fixture
def draw_dataset(monkeypatch):
    """tools/make_sample_dataset.py, with the defects that can be mended."""
    monkeypatch.syspath_prepend(str(TOOLS))
    script = importlib.import_module("make_sample_dataset")
    return lambda output: script.make_dataset(output, 40, 1, (160, 120), script.MENDABLE)


def run(folder, *arguments):
    done = forks.run_command(arguments, folder)
    assert done.returncode == 0, done.stderr
    return done


def test_from_pictures_and_xml_to_boxes(draw_dataset, tmp_path):
    draw_dataset(tmp_path / "dataset")
    (tmp_path / "config.yaml").write_text(CONFIG)

    manifest = json.loads(
        run(tmp_path, "make-records", "dataset", "--output", "records", "--json").stdout
    )
    truth = json.loads((tmp_path / "dataset" / "truth.json").read_text())
    assert {name: split["images"] for name, split in manifest["splits"].items()} == {
        name: split["images"] for name, split in truth["usable"].items()
    }

    # A kill in the middle, after the first checkpoint: the same command goes on where that was.
    command = ["train", "--config", "config.yaml", "--model-dir", "run"]
    trainer = forks.start_command(command, tmp_path)
    while not list((tmp_path / "run").glob("ckpt-*")):
        assert trainer.is_alive(), (tmp_path / "stderr").read_text()
        time.sleep(0.01)
    os.kill(trainer.pid, signal.SIGKILL)
    trainer.join()
    resumed = run(tmp_path, *command)
    assert "resuming at step " in resumed.stderr
    assert resumed.stdout.startswith("best checkpoint: run")

    evaluation = ["--model", "run", "--records", "records", "--split", "test", "--json"]
    evaluated = json.loads(run(tmp_path, "evaluate", *evaluation).stdout)
    assert evaluated["num_images"] == truth["usable"]["test"]["images"]

    run(tmp_path, "export", "--ckpt", "run", "--output", "export")
    card = json.loads((tmp_path / "export" / "model.json").read_text())
    assert (card["failed"], card["parity"]["images"]) == ({}, "records")

    pictures, options = "dataset/JPEGImages", ["--output", "found", "--score-threshold", "0.01"]
    run(tmp_path, "predict", pictures, "--model", "export", *options)
    overlays = os.listdir(tmp_path / "found" / "overlays")
    assert (
        len(overlays)
        == len(json.loads((tmp_path / "found" / "predictions.json").read_text())["images"])
        > 30
    )
