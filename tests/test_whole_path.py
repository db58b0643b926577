"""The whole path as a person walks it: README's and the tutorial's commands, a process each.

The two pages tell one path, of `pets` and of `raccoon`. What both of them say runs once, as it
stands there, but for options behind it that make the training small and choose the formats.
"""

import importlib
import json
import os
import shutil
import signal
import subprocess
import time

import forks
import pytest
from documented import ROOT, read_commands, read_mentions

pytestmark = [pytest.mark.tf, pytest.mark.slow, pytest.mark.whole_network]

PAGES = ("docs/tutorial.md", "README.md")
# No weights are fetched, and seconds are enough.
LESS = {
    "init": ["--no-probe", "--from", "scratch"],
    "train": [
        f"--set={setting}"
        for setting in (
            "model.input_size=[64,64]",
            "model.max_level=4",
            "model.width_multiplier=0.25",
            "model.num_filters=16",
            "model.num_head_convs=1",
            "train.time_budget=null",
            "train.steps=12",
            "train.warmup_steps=2",
            "train.batch_size=4",
            "evaluate.every_steps=6",
            "checkpoint.every_steps=2",
        )
    ],
    "export": ["--formats", "onnx,tflite"],
    "predict": ["--score-threshold", "0.01"],
    "serve": ["--port", "0"],
}


def about_pets(words):
    return tuple(word.replace("raccoon", "pets") for word in words)


@pytest.fixture
def draw_dataset(monkeypatch):
    """tools/make_sample_dataset.py, with the defects that can be mended."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    script = importlib.import_module("make_sample_dataset")

    def draw(output):
        script.make_dataset(output, 40, 1, (160, 120), script.MENDABLE)
        # The layout that README speaks of, and the public set has.
        (output / "JPEGImages").rename(output / "images")
        (output / "Annotations").rename(output / "annotations")
        return json.loads((output / "truth.json").read_text())["usable"]

    return draw


class Walk:
    """Runs commands in a folder, one after the other."""

    def __init__(self, folder):
        self.folder = folder
        self.server = None
        self.done = {}

    def run(self, words):
        """Runs a command as it stands on a page; afterwards `done` has what it printed."""
        tool, name = words[0], words[1] if len(words) > 1 else ""
        if tool == "curl":
            self.done[tool] = self.ask(words)
            return
        assert tool == "detflow", words
        arguments = [*words[1:], *LESS.get(name, ())]
        if name == "serve":
            self.serve(arguments)
            return
        if name == "train":
            self.kill(arguments)
        done = forks.run_command(arguments, self.folder)
        assert done.returncode == 0, f"{words}\n{done.stderr}"
        self.done[name] = done

    def kill(self, arguments):
        """Kills a training in the middle, after its first checkpoint."""
        model_dir = self.folder / arguments[arguments.index("--model-dir") + 1]
        trainer = forks.start_command(arguments, self.folder)
        while not list(model_dir.glob("ckpt-*")):
            assert trainer.is_alive(), (self.folder / "stderr").read_text()
            time.sleep(0.01)
        os.kill(trainer.pid, signal.SIGKILL)
        trainer.join()

    def serve(self, arguments):
        self.server = forks.start_command(arguments, self.folder)
        # Another command must not take over its output.
        printed = self.folder / "stdout"
        while not printed.exists() or "serving " not in printed.read_text():
            assert self.server.is_alive(), (self.folder / "stderr").read_text()
            time.sleep(0.01)
        self.done["serve"] = printed.read_text()

    def ask(self, words):
        # What the public set calls a picture; the drawn one has other names.
        photo = next((self.folder / "photos").iterdir())
        shutil.copy(photo, self.folder / "pets" / "images" / "pets-1.jpg")
        address = self.done["serve"].split()[-1]
        words = [word.replace("http://127.0.0.1:8501", address) for word in words]
        done = subprocess.run(
            [*words, "--silent", "--noproxy", "*"], cwd=self.folder, capture_output=True, check=True
        )
        return json.loads(done.stdout)

    def close(self):
        if self.server is not None:
            os.kill(self.server.pid, signal.SIGTERM)
            self.server.join()


@pytest.fixture
def walk(tmp_path):
    walk = Walk(tmp_path)
    yield walk
    walk.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_whoever_types_the_commands_gets_boxes(draw_dataset, walk, tmp_path):
    usable = draw_dataset(tmp_path / "pets")
    shutil.copytree(
        tmp_path / "pets" / "images",
        tmp_path / "photos",
        ignore=lambda folder, names: sorted(names)[3:],
    )
    commands = dict.fromkeys(about_pets(words) for page in PAGES for words in read_commands(page))
    # These install or fetch, or are all of this; tests/test_install.py runs what installs.
    others = {"git", "pip", "python3", "source", "tools/demo", "tools/test"}
    typed = [words for words in commands if words[0] not in others]
    for page in PAGES:
        for words in read_mentions(page):
            assert about_pets(words) in typed, f"{page}: {words}"
    # A server is asked while it runs.
    for words in sorted(typed, key=lambda words: words[0] == "curl" or "serve" in words):
        walk.run(words)

    done = walk.done
    manifest = json.loads((tmp_path / "records" / "pets" / "manifest.json").read_text())
    assert {name: split["images"] for name, split in manifest["splits"].items()} == {
        name: split["images"] for name, split in usable.items()
    }
    assert "resuming at step " in done["train"].stderr
    assert done["train"].stdout.startswith("best checkpoint: runs/pets")
    evaluation = json.loads((tmp_path / "reports" / "pets" / "metrics.json").read_text())
    assert evaluation["num_images"] == usable["test"]["images"]
    card = json.loads((tmp_path / "exports" / "pets" / "model.json").read_text())
    assert (card["failed"], card["parity"]["images"]) == ({}, "records")
    assert set(card["formats"]) == {"onnx", "tflite"}
    # README's photos were the last ones; one of them is damaged on purpose.
    predictions = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert (len(predictions["images"]), len(predictions["failed"])) == (2, 1)
    assert len(os.listdir(tmp_path / "found" / "overlays")) == 2
    assert len(done["curl"]["images"]) == 1
