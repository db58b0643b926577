"""The checkpoint on the canvases of bytes that a TFLite file's caller makes."""

import numpy as np
import pytest

from detflow.exporting.proof.references import round_alike
from detflow.geometry import fit_to_canvas
from detflow.inference.formats.tflite import to_uint8
from detflow.models import preprocess

pytestmark = pytest.mark.tf


def test_a_tie_is_rounded_as_the_caller_rounds_it_and_a_fault_stays():
    canvases = np.array([1.49996, 1.50004, 7.2, 100.0, 250.6], np.float32)
    theirs = np.array([1.50004, 1.49996, 7.2, 102.0, 250.4], np.float32)
    assert round_alike(canvases, theirs).tolist() == [2, 1, 7, 100, 251]


def test_two_fits_of_a_simple_ratio_are_the_same_bytes():
    # 13 pixels become 9: many a sum lies in the middle between two grey levels.
    pixels = np.random.default_rng(3).integers(0, 256, (1, 416, 416, 3), np.uint8)
    canvases = preprocess.fit_to_canvas(pixels, (288, 288))[0].numpy()
    theirs, _ = fit_to_canvas(pixels, (288, 288))
    assert (to_uint8(canvases) != to_uint8(theirs)).any()
    np.testing.assert_array_equal(round_alike(canvases, theirs), to_uint8(theirs))
