"""The time of a format that has passed, with a process that tells times by rote."""

import numpy as np
import pytest

from detflow.artifact import ArtifactDir
from detflow.exporting.proof.gate import list_candidates
from detflow.exporting.proof.latency import Timing, measure_p50_ms
from detflow.exporting.proof.process import ProofImage
from detflow.inference.formats import find_format

pytestmark = pytest.mark.tf


class Clock:
    """Says of the runs one after the other that they took so many seconds."""

    def __init__(self, seconds):
        self._seconds = iter(seconds)
        self.names = []

    def run(self, candidate, image):
        self.names.append(image.name)
        self.last_run_s = next(self._seconds)


@pytest.mark.parametrize(
    ("timing", "seconds", "names", "p50_ms"),
    [
        (Timing(images=2, runs=5, seconds=9.0), [0.1, 0.5, 0.2, 0.3, 0.4], "ababa", 300.0),
        (Timing(images=3, runs=150, seconds=1.0), [0.4, 0.4, 0.4], "abc", 400.0),
    ],
    ids=["so many runs", "no longer than this"],
)
def test_a_few_images_are_run_in_turn(timing, seconds, names, p50_ms, tmp_path):
    images = [ProofImage(name, np.zeros((8, 8, 3), np.uint8), b"") for name in "abcd"]
    (candidate,) = list_candidates(find_format("tflite"), ArtifactDir(tmp_path))
    fresh = Clock(seconds)
    assert measure_p50_ms(fresh, candidate, images, timing) == pytest.approx(p50_ms)
    assert "".join(fresh.names) == names
