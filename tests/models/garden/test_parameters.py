from types import SimpleNamespace

import pytest
import tensorflow as tf

from detflow.config.schema import ModelConfig
from detflow.errors import ConfigError
from detflow.models.build import build_model
from detflow.models.garden.backbones import build_norm
from detflow.models.garden.parameters import GardenParameters

pytestmark = [pytest.mark.tf, pytest.mark.whole_network]

SMALL = {"input_size": [32, 32], "width_multiplier": 0.25, "num_filters": 8, "max_level": 4}


@pytest.mark.parametrize(
    ("garden", "message"),
    [
        ({"haed": {}}, r"unknown setting model\.garden\.haed; did you mean head\?"),
        (
            {"head": {"num_conv": 2}},
            r"unknown setting model\.garden\.head\.num_conv; did you mean num_convs\?",
        ),
        ({"head": {"num_convs": "2"}}, r"model\.garden\.head\.num_convs: .*integer, got '2'"),
        ({"head": {"num_convs": True}}, r"model\.garden\.head\.num_convs: .*integer, got True"),
        ({"head": {"attribute_heads": []}}, r"model\.garden\.head\.attribute_heads cannot be set"),
        (
            {"decoder": {"use_separable_conv": 1}},
            r"model\.garden\.decoder\.use_separable_conv: .*boolean, got 1",
        ),
        ({"backbone": {"stochastic_depth_drop_rate": 0.2}}, r"resumed run"),
        ({"backbone": {"depth_multiplier": 0.1}}, r"set model\.width_multiplier"),
        ({"backbone": {"model_id": 51}}, r"Model Garden cannot build this"),
        (
            {"decoder": {"fusion_type": "multiply"}},
            r"Model Garden cannot build this: Fusion type multiply",
        ),
    ],
)
def test_what_model_garden_does_not_know_is_refused(garden, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build_model(ModelConfig.model_validate({**SMALL, "garden": garden}), 2)
    assert "\n" not in str(caught.value)


def test_a_parameter_reaches_the_part_that_it_is_for():
    garden = {
        "head": {"use_separable_conv": True, "num_filters": 12},
        "norm_activation": {"norm_momentum": 0.5},
    }
    model = build_model(ModelConfig.model_validate({**SMALL, "garden": garden}), 2)
    head = model.parts["head"].get_config()
    assert (head["use_separable_conv"], head["num_filters"], head["norm_momentum"]) == (
        True,
        12,
        0.5,
    )
    decoder = model.parts["decoder"].get_config()
    assert (decoder["use_separable_conv"], decoder["num_filters"], decoder["norm_momentum"]) == (
        False,
        8,
        0.5,
    )


def test_the_architectures_have_parts_of_their_own():
    with pytest.raises(ConfigError, match=r"unknown setting model\.garden\.rpn_head"):
        build_model(ModelConfig.model_validate({**SMALL, "garden": {"rpn_head": {}}}), 2)


@pytest.mark.parametrize("replicas", [1, 2])
def test_norms_are_of_the_whole_batch_where_devices_share_it(replicas, monkeypatch):
    shared = SimpleNamespace(num_replicas_in_sync=replicas)
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: shared)
    parameters = GardenParameters(ModelConfig.model_validate(SMALL), ("norm_activation",))
    assert build_norm(parameters, "relu").use_sync_bn == (replicas == 2)
