import collections

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from detflow.models import held_norms
from detflow.models.build import build_model as build
from detflow.models.freeze import freeze

pytestmark = [pytest.mark.tf, pytest.mark.whole_network]

MOBILE = {
    "model_backbone": "mobilenet_v2",
    "model_width_multiplier": 0.25,
    "model_input_size": [64, 64],
}
IMAGES = np.random.default_rng(1).normal(size=(2, 64, 64, 3)).astype(np.float32)


@pytest.fixture
def backbone(tiny_config):
    tf_keras.utils.set_random_seed(1)
    part = build(tiny_config(**MOBILE).model, 2).parts["backbone"]
    for variable in part.variables:
        if "moving" in variable.name or "gamma" in variable.name:
            variable.assign(tf.random.uniform(variable.shape, 0.5, 1.5))
    return part


def run(part):
    """Features of the finest level, in training, and the gradients of all weights."""
    with tf.GradientTape() as tape:
        features = part(IMAGES, training=True)["3"]
        loss = tf.reduce_sum(features * tf.cos(features))
    return features, tape.gradient(loss, part.trainable_variables)


def test_folded_norms_compute_what_norms_with_held_statistics_compute(backbone, monkeypatch):
    statistics = [v.numpy() for v in backbone.non_trainable_variables]
    expected = backbone(IMAGES, training=False)["3"]
    # The plain way: no norm belongs to a convolution.
    with monkeypatch.context() as plain:
        plain.setattr(held_norms, "list_convolutions", lambda part: [])
        assert held_norms.hold_statistics(backbone) == 52
    _, gradients = run(backbone)
    for layer in backbone.submodules:
        layer.__dict__.pop("call", None)
    held_norms.hold_statistics(backbone)
    features, folded = run(backbone)
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)
    for variable, one, other in zip(backbone.trainable_variables, gradients, folded, strict=True):
        assert (one is None) == (other is None), variable.name
        if one is not None:
            scale = float(tf.reduce_max(tf.abs(one)))
            np.testing.assert_allclose(one, other, atol=2e-3 * scale, err_msg=variable.name)
    for variable, before in zip(backbone.non_trainable_variables, statistics, strict=True):
        np.testing.assert_array_equal(variable, before)


def test_what_is_frozen_has_no_backward_pass(tiny_config):
    model = build(tiny_config(**MOBILE).model, 2)
    backbone = model.parts["backbone"]

    def count(patterns):
        freeze(model.parts, patterns)

        def differentiate(images):
            features = backbone(images, training=True)
            loss = tf.add_n([tf.reduce_sum(features[level]) for level in "345"])
            return [
                one for one in tf.gradients(loss, backbone.trainable_variables) if one is not None
            ]

        function = tf.function(differentiate, autograph=False)
        graph = function.get_concrete_function(tf.TensorSpec(IMAGES.shape)).graph
        # What no result depends on is built but never run.
        needed, waiting = set(), [tensor.op for tensor in graph.outputs] + graph.control_outputs
        while waiting:
            operation = waiting.pop()
            if operation not in needed:
                needed.add(operation)
                waiting += [value.op for value in operation.inputs] + operation.control_inputs
        # The gradient of a matrix is a product with what it was multiplied by, transposed.
        return collections.Counter(
            "gradient of a matrix"
            if operation.type == "MatMul" and operation.get_attr("transpose_a")
            else operation.type
            for operation in needed
        )

    free = count([])
    assert free["DepthwiseConv2dNativeBackpropFilter"] == 17
    assert free["FusedBatchNormV3"] == 52
    frozen = count(["backbone.level[12]", "backbone.depthwise", "backbone.statistics"])
    assert frozen["DepthwiseConv2dNativeBackpropFilter"] == 0
    # The stem and the first three of the blocks have six dense convolutions; all but the stem's
    # are products of matrices.
    assert free["Conv2DBackpropFilter"] - frozen["gradient of a matrix"] == 6
    assert frozen["Conv2DBackpropFilter"] == 0
    assert frozen["DepthwiseConv2dNativeBackpropInput"] == 14
    assert [kind for kind in frozen if "BatchNorm" in kind] == []
    assert not any("Assign" in kind for kind in frozen)
