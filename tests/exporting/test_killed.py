"""An export of made-up files that is killed at any of its steps: no folder, or a whole one."""

import json
import subprocess
import sys

import pytest

from detflow.errors import Locked
from detflow.publish import publish_directory

# Each child exports and is killed at one of its steps: where it is about to make, open, rename,
# lock or remove something. The next one comes some steps further, until one reaches the end.
# All come from a process without TensorFlow, so that it can be forked.
PROGRAM = """
import json, os, shutil, signal, sys, types
from pathlib import Path

from detflow.artifact import ArtifactDir
from detflow.exporting.run import export_model
from detflow.inference.formats import FORMATS
from detflow.digests import digest_files, seal

model_dir, folder = map(Path, sys.argv[1:3])
stride = int(sys.argv[3])
output = folder / "out"


def build_artifact(artifact, checkpoint, options):
    for known in FORMATS:
        for entry in known.entries:
            path = artifact.path / entry.path
            path.parent.mkdir(exist_ok=True)
            if path.name == "saved_model":
                path.mkdir(exist_ok=True)
                path = path / "saved_model.pb"
            path.write_bytes(os.urandom(100))
    card = seal({"files": digest_files(artifact.path)})
    artifact.manifest_path.write_text(json.dumps(card))
    return card


build = types.ModuleType("detflow.exporting.build")
build.build_artifact, build.ExportOptions = build_artifact, lambda *args: args
sys.modules["detflow.exporting.build"] = build
assert "tensorflow" not in sys.modules
# What an export imports is here before the first child begins to count: in which child a module is
# compiled or a folder is listed anew would depend on what else the machine does.
export_model(str(model_dir), folder / "out")
shutil.rmtree(folder / "out")
STEPS = (
    "open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "fcntl.flock",
    "os.listdir",
)


def export_until(step):
    seen = 0

    def count(event, args):
        nonlocal seen
        if event in STEPS:
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        sys.addaudithook(count)
        export_model(str(model_dir), output)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def read_output():
    if not output.exists():
        return None
    ArtifactDir(output).verify()
    return (output / "model.json").read_bytes()


report = {}
for name in ("none", "old"):
    before, step, states = read_output(), 1, set()
    while (code := export_until(step)) == -signal.SIGKILL:
        states.add("before" if read_output() == before else "after")
        if read_output() != before:
            before = read_output()
        # Towards the end, where the folders are exchanged, every step counts.
        step += stride if step < 50 else 1
    assert code == 0, code
    assert read_output() not in (None, before)
    report[name] = {"killed": step, "states": sorted(states)}
report["left"] = sorted(entry.name for entry in folder.iterdir())
print(json.dumps(report))
"""


@pytest.mark.slow
@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.soak)])
def test_an_export_killed_at_any_step_leaves_nothing_or_all_of_it(
    stride, tmp_path, run_record, save_state
):
    # All that is asked of a run before its network is built.
    from detflow.config.reading import parse_config
    from detflow.runs.run_dir import RunDir

    run = RunDir(tmp_path / "run")
    save_state(run, run_record(parse_config("data: {records: nowhere}")), 10)
    (tmp_path / "exports").mkdir()
    arguments = [
        sys.executable,
        "-c",
        PROGRAM,
        str(tmp_path / "run" / "ckpt-10"),
        str(tmp_path / "exports"),
        str(stride),
    ]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert min(report["none"]["killed"], report["old"]["killed"]) > 60
    # Towards the end the exchange has taken place.
    assert report["none"]["states"] == report["old"]["states"] == ["after", "before"]
    # What the dead ones left behind is swept by those that come after them.
    assert report["left"] == ["out"]


def test_an_export_waits_for_no_other_writer_of_its_folder(tmp_path, run_record, save_state):
    from detflow.config.reading import parse_config
    from detflow.exporting.run import export_model
    from detflow.runs.run_dir import RunDir

    run = RunDir(tmp_path / "run")
    save_state(run, run_record(parse_config("data: {records: nowhere}")), 10)
    with publish_directory(tmp_path / "out") as staging:
        (staging / "model.json").write_text("{}")
        with pytest.raises(Locked, match="another process is writing there"):
            export_model(str(run.checkpoint_path(10)), tmp_path / "out", formats="onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]
