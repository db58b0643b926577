"""What is refused before TensorFlow is imported."""

import dataclasses
import json
import os
import shutil

import pytest

from detflow.data.records.manifest import compute_fingerprint, read_manifest
from detflow.digests import seal
from detflow.distributed.topology import Topology
from detflow.errors import ArtifactError, ConfigError, DataError
from detflow.label_map import LabelMap
from detflow.runs.plan import Plan
from detflow.runs.run_dir import RunDir
from detflow.training import preflight
from detflow.training.preflight import prepare_start
from detflow.training.provenance import accept


@pytest.fixture
def begun(tiny_config, tmp_path):
    """A run that was started with the tiny configuration."""
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    run.write_record(prepare_start(tiny_config(), run).record)
    return run


def test_a_change_is_refused_with_the_difference_or_accepted(begun, tiny_config):
    changed = tiny_config(train_steps=10, train_learning_rate=0.001)
    changes = ("train.steps was 8, now 10", "train.learning_rate was 0.002, now 0.001")
    with pytest.raises(ConfigError, match=rf"{changes[0]}; {changes[1]}; pass --accept-changes"):
        prepare_start(changed, begun)
    assert prepare_start(changed, begun, accept_changes=True).changes == changes


def test_canvases_are_a_change(begun, tiny_config):
    with pytest.raises(ConfigError, match=r"more_input_sizes was \[\], now \[\[48, 32\]\]"):
        prepare_start(tiny_config(model_more_input_sizes=[[48, 32]]), begun)


def test_other_threads_are_a_change(begun, tiny_config, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    with pytest.raises(ConfigError, match=r"threads was \d+, now 64"):
        prepare_start(tiny_config(), begun)


def test_settings_without_effect_may_change(begun, tiny_config):
    settings = tiny_config(checkpoint_max_to_keep=9, data_cache_megabytes=1)
    assert prepare_start(settings, begun).changes == ()


def test_other_data_is_a_change(begun, tiny_config, tiny_records, tmp_path):
    other = shutil.copytree(tiny_records, tmp_path / "other")
    config = tiny_config(data_records=str(other))
    assert prepare_start(config, begun).changes == ()
    before = read_manifest(other)
    splits = {"exam" if name == "test" else name: one for name, one in before.splits.items()}
    content = json.loads((other / "manifest.json").read_text())
    content["splits"] = {
        "exam" if name == "test" else name: one for name, one in content["splits"].items()
    }
    content["fingerprint"] = compute_fingerprint(before.label_map, splits)
    (other / "manifest.json").write_text(json.dumps(seal(content)))
    difference = f"data_fingerprint was {before.fingerprint}, now {content['fingerprint']}"
    with pytest.raises(ConfigError, match=difference):
        prepare_start(config, begun)


@pytest.fixture
def saved(begun, save_state):
    """The run after its first checkpoint."""
    save_state(begun, begun.read_record())
    return begun


@pytest.fixture
def make_records(voc_writer, tmp_path):
    """Makes records of the tiny set whose classes have other names or another order."""

    def make(names=("dark", "light"), classes=None):
        return voc_writer(tmp_path, {"train": 4, "val": 2, "test": 2}, None, names, classes)

    return make


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_classes_in_another_order_are_those_of_the_run_by_name(saved, tiny_config, make_records):
    config = tiny_config(data_records=make_records(classes=("light", "dark")))
    with pytest.raises(ConfigError, match="data_fingerprint was"):
        prepare_start(config, saved)
    before = snapshot(saved.path)
    start = prepare_start(config, saved, accept_changes=True)
    assert start.manifest.label_map.names == ("light", "dark")
    assert start.label_map.names == start.record.label_map.names == ("dark", "light")
    assert snapshot(saved.path) == before


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("dark", "bright"), None),
        (("dark", "dark"), None),
        (("dark", "light"), ("dark", "light", "other")),
    ],
)
def test_other_classes_are_refused_whatever_is_accepted(
    saved, tiny_config, make_records, names, classes
):
    config, before = tiny_config(data_records=make_records(names, classes)), snapshot(saved.path)
    with pytest.raises(
        ConfigError, match=r"has learnt the classes dark, light; the records have .*init_from="
    ):
        prepare_start(config, saved, accept_changes=True)
    assert snapshot(saved.path) == before


def test_a_run_that_has_learnt_nothing_yet_takes_any_classes(begun, tiny_config, make_records):
    config = tiny_config(data_records=make_records(("dark", "bright")))
    start = prepare_start(config, begun, accept_changes=True)
    assert start.record.label_map.names == ("bright", "dark")


def test_without_its_record_a_run_is_what_its_checkpoint_proves(saved, tiny_config, caplog):
    record = saved.read_record()
    saved.record_path.unlink()
    with pytest.raises(ConfigError, match=r"train\.seed was 1, now 2"):
        prepare_start(tiny_config(train_seed=2), saved)
    start = prepare_start(tiny_config(), saved)
    assert (start.record, start.changes) == (record, ())
    assert "run.json is missing and made again from ckpt-8" in caplog.text


@pytest.mark.parametrize("content", ["{}", "", "{", '{"digest": "0"}'])
def test_a_damaged_record_is_named_and_can_be_made_again(saved, tiny_config, content):
    saved.record_path.write_text(content)
    with pytest.raises(
        ArtifactError, match=r"run\.json: .*remove it: it is made again from ckpt-8"
    ):
        prepare_start(tiny_config(), saved, accept_changes=True)
    saved.record_path.unlink()
    assert prepare_start(tiny_config(), saved).changes == ()


def test_the_record_of_another_run_is_refused(saved, tiny_config, run_record):
    saved.write_record(run_record(tiny_config(train_seed=9), ("dark", "light")))
    for settings in ({"train_seed": 9}, {}):
        with pytest.raises(
            ArtifactError, match=r"run\.json: .*not that of the run that ckpt-8 bel"
        ):
            prepare_start(tiny_config(**settings), saved)


def test_a_label_map_that_was_swapped_is_refused(saved, tiny_config):
    saved.label_map_path.write_text(LabelMap(("light", "dark")).to_pbtxt())
    with pytest.raises(ArtifactError, match=r"label_map\.pbtxt: it names the classes light, dark"):
        prepare_start(tiny_config(), saved, accept_changes=True)


def test_accepted_changes_hold_from_the_first_checkpoint_that_was_saved_under_them(
    saved, tiny_config, save_state
):
    """Whatever moment the process is killed at between the two writes."""
    old, config = saved.read_record(), tiny_config(train_seed=2)
    start = prepare_start(config, saved, accept_changes=True)
    new = accept(start.record, start.before, 8, start.changes, None)
    # The checkpoint is there, run.json is not yet.
    save_state(saved, new, 10)
    assert prepare_start(config, saved).record == new
    with pytest.raises(ConfigError, match=r"train\.seed was 2, now 1"):
        prepare_start(tiny_config(), saved)
    # run.json is there, and the checkpoint was lost.
    saved.write_record(new)
    saved.remove_checkpoint(10)
    assert prepare_start(tiny_config(), saved).record == old
    with pytest.raises(ConfigError, match=r"train\.seed was 1, now 2"):
        prepare_start(config, saved)


def test_a_fit_of_a_time_budget_may_be_ahead_of_the_checkpoint(begun, tiny_config, save_state):
    config = tiny_config(train_time_budget="1h")
    record = prepare_start(config, begun, accept_changes=True).record
    record = record.planned(Plan().refit(4, 20))
    begun.write_record(record)
    save_state(begun, record)
    ahead = record.planned(record.plan.refit(9, 16))
    begun.write_record(ahead)
    start = prepare_start(config, begun)
    assert (start.plan, start.config.train.steps) == (ahead.plan, 16)
    # A plan that is behind, or another one, proves nothing.
    begun.write_record(record.planned(Plan().refit(5, 99)))
    assert prepare_start(config, begun).plan == record.plan


def test_no_good_checkpoint_is_told_before_tensorflow_is_imported(saved, tiny_config):
    (saved.checkpoint_path(8) / "ckpt.index").write_text("damaged")
    with pytest.raises(ArtifactError, match="none can be restored"):
        prepare_start(tiny_config(), saved, accept_changes=True)
    assert saved.checkpoint_steps() == [8]


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
    with RunDir(tmp_path / "run").locked() as run, pytest.raises(error, match=message):
        prepare_start(tiny_config(**overrides), run)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_a_damaged_shard_is_found_before_the_first_step(tiny_config, tiny_records, tmp_path):
    records = shutil.copytree(tiny_records, tmp_path / "records")
    shard = next(records.glob("train-*.tfrecord"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ArtifactError, match="train-00000"):
        prepare_start(tiny_config(data_records=str(records)), RunDir(tmp_path / "run"))


def test_a_split_without_objects_is_refused(tiny_config, tmp_path, monkeypatch):
    read = preflight.read_manifest

    def without_objects(path):
        manifest = read(path)
        empty = {
            name: dataclasses.replace(split, objects=0) for name, split in manifest.splits.items()
        }
        return dataclasses.replace(manifest, splits=empty)

    monkeypatch.setattr(preflight, "read_manifest", without_objects)
    with pytest.raises(DataError, match="no objects to learn"):
        prepare_start(tiny_config(), RunDir(tmp_path / "run"))


def test_float16_is_refused_with_parameter_servers(tiny_config, tmp_path):
    cluster = {"chief": ("a:1",), "ps": ("b:1",), "worker": ("c:1",)}
    with pytest.raises(ConfigError, match=r"runtime\.precision float16 needs loss scaling"):
        prepare_start(
            tiny_config(runtime_precision="float16"),
            RunDir(tmp_path / "run"),
            topology=Topology(cluster, "chief", 0),
        )
