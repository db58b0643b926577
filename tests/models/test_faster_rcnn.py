import numpy as np
import pytest
import tensorflow as tf

from detflow.config.schema import EvaluateConfig, ModelConfig
from detflow.models.boxes import decode_boxes, encode_boxes
from detflow.models.faster_rcnn import FasterRCNN, sample_balanced

pytestmark = pytest.mark.tf

SEED = tf.constant([1, 5], tf.int64)
# The first box is an anchor, the second is smaller than all of them.
BOXES = tf.constant([[[0.25, 0.25, 0.75, 0.75], [0.1, 0.1, 0.2, 0.15], [0.0, 0.0, 0.0, 0.0]]])
CLASSES = tf.constant([[1, 0, -1]])


@pytest.fixture(scope="module")
def model():
    tf.keras.utils.set_random_seed(1)
    settings = {
        "preset": "faster_rcnn_resnet50",
        "backbone": "resnet10",
        "input_size": [64, 64],
        "width_multiplier": 0.25,
        "num_filters": 16,
        "num_head_convs": 1,
        "min_level": 3,
        "max_level": 4,
        "anchor_scale": 2.0,
        "garden": {"detection_head": {"fc_dims": 16}, "roi_sampler": {"num_sampled_rois": 16}},
    }
    return FasterRCNN(ModelConfig.model_validate(settings), 2)


def sample(positive, negative, number=8, share=0.25, seed=SEED):
    return sample_balanced(
        tf.constant([positive]), tf.constant([negative]), number, share, seed
    ).numpy()[0]


def test_a_sample_is_balanced_and_follows_from_its_seed():
    positive, negative = np.arange(100) < 40, np.arange(100) >= 60
    chosen = sample(positive, negative)
    assert chosen[positive].sum() == 2
    assert chosen[negative].sum() == 6
    np.testing.assert_array_equal(chosen, sample(positive, negative))
    assert (chosen != sample(positive, negative, seed=SEED + 1)).any()


def test_few_positives_leave_their_places_to_negatives_and_nothing_else_is_chosen():
    positive, negative = np.arange(100) < 1, np.arange(100) >= 97
    chosen = sample(positive, negative)
    np.testing.assert_array_equal(chosen, positive | negative)
    assert not sample(np.zeros(4, bool), np.zeros(4, bool)).any()


def test_encoded_boxes_decode_to_themselves():
    boxes = tf.constant([[0.1, 0.2, 0.4, 0.9], [0.5, 0.5, 0.6, 0.7]])
    anchors = tf.constant([[0.0, 0.3, 0.5, 0.6], [0.2, 0.1, 0.9, 0.8]])
    np.testing.assert_allclose(
        decode_boxes(encode_boxes(boxes, anchors), anchors), boxes, atol=1e-6
    )
    assert np.isfinite(encode_boxes(boxes, tf.zeros([2, 4]))).all()


def test_every_box_has_an_anchor_that_learns_it(model):
    labels, deltas = model._label_anchors(BOXES * 64.0, CLASSES >= 0, SEED)
    labels = labels.numpy()[0]
    assert set(labels.tolist()) <= {-1.0, 0.0, 1.0}
    assert {0.0, 1.0} <= set(labels.tolist())
    learnt = decode_boxes(deltas, model._anchors_px).numpy()[0][labels == 1]
    for box in BOXES.numpy()[0, :2] * 64.0:
        assert np.isclose(learnt, box, atol=1e-3).all(1).any()
    # Where there is nothing there is background, and no anchor learns the empty slot.
    labels, deltas = model._label_anchors(BOXES * 0.0, CLASSES < -1, SEED)
    assert set(labels.numpy()[0].tolist()) == {0.0}
    assert not deltas.numpy().any()


def test_regions_learn_the_object_that_they_overlap(model):
    proposals = tf.constant(
        [[[16.0, 16.0, 48.0, 46.0], [0.0, 40.0, 20.0, 64.0], *([[0.0, 0.0, 0.0, 0.0]] * 14)]]
    )
    regions, classes, deltas = model._sample_regions(proposals, BOXES * 64.0, CLASSES, SEED)
    found = {
        tuple(region): int(name)
        for region, name in zip(regions.numpy()[0].tolist(), classes.numpy()[0], strict=True)
    }
    assert found[(16.0, 16.0, 48.0, 46.0)] == 2
    assert found[(0.0, 40.0, 20.0, 64.0)] == 0
    # The truth itself is among them; the empty slot is not an object.
    assert found[(16.0, 16.0, 48.0, 48.0)] == 2
    assert found.get((0.0, 0.0, 0.0, 0.0), 0) == 0
    is_object = classes.numpy()[0] > 0
    decoded = decode_boxes(deltas / tf.constant([10.0, 10.0, 5.0, 5.0]), regions).numpy()[0]
    np.testing.assert_allclose(
        decoded[classes.numpy()[0] == 2],
        [[16, 16, 48, 48]] * (classes.numpy()[0] == 2).sum(),
        atol=1e-3,
    )
    assert not deltas.numpy()[0][~is_object].any()


def test_losses_follow_from_the_seed_and_are_finite_without_objects(model):
    canvases = tf.random.stateless_normal([1, 64, 64, 3], [3, 4])
    first, again = (model.losses(canvases, BOXES, CLASSES, SEED) for _ in range(2))
    assert tuple(first.parts) == model.loss_names
    assert first.parts == again.parts
    assert float(first.total) == pytest.approx(
        sum(float(part) for part in first.parts.values()), rel=1e-6
    )
    empty = model.losses(canvases, BOXES * 0.0, CLASSES * 0 - 1, SEED)
    assert np.isfinite(float(empty.total))
    assert float(empty.parts["box"]) == 0.0


def test_every_part_of_the_network_learns(model):
    canvases = tf.random.stateless_normal([2, 64, 64, 3], [0, 0])
    truth, classes = tf.constant([[[0.2, 0.2, 0.7, 0.8]]] * 2), tf.ones([2, 1], tf.int32)
    with tf.GradientTape() as tape:
        losses = model.losses(canvases, truth, classes, SEED)
    assert tuple(losses.parts) == model.loss_names
    kernels = [part.trainable_variables[0] for part in model.parts.values()]
    for name, gradient in zip(model.parts, tape.gradient(losses.total, kernels), strict=True):
        assert np.isfinite(gradient).all(), name
        assert np.abs(gradient).max() > 0, name


def test_detections_are_sorted_and_lie_on_the_canvas(model):
    found = model.detect(
        tf.random.stateless_normal([3, 64, 64, 3], [3, 4]), EvaluateConfig(max_detections=7)
    )
    assert found.boxes.shape == (3, 7, 4)
    assert found.count.numpy().max() <= 7
    assert (np.diff(found.scores) <= 0).all()
    assert (found.boxes.numpy() >= 0).all()
    assert (found.boxes.numpy() <= 1).all()
    assert set(np.unique(found.classes)) <= {0, 1}
