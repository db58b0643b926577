import itertools
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from detflow.artifact import ArtifactDir
from detflow.digests import digest_files, seal
from detflow.errors import ArtifactError, DetflowError, EnvironmentFault
from detflow.inference import load
from detflow.inference.formats import FORMATS
from detflow.inference.formats.base import EntryPoint, Format
from detflow.inference.load import load_detector, load_verified
from detflow.label_map import LabelMap

pytestmark = pytest.mark.tf

LABELS = LabelMap(("a", "b"))


def random_images(*sizes):
    random = np.random.default_rng(0)
    squares = [
        random.integers(0, 256, (height // 9 + 1, width // 9 + 1, 3), np.uint8)
        for height, width in sizes
    ]
    return [
        coarse.repeat(9, 0).repeat(9, 1)[:height, :width]
        for coarse, (height, width) in zip(squares, sizes, strict=True)
    ]


def assert_alike(found, expected, tolerance):
    assert [[d.name for d in one] for one in found] == [[d.name for d in one] for one in expected]
    for one, other in zip(itertools.chain(*found), itertools.chain(*expected), strict=True):
        assert one.score == pytest.approx(other.score, abs=tolerance)
        assert [one.box.ymin, one.box.xmin, one.box.ymax, one.box.xmax] == pytest.approx(
            [other.box.ymin, other.box.xmin, other.box.ymax, other.box.xmax], abs=tolerance
        )


IMAGES = random_images((40, 60), (40, 60), (90, 30))


@pytest.fixture(scope="module")
def expected(model_dir):
    """What a model directory detects; that is what its best checkpoint does."""
    detector = load_detector(model_dir)
    assert detector.source == model_dir / "ckpt-10"
    return list(detector.detect(IMAGES))


@pytest.mark.parametrize(
    ("name", "loaded"),
    [
        ("", "model.onnx"),
        ("frozen_inference_graph.pb", "frozen_inference_graph.pb"),
        ("saved_model", "saved_model"),
        ("saved_model/saved_model.pb", "saved_model"),
        ("model.onnx", "model.onnx"),
    ],
)
def test_every_part_of_an_export_detects_what_the_checkpoint_detects(
    name, loaded, expected, export_dir
):
    detector = load_detector(export_dir / name)
    assert detector.source == export_dir / loaded
    found = list(detector.detect(IMAGES))
    assert sum(map(len, expected)) > 10
    assert_alike(found, expected, 1e-4)


def test_a_result_does_not_depend_on_the_batch_or_on_the_neighbours_sizes(export_dir):
    images = random_images((40, 60), (40, 60), (1, 1), (7, 300), (40, 60))
    detector = load_detector(export_dir)
    alone = [next(detector.detect([image])) for image in images]
    together = list(detector.detect(images))
    assert sum(map(len, alone)) > 10
    assert_alike(together, alone, 1e-5)


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


class Fake(Format):
    """A format whose files are never looked into."""

    runtime = runtime_title = extra = "fake"

    def __init__(self, name, *, installed=True):
        self.name = name
        self.entries = (EntryPoint(f"model.{name}", "image_tensor"),)
        self.suffixes = (f".{name}",)
        self.installed = installed

    def is_installed(self):
        return self.installed

    def load(self, path, entry, *, threads=0):
        return (self.name, path.name, threads)

    def load_bare_network(self, path, entry, canvas_size, *, threads=0):
        raise AssertionError


def build_card(folder):
    """A manifest with as much as loading reads of it."""
    canvas = {"height": 64, "width": 96}
    files = digest_files(folder)
    return seal({"files": files, "canvas_size": canvas, "more_canvas_sizes": []})


@pytest.mark.parametrize(
    ("files", "name"),
    [("ab", "a"), ("b", "b"), ("xb", "b"), ("x", "not installed"), ("", None)],
    ids=["both", "the second", "one is not installed", "only that one", "nothing"],
)
def test_of_an_export_the_first_format_runs_that_is_there_and_installed(
    files, name, tmp_path, monkeypatch
):
    formats = (Fake("x", installed=False), Fake("a"), Fake("b"))
    monkeypatch.setattr(load, "FORMATS", formats)
    (tmp_path / "label_map.pbtxt").write_text(LABELS.to_pbtxt())
    for file in files:
        (tmp_path / f"model.{file}").touch()
    (tmp_path / "model.json").write_text(json.dumps(build_card(tmp_path)))
    # What the manifest does not list is as good as not there.
    (tmp_path / "model.a").touch()
    if name is None:
        with pytest.raises(ArtifactError, match="holds no format that detflow runs"):
            load_verified(ArtifactDir(tmp_path))
        return
    if name == "not installed":
        with pytest.raises(EnvironmentFault, match="fake is not installed"):
            load_verified(ArtifactDir(tmp_path))
        return
    detector = load_verified(ArtifactDir(tmp_path), threads=3)
    assert detector.run == (name, f"model.{name}", 3)
    assert detector.source == tmp_path / f"model.{name}"
    assert detector.label_map == LABELS


def test_a_planted_file_in_an_export_is_not_loaded_by_its_name_either(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "FORMATS", (Fake("a"), Fake("b")))
    (tmp_path / "label_map.pbtxt").write_text(LABELS.to_pbtxt())
    (tmp_path / "model.b").touch()
    # Other programs have a model.json too.
    (tmp_path / "model.json").write_text('{"layers": []}')
    assert load_detector(tmp_path / "model.b").label_map == LABELS
    (tmp_path / "model.json").unlink()
    (tmp_path / "model.json").write_text(json.dumps(build_card(tmp_path)))
    (tmp_path / "model.a").touch()
    assert load_detector(tmp_path).source == load_detector(tmp_path / "model.b").source
    with pytest.raises(ArtifactError, match=r"model\.a: model\.json beside it does not list it"):
        load_detector(tmp_path / "model.a")
    (tmp_path / "label_map.pbtxt").write_text(LabelMap(("b", "a")).to_pbtxt())
    with pytest.raises(ArtifactError, match=r"label_map\.pbtxt"):
        load_detector(tmp_path / "model.b")


def test_formats_without_tensorflow_are_preferred():
    runtimes = [known.runtime for known in FORMATS]
    assert "tensorflow" in runtimes
    heavy = ("tensorflow", "tf-models-official")
    assert runtimes == sorted(runtimes, key=lambda runtime: runtime in heavy)
    assert FORMATS[0].name == "onnx"


@pytest.mark.parametrize("folder", ["", "inner"])
def test_a_file_takes_the_label_map_beside_it_or_beside_its_folder(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(load, "FORMATS", (Fake("a"),))
    (tmp_path / "label_map.pbtxt").write_text(LABELS.to_pbtxt())
    path = tmp_path / folder / "other.a"
    path.parent.mkdir(exist_ok=True)
    path.touch()
    detector = load_detector(path, threads=2)
    assert (detector.run, detector.label_map) == (("a", "other.a", 2), LABELS)


def test_a_format_that_holds_no_names_needs_the_label_map(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "FORMATS", (Fake("a"),))
    (tmp_path / "other.a").touch()
    with pytest.raises(ArtifactError, match=r"label_map\.pbtxt"):
        load_detector(tmp_path / "other.a")


@pytest.mark.parametrize("name", ["frozen_inference_graph.pb", "model.onnx", "model.tflite"])
def test_a_file_on_its_own_has_its_class_names_inside(name, onnx_dir, tmp_path):
    shutil.copy(onnx_dir / name, tmp_path)
    assert load_detector(tmp_path / name).label_map == load_detector(onnx_dir).label_map


def test_a_graph_without_any_class_names_is_refused(artifact_dir, tmp_path):
    graph = tf.compat.v1.GraphDef.FromString(
        (artifact_dir / "frozen_inference_graph.pb").read_bytes()
    )
    (node,) = (node for node in graph.node if node.name == "class_names")
    graph.node.remove(node)
    (tmp_path / "graph.pb").write_bytes(graph.SerializeToString())
    with pytest.raises(
        ArtifactError, match="label map is missing, and there are no class names inside"
    ):
        load_detector(tmp_path / "graph.pb")


@pytest.mark.parametrize(
    "make",
    [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("x"), os.mkfifo],
)
def test_any_other_path_is_refused(make, tmp_path):
    make(tmp_path / "thing")
    with pytest.raises(DetflowError) as caught:
        load_detector(tmp_path / "thing")
    assert caught.value.exit_code == 4
