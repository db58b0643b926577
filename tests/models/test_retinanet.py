import numpy as np
import pytest
import tensorflow as tf

from detflow.config.schema import EvaluateConfig, ModelConfig
from detflow.models.anchors import build_anchors
from detflow.models.retinanet import RetinaNet, _giou, assign_atss
from detflow.types import Box

pytestmark = [pytest.mark.tf, pytest.mark.whole_network]

SEED = tf.constant([1, 0], tf.int64)
TINY = ModelConfig(input_size=(64, 96), width_multiplier=0.25, num_filters=8, num_head_convs=1)


@pytest.fixture(scope="module")
def model():
    return RetinaNet(TINY, 3)


def test_anchors_are_centred_on_their_cells_and_ordered_as_the_network_is():
    anchors, level_sizes = build_anchors(TINY, TINY.input_size)
    assert level_sizes == (8 * 12, 4 * 6, 2 * 3)
    pixels = anchors * [64, 96, 64, 96]
    # The first cell of level 3: centre (4, 4), side 4 strides of 8.
    np.testing.assert_allclose(pixels[0], [-12, -12, 20, 20], atol=1e-4)
    # The second cell lies to the right of the first, not below it.
    np.testing.assert_allclose(pixels[1] - pixels[0], [0, 8, 0, 8], atol=1e-4)
    np.testing.assert_allclose(pixels[-1], [48 - 64, 80 - 64, 48 + 64, 80 + 64], atol=1e-4)


def test_aspects_keep_the_area_and_octaves_scale_it():
    config = TINY.model_copy(update={"aspect_ratios": (0.5, 2.0), "anchors_per_octave": 2})
    anchors, level_sizes = build_anchors(config, config.input_size)
    assert level_sizes[0] == 8 * 12 * 4
    sides = (anchors[:4, 2:] - anchors[:4, :2]) * [64, 96]
    np.testing.assert_allclose(sides[:, 1] / sides[:, 0], [0.5, 2.0, 0.5, 2.0], rtol=1e-5)
    np.testing.assert_allclose(sides.prod(1), [1024, 1024, 2048, 2048], rtol=1e-5)


def test_the_network_has_one_prediction_an_anchor(model):
    logits, deltas = model.network(tf.zeros([2, 64, 96, 3]))
    count = len(build_anchors(TINY, TINY.input_size)[0])
    assert logits.shape == (2, count, 3)
    assert deltas.shape == (2, count, 4)


def test_the_order_of_predictions_is_that_of_the_anchors(model):
    """A bright spot changes the predictions of the anchors on it, whatever the level."""
    image = np.zeros((1, 64, 96, 3), np.float32)
    image[0, 8:16, 80:88] = 5.0
    change = np.abs(model.network(image)[0].numpy() - model.network(image * 0)[0].numpy()).sum(-1)[
        0
    ]
    anchors, level_sizes = build_anchors(TINY, TINY.input_size)
    strongest = int(np.argmax(change[: level_sizes[0]]))
    centre = (anchors[strongest, :2] + anchors[strongest, 2:]) / 2 * [64, 96]
    assert np.hypot(*(centre - [12, 84])) < 24


def assign(boxes_px, valid=None):
    anchors, level_sizes = build_anchors(TINY, TINY.input_size)
    scale = tf.constant([64.0, 96.0, 64.0, 96.0])
    boxes = tf.constant([boxes_px], tf.float32)
    valid = tf.ones([1, len(boxes_px)], tf.bool) if valid is None else tf.constant([valid])
    return assign_atss(tf.constant(anchors), level_sizes, boxes, valid, scale).numpy()[
        0
    ], anchors * [64, 96, 64, 96]


def test_positive_anchors_overlap_their_box_and_have_their_centre_in_it():
    box = [10, 20, 46, 60]
    matched, anchors = assign([box])
    positive = np.nonzero(matched == 0)[0]
    assert 1 <= len(positive) <= 27
    centres = (anchors[positive, :2] + anchors[positive, 2:]) / 2
    assert ((centres > box[:2]) & (centres < box[2:])).all()


def test_a_box_too_small_for_any_centre_still_has_an_anchor():
    matched, _ = assign([[9, 9, 11, 11]])
    assert (matched == 0).sum() == 1


def test_each_of_two_neighbours_has_anchors_of_its_own():
    matched, anchors = assign([[2, 2, 30, 30], [2, 40, 30, 70]])
    for slot, middle in enumerate((16, 55)):
        centres = (anchors[matched == slot, 1] + anchors[matched == slot, 3]) / 2
        assert centres.size
        assert (np.abs(centres - middle) < 16).all()


def test_empty_slots_get_no_anchor():
    matched, _ = assign([[0, 0, 0, 0], [10, 10, 40, 40]], [False, True])
    assert set(matched.tolist()) == {-1, 1}
    matched, _ = assign([[0, 0, 0, 0]], [False])
    assert set(matched.tolist()) == {-1}


def test_giou_agrees_with_iou_where_the_hull_is_the_union():
    one, other = Box(0.0, 0.0, 0.5, 1.0), Box(0.25, 0.0, 1.0, 1.0)
    found = _giou(tf.constant([[0.0, 0.0, 0.5, 1.0]]), tf.constant([[0.25, 0.0, 1.0, 1.0]]))
    np.testing.assert_allclose(found, [one.iou(other)], atol=1e-5)


def test_giou_of_boxes_apart_is_negative_and_grows_as_they_near():
    far, near = (
        _giou(tf.constant([[0.0, 0.0, 1.0, 1.0]]), tf.constant([[0.0, x, 1.0, x + 1.0]])).numpy()[0]
        for x in (5.0, 2.0)
    )
    assert -1.0 < far < near < 0.0


@pytest.mark.parametrize(
    "preset", ["retinanet_resnet10", pytest.param("retinanet_mobilenet_v3", marks=pytest.mark.soak)]
)
def test_a_network_for_several_canvases_computes_on_each_what_one_for_it_alone_does(preset):
    small = {
        "preset": preset,
        "width_multiplier": 0.25,
        "num_filters": 8,
        "num_head_convs": 1,
        "max_level": 5,
    }
    sizes = [(64, 96), (96, 64)]
    several = RetinaNet(ModelConfig(**small, input_size=sizes[0], more_input_sizes=sizes[1:]), 3)
    predict = tf.function(several.predict, input_signature=[tf.TensorSpec([None, None, None, 3])])
    for size in sizes:
        alone = RetinaNet(ModelConfig(**small, input_size=size), 3)
        alone.network.set_weights(several.network.get_weights())
        canvases = tf.random.stateless_normal([2, *size, 3], [1, 2])
        for found, expected in zip(predict(canvases), alone.predict(canvases), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    truth = tf.constant([[[0.1, 0.2, 0.6, 0.7]]] * 2), tf.constant([[1]] * 2)
    found, expected = (
        float(model.losses(canvases, *truth, SEED).total) for model in (several, alone)
    )
    assert found == pytest.approx(expected, rel=1e-5)


def test_losses_are_finite_without_any_object(model):
    losses = model.losses(tf.zeros([1, 64, 96, 3]), tf.zeros([1, 1, 4]), tf.constant([[-1]]), SEED)
    assert np.isfinite(float(losses.total))
    assert float(losses.parts["box"]) == 0.0


@pytest.mark.slow
def test_an_image_is_learnt():
    """The loss falls and the object is found: assignment, decoding and classes fit together."""
    tf.keras.utils.set_random_seed(1)
    model = RetinaNet(TINY, 3)
    image = np.zeros((1, 64, 96, 3), np.float32)
    image[0, 10:42, 30:70] = 2.0
    truth = [10 / 64, 30 / 96, 42 / 64, 70 / 96]
    optimizer = tf.keras.optimizers.legacy.Adam(3e-3)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            losses = model.losses(
                tf.constant(image), tf.constant([[truth]], tf.float32), tf.constant([[2]]), SEED
            )
        variables = model.network.trainable_variables
        optimizer.apply_gradients(
            zip(tape.gradient(losses.total, variables), variables, strict=True)
        )
        return losses.total

    first = float(step())
    for _ in range(60):
        last = float(step())
    assert last < first / 4
    found = model.detect(tf.constant(image), EvaluateConfig(score_threshold=0.2))
    assert int(found.classes[0, 0]) == 2
    ymin, xmin, ymax, xmax = (float(value) for value in found.boxes[0, 0])
    assert Box(ymin, xmin, ymax, xmax).iou(Box(*truth)) > 0.7


def test_detections_are_sorted_clipped_and_counted(model):
    found = model.detect(
        tf.random.stateless_normal([2, 64, 96, 3], [1, 2]),
        EvaluateConfig(score_threshold=0.0, max_detections=7),
    )
    assert found.boxes.shape == (2, 7, 4)
    assert (np.diff(found.scores.numpy()) <= 0).all()
    assert found.boxes.numpy().min() >= 0.0
    assert found.boxes.numpy().max() <= 1.0
    assert set(found.classes.numpy().ravel().tolist()) <= {0, 1, 2}
