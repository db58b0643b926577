import numpy as np
import pytest
import tensorflow as tf

from detflow.config.schema import EvaluateConfig, ModelConfig
from detflow.models.yolo import Yolo
from detflow.types import Box

pytestmark = pytest.mark.tf

SEED = tf.constant([1, 0], tf.int64)
TRUTH = [0.2, 0.3, 0.7, 0.6]
# Each image has two slots for boxes: Model Garden's loss takes seconds to trace for each shape.
ONE_BOX = tf.constant([[TRUTH, [0.0] * 4]]), tf.constant([[1, -1]])
NOTHING = tf.zeros([1, 2, 4]), tf.constant([[-1, -1]])


def build(num_classes):
    tf.keras.utils.set_random_seed(1)
    config = ModelConfig.model_validate(
        {"preset": "yolo_v7_tiny", "backbone": "yolov7_nano", "input_size": [64, 96]}
    )
    return Yolo(config, num_classes)


@pytest.fixture(scope="module")
def model():
    return build(3)


def test_parallel_branches_do_not_start_as_copies(model):
    kernels = [
        variable.numpy()
        for variable in model.network.trainable_variables
        if variable.name.endswith("/kernel:0")
    ]
    shapes = {kernel.shape for kernel in kernels}
    assert len(kernels) > len(shapes)
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels)


def test_a_prediction_decodes_to_what_the_loss_takes_it_for(model):
    """From the outputs that the loss wants, the true box is decoded, and its loss is 0."""
    height, width = model.input_size
    cy, cx = (TRUTH[0] + TRUTH[2]) / 2, (TRUTH[1] + TRUTH[3]) / 2
    sides = np.array([TRUTH[3] - TRUTH[1], TRUTH[2] - TRUTH[0]])
    predictions, start = {}, 0
    for level in (3, 4, 5):
        rows, columns = height >> level, width >> level
        per_level = rows * columns * 3
        anchors = model.anchors[start : start + 3]
        start += per_level
        anchor_sides = np.stack([anchors[:, 3] - anchors[:, 1], anchors[:, 2] - anchors[:, 0]], -1)
        grid_y, grid_x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
        share = np.empty([1, rows, columns, 3, 8], np.float64)
        share[..., 0] = (cx * columns - grid_x + 0.5)[..., np.newaxis] / 2
        share[..., 1] = (cy * rows - grid_y + 0.5)[..., np.newaxis] / 2
        share[..., 2:4] = np.sqrt(sides / anchor_sides) / 2
        share[..., 4:] = 0.5
        share = np.clip(share, 1e-6, 1 - 1e-6)
        # Bit for bit the true box would divide 0 by 0 in Model Garden's CIoU once TensorFlow has
        # folded its epsilon away.
        predictions[str(level)] = tf.constant(np.log(share / (1 - share)) + 1e-5, tf.float32)
    _, _, _, box_loss = model._yolo.losses(predictions, *ONE_BOX)
    assert float(box_loss) == pytest.approx(0.0, abs=1e-4)
    boxes, scores = model.decode(predictions, model.input_size)
    centres = (model.anchors[:, :2] + model.anchors[:, 2:]) / 2
    nearest = np.argmin(np.hypot(*(centres - [cy, cx]).T))
    np.testing.assert_allclose(boxes[0, nearest], TRUTH, atol=1e-4)
    np.testing.assert_allclose(scores, 0.25, atol=1e-4)


def test_the_total_is_the_sum_of_its_parts_and_is_finite_without_objects(model):
    canvases = tf.random.stateless_normal([1, 64, 96, 3], [3, 4])
    losses = model.losses(canvases, *ONE_BOX, SEED)
    assert tuple(losses.parts) == model.loss_names
    assert float(losses.total) == pytest.approx(
        sum(float(part) for part in losses.parts.values()), rel=1e-5
    )
    empty = model.losses(canvases, *NOTHING, SEED)
    assert np.isfinite(float(empty.total))
    assert float(empty.parts["box"]) == 0.0


def test_one_class_is_scored_by_objectness_alone():
    model = build(1)
    _, scores = model.predict(tf.zeros([1, 64, 96, 3]))
    levels = model.network(tf.zeros([1, 64, 96, 3]), training=False)
    np.testing.assert_allclose(scores[0, :3, 0], tf.sigmoid(levels["3"][0, 0, 0, :, 4]), rtol=1e-6)


def train_on_one_image(model):
    """Returns the image, and a step of training on it that returns the loss."""
    image = np.zeros((1, 64, 96, 3), np.float32)
    image[0, 13:45, 29:58] = 2.0
    optimizer = tf.keras.optimizers.legacy.Adam(3e-3)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            losses = model.losses(tf.constant(image), *ONE_BOX, SEED)
        variables = model.network.trainable_variables
        optimizer.apply_gradients(
            zip(tape.gradient(losses.total, variables), variables, strict=True)
        )
        return losses.total

    return tf.constant(image), step


@pytest.mark.soak
def test_a_few_steps_lower_the_loss_and_move_every_part():
    model = build(2)
    before = {name: part.trainable_variables[0].numpy() for name, part in model.parts.items()}
    _, step = train_on_one_image(model)
    losses = [float(step()) for _ in range(12)]
    assert np.isfinite(losses).all()
    assert min(losses[-3:]) < losses[0]
    for name, part in model.parts.items():
        assert np.abs(part.trainable_variables[0].numpy() - before[name]).max() > 0, name


@pytest.mark.soak
def test_an_image_is_learnt():
    model = build(2)
    image, step = train_on_one_image(model)
    first = float(step())
    for _ in range(150):
        last = float(step())
    assert last < first / 4
    # Batch norm's statistics lag behind the weights; a few passes let them catch up.
    look = tf.function(lambda: model.network(image, training=True), autograph=False)
    for _ in range(30):
        look()
    found = model.detect(image, EvaluateConfig(score_threshold=0.2))
    assert int(found.classes[0, 0]) == 1
    assert Box(*(float(value) for value in found.boxes[0, 0])).iou(Box(*TRUTH)) > 0.7
