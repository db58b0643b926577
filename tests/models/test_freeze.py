import pytest

from detflow.errors import ConfigError
from detflow.models.build import build_model as build
from detflow.models.freeze import find_freezable, freeze

pytestmark = [pytest.mark.tf, pytest.mark.whole_network]


@pytest.fixture
def parts(tiny_config):
    return build(tiny_config().model, 2).parts


def test_the_levels_of_a_backbone_are_its_strides_and_hold_all_of_its_weights(parts):
    names = find_freezable(parts)
    assert list(names) == [
        "backbone",
        *(f"backbone.level{level}" for level in range(1, 6)),
        "decoder",
        "head",
        "backbone.statistics",
    ]
    by_level = [
        variable.ref()
        for name in list(names)[1:6]
        for layer in names[name]
        for variable in layer.variables
    ]
    assert sorted(map(hash, by_level)) == sorted(
        hash(variable.ref()) for variable in parts["backbone"].variables
    )
    assert [len(names[f"backbone.level{level}"]) for level in range(1, 6)] == [2, 1, 1, 1, 1]


def test_a_network_for_several_canvases_has_the_same_levels(tiny_config, parts):
    several = build(tiny_config(model_more_input_sizes=[[32, 64]]).model, 2).parts
    one, other = (
        {
            name: [len(layer.variables) for layer in layers]
            for name, layers in find_freezable(some).items()
        }
        for some in (parts, several)
    )
    assert one == other


def test_a_pattern_freezes_what_it_names_and_nothing_else(parts):
    before = {id(variable) for variable in parts["backbone"].trainable_variables}
    freeze(parts, ["backbone.level[12]"])
    names = find_freezable(parts)
    frozen = {
        id(variable)
        for level in (1, 2)
        for layer in names[f"backbone.level{level}"]
        for variable in layer.variables
    }
    assert {id(variable) for variable in parts["backbone"].trainable_variables} == before - frozen
    assert parts["head"].trainable_variables


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (
            ["backbone", "backbon"],
            "backbon is no part of this model; did you mean backbone.* known here: backbone, "
            "backbone.level1",
        ),
        (["*.level9"], "level9 is no part of this model"),
        (["*"], "leaves nothing to train"),
    ],
)
def test_what_freezes_nothing_or_everything_is_refused(parts, patterns, message):
    with pytest.raises(ConfigError, match=message):
        freeze(parts, patterns)
