import pytest

from detflow.config.backbones import BACKBONES, Backbone
from detflow.config.schema import ModelConfig


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_goes_with_each_architecture_that_its_row_names(name):
    family = BACKBONES[name].family
    for architecture in ("retinanet", "faster_rcnn", "yolo"):
        settings = {"backbone": name, "architecture": architecture, "width_multiplier": 1.0}
        settings |= {"min_level": 3, "max_level": 5}
        if architecture in family.architectures:
            assert ModelConfig.model_validate(settings).backbone == name
        else:
            with pytest.raises(ValueError, match=f"does not go with architecture {architecture}"):
                ModelConfig.model_validate(settings)


def test_a_further_backbone_of_a_family_is_a_further_row(monkeypatch):
    family = BACKBONES["resnet10"].family
    monkeypatch.setitem(BACKBONES, "resnet101", Backbone(family, 101))
    assert ModelConfig(backbone="resnet101").backbone == "resnet101"
    with pytest.raises(ValueError, match=r"below 0\.25, the least for resnet101"):
        ModelConfig(backbone="resnet101", width_multiplier=0.2)
