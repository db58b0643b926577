"""What is refused before TensorFlow is imported."""

import dataclasses
import json
import os
import shutil

import pytest

from detflow.data.records.manifest import compute_fingerprint, read_manifest
from detflow.distributed.topology import Topology
from detflow.errors import ArtifactError, ConfigError, DataError
from detflow.publish import seal
from detflow.runs.run_dir import RunDir
from detflow.training import preflight
from detflow.training.preflight import prepare_start
from detflow.training.provenance import record_start


@pytest.fixture
def begun(tiny_config, tmp_path):
    """A run that was started with the tiny configuration."""
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    start = prepare_start(tiny_config(), run)
    record_start(run, start.config, start.manifest, start.machine, 0, (), None)
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
    splits = {**before.splits, "val": before.splits["test"]}
    content = json.loads((other / "manifest.json").read_text())
    content["splits"]["val"] = content["splits"]["test"]
    content["fingerprint"] = compute_fingerprint(before.label_map, splits)
    (other / "manifest.json").write_text(json.dumps(seal(content)))
    difference = f"data_fingerprint was {before.fingerprint}, now {content['fingerprint']}"
    with pytest.raises(ConfigError, match=difference):
        prepare_start(config, begun)


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
