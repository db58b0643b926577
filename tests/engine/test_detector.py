import itertools
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from detflow.engine.detector import Detector, load_detector
from detflow.errors import ArtifactError, DetflowError, EnvironmentFault
from detflow.types import LabelMap

pytestmark = pytest.mark.tf

LABELS = LabelMap(("a", "b"))


def random_images(*sizes):
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (height, width, 3), np.uint8) for height, width in sizes]


def outputs_of(num_images, boxes, scores, classes, count):
    return {
        "detection_boxes": np.tile(np.array(boxes, np.float32)[None], (num_images, 1, 1)),
        "detection_scores": np.tile(np.array(scores, np.float32)[None], (num_images, 1)),
        "detection_classes": np.tile(np.array(classes, np.float32)[None], (num_images, 1)),
        "num_detections": np.full(num_images, count, np.float32),
    }


def detector_giving(tmp_path, **changes):
    values = {"boxes": [[0, 0, 0.5, 0.5], [0, 0, 0, 0]], "scores": [0.9, 0.0], "classes": [2, 1], "count": 1} | changes
    return Detector(lambda images: outputs_of(len(images), **values), LABELS, tmp_path)


@pytest.mark.parametrize("name", ["", "frozen_inference_graph.pb", "saved_model", "saved_model/saved_model.pb"])
def test_every_part_of_an_export_detects_what_the_checkpoint_detects(name, model_dir, artifact_dir):
    images = random_images((40, 60), (40, 60), (90, 30))
    expected = list(load_detector(model_dir / "ckpt-10").detect(images))
    found = list(load_detector(artifact_dir / name).detect(images))
    assert sum(map(len, expected)) > 10
    assert [[d.name for d in one] for one in found] == [[d.name for d in one] for one in expected]
    for one, other in zip(itertools.chain(*found), itertools.chain(*expected), strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert [one.box.ymin, one.box.xmin, one.box.ymax, one.box.xmax] == pytest.approx(
            [other.box.ymin, other.box.xmin, other.box.ymax, other.box.xmax], abs=1e-4
        )


def test_a_model_directory_means_its_best_checkpoint(model_dir):
    assert load_detector(model_dir).source == model_dir / "ckpt-10"


def test_a_result_does_not_depend_on_the_batch_or_on_the_neighbours_sizes(artifact_dir):
    images = random_images((40, 60), (40, 60), (1, 1), (7, 300), (40, 60))
    detector = load_detector(artifact_dir)
    alone = [next(detector.detect([image])) for image in images]
    together = list(detector.detect(images))
    assert [[(d.name, round(d.score, 4)) for d in one] for one in together] == [
        [(d.name, round(d.score, 4)) for d in one] for one in alone
    ]


def test_large_images_do_not_go_through_together(tmp_path):
    batches = []

    def run(images):
        batches.append(len(images))
        return outputs_of(len(images), [[0, 0, 1, 1]], [0.5], [1], 1)

    # The same row seen many times: no memory behind it.
    large = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (2000, 2000, 3))
    huge = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (3000, 3000, 3))
    small = np.zeros((10, 10, 3), np.uint8)
    found = list(Detector(run, LABELS, tmp_path).detect([large] * 5 + [huge] * 2 + [small] * 9))
    assert len(found) == 16
    assert batches == [2, 2, 1, 1, 1, 8, 1]


def test_boxes_are_clipped_and_what_has_no_area_is_left_out(tmp_path):
    detector = detector_giving(
        tmp_path, boxes=[[-1e-6, 0, 0.5, 1.0000001], [1.0, 0.2, 1.0, 0.4]], scores=[0.9, 0.8], classes=[2, 1], count=2
    )
    (found,) = detector.detect(random_images((5, 5)))
    assert [(d.name, d.class_id, d.box.ymin, d.box.xmax) for d in found] == [("b", 2, 0.0, 1.0)]


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": [3, 1]},
        {"classes": [0, 1]},
        {"classes": [float("nan"), 1]},
        {"count": float("nan")},
        {"boxes": [[0, 0, 1], [0, 0, 1]]},
    ],
)
def test_outputs_that_break_the_contract_are_an_error(changes, tmp_path):
    with pytest.raises(ArtifactError, match="serving contract"):
        list(detector_giving(tmp_path, **changes).detect(random_images((5, 5))))


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (tf.errors.InvalidArgumentError(None, None, "shapes differ\nand more"), ArtifactError),
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"), EnvironmentFault),
    ],
)
def test_a_model_that_cannot_run_is_named(raised, expected, tmp_path):
    def run(images):
        raise raised

    with pytest.raises(expected, match=str(tmp_path)) as caught:
        list(Detector(run, LABELS, tmp_path).detect(random_images((5, 5))))
    assert "\n" not in str(caught.value)


def test_a_changed_byte_is_found_before_the_graph_runs(artifact_dir, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(artifact_dir, copy)
    graph = copy / "frozen_inference_graph.pb"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"frozen_inference_graph\.pb.*SHA-256"):
        load_detector(copy)


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"GIF89a" * 10, b"\xff" * 1000])
def test_what_is_no_graph_is_refused(content, tmp_path):
    (tmp_path / "label_map.pbtxt").write_text(LABELS.to_pbtxt())
    path = tmp_path / "graph.pb"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"graph\.pb"):
        load_detector(path)


def test_a_graph_of_another_kind_is_refused(tmp_path):
    (tmp_path / "label_map.pbtxt").write_text(LABELS.to_pbtxt())
    with tf.Graph().as_default() as graph:
        tf.constant(1.0, name="answer")
    (tmp_path / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    with pytest.raises(ArtifactError, match="not a detection graph with input image_tensor"):
        load_detector(tmp_path / "graph.pb")


def test_a_graph_without_its_label_map_is_refused(artifact_dir, tmp_path):
    shutil.copy(artifact_dir / "frozen_inference_graph.pb", tmp_path)
    with pytest.raises(ArtifactError, match="label map is missing"):
        load_detector(tmp_path / "frozen_inference_graph.pb")


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("x"), os.mkfifo])
def test_any_other_path_is_refused(make, tmp_path):
    make(tmp_path / "thing")
    with pytest.raises(DetflowError) as caught:
        load_detector(tmp_path / "thing")
    assert caught.value.exit_code == 4
