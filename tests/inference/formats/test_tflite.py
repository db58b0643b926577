import numpy as np
import pytest

from detflow.errors import ArtifactError
from detflow.inference.formats.tflite import load_tflite, to_uint8


@pytest.mark.parametrize(
    "content",
    [b"", b"no model", b"\x1c\x00\x00\x00TFL3" + bytes(100)],
    ids=["empty", "text", "cut"],
)
def test_a_damaged_file_is_an_artifact_error(content, tmp_path, capfd):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.tflite: not a TFLite detector: "):
        load_tflite(path)
    assert capfd.readouterr().err == ""


def test_a_missing_file_is_an_artifact_error(tmp_path):
    with pytest.raises(ArtifactError, match="No such file"):
        load_tflite(tmp_path / "model.tflite")


@pytest.mark.tf
def test_a_model_that_is_no_detector_is_told_by_what_it_lacks(tmp_path):
    import tensorflow as tf

    function = tf.function(
        lambda image: {"boxes": image + 1.0},
        input_signature=[tf.TensorSpec([1, 4, 4, 3], name="image")],
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], tf.Module()
    )
    path = tmp_path / "model.tflite"
    path.write_bytes(converter.convert())
    with pytest.raises(ArtifactError, match=r"image is float32 \[1, 4, 4, 3\]"):
        load_tflite(path)


def test_a_canvas_is_rounded_to_whole_grey_levels():
    canvas = np.array([[-0.4, 0.5, 1.5, 254.6, 256.0]], np.float32)
    found = to_uint8(canvas)
    assert (found.dtype, found.tolist()) == (np.uint8, [[0, 0, 2, 255, 255]])
