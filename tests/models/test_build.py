import shutil

import numpy as np
import pytest
import tensorflow as tf

from detflow.artifact import ArtifactDir
from detflow.config.presets import PRESETS
from detflow.config.schema import ModelConfig
from detflow.exporting.run import export_model
from detflow.models.build import build_model
from detflow.models.faster_rcnn import FasterRCNN
from detflow.models.retinanet import RetinaNet
from detflow.models.weights.restore import restore_initial_weights
from detflow.models.weights.sources import InitialWeights
from detflow.models.yolo import Yolo
from detflow.runs.run_dir import RunDir
from detflow.training.preflight import prepare_start
from detflow.training.recipe import train
from detflow.training.step import build_step

pytestmark = [pytest.mark.tf, pytest.mark.whole_network]

FASTER_RCNN = {
    "detection_head": {"fc_dims": 16},
    "roi_generator": {"num_proposals": 24, "test_num_proposals": 24},
    "roi_sampler": {"num_sampled_rois": 16},
}
# Each preset as small as it goes.
SMALLEST = {
    "retinanet_lite0": {"width_multiplier": 1},
    "retinanet_mobilenet_v2_light": {"width_multiplier": 0.35},
    "retinanet_mobilenet_v2": {"width_multiplier": 0.35},
    "retinanet_mobilenet_v3": {"width_multiplier": 0.35, "backbone": "mobilenet_v3_small"},
    "retinanet_spinenet49_mobile": {"width_multiplier": 1, "backbone": "spinenet49xs_mobile"},
    "retinanet_resnet50": {},
    "faster_rcnn_resnet50": {"min_level": 3, "num_filters": 16, "garden": FASTER_RCNN},
    "yolo_v7_tiny": {"width_multiplier": 1, "backbone": "yolov7_nano", "max_level": 5},
}


@pytest.mark.parametrize(
    ("preset", "kind", "parts"),
    [
        ("retinanet_resnet10", RetinaNet, {"backbone", "decoder", "head"}),
        ("faster_rcnn_resnet50", FasterRCNN, {"backbone", "decoder", "rpn_head", "detection_head"}),
        ("yolo_v7_tiny", Yolo, {"backbone", "decoder", "head"}),
    ],
)
def test_the_configuration_names_the_architecture(preset, kind, parts, tmp_path):
    settings = {
        "width_multiplier": 0.25,
        "num_filters": 16,
        "input_size": [64, 96],
        **SMALLEST.get(preset, {}),
    }
    if kind is FasterRCNN:
        settings |= {"backbone": "resnet10", "max_level": 5}
    model = build_model(ModelConfig.model_validate({"preset": preset, **settings}), 2)
    assert type(model) is kind
    assert model.input_size == (64, 96)
    assert set(model.parts) == parts
    inside = {id(variable) for variable in model.network.variables}
    for part in model.parts.values():
        assert part.variables
        assert inside.issuperset(id(variable) for variable in part.variables)
    boxes, scores = model.predict(tf.zeros([3, 64, 96, 3]))
    assert boxes.shape == (3, boxes.shape[1], 4)
    assert scores.shape == (3, boxes.shape[1], 2)
    assert np.isfinite(boxes).all()
    assert (scores.numpy() >= 0).all()
    assert (scores.numpy() <= 1).all()
    require_classes_by_name(model, tmp_path / "ckpt")


def require_classes_by_name(model, prefix):
    """Asserts that weights of (a, b) in a model of (b, a) give the scores of a and b swapped."""
    canvas = tf.constant(np.random.default_rng(0).normal(0, 1, (1, 64, 96, 3)), tf.float32)
    random = np.random.default_rng(1)
    for variable in list(model.parts.values())[-1].variables:
        variable.assign_add(random.normal(0, 0.3, variable.shape))
    boxes, scores = model.predict(canvas)
    tf.train.Checkpoint(**model.parts).write(str(prefix))
    weights = InitialWeights("there", prefix, kind="checkpoint", digests={}, classes=("a", "b"))
    report = restore_initial_weights(weights, model, ("b", "a"))
    assert all(part.restored == part.total for part in report.parts.values())
    new_boxes, new_scores = model.predict(canvas)
    by_class = isinstance(model, FasterRCNN)
    if by_class:
        # There each region has a box, and a row of scores, for each class.
        boxes, new_boxes = (tf.reshape(value, [-1, 2, 4]) for value in (boxes, new_boxes))
        scores, new_scores = (tf.reshape(value, [-1, 2, 2]) for value in (scores, new_scores))
        boxes, scores = boxes[:, ::-1], scores[:, ::-1]
    np.testing.assert_allclose(new_boxes, boxes, atol=1e-5)
    np.testing.assert_allclose(new_scores, scores[..., ::-1], atol=1e-5)
    assert not np.allclose(new_scores, scores, atol=1e-4)


def test_every_preset_has_a_smallest_form_here():
    # The default preset is what all other tests train, resume and export.
    assert SMALLEST.keys() == PRESETS.keys() - {"retinanet_resnet10"}


@pytest.mark.soak
@pytest.mark.parametrize("preset", SMALLEST)
def test_a_preset_trains_resumes_exactly_is_evaluated_and_exported(
    preset, tiny_config, sums_without_order, tmp_path, monkeypatch
):
    settings = {f"model_{name}": value for name, value in SMALLEST[preset].items()}
    config = tiny_config(
        model_preset=preset,
        model_input_size=[64, 64],
        **settings,
        train_steps=2,
        evaluate_every_steps=2,
        checkpoint_every_steps=1,
    )
    model_dir = tmp_path / "run"

    steps = []

    def remember_step(*arguments):
        steps.append(build_step(*arguments))
        return steps[-1]

    monkeypatch.setattr("detflow.training.steps.build_step", remember_step)

    def run_to_the_end():
        with RunDir(model_dir).locked() as run:
            result = train(run, prepare_start(config, run))
        assert result.state.step == 2
        assert result.state.metrics["AP"] is not None
        reader = tf.train.load_checkpoint(str(model_dir / "ckpt-2" / "ckpt"))
        names = [
            name
            for name in reader.get_variable_to_shape_map()
            if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
        ]
        return {name: reader.get_tensor(name) for name in names}, (
            model_dir / "losses.csv"
        ).read_text()

    weights, losses = run_to_the_end()
    assert all(sums_without_order(graph) for graph in steps[0].trace())
    shutil.rmtree(model_dir / "ckpt-2")
    resumed_weights, resumed_losses = run_to_the_end()
    assert resumed_losses == losses
    assert resumed_weights.keys() == weights.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(value, resumed_weights[name], err_msg=name)

    card = export_model(str(model_dir), tmp_path / "export", formats="frozen")
    assert not card["failed"]
    assert ArtifactDir(tmp_path / "export").exists()
