import math
import multiprocessing
import os
import signal
import socket
import sys

import numpy as np
import pytest

from detflow.artifact import CONTRACT
from detflow.errors import ArtifactError
from detflow.export import verify
from detflow.export.verify import Candidate, FreshProcess, ProofImage, compare_outputs, prove


def outputs(count=2, scores=(0.9, 0.8, 0.0), classes=(1, 2, 1), shift=0.0):
    return {
        "detection_boxes": np.full((1, 3, 4), 0.25 + shift, np.float32),
        "detection_scores": np.array([scores], np.float32),
        "detection_classes": np.array([classes], np.float32),
        "num_detections": np.array([count], np.float32),
    }


IMAGES = [ProofImage(f"image-{number}.jpg", np.full((4, 4, 3), number, np.uint8), b"") for number in range(5)]


def prove_against(actual):
    """`actual` gives the candidate's outputs by the image's number."""
    candidates = {"model.xyz": lambda image: actual(int(image.pixels[0, 0, 0]))}
    return prove(lambda image: outputs(), candidates, IMAGES, reference_name="ckpt-7")


def test_agreement_has_the_largest_differences():
    found = prove_against(lambda number: outputs(shift=1e-5 * number))["model.xyz"]
    assert (found.num_images, found.num_detections) == (5, 10)
    assert found.max_differences["detection_boxes"] == pytest.approx(4e-5, rel=1e-2)
    assert found.max_differences["detection_scores"] == 0.0


@pytest.mark.parametrize(
    ("wrong", "output", "amount"),
    [
        (lambda number: outputs(shift=0.001 * number), "detection_boxes", "0.004"),
        (lambda number: outputs(scores=(0.9 - 0.01 * number, 0.8, 0)), "detection_scores", "0.04"),
        (lambda number: outputs(classes=(1, 2 + (number == 4), 1)), "detection_classes", "of 1"),
        # A lost detection changes everything after it; the count is what is told.
        (
            lambda number: outputs(count=1, scores=(0.9, 0, 0), classes=(1, 1, 1)) if number == 4 else outputs(),
            "num_detections",
            "of 1",
        ),
        (lambda number: outputs(scores=(0.9, math.nan, 0)) if number == 4 else outputs(), "detection_scores", "not finite"),
    ],
)
def test_a_disagreement_names_output_image_and_amount(wrong, output, amount):
    with pytest.raises(ArtifactError) as caught:
        prove_against(wrong)
    message = str(caught.value)
    assert message.startswith(f"model.xyz: {output} ")
    assert "ckpt-7" in message
    assert "image-4.jpg" in message
    assert amount in message


def test_the_limit_itself_is_allowed():
    prove(
        lambda image: outputs(scores=(0.5, 0.25, 0)),
        {"m": lambda image: outputs(scores=(0.5 + 9.9e-5, 0.25, 0))},
        IMAGES,
        reference_name="c",
    )


@pytest.mark.parametrize("name", list(outputs()))
def test_a_missing_output_another_shape_or_another_type_is_infinitely_far(name):
    expected = outputs()
    missing = {key: value for key, value in expected.items() if key != name}
    assert compare_outputs(expected, missing)[name] == math.inf
    assert compare_outputs(expected, expected | {name: expected[name][:, :1] if name != "num_detections" else expected[name][:0]})[
        name
    ] == (math.inf)
    assert compare_outputs(expected, expected | {name: expected[name].astype(np.float64)})[name] == math.inf
    assert compare_outputs(expected, expected)[name] == 0.0


def test_padding_is_compared_too():
    assert compare_outputs(outputs(), outputs(scores=(0.9, 0.8, 0.1)))["detection_scores"] > 0.09


def test_an_image_takes_the_shape_of_every_input_of_the_contract():
    from detflow.dataset.example import decode_example

    image = ProofImage("x", np.zeros((2, 3, 3), np.uint8), b"file")
    shapes = {name: image.as_input(name) for name in CONTRACT["inputs"]}
    assert shapes["image_tensor"].shape == (1, 2, 3, 3)
    assert shapes["encoded_image_string_tensor"] == [b"file"]
    assert [decode_example(example) for example in shapes["tf_example"]] == [{"image/encoded": (b"file",)}]


@pytest.mark.tf
def test_a_fresh_process_runs_what_it_loads(artifact_dir):
    image = ProofImage("x", np.zeros((30, 40, 3), np.uint8), b"")
    frozen = Candidate("frozen", artifact_dir / "frozen_inference_graph.pb", "image_tensor")
    with FreshProcess() as fresh:
        with pytest.raises(ArtifactError, match=r"gone\.pb"):
            fresh.load(Candidate("gone", artifact_dir / "gone.pb", "image_tensor"))
        with pytest.raises(ArtifactError, match="input tf_example"):
            fresh.load(Candidate("other", frozen.path, "tf_example"))
        fresh.load(frozen)
        assert fresh.run(frozen, image)["detection_boxes"].shape == (1, 100, 4)
        process = fresh._process
        assert process.is_alive()
        assert process.pid != os.getpid()
    with pytest.raises(ValueError, match="closed"):
        process.is_alive()


@pytest.mark.tf
def test_a_process_that_imported_model_garden_proves_nothing(artifact_dir, monkeypatch):
    """The far end of the pipe, run here with one question and the end of the stream."""
    monkeypatch.setitem(sys.modules, "official", object())
    ours, theirs = multiprocessing.Pipe()
    ours.send(("model", Candidate("model", artifact_dir / "frozen_inference_graph.pb", "image_tensor")))
    with socket.socket(fileno=os.dup(ours.fileno())) as half:
        half.shutdown(socket.SHUT_WR)
    before = signal.getsignal(signal.SIGINT)
    try:
        verify._serve(theirs)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ours.recv() == (None, "it needs Model Garden to run")
    ours.close()
    theirs.close()


def test_a_dead_process_is_told_by_its_exit_code(tmp_path):
    with FreshProcess() as fresh:
        fresh._process.kill()
        with pytest.raises(ArtifactError, match="exit code -9"):
            fresh.load(Candidate("model", tmp_path, "image_tensor"))
