import csv
import io
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detflow.cli.main import cli
from detflow.config.reading import read_config
from detflow.data.convert import ConversionOptions, convert_dataset
from detflow.data.records.manifest import read_manifest
from detflow.data.records.reading import read_samples
from detflow.errors import ArtifactError, ConfigError, DataError, Locked
from detflow.inference.trained import load_trained_model
from detflow.runs.checkpoints import Checkpoints
from detflow.runs.run_dir import RunDir
from detflow.training.display import TrainingDisplay
from detflow.training.preflight import prepare_start
from detflow.training.recipe import train

pytestmark = pytest.mark.tf

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def run_train(config, model_dir, *, accept_changes=False):
    with RunDir(model_dir).locked() as run:
        return train(run, prepare_start(config, run, accept_changes=accept_changes))


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


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_run_that_dies_ends_as_if_nothing_had_happened(
    finished, tiny_config, tmp_path, monkeypatch, step
):
    def die(self, done, loss):
        if done == step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(TrainingDisplay, "step", die)
        with pytest.raises(Killed):
            run_train(tiny_config(), tmp_path / "run")
    assert RunDir(tmp_path / "run").checkpoint_steps() == [n for n in (2,) if n < step]
    run_train(tiny_config(), tmp_path / "run")
    assert_same_run(finished, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {
            "train_optimizer": "sgd",
            "train_schedule": "step",
            "train_accumulate_steps": 2,
            "runtime_precision": "bfloat16",
        },
        {"runtime_precision": "float16"},
    ],
    ids=lambda settings: settings["runtime_precision"],
)
def test_no_setting_of_the_step_makes_a_resumed_run_another_one(
    tiny_config, tmp_path, monkeypatch, settings
):
    def die(self, done, loss):
        if done == 3:
            raise Killed

    config = tiny_config(train_steps=4, evaluate_every_steps=2, **settings)
    run_train(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(TrainingDisplay, "step", die)
        with pytest.raises(Killed):
            run_train(config, tmp_path / "resumed")
    run_train(config, tmp_path / "resumed")
    assert_same_run(tmp_path / "whole", tmp_path / "resumed", step=4)
    model = load_trained_model(tmp_path / "resumed").serving
    assert {value.dtype for value in model.detect(tf.zeros([1, 32, 32, 3], tf.uint8)).values()} == {
        tf.float32
    }


@pytest.mark.slow
def test_a_run_on_several_canvases_goes_on_as_if_nothing_had_happened(
    tiny_config, mixed_records, tmp_path, monkeypatch, capfd
):
    def die(self, done, loss):
        if done == 5:
            raise Killed

    config = tiny_config(
        data_records=mixed_records,
        model_input_size=[32, 48],
        model_more_input_sizes=[[48, 32]],
        augment_mosaic=0.5,
        augment_mixup=0.5,
        train_freeze=["backbone.level1"],
        runtime_recompute=True,
    )
    run_train(config, tmp_path / "whole")
    assert "images by canvas: 32x48 5, 48x32 5" in capfd.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(TrainingDisplay, "step", die)
        with pytest.raises(Killed):
            run_train(config, tmp_path / "resumed")
    run_train(config, tmp_path / "resumed")
    assert_same_run(tmp_path / "whole", tmp_path / "resumed")
    with pytest.raises(ConfigError, match=r"more_input_sizes was \[\[48, 32\]\], now \[\]"):
        run_train(
            tiny_config(data_records=mixed_records, model_input_size=[32, 48]), tmp_path / "resumed"
        )


@pytest.mark.slow
def test_a_run_that_dies_before_its_checkpoint_is_published_resumes_from_the_one_before(
    finished, tiny_config, tmp_path, monkeypatch
):
    save = Checkpoints.save

    def die(self, step, metrics):
        if step == 4:
            raise Killed
        return save(self, step, metrics)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", die)
        with pytest.raises(Killed):
            run_train(tiny_config(), tmp_path / "run")
    run_train(tiny_config(), tmp_path / "run")
    assert_same_run(finished, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_step_at_work(
    finished, tiny_config, tmp_path, monkeypatch, signum, capfd
):
    step = TrainingDisplay.step

    def stop(self, done, loss):
        step(self, done, loss)
        if done == 3:
            os.kill(os.getpid(), signum)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingDisplay, "step", stop)
        result = run_train(tiny_config(), tmp_path / "run")
    assert (result.stopped_by, result.state.step) == (signum, 3)
    capfd.readouterr()
    run_train(tiny_config(), tmp_path / "run")
    assert "resuming at step 3 of 8" in capfd.readouterr().err
    assert_same_run(finished, tmp_path / "run")


@pytest.mark.slow
def test_a_signal_during_an_evaluation_does_not_change_what_is_best(
    finished, tiny_config, tmp_path, monkeypatch
):
    from detflow.training import recipe as module

    evaluate = module.evaluate_detector

    def stop(detector, samples, label_map):
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(detector, samples, label_map)

    with monkeypatch.context() as patch:
        patch.setattr(module, "evaluate_detector", stop)
        result = run_train(tiny_config(), tmp_path / "run")
    assert (result.state.step, dict(result.state.metrics)) == (4, {})
    run_train(tiny_config(), tmp_path / "run")
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


@pytest.mark.slow
def test_leftovers_of_a_dead_trainer_are_swept(copy, tiny_config):
    (copy / ".ckpt-9.tmp-0123456789ab").mkdir()
    run_train(tiny_config(), copy)
    assert not (copy / ".ckpt-9.tmp-0123456789ab").exists()


@pytest.mark.slow
def test_changes_are_refused_with_the_difference_or_accepted_and_recorded(
    copy, tiny_config, monkeypatch
):
    changed = tiny_config(train_steps=10, train_learning_rate=0.001)
    with pytest.raises(
        ConfigError,
        match=r"train\.steps was 8, now 10; train\.learning_rate was 0\.002, now 0\.001.*--accept-changes",
    ):
        run_train(changed, copy)
    assert run_train(changed, copy, accept_changes=True).state.step == 10
    accepted = json.loads((copy / "run.json").read_text())["accepted_changes"]
    assert accepted == [
        {
            "step": 8,
            "changes": ["train.steps was 8, now 10", "train.learning_rate was 0.002, now 0.001"],
        }
    ]
    with RunDir(copy).locked() as run:
        prepare_start(changed, run)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
        with pytest.raises(ConfigError, match=r"threads was \d+, now 64"):
            prepare_start(changed, run)


def test_settings_without_effect_may_change(copy, tiny_config):
    with RunDir(copy).locked() as run:
        assert (
            prepare_start(
                tiny_config(checkpoint_max_to_keep=9, data_cache_megabytes=1), run
            ).changes
            == ()
        )


def test_other_data_is_a_change(copy, tiny_config, tiny_records, tmp_path):
    other = shutil.copytree(tiny_records, tmp_path / "other")
    config = tiny_config(data_records=str(other))
    with RunDir(copy).locked() as run:
        prepare_start(config, run)
        manifest = json.loads((other / "manifest.json").read_text())
        manifest["splits"]["val"] = manifest["splits"]["test"]
        (other / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises((ConfigError, ArtifactError), match=r"data_fingerprint was|fingerprint"):
            prepare_start(config, run)


def test_another_trainer_is_named_and_left_alone(copy, tiny_config):
    with RunDir(copy).locked(), pytest.raises(Locked, match=rf"pid {os.getpid()} on ") as caught:
        run_train(tiny_config(), copy)
    assert caught.value.exit_code == 6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_checkpoint(
    tiny_config, tmp_path
):
    config = tiny_config(
        train_learning_rate=1e36,
        train_warmup_steps=0,
        train_clip_norm=1e9,
        data_eval_split="null",
        train_steps=30,
    )
    with pytest.raises(
        ArtifactError,
        match=r"the loss of step \d+ is (nan|inf).*image\d+\.jpg.*lower train\.learning_rate",
    ):
        run_train(config, tmp_path / "run")
    failure = json.loads((tmp_path / "run" / "failure.json").read_text())
    assert failure["images"]
    assert failure["learning_rate"] > 1e30
    kept = RunDir(tmp_path / "run").checkpoint_steps()
    assert all(step < failure["step"] for step in kept)


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"data_train_split": "trian"}, ConfigError, "trian"),
        ({"data_eval_split": "valid"}, ConfigError, "valid"),
        ({"evaluate_metric": "mAP"}, ConfigError, "evaluate.metric mAP does not exist"),
        ({"data_records": "/nowhere"}, ArtifactError, "/nowhere"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    tiny_config, tmp_path, overrides, error, message
):
    with pytest.raises(error, match=message):
        run_train(tiny_config(**overrides), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_a_damaged_shard_is_found_before_the_first_step(tiny_config, tiny_records, tmp_path):
    records = shutil.copytree(tiny_records, tmp_path / "records")
    flip(next(records.glob("train-*.tfrecord")))
    with pytest.raises(ArtifactError, match=r"train-00000"):
        run_train(tiny_config(data_records=str(records)), tmp_path / "run")


def test_a_split_without_objects_is_refused(tiny_config, tiny_records, tmp_path, monkeypatch):
    from detflow.training import preflight

    read = preflight.read_manifest

    def without_objects(path):
        import dataclasses

        manifest = read(path)
        empty = {
            name: dataclasses.replace(split, objects=0) for name, split in manifest.splits.items()
        }
        return dataclasses.replace(manifest, splits=empty)

    monkeypatch.setattr(preflight, "read_manifest", without_objects)
    with pytest.raises(DataError, match="no objects to learn"):
        run_train(tiny_config(), tmp_path / "run")


@pytest.mark.slow
def test_patience_ends_the_run_and_is_remembered(tiny_config, tmp_path, capfd):
    config = tiny_config(
        train_steps=50, evaluate_every_steps=2, train_patience=2, train_min_delta=2.0
    )
    result = run_train(config, tmp_path / "run")
    assert (result.state.step, result.state.stale_evaluations) == (6, 2)
    assert "stopped early: 2 evaluations without a gain" in capfd.readouterr().err
    assert run_train(config, tmp_path / "run").state.step == 6
    assert "nothing left to do" in capfd.readouterr().err


@pytest.mark.slow
def test_a_time_budget_fixes_the_steps_and_resumes_as_a_function_of_the_step(
    tiny_config, tmp_path, monkeypatch, capfd
):
    from detflow.training import recipe as module

    monkeypatch.setattr(module, "fit_steps", lambda seconds, costs, config: 46)
    overrides = {
        "train_time_budget": "1m",
        "evaluate_every_steps": 20,
        "checkpoint_every_steps": 20,
    }
    overrides |= {"augment_mosaic": 0.5, "augment_mixup": 0.5, "augment_mix_until": 0.95}
    run_train(tiny_config(**overrides), tmp_path / "whole")
    assert "the time budget comes to 46 steps" in capfd.readouterr().err
    assert [step for tag, step in events(tmp_path / "whole") if tag == "configuration"] == [0, 40]
    assert "\n  steps: 46\n" in events(tmp_path / "whole")["configuration", 40].decode()

    def die(self, done, loss):
        if done == 42:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(TrainingDisplay, "step", die)
        with pytest.raises(Killed):
            run_train(tiny_config(**overrides), tmp_path / "killed")
    monkeypatch.setattr(module, "fit_steps", lambda seconds, costs, config: 99)
    assert run_train(tiny_config(**overrides), tmp_path / "killed").state.step == 46
    assert_same_run(tmp_path / "whole", tmp_path / "killed", 46)
    with pytest.raises(ConfigError, match=r"train\.time_budget was 60\.0, now 120\.0"):
        run_train(tiny_config(**{**overrides, "train_time_budget": "2m"}), tmp_path / "killed")


def test_a_second_signal_leaves_at_once():
    from detflow.training.recipe import _StopRequests

    child = os.fork()
    if not child:
        stop = _StopRequests()
        stop.handle(signal.SIGTERM, None)
        stop.handle(signal.SIGTERM, None)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 128 + signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize(
    ("splits", "objects"),
    [
        pytest.param({"train": 1, "val": 1}, 1, id="one image"),
        pytest.param({"train": 3, "val": 2}, 0, id="no objects to evaluate on"),
        pytest.param({"train": 2, "val": 1}, 5000, id="5,000 objects in an image"),
    ],
)
def test_small_and_crowded_sets_train(voc_writer, tiny_config, tmp_path, capfd, splits, objects):
    records = voc_writer(tmp_path, splits, objects)
    result = run_train(tiny_config(data_records=str(records), train_steps=3), tmp_path / "run")
    assert result.state.step == 3
    assert (result.state.metrics["AP"] is None) == (objects == 0)
    if objects == 5000:
        assert "9,400 boxes are left out: data.max_boxes is 300" in capfd.readouterr().err


@pytest.mark.slow
def test_eight_real_images_are_learnt(shared_data, tmp_path, capfd):
    convert_dataset(shared_data("bccd"), tmp_path / "records", ConversionOptions(report=False))
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
