"""Frozen graphs, as a script of TensorFlow 1 or 2 meets them."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from detflow.artifact import CONTRACT, OUTPUT_NAMES
from detflow.exporting.formats.base import Job, find_writer
from detflow.exporting.formats.frozen import build_frozen_graph, write_frozen_graph
from detflow.inference.formats import find_format
from detflow.inference.tensorflow import eager_outputs
from detflow.inference.trained import load_trained_model

pytestmark = pytest.mark.tf

OUTPUTS = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")


def random_batch(*shape):
    """Squares of 9 pixels a side: an antialiased network sees nothing in finer noise."""
    *batch, height, width, channels = shape
    coarse = (*batch, height // 9 + 1, width // 9 + 1, channels)
    squares = np.random.default_rng(1).integers(0, 256, coarse, np.uint8)
    return squares.repeat(9, -3).repeat(9, -2)[..., :height, :width, :]


@pytest.fixture(scope="module")
def graph(export_dir):
    return read_graph(export_dir / "frozen_inference_graph.pb")


def read_graph(path):
    return tf.compat.v1.GraphDef.FromString(path.read_bytes())


@pytest.fixture(scope="module")
def session(graph):
    """What a script from a TensorFlow 1 tutorial does: GraphDef, Session, tensors by name."""
    detection_graph = tf.Graph()
    with detection_graph.as_default():
        tf.import_graph_def(graph, name="")
    session = tf.compat.v1.Session(graph=detection_graph)
    fetches = {name: detection_graph.get_tensor_by_name(f"{name}:0") for name in OUTPUTS}
    image_tensor = detection_graph.get_tensor_by_name("image_tensor:0")
    yield lambda images: session.run(fetches, feed_dict={image_tensor: images})
    session.close()


@pytest.fixture(scope="module")
def run_files(export_dir):
    """The graph that takes files."""
    graph = read_graph(export_dir / "frozen_inference_graph_encoded.pb")
    function = tf.compat.v1.wrap_function(
        lambda: tf.graph_util.import_graph_def(graph, name=""), []
    )
    names = {name: f"{name}:0" for name in OUTPUTS}
    detect = function.prune("encoded_image_string_tensor:0", names)
    return lambda files: detect(tf.constant(files))


def test_a_tensorflow_1_script_runs_the_frozen_graph(session, trained):
    images = random_batch(3, 40, 60, 3)
    found = session(images)
    expected = eager_outputs(
        trained.serving.detect_traced, trained.checkpoint_path, has_variables=True
    )(images)
    assert found["num_detections"].min() > 0
    for name in OUTPUTS:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4, err_msg=name)


def test_the_outputs_have_the_contract_s_names_shapes_and_dtypes(session):
    found = session(random_batch(2, 33, 51, 3))
    assert {name: values.shape for name, values in found.items()} == {
        "detection_boxes": (2, 100, 4),
        "detection_scores": (2, 100),
        "detection_classes": (2, 100),
        "num_detections": (2,),
    }
    assert {values.dtype for values in found.values()} == {np.dtype(np.float32)}
    assert tuple(CONTRACT["outputs"]) == OUTPUT_NAMES == OUTPUTS


def test_detections_stand_sorted_before_the_padding(session):
    found = session(random_batch(2, 33, 51, 3))
    for row in range(2):
        count = int(found["num_detections"][row])
        boxes, scores = found["detection_boxes"][row], found["detection_scores"][row]
        assert 0 < count < 100
        assert (np.diff(scores) <= 0.0).all()
        assert scores[count - 1] >= 0.3
        assert set(found["detection_classes"][row][:count]) <= {1.0, 2.0, 3.0}
        assert not boxes[count:].any()
        assert not scores[count:].any()


def test_boxes_are_clipped_to_the_image(session):
    boxes = session(random_batch(2, 33, 51, 3))["detection_boxes"]
    assert (boxes[..., :2] <= boxes[..., 2:]).all()
    assert 0.0 == boxes.min() < boxes.max() <= 1.0


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (37, 20), (64, 64), (300, 500)])
def test_the_frozen_graph_takes_any_size_and_does_not_mind_the_batch(size, session):
    images = random_batch(3, *size, 3)
    together = session(images)
    for row in range(3):
        alone = session(images[row : row + 1])
        assert alone["num_detections"][0] == together["num_detections"][row]
        np.testing.assert_array_equal(
            alone["detection_classes"][0], together["detection_classes"][row]
        )
        np.testing.assert_allclose(
            alone["detection_boxes"][0], together["detection_boxes"][row], atol=1e-5
        )


@pytest.mark.parametrize(
    ("file", "input_name"),
    [
        ("frozen_inference_graph.pb", "image_tensor"),
        ("frozen_inference_graph_encoded.pb", "encoded_image_string_tensor"),
    ],
)
def test_a_frozen_graph_holds_nothing_but_what_the_contract_needs(file, input_name, export_dir):
    graph = read_graph(export_dir / file)
    nodes = {node.name: node for node in graph.node}
    assert [node.name for node in graph.node if node.op == "Placeholder"] == [input_name]
    consumed = {
        name.removeprefix("^").partition(":")[0] for node in graph.node for name in node.input
    }
    assert set(nodes) - consumed == {*OUTPUTS, "class_names"}
    assert not graph.library.function
    assert not [node.op for node in graph.node if "Variable" in node.op]
    assert not [node.name for node in graph.node if node.device]


def test_the_class_names_can_be_read_without_running_the_graph(graph):
    (node,) = [node for node in graph.node if node.name == "class_names"]
    names = [name.decode() for name in tf.make_ndarray(node.attr["value"].tensor)]
    assert names == ["disc", "Ringe & Ösen", "it's"]


def encode(pixels, image_format):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_format, quality=90)
    return file.getvalue()


def test_files_of_several_sizes_give_what_their_pixels_give(run_files, trained):
    pictures = [random_batch(40, 60, 3), random_batch(90, 30, 3), random_batch(1, 7, 3)]
    files = list(map(encode, pictures, ("JPEG", "PNG", "JPEG")))
    found = run_files(files)
    for row, file in enumerate(files):
        pixels = np.asarray(Image.open(io.BytesIO(file)))
        expected = trained.serving.detect_traced(pixels[np.newaxis])
        for name in OUTPUTS:
            np.testing.assert_allclose(found[name][row], expected[name][0], atol=1e-4, err_msg=name)


def test_a_file_that_is_no_image_is_an_error_not_a_detection(run_files):
    with pytest.raises(tf.errors.InvalidArgumentError):
        run_files([b"no image"])


@pytest.mark.slow
def test_photos_give_what_their_pixels_give(run_files, trained, shared_data):
    paths = sorted((shared_data("bccd") / "BCCD" / "JPEGImages").iterdir())[:8]
    found = run_files([path.read_bytes() for path in paths])
    for row, path in enumerate(paths):
        expected = trained.serving.detect_traced(np.asarray(Image.open(path))[np.newaxis])
        for name in OUTPUTS:
            np.testing.assert_allclose(found[name][row], expected[name][0], atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_files_of_several_canvases_give_what_their_pixels_give(trained_canvases, tmp_path):
    trained = trained_canvases
    path = tmp_path / "graph.pb"
    function = trained.serving.detect_encoded_traced.get_concrete_function()
    write_frozen_graph(function, trained.label_map, path)
    pictures = [random_batch(72, 96, 3), random_batch(90, 60, 3), random_batch(1, 300, 3)]
    frozen = find_format("frozen")
    found = frozen.load(path, frozen.entries[1])([encode(pixels, "PNG") for pixels in pictures])
    for row, pixels in enumerate(pictures):
        expected = trained.serving.detect_traced(pixels[np.newaxis])
        for name in OUTPUTS:
            np.testing.assert_allclose(found[name][row], expected[name][0], atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_the_same_checkpoint_gives_the_same_frozen_graph(model_dir):
    import tf_keras

    graphs = []
    for _ in range(2):
        # Layers are numbered by a counter of the process; an export is the first to build a network
        # in its own.
        tf_keras.backend.clear_session()
        again = load_trained_model(model_dir)
        function = again.serving.detect_encoded_traced.get_concrete_function()
        graph = build_frozen_graph(function, again.label_map)
        graphs.append(graph.SerializeToString(deterministic=True))
    assert graphs[0] == graphs[1]


def test_a_disk_that_refuses_is_no_fault_of_the_format(trained, tmp_path, small_files):
    from detflow.artifact import ArtifactDir

    job = Job(trained, ArtifactDir(tmp_path), lambda: iter(()))
    with small_files(20_000), pytest.raises(OSError, match="File too large"):
        next(find_writer(find_format("frozen")).write(job))
