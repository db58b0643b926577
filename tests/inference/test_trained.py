import json
import random
import shutil

import forks
import pytest

from detflow.digests import digest_file, seal
from detflow.errors import ArtifactError, DetflowError
from detflow.inference.trained import load_trained_model
from detflow.label_map import LabelMap, read_label_map
from detflow.runs.checkpoints import Checkpoints, WeightAverage
from detflow.runs.run_dir import RunDir
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


def rewrite_state(checkpoint, **changes):
    """Changes the record in a state as somebody would who knows about its digest."""
    path = checkpoint / "state.json"
    state = json.loads(path.read_text())
    state["run"].update(changes)
    path.write_text(json.dumps(seal(state)))


def test_a_checkpoint_of_another_network_is_refused(run_copy):
    config = json.loads((run_copy / "ckpt-10" / "state.json").read_text())["run"]["config"]
    config["model"]["anchors_per_octave"] = 2
    rewrite_state(run_copy / "ckpt-10", config=config)
    with pytest.raises(ArtifactError, match="does not fit the model"):
        load_trained_model(run_copy)


def test_another_number_of_classes_is_refused(run_copy):
    (run_copy / "label_map.pbtxt").unlink()
    rewrite_state(run_copy / "ckpt-10", classes=["cat"])
    with pytest.raises(ArtifactError, match="does not fit the model"):
        load_trained_model(run_copy)


@pytest.mark.parametrize("order", [(2, 0, 1), (0,), (1, 0, 2)])
def test_a_label_map_that_was_swapped_is_not_believed(run_copy, order):
    names = read_label_map(run_copy / "label_map.pbtxt").names
    swapped = LabelMap(tuple(names[index] for index in order))
    (run_copy / "label_map.pbtxt").write_text(swapped.to_pbtxt(), encoding="utf-8")
    for path in (run_copy, run_copy / "ckpt-20"):
        with pytest.raises(ArtifactError, match=r"label_map\.pbtxt: it names the") as caught:
            load_trained_model(path)
        assert caught.value.exit_code == 4


def test_a_checkpoint_is_enough_by_itself(run_copy, tmp_path):
    names = read_label_map(run_copy / "label_map.pbtxt").names
    shutil.move(run_copy / "ckpt-10", tmp_path / "ckpt-10")
    assert load_trained_model(tmp_path / "ckpt-10").label_map.names == names


def test_numbers_that_are_not_finite_are_not_served(model_dir, tmp_path):
    trained = load_trained_model(model_dir)
    network = trained.serving.model.network
    average = WeightAverage(network, 0.9)
    average.averages[3].assign(average.averages[3] * float("nan"))
    run = RunDir(tmp_path / "run")
    checkpoints = Checkpoints(
        run, {"network": network, "average": average}, trained.config, trained.state.record
    )
    checkpoints.record()
    with pytest.MonkeyPatch.context() as patch:
        # As a version would have saved it that did not look.
        patch.setattr("detflow.runs.checkpoints.require_finite", lambda *arguments: None)
        checkpoints.save(30, {"AP": 0.9})
    with pytest.raises(ArtifactError, match=r"1 of \d+ variables hold numbers that are not fin"):
        load_trained_model(run.path)


def test_links_in_a_checkpoint_are_not_followed(run_copy, tmp_path):
    index = run_copy / "ckpt-20" / "ckpt.index"
    index.rename(tmp_path / "outside.index")
    index.symlink_to(tmp_path / "outside.index")
    with pytest.raises(ArtifactError, match="not a plain file"):
        load_trained_model(run_copy / "ckpt-20")


def test_an_edited_configuration_has_no_effect_and_is_named(run_copy, tmp_path, caplog):
    (run_copy / "config.yaml").write_text(
        f"!!python/object/apply:os.mkdir ['{tmp_path / 'made'}']\n"
    )
    assert load_trained_model(run_copy).config.model.num_filters == 16
    assert "config.yaml is not the run's configuration and has no effect" in caplog.text
    assert not (tmp_path / "made").exists()


def load_forged(checkpoint, trials):
    """Asserts that most of so many forged checkpoints are refused."""
    names = ("ckpt.index", "ckpt.data-00000-of-00001")
    good = {name: (checkpoint / name).read_bytes() for name in names}
    state = json.loads((checkpoint / "state.json").read_text())
    numbers = random.Random(3)
    refused = 0
    for trial in range(trials):
        for name, content in good.items():
            forged = bytearray(content)
            if name.endswith("index"):
                if trial % 3 == 0:
                    del forged[numbers.randrange(len(forged)) :]
                else:
                    for _ in range(1 + trial):
                        forged[numbers.randrange(len(forged))] = numbers.randrange(256)
            (checkpoint / name).write_bytes(forged)
        # Whoever forges the files forges their digests too.
        files = {name: digest_file(checkpoint / name) for name in good}
        (checkpoint / "state.json").write_text(json.dumps(seal(state | {"files": files})))
        try:
            load_trained_model(checkpoint)
        except DetflowError:
            refused += 1
    assert refused > trials / 2


def require_harmless(run, trials, tmp_path):
    """In a process of its own: a crash would be TensorFlow's, and the end of this one."""
    (tmp_path / "bystander").write_text("unharmed")
    before = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    process = forks.start_process(load_forged, run / "ckpt-20", trials)
    process.join()
    assert process.exitcode == 0
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_a_forged_checkpoint_neither_crashes_nor_touches_its_surroundings(model_dir, tmp_path):
    require_harmless(shutil.copytree(model_dir, tmp_path / "run"), 3, tmp_path)


@pytest.mark.soak
@pytest.mark.whole_network
def test_a_dozen_forged_checkpoints_of_a_whole_network_do_no_harm(whole_model_dir, tmp_path):
    require_harmless(shutil.copytree(whole_model_dir, tmp_path / "run"), 12, tmp_path)
