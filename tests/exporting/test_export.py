import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest
import tensorflow as tf
from detflow.benchmarking.network import load_bare_network
from detflow.exporting.images import find_proof_images
from detflow.exporting.verify import Tolerance
from detflow.inference.openvino import has_openvino
from PIL import Image

from detflow.artifact import CONTRACT, ArtifactDir
from detflow.cli.main import cli
from detflow.config.schema import DataConfig
from detflow.errors import ArtifactError, ConfigError, EnvironmentFault
from detflow.exporting import frozen, tflite
from detflow.exporting.formats import EXPORTS, Export, Gate, choose_formats
from detflow.exporting.run import describe_card, export_model, find_failure
from detflow.inference.load import load_detector
from detflow.inference.tensorflow import eager_outputs
from detflow.inference.trained import load_trained_model
from detflow.label_map import read_label_map

pytestmark = pytest.mark.tf

OUTPUTS = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")


def random_batch(*shape):
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


@pytest.fixture(scope="module")
def trained(model_dir):
    return load_trained_model(model_dir)


@pytest.fixture
def session(artifact_dir):
    """What a script from a TensorFlow 1 tutorial does: GraphDef, Session, tensors by name. It knows nothing of detflow."""
    detection_graph = tf.Graph()
    with detection_graph.as_default():
        graph_def = tf.compat.v1.GraphDef()
        with tf.io.gfile.GFile(str(artifact_dir / "frozen_inference_graph.pb"), "rb") as file:
            graph_def.ParseFromString(file.read())
            tf.import_graph_def(graph_def, name="")
    session = tf.compat.v1.Session(graph=detection_graph)
    fetches = {name: detection_graph.get_tensor_by_name(f"{name}:0") for name in OUTPUTS}
    image_tensor = detection_graph.get_tensor_by_name("image_tensor:0")
    yield lambda images: session.run(fetches, feed_dict={image_tensor: images})
    session.close()


def test_a_tensorflow_1_script_runs_the_frozen_graph(session, trained):
    images = random_batch(3, 40, 60, 3)
    found = session(images)
    expected = eager_outputs(
        trained.serving.detect_traced, trained.checkpoint_path, has_variables=True
    )(images)
    assert found["num_detections"].min() > 0
    np.testing.assert_array_equal(found["num_detections"], expected["num_detections"])
    np.testing.assert_array_equal(found["detection_classes"], expected["detection_classes"])
    np.testing.assert_allclose(found["detection_scores"], expected["detection_scores"], atol=1e-4)
    np.testing.assert_allclose(found["detection_boxes"], expected["detection_boxes"], atol=1e-4)


def test_the_outputs_are_as_the_contract_says(session):
    found = session(random_batch(2, 33, 51, 3))
    limit = 100
    assert {name: values.shape for name, values in found.items()} == {
        "detection_boxes": (2, limit, 4),
        "detection_scores": (2, limit),
        "detection_classes": (2, limit),
        "num_detections": (2,),
    }
    assert {values.dtype for values in found.values()} == {np.dtype(np.float32)}
    assert tuple(CONTRACT["outputs"]) == OUTPUTS
    for row in range(2):
        count = int(found["num_detections"][row])
        assert 0 < count < limit
        boxes, scores = found["detection_boxes"][row], found["detection_scores"][row]
        assert (boxes[:count, :2] <= boxes[:count, 2:]).all()
        assert boxes.min() >= 0.0
        assert boxes.max() <= 1.0
        assert (np.diff(scores) <= 0.0).all()
        assert scores[count - 1] >= 0.3
        assert set(found["detection_classes"][row][:count]) <= {1.0, 2.0, 3.0}
        assert not boxes[count:].any()
        assert not scores[count:].any()


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
def test_a_frozen_graph_holds_nothing_but_what_the_contract_needs(file, input_name, artifact_dir):
    graph = tf.compat.v1.GraphDef.FromString((artifact_dir / file).read_bytes())
    nodes = {node.name: node for node in graph.node}
    assert [node.name for node in graph.node if node.op == "Placeholder"] == [input_name]
    consumed = {
        name.removeprefix("^").partition(":")[0] for node in graph.node for name in node.input
    }
    assert set(nodes) - consumed == {*OUTPUTS, "class_names"}
    assert not graph.library.function
    assert not [node.op for node in graph.node if "Variable" in node.op]
    assert not [node.name for node in graph.node if node.device]


def test_the_class_names_can_be_read_without_running_the_graph(artifact_dir, trained):
    graph = tf.compat.v1.GraphDef.FromString(
        (artifact_dir / "frozen_inference_graph.pb").read_bytes()
    )
    (node,) = [node for node in graph.node if node.name == "class_names"]
    names = [name.decode() for name in tf.make_ndarray(node.attr["value"].tensor)]
    assert names == list(trained.label_map) == ["disc", "Ringe & Ösen", "it's"]


def test_the_saved_model_serves_the_same_contract(artifact_dir, trained):
    loaded = tf.saved_model.load(str(artifact_dir / "saved_model"))
    signature = loaded.signatures["serving_default"]
    assert list(signature.structured_input_signature[1]) == ["image_tensor"]
    images = random_batch(2, 40, 60, 3)
    found = signature(image_tensor=tf.constant(images))
    expected = trained.serving.detect_traced(images)
    assert set(found) == set(OUTPUTS)
    for name in OUTPUTS:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-4)
    assert (
        read_label_map(artifact_dir / "saved_model" / "assets" / "label_map.pbtxt")
        == trained.label_map
    )


def encoded(pixels, image_format):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_format, quality=90)
    return file.getvalue()


@pytest.fixture(scope="module")
def files_and_pixels():
    """JPEG and PNG files of different sizes, and what Pillow reads from them."""
    pictures = [random_batch(40, 60, 3), random_batch(90, 30, 3), random_batch(1, 7, 3)]
    files = [
        encoded(pixels, image_format)
        for pixels, image_format in zip(pictures, ("JPEG", "PNG", "JPEG"), strict=True)
    ]
    return files, [np.asarray(Image.open(io.BytesIO(file))) for file in files]


def from_graph(artifact_dir, files):
    graph = tf.compat.v1.GraphDef.FromString(
        (artifact_dir / "frozen_inference_graph_encoded.pb").read_bytes()
    )
    function = tf.compat.v1.wrap_function(
        lambda: tf.graph_util.import_graph_def(graph, name=""), []
    )
    return function.prune("encoded_image_string_tensor:0", {name: f"{name}:0" for name in OUTPUTS})(
        tf.constant(files)
    )


def from_signature(artifact_dir, files):
    loaded = tf.saved_model.load(str(artifact_dir / "saved_model"))
    return loaded.signatures["image_bytes"](encoded_image_string_tensor=tf.constant(files))


def from_examples(artifact_dir, files):
    def example(file):
        feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[file]))
        return tf.train.Example(
            features=tf.train.Features(feature={"image/encoded": feature})
        ).SerializeToString()

    loaded = tf.saved_model.load(str(artifact_dir / "saved_model"))
    return loaded.signatures["tf_example"](
        tf_example=tf.constant([example(file) for file in files])
    )


@pytest.mark.parametrize("run", [from_graph, from_signature, from_examples])
def test_files_of_several_sizes_give_what_their_pixels_give(
    run, artifact_dir, files_and_pixels, trained
):
    files, pictures = files_and_pixels
    found = run(artifact_dir, files)
    for row, pixels in enumerate(pictures):
        expected = trained.serving.detect_traced(pixels[np.newaxis])
        for name in OUTPUTS:
            np.testing.assert_allclose(found[name][row], expected[name][0], atol=1e-4, err_msg=name)


def test_a_file_that_is_no_image_is_an_error_not_a_detection(artifact_dir):
    with pytest.raises(tf.errors.InvalidArgumentError):
        from_graph(artifact_dir, [b"no image"])


def test_the_card_tells_origin_thresholds_and_proof(artifact_dir, model_dir, records_dir):
    card = ArtifactDir(artifact_dir).verify()
    assert card["classes"] == ["disc", "Ringe & Ösen", "it's"]
    assert card["checkpoint"]["name"] == "ckpt-10"
    assert (card["checkpoint"]["step"], card["checkpoint"]["metrics"]) == (10, {"AP": 0.5})
    assert card["thresholds"] == {"score_threshold": 0.3, "nms_iou": 0.6, "max_detections": 100}
    assert card["contract"] == CONTRACT
    assert (card["parity"]["images"], card["parity"]["source"]) == ("records", f"{records_dir} val")
    assert {name: list(found["entries"]) for name, found in card["formats"].items()} == {
        "frozen": ["frozen_inference_graph.pb", "frozen_inference_graph_encoded.pb"],
        "saved_model": ["saved_model", "saved_model image_bytes", "saved_model tf_example"],
    }
    assert card["failed"] == {}
    assert card["parity"]["metrics"]["AP"] is not None
    for found in card["formats"].values():
        assert found["metrics"] == card["parity"]["metrics"]
        assert found["change"] == {"AP": 0.0, "AP50": 0.0}
        assert found["bytes"] == sum(
            card["files"][path]["bytes"]
            for path in card["files"]
            if path.split("/")[0] in found["paths"]
        )
    for proof in (
        entry for found in card["formats"].values() for entry in found["entries"].values()
    ):
        assert proof["num_images"] == 21
        assert proof["num_detections"] > 50
        assert (
            proof["max_differences"]["num_detections"]
            == proof["max_differences"]["detection_classes"]
            == 0.0
        )
        assert max(proof["max_differences"].values()) <= 1e-4
    on_disk = {
        path.relative_to(artifact_dir).as_posix()
        for path in artifact_dir.rglob("*")
        if path.is_file()
    }
    assert set(card["files"]) == on_disk - {"model.json"}
    assert (artifact_dir / "config.yaml").read_text() == (model_dir / "config.yaml").read_text()


@pytest.fixture
def wrong_weight(monkeypatch):
    """Makes every frozen graph that is written detect something else than its checkpoint."""

    def write_with_a_wrong_weight(function, label_map, path, write=frozen.write_frozen_graph):
        write(function, label_map, path)
        graph = tf.compat.v1.GraphDef.FromString(path.read_bytes())
        node = next(
            node
            for node in graph.node
            if "scores" in node.name and "BiasAdd/ReadVariableOp/resource" in node.name
        )
        bias = tf.make_ndarray(node.attr["value"].tensor).copy()
        bias[1] += 0.01
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(bias))
        path.write_bytes(graph.SerializeToString())

    monkeypatch.setattr(frozen, "write_frozen_graph", write_with_a_wrong_weight)


@pytest.mark.slow
def test_if_no_format_agrees_nothing_is_published_and_the_old_export_stays(
    model_dir, artifact_dir, tmp_path, wrong_weight
):
    output = tmp_path / "artifact"
    shutil.copytree(artifact_dir, output)
    before = ArtifactDir(output).verify()
    with pytest.raises(ArtifactError) as caught:
        export_model(str(model_dir), output, formats="frozen")
    assert str(caught.value).startswith(
        "frozen_inference_graph.pb: num_detections is not as ckpt-10"
    )
    assert "ckpt-10" in str(caught.value)
    assert ".jpg" in str(caught.value)
    assert caught.value.exit_code == 4
    assert ArtifactDir(output).verify() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["artifact"]


@pytest.mark.slow
def test_a_format_that_disagrees_is_left_out_and_the_command_fails(
    model_dir, tmp_path, wrong_weight, capfd
):
    output = tmp_path / "artifact"
    with pytest.raises(
        ArtifactError,
        match=r"not published: frozen: frozen_inference_graph\.pb: num_detections .*\.jpg",
    ) as caught:
        cli.main(
            ["export", "--ckpt", str(model_dir), "--output", str(output)], standalone_mode=False
        )
    assert caught.value.exit_code == 4
    assert f"{output / 'saved_model'}, " in capfd.readouterr().out
    card = ArtifactDir(output).verify()
    assert list(card["formats"]) == ["saved_model"]
    assert str(find_failure(card, output)) == str(caught.value)
    assert not list(output.glob("*.pb"))


@pytest.mark.slow
def test_options_and_words_choose_what_is_exported(model_dir, pictures_dir, tmp_path, capfd):
    output = tmp_path / "artifact"
    arguments = [
        "--ckpt",
        "last",
        "--model-dir",
        model_dir,
        "--images",
        pictures_dir,
        "--output",
        output,
    ]
    options = ["--score-threshold", "0.5", "--max-detections", "7", "--json"]
    cli.main(["export", *map(str, arguments), *options], standalone_mode=False)
    printed = capfd.readouterr()
    assert printed.err == ""
    card = json.loads(printed.out)
    assert card == ArtifactDir(output).verify()
    assert card["checkpoint"]["name"] == "ckpt-20"
    assert card["thresholds"] == {"score_threshold": 0.5, "nms_iou": 0.6, "max_detections": 7}
    assert (card["parity"]["images"], card["parity"]["num_images"]) == ("folder", 24)
    assert card["parity"]["metrics"] is None
    graph = tf.compat.v1.GraphDef.FromString((output / "frozen_inference_graph.pb").read_bytes())
    function = tf.compat.v1.wrap_function(
        lambda: tf.graph_util.import_graph_def(graph, name=""), []
    )
    found = function.prune("image_tensor:0", ["detection_boxes:0", "detection_scores:0"])(
        tf.constant(random_batch(1, 50, 50, 3))
    )
    assert found[0].shape == (1, 7, 4)
    kept = found[1].numpy()[found[1].numpy() > 0]
    assert kept.size
    assert kept.min() >= 0.5


@pytest.mark.slow
def test_formats_that_compute_otherwise_are_published_with_their_tolerance_and_ap(
    model_dir, tmp_path, capfd
):
    output = tmp_path / "artifact"
    cli.main(
        [
            "export",
            "--ckpt",
            str(model_dir),
            "--output",
            str(output),
            "--formats",
            "tflite,tflite_float16",
        ],
        standalone_mode=False,
    )
    printed = capfd.readouterr()
    assert printed.err == ""
    assert "detections found again on 21 images; AP 0.0" in printed.out
    card = ArtifactDir(output).verify()
    assert list(card["formats"]) == ["tflite", "tflite_float16"]
    for found in card["formats"].values():
        (entry,) = found["entries"].values()
        assert entry["share_found"] >= found["gate"]["tolerance"]["min_share"] == 0.98
        assert entry["num_detections"] > 50
        assert abs(found["change"]["AP"]) <= found["gate"]["max_ap_drop"] == 0.005
        assert [one["name"] for one in found["outputs"]] == ["boxes", "classes", "scores", "count"]
    assert load_detector(output / "model.tflite").label_map.names == tuple(card["classes"])


@pytest.mark.slow
def test_an_int8_file_that_no_rung_makes_good_enough_is_not_published(
    model_dir, tmp_path, monkeypatch
):
    strict = Gate(
        Tolerance(score_threshold=0.3, min_iou=0.999, max_score_difference=1e-4, min_share=1.0),
        0.02,
    )
    monkeypatch.setitem(EXPORTS, "tflite_int8", Export(EXPORTS["tflite_int8"].write, strict))
    monkeypatch.setattr(tflite, "_NUM_STEPS", 2)
    card = export_model(str(model_dir), tmp_path / "out", formats="tflite,tflite_int8")
    assert list(card["formats"]) == ["tflite"]
    failed = card["failed"]["tflite_int8"]
    assert re.match(
        r"model_int8\.tflite: .*% of ckpt-10's .* worst is image p\d\d\.jpg: lost ",
        failed["reason"],
    )
    rungs = ["calibrated", "more calibration", "float heads", "quantisation-aware fine-tuning"]
    assert [rung["rung"] for rung in failed["rungs"]] == rungs
    assert all(
        rung["calibration"] == {"images": 3, "split": "train", "seed": 1}
        for rung in failed["rungs"]
    )
    assert failed["rungs"][-1]["fine_tuning"] == {
        "steps": 2,
        "learning_rate": 0.0002,
        "images": 3,
        "seconds": ANY,
    }
    assert all(rung["failure"] and rung["metrics"]["AP"] is not None for rung in failed["rungs"])
    assert "tflite_int8" in str(find_failure(card, tmp_path))
    assert not (tmp_path / "out" / "model_int8.tflite").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"ckpt": "best", "formats": "frozen,tflight"},
            "there is no format 'tflight'; choose from frozen, ",
        ),
        ({"ckpt": "best"}, "--model-dir"),
        ({"ckpt": "ckpt-10", "model_dir": Path("run")}, "together with --model-dir"),
    ],
)
def test_arguments_that_say_nothing_definite_are_refused(arguments, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        export_model(output=tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_network_of_two_stages_is_refused_as_tflite_before_tensorflow_loads_it(
    model_dir, tmp_path
):
    config = (
        (model_dir / "config.yaml")
        .read_text()
        .replace("architecture: retinanet", "architecture: faster_rcnn")
    )
    shutil.copytree(model_dir, tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text(config)
    with pytest.raises(
        ConfigError, match=r"faster_rcnn has no TFLite form, .*leave out tflite, tflite_int8"
    ) as caught:
        export_model(str(tmp_path / "run"), tmp_path / "out", formats="frozen,tflite,tflite_int8")
    assert caught.value.exit_code == 2
    assert not (tmp_path / "out").exists()
    assert not any(name.startswith("tflite") for name in choose_formats("all", "faster_rcnn"))
    assert (
        set(choose_formats("all", "yolo"))
        == set(choose_formats("all", "retinanet"))
        > set(choose_formats("all", "faster_rcnn"))
    )


def test_a_folder_with_other_things_is_never_replaced(model_dir):
    before = sorted(path.name for path in model_dir.iterdir())
    with pytest.raises(ConfigError, match=r"holds no model\.json"):
        export_model(str(model_dir), model_dir)
    assert sorted(path.name for path in model_dir.iterdir()) == before


@pytest.mark.parametrize(
    ("ckpt", "output", "code"),
    [
        ("ckpt-10", "/sys/detflow-export", 5),
        ("ckpt-11", "{tmp}/out", 4),
        ("ckpt-10", "{tmp}/file/out", 5),
    ],
)
def test_what_can_be_refused_at_once_is_refused_before_tensorflow_is_imported(
    ckpt, output, code, model_dir, tmp_path
):
    (tmp_path / "file").write_text("in the way")
    program = "import sys\nfrom detflow.cli.main import main\ntry:\n    main()\nfinally:\n    assert 'tensorflow' not in sys.modules"
    arguments = ["export", "--ckpt", str(model_dir / ckpt), "--output", output.format(tmp=tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_too_little_space_is_told_with_both_numbers(model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 12_345, 12_345)
    )
    with pytest.raises(
        EnvironmentFault, match=r"\d\d,\d{3},\d{3} bytes are needed and 12,345 are free"
    ):
        export_model(str(model_dir), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("formats", ["frozen", pytest.param("saved_model", marks=pytest.mark.slow)])
def test_a_disk_that_refuses_in_the_middle_publishes_nothing(
    formats, model_dir, tmp_path, small_files
):
    with small_files(500_000), pytest.raises(EnvironmentFault, match="size limit") as caught:
        export_model(str(model_dir), tmp_path / "out", formats=formats)
    assert str(tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_same_checkpoint_gives_the_same_frozen_graph(model_dir, trained, artifact_dir):
    import tf_keras
    from detflow.exporting.frozen import freeze

    # Layers are numbered by a counter of the process; an export is the first to build a network in
    # its own.
    tf_keras.backend.clear_session()
    again = load_trained_model(model_dir)
    tf_keras.backend.clear_session()
    third = load_trained_model(model_dir)
    for name in ("detect_traced", "detect_encoded_traced"):
        graphs = [
            freeze(
                getattr(one.serving, name).get_concrete_function(), one.label_map
            ).SerializeToString(deterministic=True)
            for one in (again, third)
        ]
        assert graphs[0] == graphs[1]


def test_without_records_the_proof_takes_synthetic_pictures_and_says_so(artifact_dir):
    proof = find_proof_images(None, None, DataConfig(records="nowhere"), 32)
    assert proof.kind == "synthetic"
    images = list(proof.images)
    assert len({image.name for image in images}) == 32
    assert len({image.pixels.shape for image in images}) > 20
    for image in images:
        assert image.pixels.dtype == np.uint8
        assert (np.asarray(Image.open(io.BytesIO(image.encoded))) == image.pixels).all()
    again = find_proof_images(None, None, DataConfig(records="nowhere"), 32).images
    assert [image.encoded for image in again] == [image.encoded for image in images]
    card = ArtifactDir(artifact_dir).verify()
    described = describe_card(card, artifact_dir)
    assert "synthetic" not in described
    assert described.splitlines()[0].endswith(f"; classes: {', '.join(card['classes'])}")
    many = describe_card(card | {"classes": [f"c{number}" for number in range(10)]}, artifact_dir)
    assert "; classes: c0, c1, c2, c3, c4, c5, c6, c7 and 2 more\n" in many
    for found in card["formats"].values():
        assert 0 < found["seconds"] < 600
        assert f"; {found['seconds']:.0f} s\n" in f"{described}\n"
    assert "synthetic pictures" in describe_card(
        card | {"parity": card["parity"] | {"images": "synthetic"}}, artifact_dir
    )


def test_damaged_records_are_not_taken_for_missing_ones(records_dir, tmp_path):
    copy = tmp_path / "records"
    shutil.copytree(records_dir, copy)
    (shard,) = copy.glob("val-*")
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(ArtifactError, match="val-"):
        list(find_proof_images(None, None, DataConfig(records=str(copy)), 32).images)


@pytest.mark.slow
def test_a_model_of_several_canvases_is_exported_to_every_runtime(canvases_dir, tmp_path):
    formats = "frozen,saved_model,onnx,tflite" + (",openvino" if has_openvino() else "")
    # The gates run the formats on portrait and landscape images in processes of their own.
    card = export_model(str(canvases_dir), tmp_path / "artifact", formats=formats, max_ap_drop=1.0)
    assert card["failed"] == {}
    assert all(found["refused"] == {} for found in card["formats"].values())
    assert (card["canvas_size"], card["more_canvas_sizes"]) == (
        {"height": 64, "width": 96},
        [{"height": 96, "width": 64}],
    )
    assert card["formats"]["tflite"]["input"]["shape"] == [1, 64, 96, 3]
    # A TFLite file shows portraits smaller than the checkpoint does, which its AP may tell; the
    # others do what the checkpoint does.
    assert all(
        abs(found["change"]["AP"]) <= 0.005
        for name, found in card["formats"].items()
        if name != "tflite"
    )
    assert "96 × 64; an image takes the one" in (tmp_path / "artifact" / "card.html").read_text()
    for path, signature in (
        ("frozen_inference_graph.pb", ""),
        ("saved_model", ""),
        ("model.onnx", ""),
        ("model.onnx", "OpenCV"),
    ):
        for canvas_size in ((64, 96), (96, 64)):
            assert load_bare_network(tmp_path / "artifact" / path, signature, 0, canvas_size)()


@pytest.mark.slow
def test_bccd_images_agree(model_dir, shared_data, tmp_path):
    card = export_model(
        str(model_dir), tmp_path / "out", images=shared_data("bccd") / "BCCD" / "JPEGImages"
    )
    assert card["parity"]["num_images"] == 32


@pytest.mark.slow
def test_a_killed_export_leaves_no_folder_and_no_process(model_dir, tmp_path):
    output = tmp_path / "out"
    code = "from detflow.cli.main import main; main()"
    arguments = [
        sys.executable,
        "-c",
        code,
        "export",
        "--ckpt",
        str(model_dir),
        "--output",
        str(output),
    ]
    marker = f"DETFLOW_TEST={tmp_path}".encode()
    environment = {**os.environ, "DETFLOW_TEST": str(tmp_path)}
    for stage in (".", "frozen_inference_graph.pb", "saved_model/saved_model.pb"):
        process = subprocess.Popen(
            arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(lambda stage=stage: list(tmp_path.glob(f".out.tmp-*/{stage}")))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not output.exists()
        # The fresh process sees that its parent is gone when it has imported TensorFlow, at the
        # latest.
        wait_for(
            lambda: (
                not any(marker in read_environment(entry) for entry in Path("/proc").glob("[0-9]*"))
            )
        )
    assert subprocess.run(arguments, capture_output=True).returncode == 0
    # The dead ones' leftovers are gone with it.
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert ArtifactDir(output).verify()


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def read_environment(process):
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""
