import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detflow.models.build import build_model as build
from detflow.models.precision import network_precision
from detflow.models.preprocess import normalize
from detflow.models.recompute import recompute_blocks
from detflow.runs.checkpoints import WeightAverage
from detflow.training.inputs import cache_size
from detflow.training.optimizer import LearningRate, build_optimizer
from detflow.training.step import build_step, images_per_step

pytestmark = pytest.mark.tf


def build_model(config, precision="float32"):
    """Builds a model whose weights are always the same."""
    tf_keras.utils.set_random_seed(1)
    with network_precision(precision):
        return build(config.model, 2)


def draw_batch(config):
    random = np.random.default_rng(0)
    size, count = cache_size(config.model.input_size), images_per_step(config)
    boxes = np.tile(np.array([[[0.1, 0.2, 0.6, 0.8]]], np.float32), (count, 1, 1))
    images = random.integers(0, 255, (count, *size, 3), dtype=np.uint8)
    return images, boxes, np.arange(count, dtype=np.int32)[:, np.newaxis] % 2


def test_accumulation_steps_along_the_mean_gradient_of_its_batches(tiny_config):
    settings = {
        "train_optimizer": "sgd",
        "train_momentum": 0,
        "train_weight_decay": 0,
        "augment_enabled": False,
    }
    config = tiny_config(
        train_accumulate_steps=3, train_warmup_steps=0, train_learning_rate=0.1, **settings
    )
    model = build_model(config)
    schedule = LearningRate(config.train)
    optimizer = build_optimizer(
        config.train, schedule, model.network.trainable_variables, "float32"
    )
    take_step = build_step(model, optimizer, schedule, WeightAverage(model.network, 0.9), config)
    images, boxes, classes = draw_batch(config)
    variables = model.network.trainable_variables
    before = [variable.numpy() for variable in variables]
    statistics = [variable for variable in model.network.variables if "moving" in variable.name]
    at_start = [variable.numpy() for variable in statistics]

    gradients, totals = [], []
    for first in range(0, 6, 2):
        canvases = tf.image.resize(
            tf.cast(images[first : first + 2], tf.float32), config.model.input_size
        )
        with tf.GradientTape() as tape:
            losses = model.losses(
                normalize(canvases),
                boxes[first : first + 2],
                classes[first : first + 2],
                tf.constant([1, 0], tf.int64),
            )
        gradients.append(tape.gradient(losses.total, variables, unconnected_gradients="zero"))
        totals.append(float(losses.total))
    at_end = [variable.numpy() for variable in statistics]
    for variable, value in zip(statistics, at_start, strict=True):
        variable.assign(value)

    losses = take_step(0, images, boxes, classes)
    assert float(losses.total) == pytest.approx(np.mean(totals), rel=1e-4)
    for variable, value in zip(statistics, at_end, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-3, atol=1e-4)
    mean, _ = tf.clip_by_global_norm(
        [sum(parts) / 3 for parts in zip(*gradients, strict=True)], config.train.clip_norm
    )
    for variable, value, gradient in zip(variables, before, mean, strict=True):
        np.testing.assert_allclose(
            variable.numpy() - value, -0.1 * gradient, atol=2e-5, err_msg=variable.name
        )


@pytest.mark.whole_network
def test_less_precision_in_the_network_changes_the_losses_a_little_and_no_variable_s_type(
    tiny_config,
):
    config = tiny_config()
    _, boxes, classes = draw_batch(config)
    canvases = tf.random.stateless_normal([2, *config.model.input_size, 3], [1, 2])
    totals = {}
    for precision in ("float32", "bfloat16", "float16"):
        model = build_model(config, precision)
        assert model.network(canvases)[0].dtype == precision
        assert {variable.dtype for variable in model.network.variables} == {tf.float32}
        losses = model.losses(canvases, boxes, classes, tf.constant([1, 0], tf.int64))
        assert losses.total.dtype == tf.float32
        totals[precision] = float(losses.total)
    assert len(set(totals.values())) == 3
    assert list(totals.values()) == pytest.approx([totals["float32"]] * 3, rel=0.02)


@pytest.mark.whole_network
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, marks=pytest.mark.soak, id="plain"),
        pytest.param({"train_accumulate_steps": 2, "runtime_recompute": True}, id="in parts"),
    ],
)
def test_no_sum_in_the_step_depends_on_the_order_in_which_operations_end(
    settings, tiny_config, sums_without_order
):
    config = tiny_config(model_max_level=5, model_input_size=[64, 64], **settings)
    model = build_model(config)
    if config.runtime.recompute:
        recompute_blocks(model.parts)
    schedule = LearningRate(config.train)
    optimizer = build_optimizer(
        config.train, schedule, model.network.trainable_variables, "float32"
    )
    take_step = build_step(model, optimizer, schedule, WeightAverage(model.network, 0.9), config)
    (graph,) = take_step.trace()
    assert sums_without_order(graph)


def test_tensorflow_does_not_join_the_sums_again(tiny_config):
    config = tiny_config()
    model, schedule = build_model(config), LearningRate(config.train)
    build_step(
        model, build_optimizer(config.train, schedule, [], "float32"), schedule, None, config
    )
    random = np.random.default_rng(0)
    values = [tf.constant(random.normal(size=(64, 64)), tf.float32) for _ in range(3)]

    @tf.function(autograph=False)
    def add(one, two, three):
        one, two, three = tf.tanh(one), tf.tanh(two), tf.tanh(three)
        # What else reads them decides which of them is free first.
        return (
            tf.add_n([tf.add_n([one, two]), three]),
            tf.matmul(tf.exp(one), one),
            tf.matmul(tf.exp(two), two),
        )

    sums = {add(*values)[0].numpy().tobytes() for _ in range(3000)}
    assert len(sums) == 1
