import os

import numpy as np
import pytest
import tensorflow as tf

from detflow.config.schema import ModelConfig
from detflow.errors import DataError, EnvironmentFault
from detflow.label_map import LabelMap
from detflow.training.inputs import TrainingImages, cache_size
from detflow.training.order import epoch_order
from detflow.types import Box, ImageSize, ObjectAnnotation, Sample

pytestmark = pytest.mark.tf

CANVAS = (64, 96)
LABELS = LabelMap(("a", "b"))


def make_sample(index, objects=(), pixels=None):
    pixels = np.full((48, 72, 3), 10 * index, np.uint8) if pixels is None else pixels
    encoded = tf.io.encode_jpeg(pixels, quality=100).numpy()
    return Sample(
        f"k{index}",
        index,
        f"k{index}.jpg",
        ImageSize(pixels.shape[1], pixels.shape[0]),
        encoded,
        tuple(objects),
    )


def make_images(
    samples, tmp_path, max_boxes=10, max_bytes=1 << 30, canvases=(CANVAS,), repeat_threshold=0.0
):
    return TrainingImages(
        samples,
        len(samples),
        LABELS,
        canvases,
        max_boxes=max_boxes,
        max_bytes=max_bytes,
        scratch_dir=tmp_path,
        repeat_threshold=repeat_threshold,
    )


def test_steps_walk_through_the_epochs_without_a_break(tmp_path):
    images = make_images([make_sample(i) for i in range(5)], tmp_path)
    seen = np.concatenate([images.batch(7, step, 3).indices for step in range(5)])
    for epoch in range(3):
        assert sorted(seen[5 * epoch : 5 * epoch + 5]) == list(range(5))


def test_images_of_a_rare_class_come_more_often(tmp_path):
    samples = [
        make_sample(i, [ObjectAnnotation("b" if i == 3 else "a", Box(0.1, 0.2, 0.5, 0.6))])
        for i in range(9)
    ]
    images = make_images(samples, tmp_path, repeat_threshold=1.0)
    assert images.repeat_factors[3] == 3.0
    counts = np.bincount(
        np.concatenate([images.batch(7, step, 4).indices for step in range(110)]), minlength=9
    )
    rest = np.delete(counts, 3)
    assert rest.min() >= 37
    assert counts[3] == pytest.approx(3 / np.sqrt(9 / 8) * rest.mean(), abs=2)


def test_a_batch_depends_on_seed_and_step_alone(tmp_path):
    images = make_images(
        [
            make_sample(i, [ObjectAnnotation("b", Box(0.1, 0.2, 0.5, 0.6))] * (i % 3))
            for i in range(5)
        ],
        tmp_path,
    )
    first = images.batch(7, 11, 4)
    images.batch(7, 3, 4)
    again = images.batch(7, 11, 4)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def make_mixed(tmp_path, **options):
    """Seven images: two portraits and a square among landscapes."""
    shapes = [(48, 72), (72, 48), (48, 72), (60, 60), (48, 72), (72, 48), (48, 72)]
    box = [ObjectAnnotation("b", Box(0.0, 0.0, 1.0, 0.5))]
    samples = [
        make_sample(i, box, np.full((*shape, 3), 10 * i, np.uint8))
        for i, shape in enumerate(shapes)
    ]
    return make_images(samples, tmp_path, canvases=[(64, 96), (96, 64), (80, 80)], **options)


def test_a_batch_is_of_one_bucket_and_a_cycle_sees_each_image_as_often_as_a_batch_has_images(
    tmp_path,
):
    images = make_mixed(tmp_path)
    assert images.bucket_sizes == (4, 2, 1)
    shapes = {
        0: (80, 120),
        1: (120, 80),
        2: (80, 120),
        3: (100, 100),
        4: (80, 120),
        5: (120, 80),
        6: (80, 120),
    }
    batches = [images.batch(9, step, 3) for step in range(21)]
    for batch in batches:
        assert {shapes[index] for index in batch.indices.tolist()} == {batch.images.shape[1:3]}
        # Grey values tell the images; their canvases have their aspect, so there is no padding.
        np.testing.assert_array_equal(
            batch.images,
            np.broadcast_to(10 * batch.indices[:, None, None, None], batch.images.shape),
        )
        np.testing.assert_allclose(
            batch.boxes, np.broadcast_to([0.0, 0.0, 1.0, 0.5], (3, 1, 4)), atol=1e-6
        )
    for cycle in range(3):
        seen = np.concatenate([batch.indices for batch in batches[7 * cycle : 7 * cycle + 7]])
        assert np.bincount(seen).tolist() == [3] * 7
    # The steps of a bucket walk through its epochs.
    landscapes = np.concatenate(
        [batch.indices for batch in batches if batch.images.shape[1:3] == (80, 120)]
    )
    for epoch in range(9):
        assert sorted(landscapes[4 * epoch : 4 * epoch + 4]) == [0, 2, 4, 6]
    for one, other in zip(images.batch(9, 4, 3), batches[4], strict=True):
        np.testing.assert_array_equal(one, other)


def test_canvases_that_no_image_takes_change_nothing(tmp_path):
    samples = [make_sample(i) for i in range(5)]
    one, more = (
        make_images(samples, tmp_path),
        make_images(samples, tmp_path, canvases=[CANVAS, (96, 64)]),
    )
    for step in (0, 3, 17):
        for part, other in zip(one.batch(7, step, 4), more.batch(7, step, 4), strict=True):
            np.testing.assert_array_equal(part, other)


def test_the_order_of_one_bucket_is_that_of_the_epochs(tmp_path):
    images = make_images([make_sample(i) for i in range(5)], tmp_path)
    walk = np.concatenate([epoch_order(7, epoch, 5) for epoch in range(8)])
    for step in range(10):
        assert images.batch(7, step, 4).indices.tolist() == walk[4 * step : 4 * step + 4].tolist()


def test_anchors_are_judged_on_the_canvas_of_each_image(tmp_path):
    config = ModelConfig(
        input_size=(64, 96), more_input_sizes=((96, 64), (96, 96)), anchor_scale=4.0, max_level=3
    )
    # 32 pixels a side around an anchor's centre on the canvas of each, whichever that is.
    boxes = {
        (64, 96): Box(20 / 64, 20 / 96, 52 / 64, 52 / 96),
        (96, 64): Box(20 / 96, 20 / 64, 52 / 96, 52 / 64),
    }
    samples = [
        make_sample(i, [ObjectAnnotation("a", box)], np.zeros((*size, 3), np.uint8))
        for i, (size, box) in enumerate(boxes.items())
    ]
    images = make_images(samples, tmp_path, canvases=config.canvas_sizes)
    sides, classes = images.box_sides_px()
    np.testing.assert_allclose(sides, 32.0, atol=1e-4)
    assert classes.tolist() == [0, 0]


def test_images_are_kept_a_quarter_larger_than_their_canvas():
    assert cache_size((64, 96)) == (80, 120)


def test_empty_slots_are_marked(tmp_path):
    images = make_images(
        [make_sample(0), make_sample(1, [ObjectAnnotation("b", Box(0.0, 0.0, 1.0, 0.5))])], tmp_path
    )
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
    on_disk, in_memory = (
        make_images(samples, tmp_path, max_bytes=100),
        make_images(samples, tmp_path),
    )
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
