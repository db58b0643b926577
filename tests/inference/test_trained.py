import shutil
import subprocess
import sys

import pytest

from detflow.errors import ArtifactError, ConfigError
from detflow.inference.trained import load_trained_model
from detflow.runs.states import find_checkpoint

pytestmark = pytest.mark.tf


@pytest.fixture
def run_copy(model_dir, tmp_path):
    shutil.copytree(model_dir, tmp_path / "run")
    return tmp_path / "run"


def test_words_and_paths_find_the_checkpoint(model_dir, monkeypatch):
    assert find_checkpoint(model_dir)[1] == model_dir / "ckpt-10"
    assert find_checkpoint(model_dir, "last")[1] == model_dir / "ckpt-20"
    run, path = find_checkpoint(model_dir / "ckpt-20")
    assert (run.path, path) == (model_dir, model_dir / "ckpt-20")
    monkeypatch.chdir(model_dir)
    assert find_checkpoint(type(model_dir)("ckpt-20"))[1].resolve() == model_dir / "ckpt-20"


def test_a_damaged_best_checkpoint_gives_way_with_a_warning(run_copy, caplog):
    data = run_copy / "ckpt-10" / "ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1])
    assert find_checkpoint(run_copy)[1] == run_copy / "ckpt-20"
    assert "ckpt-10" in caplog.text
    # Named outright, it is an error and nothing else is taken in its place.
    with pytest.raises(ArtifactError, match="ckpt-10"):
        load_trained_model(run_copy / "ckpt-10")


def test_a_checkpoint_of_another_network_is_refused(run_copy):
    config = run_copy / "config.yaml"
    config.write_text(config.read_text().replace("num_filters: 16", "num_filters: 24"))
    with pytest.raises(ArtifactError, match="does not fit the model"):
        load_trained_model(run_copy)


def test_another_number_of_classes_is_refused(run_copy):
    (run_copy / "label_map.pbtxt").write_text("item { id: 1 name: 'cat' }")
    with pytest.raises(ArtifactError, match="does not fit the model"):
        load_trained_model(run_copy)


def test_links_in_a_checkpoint_are_not_followed(run_copy, tmp_path):
    index = run_copy / "ckpt-20" / "ckpt.index"
    index.rename(tmp_path / "outside.index")
    index.symlink_to(tmp_path / "outside.index")
    with pytest.raises(ArtifactError, match="not a plain file"):
        load_trained_model(run_copy / "ckpt-20")


def test_a_config_cannot_make_objects(run_copy, tmp_path):
    (run_copy / "config.yaml").write_text(
        f"!!python/object/apply:os.mkdir ['{tmp_path / 'made'}']\n"
    )
    with pytest.raises(ConfigError):
        load_trained_model(run_copy)
    assert not (tmp_path / "made").exists()


HOSTILE = """
import contextlib, json, pathlib, random, sys
from detflow.inference.trained import load_trained_model
from detflow.errors import DetflowError
from detflow.publish import digest_file

checkpoint, trials = pathlib.Path(sys.argv[1]), int(sys.argv[2])
names = ("ckpt.index", "ckpt.data-00000-of-00001")
good = {name: (checkpoint / name).read_bytes() for name in names}
state = json.loads((checkpoint / "state.json").read_text())
numbers = random.Random(3)
refused = 0
for trial in range(trials):
    for name, content in good.items():
        content = bytearray(content)
        if name.endswith("index"):
            if trial % 3 == 0:
                del content[numbers.randrange(len(content)) :]
            else:
                for _ in range(1 + trial):
                    content[numbers.randrange(len(content))] = numbers.randrange(256)
        (checkpoint / name).write_bytes(content)
    # Whoever forges the files forges their digests too.
    files = {name: digest_file(checkpoint / name) for name in good}
    (checkpoint / "state.json").write_text(json.dumps(state | {"files": files}))
    try:
        load_trained_model(checkpoint)
    except DetflowError:
        refused += 1
assert refused > trials / 2, refused
"""


@pytest.mark.slow
@pytest.mark.parametrize("trials", [3, pytest.param(12, marks=pytest.mark.soak)])
def test_a_forged_checkpoint_neither_crashes_nor_touches_its_surroundings(
    trials, run_copy, tmp_path
):
    """In a process of its own: a crash would be TensorFlow's, and the end of this one."""
    (tmp_path / "bystander").write_text("unharmed")
    before = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, str(run_copy / "ckpt-20"), str(trials)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == before
