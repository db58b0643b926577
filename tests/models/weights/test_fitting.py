import functools

import pytest
import tensorflow as tf

from detflow.config.schema import ModelConfig
from detflow.errors import ArtifactError
from detflow.models.build import build_model
from detflow.models.weights import fitting
from detflow.models.weights.fitting import find_fitting_preset
from detflow.models.weights.sources import InitialWeights

pytestmark = [pytest.mark.tf, pytest.mark.whole_network]

SMALL = {"width_multiplier": 0.25, "num_filters": 16, "num_head_convs": 0, "max_level": 3}
PRESETS = {"other": {**SMALL, "num_filters": 24}, "small": SMALL, "same": SMALL}


def model_of(filters):
    return ModelConfig.model_validate({**SMALL, "num_filters": filters})


def find(path):
    return find_fitting_preset(InitialWeights("x", path, "checkpoint", {}), PRESETS)


def test_a_checkpoint_s_preset_is_the_one_that_takes_the_most_of_it(tmp_path, monkeypatch):
    # Building a network takes a second.
    build = functools.cache(lambda filters: build_model(model_of(filters), 1))
    monkeypatch.setattr(fitting, "build_model", lambda config, _: build(config.num_filters))
    parts = build_model(model_of(16), 5).parts
    tf.train.Checkpoint(**parts).write(str(tmp_path / "whole"))
    assert find(tmp_path / "whole") == "small"
    tf.train.Checkpoint(backbone=parts["backbone"]).write(str(tmp_path / "backbone"))
    assert find(tmp_path / "backbone") == "other"
    tf.train.Checkpoint(head=parts["head"]).write(str(tmp_path / "head"))
    assert find(tmp_path / "head") is None
    (tmp_path / "whole.index").write_bytes(b"no table")
    with pytest.raises(ArtifactError):
        find(tmp_path / "whole")
