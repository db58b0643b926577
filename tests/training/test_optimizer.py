import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detflow.config.schema import TrainConfig
from detflow.runs.plan import Plan
from detflow.training.optimizer import LearningRate, build_optimizer

pytestmark = pytest.mark.tf


def rates(at, **settings):
    schedule = LearningRate(TrainConfig(learning_rate=1.0, **settings))
    return [float(schedule(tf.constant(step, tf.int64))) for step in at]


def test_the_step_schedule_falls_at_its_shares_of_what_follows_the_warm_up():
    settings = {
        "steps": 101,
        "warmup_steps": 1,
        "schedule": "step",
        "decay_at": (0.5, 0.75),
        "decay_factor": 0.1,
    }
    assert rates([0, 1, 50, 51, 75, 76, 100], **settings) == pytest.approx(
        [0.5, 1, 1, 0.1, 0.1, 0.01, 0.01]
    )


def test_the_cosine_falls_to_its_final_share():
    settings = {"steps": 101, "warmup_steps": 1, "final_learning_rate": 0.2}
    assert rates([0, 1, 51, 101], **settings) == pytest.approx([0.5, 1, 0.6, 0.2])


def test_sgd_has_momentum_and_decays_kernels_only():
    config = TrainConfig(
        optimizer="sgd",
        learning_rate=0.1,
        momentum=0.5,
        weight_decay=0.1,
        warmup_steps=0,
        final_learning_rate=1,
    )
    kernel, bias = tf.Variable(1.0, name="kernel"), tf.Variable(1.0, name="bias")
    optimizer = build_optimizer(config, LearningRate(config), [kernel, bias], "float32")
    for _ in range(2):
        optimizer.apply_gradients([(tf.constant(1.0), kernel), (tf.constant(1.0), bias)])
    # Steps of 0.1 and 0.15; before each the kernel loses a hundredth of itself.
    assert float(bias) == pytest.approx(1 - 0.1 - 0.15)
    assert float(kernel) == pytest.approx((1 * 0.99 - 0.1) * 0.99 - 0.15)


@pytest.mark.parametrize("compiled", [False, True])
def test_adamw_steps_as_keras_does(compiled):
    config = TrainConfig(learning_rate=0.1, weight_decay=0.05, warmup_steps=2, steps=6)
    initial = np.random.default_rng(2).normal(size=(2, 3, 4)).astype(np.float32)
    ours, theirs = (
        [
            tf.Variable(value, name=name)
            for value, name in zip(initial, ("kernel", "bias"), strict=True)
        ]
        for _ in "ab"
    )
    optimizer = build_optimizer(config, LearningRate(config), ours, "float32")
    reference = tf_keras.optimizers.AdamW(
        LearningRate(config), weight_decay=0.05, jit_compile=False
    )
    reference.exclude_from_weight_decay(var_names=["bias"])
    reference.build(theirs)

    def step(gradients):
        optimizer.apply_gradients(zip(gradients, ours, strict=True))

    take = tf.function(step, autograph=False) if compiled else step
    for number in range(6):
        gradients = list(
            tf.constant(np.random.default_rng(number).normal(size=(2, 3, 4)), tf.float32)
        )
        take(gradients)
        reference.apply_gradients(zip(gradients, theirs, strict=True))
    assert [variable.name for variable in optimizer.variables] == [
        variable.name for variable in reference.variables
    ]
    for mine, other in zip(
        [*ours, *optimizer.variables], [*theirs, *reference.variables], strict=True
    ):
        # The kernel takes 1 - beta from the rounded beta: the updates, of 0.1 each, differ by some
        # 1e-5 of themselves.
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-5, err_msg=mine.name)
    assert np.abs(ours[0] - initial[0]).max() > 0.1


def test_a_gradient_that_overflows_in_float16_changes_nothing_but_counts_as_a_step():
    config = TrainConfig()
    weight = tf.Variable(1.0, name="kernel")
    optimizer = build_optimizer(config, LearningRate(config), [weight], "float16")
    scale = float(optimizer.loss_scale)
    optimizer.apply_gradients([(tf.constant(float("inf")), weight)])
    assert (float(weight), int(optimizer.iterations), float(optimizer.loss_scale)) == (
        1.0,
        1,
        scale / 2,
    )


def test_mixing_ends_at_its_share_of_the_run_whenever_that_is_known(tiny_config):
    schedule = LearningRate(tiny_config(train_steps=20).train)

    is_before = tf.function(schedule.is_before, autograph=False)

    def last(share):
        share = tf.constant(share)
        return max(step for step in range(360) if is_before(tf.constant(step, tf.int64), share))

    assert last(0.9) == last(0.0) == 39
    schedule.follow(Plan.fixed(100))
    assert (last(0.9), last(0.5), last(1.0)) == (89, 49, 99)
    # Half of the run is over at step 50; then 300 steps follow, and four fifths of them end at 290.
    schedule.follow(Plan.fixed(100).refit(50, 350))
    assert (last(0.9), last(0.3), last(1.0)) == (289, 39, 349)


def test_a_fit_changes_the_rates_behind_it_and_no_other():
    config = TrainConfig(learning_rate=1.0, warmup_steps=10)
    schedule = LearningRate(config)
    rate = tf.function(schedule, autograph=False)

    def all_rates(plan):
        schedule.follow(plan)
        return [float(rate(tf.constant(step, tf.int64))) for step in range(300)]

    before = Plan().refit(40, 200)
    after = before.refit(120, 300)
    one, two = all_rates(before), all_rates(after)
    assert one[:121] == two[:121]
    assert all(high > low for low, high in zip(one[121:], two[121:], strict=True))
    # From the first fit on nothing jumps: no step changes the rate by more than a cosine does.
    assert max(abs(high - low) for high, low in itertools.pairwise(two[40:])) < 0.02
    assert two[299] < 0.02
    assert all_rates(Plan())[50:] == [1.0] * 250


def test_a_run_of_fixed_length_has_the_rates_of_the_formula_to_the_bit():
    config = TrainConfig(steps=977, warmup_steps=83, learning_rate=0.002)
    schedule = LearningRate(config)
    # A constant would have TensorFlow multiply by its inverse.
    total = tf.Variable(977.0)

    @tf.function(autograph=False)
    def formula(step):
        step = tf.cast(step, tf.float32)
        rise = tf.minimum(1.0, (step + 1.0) / (83 + 1.0))
        progress = tf.clip_by_value((step - 83) / tf.maximum(1.0, total - 83), 0, 1)
        share = 0.01 + (1.0 - 0.01) * 0.5 * (1.0 + tf.cos(math.pi * progress))
        return 0.002 * rise * share

    rate = tf.function(schedule, autograph=False)
    steps = [tf.constant(step, tf.int64) for step in range(0, 990, 7)]
    assert [float(rate(step)) for step in steps] == [float(formula(step)) for step in steps]
