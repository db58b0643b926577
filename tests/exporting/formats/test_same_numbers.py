"""Preprocessing and suppression exist in three languages; here they get the same pictures."""

import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from onnx import TensorProto, helper

from detflow import geometry
from detflow.artifact import BOXES_NAME, CANVASES_NAME, INPUT_NAME, OUTPUT_NAMES, SCORES_NAME
from detflow.config.schema import EvaluateConfig
from detflow.exporting.formats.onnx_graph import Graph, add_resize, add_suppression
from detflow.exporting.formats.tflite_network import suppress
from detflow.models import preprocess
from detflow.models.base import DetectionModel

pytestmark = pytest.mark.tf

SIZES = [(1, 1), (1, 400), (37, 20), (48, 64), (300, 500), (90, 61), (1500, 1000)]


def start(graph, inputs, outputs):
    values = [helper.make_tensor_value_info(*value) for value in inputs]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "part", values, results, graph.constants),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    return onnxruntime.InferenceSession(model.SerializeToString())


@pytest.fixture(scope="module", params=[((48, 64),), ((48, 64), (64, 48))], ids=["one", "two"])
def canvas_sizes(request):
    return request.param


@pytest.fixture(scope="module")
def resize_in_onnx(canvas_sizes):
    graph = Graph()
    ratio = add_resize(graph, canvas_sizes)
    image = (INPUT_NAME, TensorProto.UINT8, ["N", "height", "width", 3])
    session = start(graph, [image], [CANVASES_NAME, ratio])
    return lambda images: session.run(None, {INPUT_NAME: images})


@pytest.mark.parametrize("size", SIZES)
def test_an_image_is_fitted_into_its_canvas(size, canvas_sizes, resize_in_onnx):
    images = np.random.default_rng(2).integers(0, 256, (2, *size, 3), np.uint8)
    canvas_size = preprocess.choose_canvas(images, canvas_sizes)
    canvases, ratio = preprocess.fit_to_canvas(images, canvas_size)
    expected = preprocess.normalize(canvases).numpy()

    index = int(geometry.choose_canvas(size, canvas_sizes))
    in_numpy, numpy_ratio = geometry.fit_to_canvas(images, canvas_sizes[index])
    # A thousandth of a grey level.
    np.testing.assert_allclose(in_numpy, canvases, rtol=0, atol=1e-3)
    np.testing.assert_array_equal(numpy_ratio, ratio)

    in_onnx, onnx_ratio = resize_in_onnx(images)
    atol = 1e-3 / min(preprocess.STDDEV_RGB)
    np.testing.assert_allclose(in_onnx.transpose(0, 2, 3, 1), expected, rtol=0, atol=atol)
    np.testing.assert_allclose(onnx_ratio, ratio, rtol=1e-6)


class Fixed(DetectionModel):
    """Gives the same boxes and scores whatever it sees."""

    def __init__(self, boxes, scores):
        self.outputs = tf.constant(boxes[np.newaxis]), tf.constant(scores[np.newaxis])

    def losses(self, canvases, boxes, classes, seed):
        raise AssertionError

    def predict(self, canvases):
        return self.outputs


def draw_boxes(num_boxes, num_classes):
    """Boxes in heaps, a few of which leave the canvas, with scores that are all different."""
    random = np.random.default_rng(num_classes)
    corners = random.uniform(-0.05, 0.8, (num_boxes, 2)) // 0.1 * 0.1
    corners += random.uniform(0.0, 0.02, corners.shape)
    boxes = np.concatenate([corners, corners + random.uniform(0.1, 0.3, (num_boxes, 2))], 1)
    scores = random.permutation(num_boxes * num_classes).reshape(num_boxes, num_classes)
    return boxes.astype(np.float32), (scores / scores.size).astype(np.float32)


@pytest.mark.parametrize("num_classes", [1, 3, 7])
@pytest.mark.parametrize("score_threshold", [0.3, 0.9, 1.0], ids=["plenty", "few", "none"])
def test_duplicates_are_suppressed_class_by_class(num_classes, score_threshold):
    boxes, scores = draw_boxes(120, num_classes)
    config = EvaluateConfig(score_threshold=score_threshold, nms_iou=0.5, max_detections=40)
    expected = [value.numpy()[0] for value in Fixed(boxes, scores).detect(None, config)]
    count = int(expected[3])
    assert (count == 0) == (score_threshold == 1.0)
    if score_threshold == 0.3:
        assert 10 < count < (scores > score_threshold).sum()

    in_tflite = [value.numpy()[0] for value in suppress(boxes, scores, config).values()]
    assert int(in_tflite[3]) == count
    np.testing.assert_allclose(in_tflite[0][:count], expected[0][:count], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(in_tflite[1][:count], expected[2][:count])
    np.testing.assert_array_equal(in_tflite[2][:count], expected[1][:count])

    graph = Graph()
    add_suppression(graph, config, num_classes, graph.constant([1.0, 1.0]))
    inputs = [
        (BOXES_NAME, TensorProto.FLOAT, [1, *boxes.shape]),
        (SCORES_NAME, TensorProto.FLOAT, [1, *scores.T.shape]),
    ]
    feed = {BOXES_NAME: boxes[np.newaxis], SCORES_NAME: scores.T[np.newaxis]}
    in_onnx = [value[0] for value in start(graph, inputs, OUTPUT_NAMES).run(None, feed)]
    assert int(in_onnx[3]) == count
    np.testing.assert_allclose(in_onnx[0][:count], expected[0][:count], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(in_onnx[1][:count], expected[1][:count])
    np.testing.assert_array_equal(in_onnx[2][:count], expected[2][:count] + 1)
