"""What a format is held to, with a process that answers by rote."""

import dataclasses

import numpy as np
import pytest

from detflow.artifact import ArtifactDir
from detflow.errors import ArtifactError
from detflow.exporting.proof.compare import Gate, Tolerance
from detflow.exporting.proof.contract import FileFacts
from detflow.exporting.proof.gate import Reference, examine, list_candidates
from detflow.exporting.proof.images import ProofImages
from detflow.exporting.proof.process import ProofImage
from detflow.inference.formats import find_format
from detflow.label_map import LabelMap
from detflow.types import Box, ObjectAnnotation

pytestmark = pytest.mark.tf

GATE = Gate(
    Tolerance(score_threshold=0.3, min_iou=0.8, max_score_difference=0.05, min_share=0.9),
    max_ap_drop=0.02,
)
BOX = Box(0.2, 0.2, 0.6, 0.6)


def outputs(score):
    return {
        "detection_boxes": np.array([[dataclasses.astuple(BOX)]], np.float32),
        "detection_scores": np.array([[score]], np.float32),
        "detection_classes": np.array([[1]], np.float32),
        "num_detections": np.array([1], np.float32),
    }


class Rote:
    """Gives one answer, except for entries that are said to fail.

    Its files say of themselves what they have to, unless they are said to say something else.
    """

    def __init__(self, answer, failing=(), facts=None):
        self._answer = answer
        self._failing = failing
        self._facts = facts

    def load(self, candidate):
        if candidate.entry.signature in self._failing:
            raise ArtifactError("it does not load", path=candidate.name)
        expected = candidate.format.expected_tensors(candidate.entry)
        return self._facts or FileFacts(LabelMap(("disc",)), expected)

    def run(self, candidate, image):
        return self._answer


def prove(
    tmp_path, expected, actual, objects, name="tflite", failing=(), ap=1.0, gate=GATE, facts=None
):
    image = ProofImage("photo.jpg", np.zeros((8, 8, 3), np.uint8), b"", objects)
    metrics = None if objects is None else {"AP": ap, "AP50": ap}
    reference = Reference("ckpt-7", [expected], metrics)
    proof = ProofImages("folder", "photos", [image])
    return examine(
        list_candidates(find_format(name), ArtifactDir(tmp_path)),
        gate,
        Rote(actual, failing, facts),
        proof,
        reference,
        LabelMap(("disc",)),
    )


def test_what_was_compared_with_nothing_is_not_proved(tmp_path):
    found = prove(tmp_path, outputs(0.2), outputs(0.2), None)
    assert (
        "nothing is proved: the checkpoint detects nothing with a score of 0.3 and more "
        "on the proof's 1 image;" in str(found.failure)
    )
    assert "--images" in str(found.failure)
    assert prove(tmp_path, outputs(0.4), outputs(0.4), None).failure is None


@pytest.mark.parametrize(("name", "gate"), [("tflite", GATE), ("frozen", Gate(None, 0.005))])
@pytest.mark.parametrize("ap", [0.0, None])
def test_a_network_that_detects_nothing_proves_no_format(tmp_path, name, gate, ap):
    nothing = outputs(0.0) | {"num_detections": np.array([0], np.float32)}
    objects = (ObjectAnnotation("disc", BOX),)
    for known in (objects, None):
        found = prove(tmp_path, nothing, nothing, known, name, ap=ap, gate=gate)
        assert "nothing is proved: the checkpoint detects nothing" in str(found.failure)
        assert found.failure.exit_code == 4
    # A single detection is one to find again.
    found = prove(tmp_path, outputs(0.4), outputs(0.4), None, name, ap=ap, gate=gate)
    assert found.failure is None


def test_the_truth_judges_where_there_is_nothing_to_find_again(tmp_path):
    objects = (ObjectAnnotation("disc", BOX),)
    passed = prove(tmp_path, outputs(0.2), outputs(0.2), objects)
    assert passed.failure is None
    (agreement,) = passed.agreements.values()
    assert (agreement.num_detections, agreement.share_found) == (0, None)
    lost = outputs(0.2) | {"num_detections": np.array([0], np.float32)}
    assert "AP is 0.0000, 1.0000 below ckpt-7's 1.0000" in str(
        prove(tmp_path, outputs(0.2), lost, objects).failure
    )


def test_an_entry_that_may_fail_is_refused_and_the_format_passes(tmp_path):
    proof = prove(tmp_path, outputs(0.4), outputs(0.4), None, "onnx", failing=("OpenCV",))
    assert proof.failure is None
    assert proof.refused == {"model.onnx OpenCV": "it does not load"}
    assert list(proof.agreements) == ["model.onnx"]


def test_an_entry_that_has_to_work_takes_its_format_with_it(tmp_path):
    proof = prove(tmp_path, outputs(0.4), outputs(0.4), None, "onnx", failing=("",))
    assert "it does not load" in str(proof.failure)
    proof = prove(tmp_path, outputs(0.4), outputs(0.4), None, "saved_model", ("tf_example",))
    assert str(proof.failure).startswith("saved_model tf_example: it does not load")


def test_a_file_that_names_another_class_fails_although_it_detects_alike(tmp_path):
    found = prove(
        tmp_path,
        outputs(0.4),
        outputs(0.4),
        None,
        facts=FileFacts(LabelMap(("square",)), None),
    )
    assert str(found.failure) == (
        "model.tflite: its class names are not the checkpoint's: id 1 is 'square' instead of 'disc'"
    )
    assert found.failure.exit_code == 4
    assert found.agreements == {}
