import os

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from detflow.config import AugmentConfig
from detflow.engine.inputs import TrainingImages, augment, cache_size, epoch_order
from detflow.errors import DataError, EnvironmentFault
from detflow.types import Box, ImageSize, LabelMap, ObjectAnnotation, Sample

pytestmark = pytest.mark.tf

CANVAS = (64, 96)
LABELS = LabelMap(("a", "b"))
STILL = AugmentConfig(enabled=False)


def make_sample(index, objects=(), pixels=None):
    pixels = np.full((48, 72, 3), 10 * index, np.uint8) if pixels is None else pixels
    encoded = tf.io.encode_jpeg(pixels, quality=100).numpy()
    return Sample(f"k{index}", index, f"k{index}.jpg", ImageSize(pixels.shape[1], pixels.shape[0]), encoded, tuple(objects))


def make_images(samples, tmp_path, max_boxes=10, max_bytes=1 << 30):
    return TrainingImages(samples, len(samples), LABELS, CANVAS, max_boxes=max_boxes, max_bytes=max_bytes, scratch_dir=tmp_path)


@given(st.integers(0, 2**31 - 1), st.integers(0, 1000), st.integers(1, 500))
def test_an_epoch_visits_every_item_once(seed, epoch, count):
    assert sorted(epoch_order(seed, epoch, count)) == list(range(count))


def test_the_order_is_the_same_for_ever():
    assert epoch_order(1, 0, 10).tolist() == [2, 5, 8, 9, 1, 4, 6, 0, 3, 7]
    assert epoch_order(1, 1, 10).tolist() != epoch_order(1, 0, 10).tolist() != epoch_order(2, 0, 10).tolist()


def test_steps_walk_through_the_epochs_without_a_break(tmp_path):
    images = make_images([make_sample(i) for i in range(5)], tmp_path)
    seen = np.concatenate([images.batch(7, step, 3).indices for step in range(5)])
    for epoch in range(3):
        assert sorted(seen[5 * epoch : 5 * epoch + 5]) == list(range(5))


def test_a_batch_depends_on_seed_and_step_alone(tmp_path):
    images = make_images([make_sample(i, [ObjectAnnotation("b", Box(0.1, 0.2, 0.5, 0.6))] * (i % 3)) for i in range(5)], tmp_path)
    first = images.batch(7, 11, 4)
    images.batch(7, 3, 4)
    again = images.batch(7, 11, 4)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_empty_slots_are_marked(tmp_path):
    images = make_images([make_sample(0), make_sample(1, [ObjectAnnotation("b", Box(0.0, 0.0, 1.0, 0.5))])], tmp_path)
    batch = images.batch(1, 0, 2)
    row = list(batch.indices).index(1)
    assert batch.classes[row].tolist() == [1]
    assert batch.classes[1 - row].tolist() == [-1]
    # The image has the canvas' aspect, so its coordinates are the canvas'.
    np.testing.assert_allclose(batch.boxes[row], [[0.0, 0.0, 1.0, 0.5]], atol=1e-6)


def test_of_too_many_boxes_the_largest_are_taken_and_the_rest_counted(tmp_path):
    objects = [ObjectAnnotation("a", Box(0.0, 0.0, 0.1 * n, 0.5)) for n in (1, 5, 3)]
    images = make_images([make_sample(0, objects)], tmp_path, max_boxes=2)
    assert images.num_boxes_left_out == 1
    np.testing.assert_allclose(images.batch(1, 0, 1).boxes[0, :, 2], [0.5, 0.3], atol=1e-6)


def test_above_the_budget_images_live_in_a_file_that_leaves_nothing_behind(tmp_path):
    samples = [make_sample(i) for i in range(4)]
    on_disk, in_memory = make_images(samples, tmp_path, max_bytes=100), make_images(samples, tmp_path)
    np.testing.assert_array_equal(on_disk.batch(1, 0, 4).images, in_memory.batch(1, 0, 4).images)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_space_for_the_file_is_named(tmp_path, monkeypatch):
    def refuse(descriptor, offset, length):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(EnvironmentFault, match=r"no space left.*bytes are needed"):
        make_images([make_sample(0)], tmp_path, max_bytes=1)


def test_an_image_that_cannot_be_decoded_is_named(tmp_path):
    sample = make_sample(0)
    broken = Sample(sample.key, 0, "broken.jpg", sample.size, sample.encoded[:100], ())
    with pytest.raises(DataError, match=r"^broken\.jpg: the image cannot be decoded"):
        make_images([broken], tmp_path)


def picture(batch=1):
    """A smooth picture at cache size, and a box around its bright spot."""
    height, width = cache_size(CANVAS)
    image = np.full((height, width, 3), 60, np.uint8)
    image[20:40, 30:70] = 220
    box = np.array([20 / height, 30 / width, 40 / height, 70 / width], np.float32)
    return np.tile(image, (batch, 1, 1, 1)), np.tile(box, (batch, 1, 1)), np.zeros((batch, 1), np.int32)


def run_augment(config, step=0, batch=1, inputs=None):
    images, boxes, classes = inputs or picture(batch)
    outputs = augment(images, boxes, classes, seed=5, step=tf.constant(step, tf.int64), input_size=CANVAS, config=config)
    return [value.numpy() for value in outputs]


def test_without_augmentation_the_image_is_only_resized():
    canvases, boxes, classes = run_augment(STILL)
    _, original, _ = picture()
    np.testing.assert_allclose(boxes, original, atol=1e-6)
    assert classes.tolist() == [[0]]
    assert canvases.shape == (1, *CANVAS, 3)


@pytest.mark.parametrize("step", range(12))
def test_boxes_follow_the_pixels(step):
    config = AugmentConfig(vertical_flip=True, gain=0.0, channel_gain=0.0, offset=0.0, min_visible=0.0)
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
    _, boxes, classes = run_augment(AugmentConfig(), inputs=(images, np.zeros_like(boxes), classes - 1))
    assert classes.tolist() == [[-1]]
    assert (boxes == 0).all()
