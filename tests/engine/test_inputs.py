import os

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from detflow.engine.inputs import TrainingImages, epoch_order
from detflow.errors import DataError, EnvironmentFault
from detflow.types import Box, ImageSize, LabelMap, ObjectAnnotation, Sample

pytestmark = pytest.mark.tf

CANVAS = (64, 96)
LABELS = LabelMap(("a", "b"))


def make_sample(index, objects=(), pixels=None):
    pixels = np.full((48, 72, 3), 10 * index, np.uint8) if pixels is None else pixels
    encoded = tf.io.encode_jpeg(pixels, quality=100).numpy()
    return Sample(f"k{index}", index, f"k{index}.jpg", ImageSize(pixels.shape[1], pixels.shape[0]), encoded, tuple(objects))


def make_images(samples, tmp_path, max_boxes=10, max_bytes=1 << 30):
    return TrainingImages(samples, len(samples), LABELS, [CANVAS], max_boxes=max_boxes, max_bytes=max_bytes, scratch_dir=tmp_path)


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
