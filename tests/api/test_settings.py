from pathlib import Path

import pytest

import detflow
from detflow.api.settings import choose_model_dir, read_settings


def test_settings_come_from_a_file_a_dict_or_the_object(tmp_path):
    (tmp_path / "a.yaml").write_text("data: {records: here}\ntrain: {steps: 7}\n")
    config = read_settings(tmp_path / "a.yaml")
    # Paths of a file start at its folder.
    assert (config.data.records, config.train.steps) == (str(tmp_path / "here"), 7)
    sections = {"data": {"records": tmp_path / "here"}, "train": {"steps": 7}}
    assert read_settings(str(tmp_path / "a.yaml")) == read_settings(sections) == config
    changed = read_settings(config, records=tmp_path, overrides={"train.steps": 9}, overfit=2)
    assert (changed.data.records, changed.train.steps) == (str(tmp_path), 9)
    assert changed.data.overfit == 2
    timed = read_settings(config, overrides=["train.batch_size=4"], time_budget="2m")
    assert (timed.train.batch_size, timed.train.time_budget) == (4, 120.0)
    with pytest.raises(detflow.ConfigError, match=r"unknown setting train\.stepps; did you mean"):
        read_settings({"data": {"records": "x"}, "train": {"stepps": 1}})


def test_a_model_directory_is_named_after_the_file_or_has_to_be_named(tmp_path):
    assert choose_model_dir("configs/pets.yaml", None) == Path("runs/pets")
    assert choose_model_dir({}, str(tmp_path)) == tmp_path
    with pytest.raises(detflow.ConfigError, match="there is no model directory; pass model_dir"):
        choose_model_dir({"data": {}}, None)
