import numpy as np
import pytest
import tensorflow as tf

from detflow.config.schema import AugmentConfig
from detflow.training.augment.noise import Noise
from detflow.training.augment.pipeline import (
    AUGMENTATIONS,
    Augmentation,
    augment,
    mixes_rows,
    without_mixing,
)
from detflow.training.augment.views import show_views
from detflow.training.inputs import cache_size

pytestmark = pytest.mark.tf

CANVAS = (64, 96)
STILL = AugmentConfig(enabled=False)


def picture(batch=1):
    """A smooth picture at cache size, and a box around its bright spot."""
    height, width = cache_size(CANVAS)
    image = np.full((height, width, 3), 60, np.uint8)
    image[20:40, 30:70] = 220
    box = np.array([20 / height, 30 / width, 40 / height, 70 / width], np.float32)
    return (
        np.tile(image, (batch, 1, 1, 1)),
        np.tile(box, (batch, 1, 1)),
        np.zeros((batch, 1), np.int32),
    )


def run_augment(config, step=0, batch=1, inputs=None, mixes=True, traced=False, **options):
    def run(step, mixes, images, boxes, classes):
        return augment(
            images,
            boxes,
            classes,
            seed=5,
            step=step,
            mixes=mixes,
            input_size=CANVAS,
            config=config,
            **options,
        )

    function = tf.function(run, autograph=False) if traced else run
    outputs = function(
        tf.constant(step, tf.int64), tf.constant(mixes), *map(tf.constant, inputs or picture(batch))
    )
    return [value.numpy() for value in outputs]


def test_without_augmentation_the_image_is_only_resized():
    canvases, boxes, classes = run_augment(STILL)
    _, original, _ = picture()
    np.testing.assert_allclose(boxes, original, atol=1e-6)
    assert classes.tolist() == [[0]]
    assert canvases.shape == (1, *CANVAS, 3)


@pytest.mark.parametrize("step", range(12))
def test_boxes_follow_the_pixels(step):
    config = AugmentConfig(
        vertical_flip=True, gain=0.0, channel_gain=0.0, offset=0.0, min_visible=0.0
    )
    canvases, boxes, classes = run_augment(config, step, batch=4)
    for canvas, box, label in zip(canvases, boxes[:, 0], classes[:, 0], strict=True):
        rows, columns = np.nonzero(canvas[..., 0] > 0.5)
        assert (label == 0) == bool(rows.size)
        expected = [
            rows.min() / CANVAS[0],
            columns.min() / CANVAS[1],
            (rows.max() + 1) / CANVAS[0],
            (columns.max() + 1) / CANVAS[1],
        ]
        np.testing.assert_allclose(box, expected, atol=1.01 / min(CANVAS))


def test_augmentation_depends_on_the_step_alone():
    config = AugmentConfig()
    one, again, other = run_augment(config, 3), run_augment(config, 3), run_augment(config, 4)
    np.testing.assert_array_equal(one[0], again[0])
    assert np.abs(one[0] - other[0]).max() > 0.1


def test_a_box_that_has_mostly_left_the_view_becomes_an_empty_slot():
    config = AugmentConfig(scale=(2.0, 2.0), min_visible=0.99)
    _, boxes, classes = run_augment(config, batch=64)
    gone = classes[:, 0] == -1
    assert 0 < gone.sum() < 64
    assert (boxes[gone] == 0).all()


def test_empty_slots_stay_empty():
    images, boxes, classes = picture()
    _, boxes, classes = run_augment(
        AugmentConfig(), inputs=(images, np.zeros_like(boxes), classes - 1)
    )
    assert classes.tolist() == [[-1]]
    assert (boxes == 0).all()


PLAIN = {"gain": 0.0, "channel_gain": 0.0, "offset": 0.0}
# The class of an object is its colour: bit by bit whether red, green and blue are bright.
COLOURS = [(220, 60, 60), (60, 220, 60), (220, 220, 60), (60, 60, 220), (220, 60, 220)]


def coloured_pictures(count):
    """Pictures with one object each, of a colour, a place and a size of its own."""
    height, width = cache_size(CANVAS)
    images, boxes = (
        np.full((count, height, width, 3), 60, np.uint8),
        np.zeros((count, 2, 4), np.float32),
    )
    for i in range(count):
        top, left, bottom, right = 10 + 6 * i, 20 + 9 * i, 40 + 6 * i, 60 + 10 * i
        images[i, top:bottom, left:right] = COLOURS[i]
        boxes[i, 0] = top / height, left / width, bottom / height, right / width
    return images, boxes, np.stack([np.arange(count), np.full(count, -1)], 1).astype(np.int32)


def colour_extents(canvas):
    """What a look at the pixels says: the smallest box around each colour."""
    bright = canvas * [58.395, 57.12, 57.375] + [123.675, 116.28, 103.53] > 140
    codes = bright @ [1, 2, 4]
    extents = {}
    for code in np.unique(codes[codes > 0]):
        rows, columns = np.nonzero(codes == code)
        extents[int(code) - 1] = np.array(
            [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
        ) / [*CANVAS, *CANVAS]
    return extents


@pytest.mark.parametrize("step", range(8))
def test_boxes_follow_the_pixels_of_a_mosaic(step):
    config = AugmentConfig(mosaic=0.7, vertical_flip=True, min_visible=0.0, **PLAIN)
    canvases, boxes, classes = run_augment(config, step, inputs=coloured_pictures(5))
    num_objects = 0
    for canvas, row_boxes, row_classes in zip(canvases, boxes, classes, strict=True):
        found = {
            label: box
            for label, box in zip(row_classes.tolist(), row_boxes, strict=True)
            if label >= 0
        }
        extents = colour_extents(canvas)
        # A sliver that is thinner than a pixel shows up in one of them only.
        for label in found.keys() ^ extents.keys():
            box = found.get(label, extents.get(label))
            assert min((box[2:] - box[:2]) * CANVAS) <= 1.01
        for label in found.keys() & extents.keys():
            np.testing.assert_allclose(
                found[label] * [*CANVAS, *CANVAS], extents[label] * [*CANVAS, *CANVAS], atol=1.01
            )
        num_objects += len(found)
    assert num_objects > 8
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    # No slot is carried along that no canvas needs.
    assert (classes >= 0).sum(1).max() == classes.shape[1]


def test_a_mosaic_shows_four_images_and_the_rest_stays_single():
    config = AugmentConfig(
        mosaic=0.5, mosaic_scale=(0.5, 0.5), aspect=1.0, min_visible=0.0, **PLAIN
    )
    single = run_augment(
        AugmentConfig(aspect=1.0, min_visible=0.0, **PLAIN), inputs=coloured_pictures(5)
    )
    mixed = run_augment(config, inputs=coloured_pictures(5))
    same = [np.array_equal(one, other) for one, other in zip(mixed[0], single[0], strict=True)]
    assert 0 < sum(same) < 5
    assert all(
        len(colour_extents(canvas)) <= 1 if one else len(colour_extents(canvas)) >= 2
        for canvas, one in zip(mixed[0], same, strict=True)
    )


def test_a_mixup_blends_two_images_and_has_the_boxes_of_both():
    still = {"scale": (1.0, 1.0), "aspect": 1.0, "horizontal_flip": False, **PLAIN}
    inputs = coloured_pictures(2)
    first, second = run_augment(AugmentConfig(**still), inputs=inputs)[0]
    (blend, _), boxes, classes = run_augment(AugmentConfig(mixup=1.0, **still), inputs=inputs)
    share = np.linalg.lstsq((first - second).reshape(-1, 1), (blend - second).ravel(), rcond=None)[
        0
    ].item()
    assert 0.4 <= share <= 0.6
    np.testing.assert_allclose(blend, share * first + (1 - share) * second, atol=1e-5)
    assert classes.tolist() == [[0, 1], [1, 0]]
    np.testing.assert_allclose(boxes[0], inputs[1][:, 0], atol=1e-6)


@pytest.mark.parametrize("share", [0.5, pytest.param(1.0, marks=pytest.mark.soak)])
def test_a_mosaic_depends_on_the_step_alone_whether_traced_or_not(share):
    config = AugmentConfig(mosaic=share, mixup=share)
    inputs = coloured_pictures(5)
    eager, again, traced = (
        run_augment(config, 3, inputs=inputs, traced=traced) for traced in (False, False, True)
    )
    for one, two, three in zip(eager, again, traced, strict=True):
        np.testing.assert_array_equal(one, two)
        # Where a sample falls may differ by a rounding, which shows at hard edges.
        np.testing.assert_allclose(one, three, atol=1e-3)
    assert not np.array_equal(eager[0], run_augment(config, 4, inputs=inputs)[0])


@pytest.mark.parametrize("batch", [1, 4])
def test_without_mixing_the_pixels_are_those_of_the_default(batch):
    inputs = coloured_pictures(batch)
    for config, mixes in (
        (AugmentConfig(mosaic=1.0, mixup=1.0), False),
        (AugmentConfig(mosaic=1e-9, mixup=1e-9), True),
    ):
        np.testing.assert_array_equal(
            run_augment(config, inputs=inputs, mixes=mixes)[0],
            run_augment(AugmentConfig(), inputs=inputs)[0],
        )
    assert run_augment(AugmentConfig(mosaic=1.0, mixup=1.0), inputs=inputs)[0].shape == (
        batch,
        *CANVAS,
        3,
    )


def use_all_numbers(canvases, originals, noise, config):
    """Draws under every name that the others draw under, and changes nothing."""
    for name in ("view", "views", "chosen", "centre", "partners", "share", "colour"):
        tf.debugging.assert_less(noise.uniform(name, [50]), 1.0)
    return canvases


@pytest.mark.parametrize("place", range(len(AUGMENTATIONS) + 1))
def test_a_further_augmentation_changes_no_number_of_the_others(place):
    config = AugmentConfig(mosaic=0.5, mixup=0.5)
    inputs = coloured_pictures(5)
    further = [*AUGMENTATIONS]
    further.insert(place, Augmentation("further", use_all_numbers))
    before = run_augment(config, 3, inputs=inputs)
    after = run_augment(config, 3, inputs=inputs, augmentations=further)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_order_of_the_list_is_free():
    config = AugmentConfig(mosaic=0.5, mixup=0.9)
    mixed = [AUGMENTATIONS[1], AUGMENTATIONS[0], AUGMENTATIONS[2]]
    for step in range(3):
        _, boxes, classes = run_augment(
            config, step, inputs=coloured_pictures(5), augmentations=mixed
        )
        assert (classes >= 0).sum(1).max() == classes.shape[1]
        assert (boxes[classes < 0] == 0).all()


def test_switching_one_augmentation_off_changes_no_number_of_the_others():
    inputs = coloured_pictures(5)
    same = []
    for step in range(3):
        mixed, single = (
            run_augment(AugmentConfig(mosaic=share), step, inputs=inputs)[0] for share in (0.3, 0.0)
        )
        same += [np.array_equal(one, other) for one, other in zip(mixed, single, strict=True)]
    assert 0 < sum(same) < 15


def test_an_augmentation_of_the_user_s_own_takes_part_and_draws_its_own_numbers():
    def darken(canvases, originals, noise, config):
        share = noise.uniform("share", [1, 1, 1])
        return canvases._replace(pixels=canvases.pixels - share)

    plain = run_augment(AugmentConfig(), batch=4)[0]
    darker, named_otherwise = (
        plain
        - run_augment(
            AugmentConfig(), batch=4, augmentations=[*AUGMENTATIONS, Augmentation(name, darken)]
        )[0]
        for name in ("darken", "dim")
    )
    shares = darker.mean((1, 2, 3))
    assert shares.min() >= 0
    assert shares.max() < 1
    assert len({*shares.round(3)}) == 4
    assert np.abs(shares - named_otherwise.mean((1, 2, 3))).min() > 1e-3
    disabled = run_augment(STILL, batch=4, augmentations=[Augmentation("darken", darken)])[0]
    np.testing.assert_array_equal(disabled, run_augment(STILL, batch=4)[0])


def test_a_part_of_a_step_is_changed_as_it_is_in_the_whole():
    inputs = coloured_pictures(5)
    whole = run_augment(AugmentConfig(), 3, inputs=inputs)
    rows = [3, 1]
    part = run_augment(
        AugmentConfig(),
        3,
        inputs=[value[rows] for value in inputs],
        rows=tf.constant(rows),
        num_rows=5,
    )
    for one, other in zip(part, whole, strict=True):
        np.testing.assert_array_equal(one, other[rows])


def test_numbers_are_spread_evenly_and_follow_neither_rows_nor_names():
    noise = Noise(tf.constant([5, 3], tf.int64), 4000)
    columns = np.stack(
        [
            noise.of(augmentation).uniform(draw, []).numpy()
            for augmentation in ("view", "mosaic")
            for draw in ("chosen", "share")
        ]
    )
    assert np.abs(np.quantile(columns, [0.1, 0.5, 0.9]) - [0.1, 0.5, 0.9]).max() < 0.02
    correlations = np.corrcoef(np.concatenate([columns[:, :-1], columns[:, 1:]]))
    assert np.abs(correlations - np.eye(8)).max() < 0.08


def test_the_settings_tell_what_mixes_images():
    assert not mixes_rows(AugmentConfig())
    assert mixes_rows(AugmentConfig(mosaic=0.1))
    assert mixes_rows(AugmentConfig(mixup=0.1))
    assert not mixes_rows(AugmentConfig(mixup=0.1, enabled=False))
    alone = without_mixing(AugmentConfig(mosaic=0.1, mixup=0.2, gain=0.3))
    assert alone == AugmentConfig(gain=0.3)


def test_the_number_of_views_is_known_when_the_graph_is_built(monkeypatch):
    """TensorFlow's optimiser of graphs would write warnings that no setting keeps from stderr."""
    shapes = []

    def show(normalized, sources, views, canvas_size):
        shapes.append((sources.shape.rank, sources.shape[0], views.origin.shape[0]))
        return show_views(normalized, sources, views, canvas_size)

    monkeypatch.setattr("detflow.training.augment.mosaic.show_views", show)
    run_augment(AugmentConfig(mosaic=0.5), batch=3, traced=True)
    assert len(shapes) == 4
    assert [shape for shape in shapes if shape[0] != 1 or None in shape] == []
