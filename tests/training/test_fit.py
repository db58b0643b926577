import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detflow.config.reading import parse_config
from detflow.data.records.manifest import RecordsManifest, SplitInfo
from detflow.errors import ConfigError, DataError
from detflow.label_map import LabelMap
from detflow.training.fit import fit_config, read_time_budget
from detflow.training.fit_recipe import Speed
from detflow.training.fit_text import format_choices
from detflow.training.fit_weights import Beginning, choose_beginning
from detflow.types import Box, ImageSize, ObjectAnnotation


def manifest(splits, names=("a",)):
    info = {
        name: SplitInfo(images=count, objects=count, objects_per_class={}, shards=())
        for name, count in splits.items()
    }
    return RecordsManifest(label_map=LabelMap(names), splits=info, unions={}, fingerprint="0" * 64)


def sample(size, side_px, aspect=1.0, name="a"):
    """One image with one box in its middle; `side_px` is the root of the box' area."""
    width, height = side_px * aspect**0.5 / size.width, side_px / aspect**0.5 / size.height
    box = Box(0.5 - height / 2, 0.5 - width / 2, 0.5 + height / 2, 0.5 + width / 2)
    return size, (ObjectAnnotation(name, box),)


def fit(samples, splits=None):
    choices = fit_config(manifest(splits or {"train": 100, "val": 10, "test": 10}), "out", samples)
    assert all(choice.why for choice in choices)
    return {choice.name: choice.value for choice in choices}, parse_config(
        format_choices(choices, ["header"])
    )


def test_the_text_is_a_valid_configuration_of_the_same_values():
    values, config = fit([sample(ImageSize(640, 480), 100.0)] * 3)
    assert config.model.input_size == tuple(values["model.input_size"]) == (192, 256)
    assert (config.data.train_split, config.data.eval_split) == ("train", "val")


def test_small_objects_get_a_larger_canvas_and_large_ones_the_fast_one():
    size = ImageSize(1280, 960)
    areas = [fit([sample(size, side)])[1].model.input_size for side in (300.0, 80.0, 20.0)]
    assert areas[0] == (192, 256)
    assert areas[0][0] < areas[1][0] < areas[2][0] <= 384


def test_the_smallest_class_decides():
    size = ImageSize(1280, 960)
    both = [sample(size, 300.0)] * 5 + [sample(size, 40.0, name="b")]
    assert fit(both)[1].model.input_size[0] > fit(both[:5])[1].model.input_size[0]


@pytest.mark.parametrize("first", ["screw", "plate"])
def test_no_box_is_passed_over_in_a_large_set(first):
    """Each image has a class of large and one of small objects, always in the same order."""
    size, side_px = ImageSize(640, 480), {"plate": 120.0, "screw": 8.0}
    names = sorted(side_px, key=lambda name: name != first) * 15
    objects = [sample(size, side_px[name], name=name)[1][0] for name in names]
    choices = fit_config(manifest({"train": 700}), "out", [(size, objects)] * 700)
    why = {choice.name: choice.why for choice in choices}
    assert "the median screw, the smallest class" in why["model.input_size"]
    assert "50.0% of the boxes; most of screw 100%" in why["model.anchor_scale"]


@pytest.mark.parametrize(
    ("size", "taller"), [(ImageSize(480, 640), True), (ImageSize(640, 480), False)]
)
def test_the_canvas_has_the_images_aspect(size, taller):
    height, width = fit([sample(size, 100.0)])[1].model.input_size
    assert (height > width) == taller


def test_images_are_not_blown_up():
    assert fit([sample(ImageSize(64, 64), 5.0)])[1].model.input_size == (64, 64)


def test_elongated_boxes_get_an_anchor_of_their_shape():
    assert fit([sample(ImageSize(640, 480), 100.0, aspect=3.0)])[1].model.aspect_ratios == (3.0,)
    assert fit([sample(ImageSize(640, 480), 100.0, aspect=1.2)])[1].model.aspect_ratios == (1.0,)


def test_anchors_grow_with_the_boxes():
    small, large = (
        fit([sample(ImageSize(256, 192), side)])[1].model.anchor_scale for side in (20.0, 180.0)
    )
    assert small < large


@pytest.mark.parametrize(
    ("splits", "names"),
    [
        ({"train": 9, "valid": 2}, ("train", "valid")),
        ({"train": 9, "test": 2}, ("train", None)),
        ({"training": 9}, ("training", None)),
    ],
)
def test_the_splits_are_found_by_their_usual_names(splits, names):
    config = fit([sample(ImageSize(640, 480), 100.0)], splits)[1]
    assert (config.data.train_split, config.data.eval_split) == names


@pytest.mark.parametrize("splits", [{}, {"train": 0, "val": 3}, {"test": 5}])
def test_without_a_training_split_there_is_nothing_to_fit(splits):
    with pytest.raises(DataError, match="no split to train on"):
        fit_config(manifest(splits), "out", [])


def describe(samples):
    return {
        choice.name: choice
        for choice in fit_config(manifest({"train": 100, "val": 10}), "out", samples)
    }


LANDSCAPE, PORTRAIT = ImageSize(640, 480), ImageSize(480, 640)


def test_portrait_and_landscape_images_get_a_canvas_each_and_the_figures_say_why():
    samples = [sample(LANDSCAPE, 100.0)] * 60 + [sample(PORTRAIT, 100.0)] * 40
    config = fit(samples)[1]
    assert config.model.canvas_sizes == ((192, 256), (256, 192))
    more = describe(samples)["model.more_input_sizes"]
    assert "60% of the images in 192x256, 40% of the images in 256x192" in more.why
    assert "images cover 100% of their canvas, and would cover 82% of a single one" in more.why
    # The boxes of both have the size that they have on a canvas of their own.
    assert config.model.anchor_scale == fit([sample(LANDSCAPE, 100.0)])[1].model.anchor_scale


@pytest.mark.parametrize(
    "sizes",
    [
        [LANDSCAPE] * 100,
        # Too few portraits for a bucket, or for a batch.
        [LANDSCAPE] * 90 + [PORTRAIT] * 10,
        [LANDSCAPE] * 7 + [PORTRAIT] * 7,
        # Aspects that differ by too little to be worth it.
        [ImageSize(640, 480)] * 50 + [ImageSize(600, 500)] * 50,
        [ImageSize(64, 40)] * 50 + [ImageSize(40, 64)] * 50,
    ],
)
def test_sets_of_one_aspect_and_those_of_too_few_or_small_images_get_one_canvas(sizes):
    choices = describe([sample(size, 30.0) for size in sizes])
    assert "model.more_input_sizes" not in choices


def test_there_are_three_canvases_where_two_would_not_do():
    sizes = [ImageSize(640, 320)] * 40 + [ImageSize(500, 500)] * 40 + [ImageSize(320, 640)] * 40
    canvases = fit([sample(size, 100.0) for size in sizes])[1].model.canvas_sizes
    assert len(canvases) == 3
    assert sorted(height > width for height, width in canvases) == [False, False, True]


@given(
    st.lists(
        st.builds(
            sample,
            st.builds(ImageSize, st.integers(1, 6000), st.integers(1, 6000)),
            st.floats(0.2, 0.9),
            st.floats(0.9, 1.1),
            st.sampled_from(["a", "b"]),
        ),
        min_size=1,
        max_size=5,
    ),
    st.integers(1, 10**6),
)
def test_any_data_gives_a_valid_configuration(samples, count):
    _, config = fit(samples, {"train": count})
    height, width = config.model.input_size
    assert height % 32 == width % 32 == 0
    assert min(height, width) >= 64
    assert 1_500 <= config.train.steps <= 20_000


def test_reasons_are_wrapped_to_the_width_of_a_page():
    names = [f"a class\u2028with a long name, number {number}" for number in range(9)]
    samples = [sample(ImageSize(640, 480), 100.0, name=name) for name in names]
    text = format_choices(list(describe(samples).values()), ["header"])
    assert max(map(len, text.splitlines())) <= 100
    assert parse_config(text).model.input_size == (192, 256)


def test_what_is_measured_decides_between_weights_and_scratch_where_objects_are_many_and_small():
    weights = Beginning(
        "efficientnet-lite0-imagenet", {"preset": "retinanet_lite0"}, "", True, True
    )

    def fit_at(rates, samples, beginning=weights):
        asked = []

        def measure(config, objects):
            asked.append((config.model.preset, config.train.freeze != (), objects))
            return Speed(rates[config.model.preset], 10.0, 50.0)

        info = manifest({"train": 100, "val": 10})
        choices = fit_config(info, "out", samples, lambda: beginning, 300.0, measure)
        return parse_config(format_choices(choices, [])), asked

    size, object_ = sample(ImageSize(640, 480), 30.0)
    many = [(size, object_ * 12)] * 100
    slow = {"retinanet_lite0": 10.0, "retinanet_resnet10": 12.0}
    fast = {"retinanet_lite0": 10.0, "retinanet_resnet10": 50.0}
    config, asked = fit_at(slow, many)
    assert asked == [("retinanet_lite0", True, 12), ("retinanet_resnet10", False, 12)]
    assert config.train.init_from == "efficientnet-lite0-imagenet"
    assert config.train.steps == round((300 - 18 - 2 * 10 / 50) * 10 / 4)
    config, _ = fit_at(fast, many)
    assert (config.train.init_from, config.model.preset) == (None, "retinanet_resnet10")
    # Few and large objects, or weights that the user chose: nothing to compare.
    few = [sample(ImageSize(640, 480), 200.0)] * 100
    chosen = dataclasses.replace(weights, is_automatic=False)
    for config, asked in (fit_at(fast, few), fit_at(fast, many, chosen)):
        assert config.train.init_from == "efficientnet-lite0-imagenet"
        assert len(asked) == 1


def test_a_clock_that_allows_few_images_gets_a_smaller_canvas():
    weights = Beginning("efficientnet-lite0-imagenet", {"preset": "retinanet_lite0"}, "", True)
    samples = [sample(ImageSize(416, 416), 31.0)] * 10

    def fit_at(rate):
        choices = fit_config(
            manifest({"train": 100, "val": 10}),
            "out",
            samples,
            lambda: weights,
            300.0,
            lambda config, objects: Speed(rate, 10.0, 50.0),
        )
        return parse_config(format_choices(choices, []))

    assert fit_at(6.0).model.input_size == (288, 288)
    smaller = fit_at(5.0)
    assert smaller.model.input_size == (256, 256)
    # The same pixels a second are more images.
    assert smaller.train.steps == pytest.approx(282 * 5.0 * (288 / 256) ** 2 / 4, abs=2)
    # However slow, an object keeps 16 pixels a side.
    assert fit_at(0.5).model.input_size == (224, 224)


def test_init_names_the_weights_that_it_can_have(monkeypatch):
    monkeypatch.setenv("DETFLOW_OFFLINE", "1")
    assert (
        choose_beginning(None, offline=False, num_classes=3).source == "efficientnet-lite0-imagenet"
    )
    scratch = choose_beginning("scratch", offline=False, num_classes=3)
    assert (scratch.source, scratch.model["preset"]) == (None, "retinanet_resnet10")
    with pytest.raises(ConfigError, match=r"nowhere\.tflite is not a name, an address, a run"):
        choose_beginning("nowhere.tflite", offline=True, num_classes=3)


def test_a_wrong_time_budget_is_blamed_on_its_flag():
    with pytest.raises(ConfigError) as caught:
        read_time_budget("12x")
    assert str(caught.value).startswith("--time-budget 12x: train.time_budget: expected a duration")
    assert (read_time_budget("1h30m"), read_time_budget(90.0), read_time_budget(None)) == (
        5400.0,
        90.0,
        None,
    )


@pytest.mark.parametrize(
    ("model", "stride"),
    [
        ({"preset": "retinanet_resnet50"}, 128),
        ({"preset": "retinanet_spinenet49_mobile"}, 128),
        ({"preset": "faster_rcnn_resnet50", "anchor_scale": 6.0, "aspect_ratios": [0.5, 2.0]}, 64),
    ],
)
def test_canvases_and_anchors_go_with_what_the_weights_fit(model, stride):
    samples = [sample(LANDSCAPE, 60.0)] * 60 + [sample(PORTRAIT, 60.0)] * 40
    weights = Beginning("a", model)
    choices = fit_config(manifest({"train": 100}), "out", samples, lambda: weights)
    config = parse_config(format_choices(choices, [])).model
    for canvas in config.canvas_sizes:
        assert canvas[0] % stride == canvas[1] % stride == 0
    # One network takes one canvas alone; that of two would not fit the levels of the others.
    assert len(config.canvas_sizes) == 1
    # What the head has several outputs for stays.
    assert config.anchor_scale == model.get("anchor_scale", config.anchor_scale)
    assert config.aspect_ratios == tuple(model.get("aspect_ratios", [1.0]))
