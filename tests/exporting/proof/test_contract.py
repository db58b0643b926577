"""A written file says what it has to: class names, and inputs and outputs with order and dtypes."""

import html
import json
import re
import shutil

import numpy as np
import pytest

from detflow.artifact import CONTRACT
from detflow.errors import ArtifactError
from detflow.exporting.proof.contract import FileFacts, read_facts, require_contract
from detflow.inference.formats import FORMATS, find_format
from detflow.inference.formats.onnx import Onnx
from detflow.inference.formats.openvino import has_openvino
from detflow.inference.tensors import Tensor, Tensors
from detflow.label_map import LabelMap, read_label_map

needs_openvino = pytest.mark.skipif(
    not has_openvino(), reason="OpenVINO, an extra, is not installed"
)
CLASSES = LabelMap(("cat", "dog"))
INSTALLED = [known for known in FORMATS if known.is_installed()]
IMAGE = (Tensor("image_tensor", "uint8"),)
BOXES, SCORES, IDS, COUNT = OUTPUTS = tuple(
    Tensor(name, tensor["dtype"]) for name, tensor in CONTRACT["outputs"].items()
)


class Nameless(Onnx):
    """A format whose files may be without class names."""

    holds_names = False


def judge(label_map=CLASSES, tensors=None, name="onnx"):
    """Returns the fault of a file that says this; None where there is none."""
    known = find_format(name)
    try:
        require_contract(known, known.entries[0], FileFacts(label_map, tensors), CLASSES)
    except ArtifactError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "name", ["frozen", "saved_model", "onnx", "openvino", "tflite", "tflite_int8"]
)
@pytest.mark.parametrize(
    ("found", "told"),
    [
        (LabelMap(("dog", "cat")), "id 1 is 'dog' instead of 'cat'"),
        (LabelMap(("cat", "dgo")), "id 2 is 'dgo' instead of 'dog'"),
        (LabelMap(("cat",)), "id 2 is no class instead of 'dog'"),
        (LabelMap(("cat", "dog", "owl")), "id 3 is 'owl' instead of no class"),
        (LabelMap(("cat", "dog"), (1, 3)), "id 2 is no class instead of 'dog'"),
        (None, "there are none inside"),
    ],
)
def test_other_names_fail(name, found, told):
    assert judge(found, name=name).endswith(f"class names are not the checkpoint's: {told}")


def test_the_same_names_pass_and_so_does_a_format_that_has_no_place_for_them():
    assert judge() is None
    entry = Nameless.entries[0]
    require_contract(Nameless(), entry, FileFacts(None, None), CLASSES)
    with pytest.raises(ArtifactError, match="'dog' instead of 'cat'"):
        require_contract(Nameless(), entry, FileFacts(LabelMap(("dog", "cat")), None), CLASSES)


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        (
            Tensors(IMAGE, (SCORES, BOXES, IDS, COUNT)),
            "its outputs are detection_scores float32, detection_boxes float32, ",
        ),
        (
            Tensors(IMAGE, (BOXES, SCORES, Tensor("detection_classes", "int64"), COUNT)),
            "detection_classes int64, num_detections float32; the contract has detection_boxes",
        ),
        (Tensors(IMAGE, (BOXES, SCORES, IDS)), "its outputs are "),
        (Tensors(IMAGE, (*OUTPUTS, Tensor("more", "float32"))), "more float32; the contract has"),
        (
            Tensors((Tensor("images", "uint8"),), OUTPUTS),
            "its inputs are images uint8; the contract has image_tensor uint8",
        ),
        (Tensors((Tensor("image_tensor", "float32"),), OUTPUTS), "image_tensor float32; "),
        (Tensors((), OUTPUTS), "its inputs are none; "),
        (Tensors((*IMAGE, *IMAGE), OUTPUTS), "image_tensor uint8, image_tensor uint8; "),
    ],
)
def test_other_tensors_fail(tensors, told):
    assert told in judge(tensors=tensors)
    assert judge(tensors=Tensors(IMAGE, OUTPUTS)) is None


def test_tflite_keeps_its_own_contract():
    told = judge(tensors=Tensors(IMAGE, OUTPUTS), name="tflite")
    assert "the contract has image (normalized_input_image_tensor) uint8" in told
    known = find_format("tflite")
    inputs, outputs = known.expected_tensors(known.entries[0])
    assert judge(tensors=Tensors(inputs, outputs), name="tflite") is None
    told = judge(tensors=Tensors(inputs, outputs[::-1]), name="tflite")
    assert told.startswith("model.tflite: its outputs are count (TFLite_Detection_PostProcess:3) ")


# --- Files of a real export, and the same files after somebody changed them -----------------------


@pytest.fixture(scope="module")
def classes(export_dir):
    return read_label_map(export_dir / "label_map.pbtxt")


@pytest.mark.tf
@pytest.mark.parametrize("known", INSTALLED, ids=lambda known: known.name)
def test_what_is_exported_says_what_it_has_to(known, export_dir, classes):
    for entry in known.entries:
        facts = read_facts(known, export_dir / entry.path, entry)
        # Weights declare no inputs and outputs.
        told = None if known.name == "keras_h5" else known.expected_tensors(entry)
        assert facts.tensors == told
        assert facts.label_map == classes
        require_contract(known, entry, facts, classes)


def reverse_frozen(path):
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    node = next(node for node in graph.node if node.name == "class_names")
    names = tf.make_ndarray(node.attr["value"].tensor)
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(names[::-1]))
    path.write_bytes(graph.SerializeToString())


def reverse_onnx(path):
    import onnx

    model = onnx.load(path)
    (entry,) = [entry for entry in model.metadata_props if entry.key == "class_names"]
    entry.value = json.dumps(json.loads(entry.value)[::-1])
    onnx.save(model, path)


def reverse_tflite(path):
    # The names stand in the archive at the end, uncompressed and with a sum of their own.
    from detflow.exporting.formats.tflite_file import pack_file
    from detflow.inference.labels import read_tflite_labels

    names = list(read_tflite_labels(path))[::-1]
    content = path.read_bytes()
    bare = content[: content.rindex(b"PK\x03\x04")]
    path.write_bytes(pack_file(bare, "labels.txt", "".join(f"{name}\n" for name in names)))


def reverse_openvino(path):
    text = path.read_text(encoding="utf-8")
    pattern = r'(<class_names value=")(.*?)(")'
    names = json.loads(html.unescape(re.search(pattern, text)[2]))
    turned = html.escape(json.dumps(names[::-1])).replace("\\", "\\\\")
    path.write_text(re.sub(pattern, rf"\g<1>{turned}\g<3>", text), encoding="utf-8")


def reverse_keras(path):
    import h5py

    with h5py.File(path, "r+") as file:
        told = json.loads(file["detflow"][()])
        told["class_names"].reverse()
        del file["detflow"]
        file["detflow"] = np.bytes_(json.dumps(told).encode())


def reverse_saved_model(path):
    inside = path / "assets" / "label_map.pbtxt"
    inside.write_text(LabelMap(tuple(read_label_map(inside))[::-1]).to_pbtxt(), encoding="utf-8")


@pytest.mark.tf
@pytest.mark.parametrize(
    ("name", "reverse"),
    [
        ("frozen", reverse_frozen),
        ("onnx", reverse_onnx),
        ("tflite", reverse_tflite),
        ("saved_model", reverse_saved_model),
        pytest.param("openvino", reverse_openvino, marks=needs_openvino),
        ("keras_h5", reverse_keras),
    ],
)
def test_reversed_names_are_caught_in_every_format(name, reverse, export_dir, classes, tmp_path):
    known = find_format(name)
    for part in known.paths:
        source = export_dir / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / part)
    for path in {entry.path for entry in known.entries}:
        reverse(tmp_path / path)
    for entry in known.entries:
        path = tmp_path / entry.path
        facts = read_facts(known, path, entry)
        # Weights declare no inputs and outputs.
        assert facts.tensors == (None if name == "keras_h5" else known.expected_tensors(entry))
        with pytest.raises(ArtifactError, match=r"id 1 is \"it's\" instead of 'disc'"):
            require_contract(known, entry, facts, classes)


@pytest.mark.tf
def test_another_order_or_dtype_of_a_file_s_outputs_is_read(export_dir, classes, tmp_path):
    import onnx

    known, path = find_format("onnx"), tmp_path / "model.onnx"
    model = onnx.load(export_dir / "model.onnx")
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend([outputs[1], outputs[0], *outputs[2:]])
    model.graph.output[3].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(model, path)
    facts = read_facts(known, path, known.entries[0])
    assert [tuple(tensor) for tensor in facts.tensors.outputs] == [
        ("detection_scores", "float32"),
        ("detection_boxes", "float32"),
        ("detection_classes", "float32"),
        ("num_detections", "int64"),
    ]
    with pytest.raises(ArtifactError, match="its outputs are detection_scores float32"):
        require_contract(known, known.entries[0], facts, classes)
