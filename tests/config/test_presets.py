import pytest

from detflow.config.presets import PRESETS
from detflow.config.reading import format_config, parse_config
from detflow.config.schema import ModelConfig

MINIMAL = "data:\n  records: out\n"


def test_a_preset_gives_defaults_that_stay_open():
    config = parse_config(MINIMAL, ["model.preset=retinanet_mobilenet_v2", "model.num_filters=32"])
    model = config.model
    assert (model.backbone, model.width_multiplier, model.max_level, model.num_filters) == (
        "mobilenet_v2",
        1.0,
        7,
        32,
    )
    assert parse_config(format_config(config)) == config


def test_a_preset_and_the_user_share_the_garden_passage():
    config = parse_config(
        MINIMAL,
        [
            "model.preset=retinanet_spinenet49_mobile",
            "model.garden.head.num_convs=3",
            "model.garden.backbone.se_ratio=0.1",
        ],
    )
    assert config.model.garden == {
        "head": {"use_separable_conv": True, "num_convs": 3},
        "backbone": {"se_ratio": 0.1},
        "norm_activation": {"activation": "hard_swish"},
    }
    assert parse_config(format_config(config)) == config


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_valid_configuration_that_says_what_its_row_says(preset):
    model = ModelConfig.model_validate({"preset": preset})
    for name, value in PRESETS[preset].items():
        assert ModelConfig.model_validate({**model.model_dump(), name: value}) == model


def test_the_default_preset_is_the_schema_s_defaults():
    assert ModelConfig.model_validate({"preset": "retinanet_resnet10"}) == ModelConfig()
    assert ModelConfig().preset == "retinanet_resnet10"


def test_a_further_preset_is_a_further_row(monkeypatch):
    monkeypatch.setitem(PRESETS, "mine", {"backbone": "resnet18", "num_filters": 48})
    model = ModelConfig.model_validate({"preset": "mine", "num_filters": 32})
    assert (model.backbone, model.num_filters) == ("resnet18", 32)
