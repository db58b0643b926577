import csv
import io
import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from fakes import At
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detflow.cli.main import cli
from detflow.config.reading import read_config
from detflow.data.making import RecordOptions, publish_records
from detflow.data.records.manifest import read_manifest
from detflow.data.records.reading import read_samples
from detflow.errors import ArtifactError, ConfigError
from detflow.inference.trained import load_trained_model
from detflow.runs.checkpoints import Checkpoints
from detflow.runs.plan import Plan
from detflow.runs.run_dir import RunDir
from detflow.runs.states import read_state
from detflow.training import recipe
from detflow.training.loop import Action
from detflow.training.preflight import prepare_start
from detflow.training.recipe import train

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("compiled_once")]

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def run_train(config, model_dir, *actions, accept_changes=False):
    with RunDir(model_dir).locked() as run:
        start = prepare_start(config, run, accept_changes=accept_changes)
        return train(run, start, actions)


def weights(model_dir, step):
    reader = tf.train.load_checkpoint(str(model_dir / f"ckpt-{step}" / "ckpt"))
    names = [
        name
        for name in reader.get_variable_to_shape_map()
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
    ]
    return {name: reader.get_tensor(name) for name in names}


def losses(model_dir):
    with open(model_dir / "losses.csv", newline="") as file:
        return list(csv.reader(file))


def events(model_dir):
    """TensorBoard's texts and pictures: by name and step, what stands in the tensor."""
    read = EventAccumulator(str(model_dir / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    return {
        (tag, one.step): tf.make_ndarray(one.tensor_proto).tolist()
        for plugin in ("text", "images")
        for tag in read.PluginTagToContent(plugin)
        for one in read.Tensors(tag)
    }


def pictures(model_dir):
    return {
        key: value
        for key, value in events(model_dir).items()
        if key[0].startswith("evaluation images/")
    }


def assert_same_run(one, other, step=8):
    assert losses(one) == losses(other)
    assert (one / "results.csv").read_text() == (other / "results.csv").read_text()
    assert pictures(one) == pictures(other)
    first, second = weights(one, step), weights(other, step)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)
    states = [
        json.loads((path / f"ckpt-{step}" / "state.json").read_text()) for path in (one, other)
    ]
    assert states[0]["metrics"] == states[1]["metrics"]
    assert states[0]["best_step"] == states[1]["best_step"]


@pytest.fixture(scope="module")
def finished(tiny_config, tmp_path_factory):
    """A run of 8 steps that nothing disturbed."""
    model_dir = tmp_path_factory.mktemp("finished") / "run"
    result = run_train(tiny_config(), model_dir)
    assert result.stopped_by is None
    return model_dir


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


class Killed(BaseException):
    """Stands for the end of the process: nothing in detflow catches it."""


def test_a_run_leaves_what_the_next_stages_need(finished):
    assert {path.name for path in finished.iterdir()} >= {
        "config.yaml",
        "label_map.pbtxt",
        "run.json",
        "losses.csv",
        "results.csv",
        "tensorboard",
        "checkpoint",
        "ckpt-8",
    }
    assert [row[0] for row in losses(finished)] == ["step", *map(str, range(1, 9))]
    rates = [float(row[4]) for row in losses(finished)[1:]]
    assert rates[0] == pytest.approx(0.002 / 3)
    assert rates[2] == max(rates)
    assert rates[-1] < rates[3]
    assert tf.train.latest_checkpoint(str(finished)) == str(finished / "ckpt-8" / "ckpt")
    assert not [path for path in finished.rglob("*") if ".tmp-" in path.name]


def test_tensorboard_shows_the_configuration_and_predictions_beside_truth(finished, tiny_records):
    shown = events(finished)
    assert (
        shown["configuration", 0].decode()
        == f"```yaml\n{(finished / 'config.yaml').read_text()}```"
    )
    names = [
        sample.filename for sample in read_samples(tiny_records, read_manifest(tiny_records), "val")
    ]
    tags = [f"evaluation images/{number} {name}" for number, name in enumerate(names, start=1)]
    assert pictures(finished).keys() == {(tag, step) for tag in tags for step in (4, 8)}
    for tag in tags:
        width, height, jpeg = shown[tag, 8]
        picture = Image.open(io.BytesIO(jpeg))
        assert (
            (picture.format, picture.size)
            == ("JPEG", (int(width), int(height)))
            == ("JPEG", (2 * 576 + 8, 576))
        )


def test_only_the_newest_and_the_best_checkpoints_stay(finished):
    best = json.loads((finished / "ckpt-8" / "state.json").read_text())["best_step"]
    assert {path.name for path in finished.glob("ckpt-*")} == {"ckpt-6", "ckpt-8", f"ckpt-{best}"}


def die(course):
    raise Killed


def test_a_run_that_dies_ends_as_if_nothing_had_happened(finished, tiny_config, tmp_path):
    with pytest.raises(Killed):
        run_train(tiny_config(), tmp_path / "run", At(3, die))
    assert RunDir(tmp_path / "run").checkpoint_steps() == [2]
    run_train(tiny_config(), tmp_path / "run")
    assert_same_run(finished, tmp_path / "run")


@pytest.mark.soak
def test_a_run_that_dies_before_its_checkpoint_is_published_resumes_from_the_one_before(
    finished, tiny_config, tmp_path, monkeypatch
):
    save = Checkpoints.save

    def die_at_four(self, step, *metrics):
        if step == 4:
            raise Killed
        return save(self, step, *metrics)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", die_at_four)
        with pytest.raises(Killed):
            run_train(tiny_config(), tmp_path / "run")
    run_train(tiny_config(), tmp_path / "run")
    assert_same_run(finished, tmp_path / "run")


@pytest.mark.slow
def test_a_signal_during_an_evaluation_does_not_change_what_is_best(
    finished, tiny_config, tmp_path, monkeypatch, capfd
):
    evaluate = recipe.evaluate_detector

    def stop(detector, samples, label_map):
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(detector, samples, label_map)

    with monkeypatch.context() as patch:
        patch.setattr(recipe, "evaluate_detector", stop)
        result = run_train(tiny_config(), tmp_path / "run")
    assert result.stopped_by == signal.SIGTERM
    assert (result.state.step, dict(result.state.metrics)) == (4, {})
    capfd.readouterr()
    run_train(tiny_config(), tmp_path / "run")
    assert "resuming at step 4 of 8" in capfd.readouterr().err
    assert_same_run(finished, tmp_path / "run")


class Refit(At):
    """Changes the number of steps as a time budget does, and writes it down."""

    def __init__(self, number, total):
        def refit(course):
            course.refit(total)
            run = RunDir(course.model_dir)
            run.write_record(run.read_record().planned(course.plan))

        super().__init__(number, refit)


@pytest.mark.soak
def test_a_run_with_a_time_budget_that_dies_repeats_its_fits(tiny_config, tmp_path, capfd):
    config = tiny_config(train_time_budget="1h")
    refits = [Refit(3, 20), Refit(5, 12), Refit(6, 8)]
    run_train(config, tmp_path / "whole", *refits)
    plan = Plan().refit(3, 20).refit(5, 12).refit(6, 8)
    assert RunDir(tmp_path / "whole").read_record().plan == plan
    with pytest.raises(Killed):
        # The plan is ahead of the checkpoint, which is that of step 4.
        run_train(config, tmp_path / "killed", *refits[:2], At(5, die))
    resumed = run_train(config, tmp_path / "killed", refits[2])
    assert "resuming at step 4 of 12" in capfd.readouterr().err
    assert resumed.state.step == RunDir(tmp_path / "killed").read_record().config.train.steps == 8
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


STEP_SETTINGS = {
    "train_optimizer": "sgd",
    "train_schedule": "step",
    "train_accumulate_steps": 2,
    "runtime_precision": "float16",
}
CANVASES = {
    "model_input_size": [32, 48],
    "model_more_input_sizes": [[48, 32]],
    "augment_mosaic": 0.5,
    "augment_mixup": 0.5,
    "train_freeze": ["backbone.level1"],
    "runtime_recompute": True,
}


@pytest.mark.slow
def test_the_settings_of_a_step_make_a_resumed_run_no_other_one(
    tiny_config, mixed_records, tmp_path, capfd
):
    require_exact_resume(STEP_SETTINGS, tiny_config, mixed_records, tmp_path, capfd)


@pytest.mark.soak
@pytest.mark.whole_network
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(STEP_SETTINGS, id="step"),
        pytest.param({**STEP_SETTINGS, "runtime_precision": "bfloat16"}, id="bfloat16"),
        pytest.param(CANVASES, id="canvases"),
        pytest.param({**STEP_SETTINGS, **CANVASES}, id="everything"),
    ],
)
def test_no_setting_makes_a_resumed_run_another_one(
    settings, tiny_config, mixed_records, tmp_path, capfd
):
    require_exact_resume(settings, tiny_config, mixed_records, tmp_path, capfd)


def require_exact_resume(settings, tiny_config, mixed_records, tmp_path, capfd):
    config = tiny_config(
        data_records=mixed_records, train_steps=4, evaluate_every_steps=2, **settings
    )
    run_train(config, tmp_path / "whole")
    if "model_more_input_sizes" in settings:
        assert "images by canvas: 32x48 5, 48x32 5" in capfd.readouterr().err
    with pytest.raises(Killed):
        run_train(config, tmp_path / "resumed", At(3, die))
    run_train(config, tmp_path / "resumed")
    assert_same_run(tmp_path / "whole", tmp_path / "resumed", step=4)
    model = load_trained_model(tmp_path / "resumed").serving
    found = model.detect(tf.zeros([1, 32, 32, 3], tf.uint8))
    assert {value.dtype for value in found.values()} == {tf.float32}


def belongings(model_dir):
    names = ("run.json", "config.yaml", "label_map.pbtxt")
    return {name: (model_dir / name).read_text() for name in names}


@pytest.mark.slow
def test_accepted_changes_hold_from_the_first_checkpoint_on_and_rename_no_class(
    copy, tiny_config, voc_writer, tmp_path, capfd
):
    records = voc_writer(tmp_path, {"train": 10, "val": 4}, classes=("light", "dark"))
    changed = tiny_config(train_steps=10, train_learning_rate=0.001, data_records=str(records))
    before = belongings(copy)
    with pytest.raises(Killed):
        run_train(changed, copy, At(9, die), accept_changes=True)
    # Nothing was saved under the changes.
    assert belongings(copy) == before
    with pytest.raises(ConfigError, match=r"train\.steps was 8, now 10"):
        run_train(changed, copy)
    capfd.readouterr()
    assert run_train(changed, copy, accept_changes=True).state.step == 10
    shown = capfd.readouterr().err
    assert "resuming at step 8 of 10; best is step " in shown
    assert "accepted: train.steps was 8, now 10" in shown
    # The schedule has ended: it stays at its end, which is now half as high.
    assert "the learning rate of the next step is 1e-05, 1/2.0 of 2e-05 as it was planned" in shown
    assert belongings(copy)["label_map.pbtxt"] == before["label_map.pbtxt"]
    (accepted,) = json.loads((copy / "run.json").read_text())["accepted_changes"]
    assert accepted["step"] == 8
    assert accepted["changes"][:2] == [
        "train.steps was 8, now 10",
        "train.learning_rate was 0.002, now 0.001",
    ]
    assert accepted["changes"][2].startswith("data_fingerprint was ")
    state = read_state(copy / "ckpt-10")
    assert state.record == RunDir(copy).read_record()
    assert state.record.label_map.names == ("dark", "light")
    assert [float(row[4]) for row in losses(copy)[-2:]] == [pytest.approx(1e-5)] * 2


@pytest.mark.slow
def test_weights_that_diverge_are_not_saved_and_the_remedy_leads_on(copy, tiny_config):
    shutil.rmtree(copy / "ckpt-8")

    def poison(course):
        course.network.variables[0].assign_add(course.network.variables[0] * np.nan)

    with pytest.raises(
        ArtifactError, match=r"after step 8 1 of \d+ variables hold numbers"
    ) as found:
        run_train(tiny_config(), copy, At(8, poison))
    assert found.value.exit_code == 4
    assert RunDir(copy).checkpoint_steps()[-1] == 6
    (step, rate) = re.search(
        r"go on from ckpt-(\d+) with --set train\.learning_rate=(\S+) --accept-changes;",
        found.value.remedy,
    ).groups()
    assert (step, float(rate)) == ("6", pytest.approx(0.0002))
    # Without the remedy the same steps would end in the same way.
    lowered = tiny_config(train_learning_rate=float(rate))
    with pytest.raises(ConfigError, match="pass --accept-changes"):
        run_train(lowered, copy)
    assert run_train(lowered, copy, accept_changes=True).state.step == 8


@pytest.mark.soak
@pytest.mark.whole_network
@pytest.mark.parametrize(
    ("splits", "objects"),
    [
        pytest.param({"train": 1, "val": 1}, 0, id="one image, no objects to evaluate on"),
        pytest.param({"train": 2, "val": 1}, 400, id="400 objects in an image"),
        pytest.param({"train": 2, "val": 1}, 5000, id="5,000 objects in an image"),
    ],
)
def test_small_and_crowded_sets_train(voc_writer, tiny_config, tmp_path, capfd, splits, objects):
    records = voc_writer(tmp_path, splits, objects)
    result = run_train(tiny_config(data_records=str(records), train_steps=3), tmp_path / "run")
    assert result.state.step == 3
    assert (result.state.metrics["AP"] is None) == (objects == 0)
    if objects:
        left_out = f"{2 * (objects - 300):,} boxes are left out: data.max_boxes is 300"
        assert left_out in capfd.readouterr().err


def test_an_action_sees_the_network_at_rest_and_changes_nothing(finished, tiny_config, tmp_path):
    class Watch(Action):
        seen: ClassVar[list] = []

        def is_due(self, course):
            return course.is_due(3)

        def at_rest(self, course):
            norm = float(tf.linalg.global_norm(course.network.trainable_variables))
            evaluated = course.is_evaluated and course.evaluation.metrics["AP"]
            self.seen.append((course.step, norm > 0, evaluated))

    run_train(tiny_config(), tmp_path / "run", Watch())
    with open(finished / "results.csv", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert Watch.seen == [(3, True, False), (6, True, False), (8, True, float(last["AP"]))]
    assert_same_run(finished, tmp_path / "run")


def test_a_finished_run_has_nothing_left_to_do(copy, tiny_config, capfd):
    before = {path: path.stat().st_mtime_ns for path in copy.glob("ckpt-*/*")}
    assert run_train(tiny_config(), copy).state.step == 8
    assert "nothing left to do" in capfd.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in copy.glob("ckpt-*/*")} == before


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_run_ends_the_same(
    finished, copy, tiny_config, caplog
):
    flip(copy / "ckpt-8" / "ckpt.data-00000-of-00001")
    run_train(tiny_config(), copy)
    assert "ckpt-8 is damaged and kept as ckpt-8.damaged-1" in caplog.text
    assert_same_run(finished, copy)


@pytest.mark.soak
@pytest.mark.whole_network
def test_eight_real_images_are_learnt(shared_data, tmp_path, capfd):
    publish_records(shared_data("bccd"), tmp_path / "records", RecordOptions(report=False))
    settings = [
        "data.overfit=8",
        "train.steps=100",
        "evaluate.every_steps=100",
        f"data.records={tmp_path / 'records'}",
    ]
    settings += ["model.input_size=[192, 256]"]
    result = run_train(read_config(CONFIGS / "bccd.yaml", settings), tmp_path / "run")
    assert result.state.metrics["AP50"] >= 0.95
    assert "overfitting 8 images: the path can learn them" in capfd.readouterr().err


def test_runs_lists_every_checkpoint_and_what_is_wrong_with_it(copy):
    flip(copy / "ckpt-6" / "ckpt.index")
    shown = CliRunner().invoke(cli, ["runs", str(copy.parent)])
    assert shown.exit_code == 0
    lines = [" ".join(line.split()) for line in shown.output.splitlines()]
    assert "ckpt-6 damaged" in lines
    assert any(line.startswith("ckpt-8 8 0.") and " MB" in line for line in lines)
    assert sum(line.endswith(" best") for line in lines) == 1
    assert isinstance(
        CliRunner().invoke(cli, ["runs", str(copy / "tensorboard")]).exception, ArtifactError
    )
