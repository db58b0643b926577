"""TFLite files: what they detect, what they are made of, and what they say of themselves."""

import dataclasses
import io
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from flatbuffers.number_types import Float32Flags
from flatbuffers.table import Table

from detflow.artifact import ArtifactDir
from detflow.config.schema import ModelConfig
from detflow.data.records.manifest import read_manifest
from detflow.data.records.reading import read_samples
from detflow.errors import DataError
from detflow.exporting.formats import tflite
from detflow.exporting.formats.base import Job
from detflow.exporting.formats.tflite import Effort, Writer
from detflow.exporting.formats.tflite_network import split_after_head, split_before_head
from detflow.exporting.proof.rounding import require_rounded
from detflow.inference.detector import Detector
from detflow.inference.formats import FORMATS, find_format
from detflow.inference.formats.tflite import load_tflite
from detflow.inference.serving import ServingModel
from detflow.inference.tensorflow import eager_outputs
from detflow.models.build import build_model
from detflow.training.fine_tuning import FineTuning

pytestmark = pytest.mark.tf

NAMES = [known.name for known in FORMATS if known.runtime == "litert"]


@pytest.fixture(scope="module")
def job(trained, records_dir, tmp_path_factory):
    manifest = read_manifest(records_dir)
    artifact = ArtifactDir(tmp_path_factory.mktemp("tflite"))
    return Job(
        trained,
        artifact,
        lambda: read_samples(records_dir, manifest, "train"),
    )


@pytest.fixture(scope="module")
def path_of(export_dir):
    """Returns the file of a format in the shared export."""
    return lambda name: export_dir / find_format(name).paths[0]


@pytest.fixture(scope="module")
def canvases(job):
    """Images of the canvas' own size: nothing is resized."""
    random = np.random.default_rng(2)
    coarse = random.integers(0, 256, (6, 8, 8, 3), np.uint8)
    return np.kron(coarse, np.ones((1, 8, 8, 1), np.uint8))


def detect(run, job, images):
    detector = Detector(run, job.trained.label_map, job.artifact.path)
    return [
        [(found.class_id, found.score, found.box) for found in one]
        for one in detector.detect(list(images))
    ]


def test_floats_give_what_the_checkpoint_gives(job, path_of, canvases):
    found = load_tflite(path_of("tflite"))(canvases)
    expected = eager_outputs(
        job.trained.serving.detect_traced, job.artifact.path, has_variables=True
    )(canvases)
    assert expected["num_detections"].min() > 3
    assert len(set(expected["detection_classes"].ravel())) == 3
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_no_class_is_lost_whatever_the_number_of_threads(name, path_of, canvases):
    """TFLite_Detection_PostProcess loses class T with T threads."""
    alone = load_tflite(path_of(name), threads=1)(canvases)
    assert len(set(alone["detection_classes"].ravel())) == 3
    for threads in (2, 3):
        together = load_tflite(path_of(name), threads=threads)(canvases)
        np.testing.assert_array_equal(together["detection_classes"], alone["detection_classes"])


def test_images_of_any_size_are_fitted_into_the_canvas(job, path_of, pictures_dir):
    from detflow.data.images.pictures import read_picture

    images = [read_picture(path).pixels for path in sorted(pictures_dir.glob("*.jpg"))[:6]]
    found = detect(load_tflite(path_of("tflite")), job, images)
    expected = detect(
        eager_outputs(job.trained.serving.detect_traced, job.artifact.path, has_variables=True),
        job,
        images,
    )
    # Whichever of two that score nearly the same comes first, what is lost and what is added count.
    for wanted, given in ((expected, found), (found, expected)):
        alike = [
            any(
                one[0] == other[0] and one[2].iou(other[2]) > 0.95 and abs(one[1] - other[1]) < 0.02
                for other in others
            )
            for some, others in zip(wanted, given, strict=True)
            for one in some
        ]
        assert len(alike) > 20
        assert np.mean(alike) > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_tensors_have_the_names_and_the_order_that_mobile_libraries_expect(
    name, path_of, export_dir
):
    notes = ArtifactDir(export_dir).verify()["formats"]
    interpreter = Interpreter(model_path=str(path_of(name)))
    found = [
        (one["name"], one["shape"].tolist(), one["dtype"])
        for one in interpreter.get_output_details()
    ]
    assert found == [
        ("TFLite_Detection_PostProcess", [1, 100, 4], np.float32),
        ("TFLite_Detection_PostProcess:1", [1, 100], np.float32),
        ("TFLite_Detection_PostProcess:2", [1, 100], np.float32),
        ("TFLite_Detection_PostProcess:3", [1], np.float32),
    ]
    (image,) = interpreter.get_input_details()
    assert (image["shape"].tolist(), image["dtype"]) == ([1, 64, 64, 3], np.uint8)
    assert [(one["tensor"], one["shape"]) for one in notes[name]["outputs"]] == [
        (tensor, shape) for tensor, shape, _ in found
    ]
    assert (notes[name]["input"]["tensor"], notes[name]["input"]["shape"]) == (
        image["name"],
        [1, 64, 64, 3],
    )


def test_the_precisions_differ_in_size(path_of):
    names = ("tflite", "tflite_float16", "tflite_dynamic", "tflite_int8")
    floats, halves, dynamic, int8 = (path_of(name).stat().st_size for name in names)
    # A weight takes four bytes, two, or one; the rest of the files is much the same.
    num_weights = (floats - halves) / 2
    assert num_weights > 10_000
    assert (floats - dynamic) / 3 == pytest.approx(num_weights, rel=0.2)
    assert (floats - int8) / 3 == pytest.approx(num_weights, rel=0.2)


def test_int8_computes_in_int8(path_of):
    model = schema.ModelT.InitFromPackedBuf(path_of("tflite_int8").read_bytes(), 0)
    graph = model.subgraphs[0]
    kinds = {
        model.operatorCodes[operator.opcodeIndex].builtinCode: operator
        for operator in graph.operators
    }
    convolutions = [
        [graph.tensors[place].type for place in operator.inputs[:2]]
        for operator in graph.operators
        if model.operatorCodes[operator.opcodeIndex].builtinCode == schema.BuiltinOperator.CONV_2D
    ]
    assert convolutions
    assert all(types == [schema.TensorType.INT8] * 2 for types in convolutions)
    # Boxes are decoded and suppressed in floats.
    assert (
        graph.tensors[kinds[schema.BuiltinOperator.NON_MAX_SUPPRESSION_V4].inputs[0]].type
        == schema.TensorType.FLOAT32
    )
    assert schema.BuiltinOperator.CUSTOM not in kinds


def strings(table, number):
    offset = table.Offset(4 + 2 * number)
    return table.String(table.Pos + offset).decode()


def tables(table, number):
    offset = table.Offset(4 + 2 * number)
    start = table.Vector(offset)
    return [
        Table(table.Bytes, table.Indirect(start + 4 * i)) for i in range(table.VectorLen(offset))
    ]


def test_labels_and_metadata_can_be_read_from_the_file(job, path_of):
    content = path_of("tflite").read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["labels.txt"]
        assert archive.read("labels.txt").decode().splitlines() == list(job.trained.label_map)
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    (entry,) = [entry for entry in model.metadata if entry.name == b"TFLITE_METADATA"]
    data = bytearray(model.buffers[entry.buffer].data)
    assert bytes(data[4:8]) == b"M001"
    root = Table(data, int.from_bytes(data[:4], "little"))
    (graph,) = tables(root, 3)
    (image,), outputs = tables(graph, 2), tables(graph, 3)
    assert [strings(one, 0) for one in outputs] == [
        "location",
        "category",
        "score",
        "number of detections",
    ]
    (labels,) = tables(outputs[1], 6)
    assert strings(labels, 0) == "labels.txt"
    (unit,) = tables(image, 4)
    options = Table(unit.Bytes, unit.Indirect(unit.Pos + unit.Offset(6)))
    mean, std = (
        options.GetVectorAsNumpy(Float32Flags, options.Offset(4 + 2 * number)).tolist()
        for number in (0, 1)
    )
    assert (mean, std) == ([0.0], [1.0])


@pytest.mark.slow
def test_the_same_checkpoint_gives_the_same_file(job):
    contents = []
    for _ in range(2):
        next(Writer(find_format("tflite")).write(dataclasses.replace(job, shared={})))
        contents.append((job.artifact.path / "model.tflite").read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.slow
@pytest.mark.parametrize("split", [split_after_head, split_before_head])
def test_a_network_cut_into_halves_computes_the_same(split, job, canvases):
    serving = job.trained.serving
    halves = split(serving.model, serving.config)
    joints = halves.network(tf.constant(canvases[:1]))
    found = halves.tail(*(joints[name] for name in sorted(joints, key=lambda name: int(name[6:]))))
    expected = serving.detect_traced(canvases[:1])
    assert int(found["count"][0]) == int(expected["num_detections"][0]) > 3
    for name in ("boxes", "scores"):
        np.testing.assert_allclose(found[name], expected[f"detection_{name}"], atol=1e-4)


@pytest.mark.slow
@pytest.mark.soak
def test_int8_knows_four_ways(job, canvases, monkeypatch):
    def fine_tune(trained, samples, calibration, num_steps):
        assert (len(samples), len(list(calibration)), num_steps) == (3, 3, 1)
        return FineTuning(trained.serving.model, num_steps, 2e-4, len(samples), 81.55)

    # The fine-tuning itself takes long and has tests of its own.
    monkeypatch.setattr(tflite, "fine_tune", fine_tune)
    notes = []
    for draft in Writer(find_format("tflite_int8"), effort=Effort(2, 3, steps=1)).write(job):
        notes.append(draft.notes)
        require_rounded(job.artifact.path / "model_int8.tflite", draft.twin.content)
        detect_canvases = load_tflite(job.artifact.path / "model_int8.tflite")
        assert detect_canvases(canvases)["num_detections"].min() > 0
    assert [note["rung"] for note in notes] == [
        "calibrated",
        "more calibration",
        "float heads",
        "quantisation-aware fine-tuning",
    ]
    calibrations = [note["calibration"] for note in notes]
    assert calibrations[0] == {"images": 2, "split": "train", "seed": 1}
    assert calibrations[1:] == [{"images": 3, "split": "train", "seed": 1}] * 3
    assert notes[-1]["fine_tuning"] == {
        "steps": 1,
        "learning_rate": 0.0002,
        "images": 3,
        "seconds": 81.5,
    }


def test_without_training_images_there_are_no_ranges_to_measure(job):
    empty = Job(job.trained, job.artifact, lambda: iter(()))
    with pytest.raises(DataError, match="no training images"):
        next(Writer(find_format("tflite_int8")).write(empty))


@pytest.mark.parametrize("name", ["tflite", "tflite_int8"])
def test_a_disk_that_refuses_is_no_fault_of_the_format(
    name, job, tmp_path, monkeypatch, small_files
):
    monkeypatch.setattr(tflite, "convert", lambda converter: b"")
    monkeypatch.setattr(tflite, "join_models", lambda *_: bytes(200_000))
    elsewhere = dataclasses.replace(job, artifact=ArtifactDir(tmp_path))
    with small_files(20_000), pytest.raises(OSError, match="File too large"):
        next(Writer(find_format(name)).write(elsewhere))


@pytest.mark.slow
@pytest.mark.soak
def test_a_yolo_becomes_a_file_too(job, canvases, tmp_path):
    config = ModelConfig(
        architecture="yolo",
        backbone="yolov7_nano",
        width_multiplier=1.0,
        max_level=5,
        input_size=(64, 64),
    )
    serving = ServingModel(build_model(config, 3), job.trained.serving.config)
    trained = dataclasses.replace(job.trained, serving=serving)
    elsewhere = dataclasses.replace(job, trained=trained, artifact=ArtifactDir(tmp_path))
    next(Writer(find_format("tflite")).write(elsewhere))
    found = load_tflite(tmp_path / "model.tflite")(canvases)
    for name, values in eager_outputs(serving.detect_traced, tmp_path, has_variables=True)(
        canvases
    ).items():
        np.testing.assert_allclose(found[name], values, atol=1e-3, err_msg=name)
