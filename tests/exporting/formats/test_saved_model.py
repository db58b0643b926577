"""The SavedModel's signatures, as a program of TensorFlow 2 meets them."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from detflow.artifact import ArtifactDir
from detflow.exporting.formats.base import Job, find_writer
from detflow.inference.formats import find_format
from detflow.label_map import read_label_map

pytestmark = pytest.mark.tf

OUTPUTS = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")


@pytest.fixture(scope="module")
def signatures(export_dir):
    loaded = tf.saved_model.load(str(export_dir / "saved_model"))
    # The signatures do not own their variables: `loaded` has to live as long as they are used.
    yield loaded.signatures
    del loaded


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(1)
    return [random.integers(0, 256, (*size, 3), np.uint8) for size in ((40, 60), (90, 30), (1, 7))]


@pytest.fixture(scope="module")
def files(pictures):
    def encode(pixels):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()

    return list(map(encode, pictures))


def assert_as_pixels(found, pictures, trained):
    assert set(found) == set(OUTPUTS)
    for row, pixels in enumerate(pictures):
        expected = trained.serving.detect_traced(pixels[np.newaxis])
        for name in OUTPUTS:
            np.testing.assert_allclose(found[name][row], expected[name][0], atol=1e-4, err_msg=name)


def test_pixels_give_what_the_checkpoint_gives(signatures, pictures, trained):
    signature = signatures["serving_default"]
    assert list(signature.structured_input_signature[1]) == ["image_tensor"]
    found = signature(image_tensor=tf.constant(pictures[0][np.newaxis]))
    assert_as_pixels(found, pictures[:1], trained)


def test_files_of_several_sizes_give_what_their_pixels_give(signatures, files, pictures, trained):
    found = signatures["image_bytes"](encoded_image_string_tensor=tf.constant(files))
    assert_as_pixels(found, pictures, trained)


def test_examples_of_several_sizes_give_what_their_pixels_give(
    signatures, files, pictures, trained
):
    def example(file):
        feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[file]))
        features = tf.train.Features(feature={"image/encoded": feature})
        return tf.train.Example(features=features).SerializeToString()

    found = signatures["tf_example"](tf_example=tf.constant(list(map(example, files))))
    assert_as_pixels(found, pictures, trained)


def test_the_label_map_is_among_the_assets(export_dir, trained):
    path = export_dir / "saved_model" / "assets" / "label_map.pbtxt"
    assert read_label_map(path) == trained.label_map


def test_a_disk_that_refuses_is_no_fault_of_the_format(trained, tmp_path, small_files):
    artifact = ArtifactDir(tmp_path)
    artifact.label_map_path.write_text(trained.label_map.to_pbtxt())
    job = Job(trained, artifact, lambda: iter(()))
    with small_files(20_000), pytest.raises(OSError, match="File too large"):
        next(find_writer(find_format("saved_model")).write(job))
