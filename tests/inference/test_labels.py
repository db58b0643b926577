import io
import json
import zipfile

import pytest

from detflow.errors import ArtifactError
from detflow.inference import labels
from detflow.inference.formats.onnx import Onnx
from detflow.inference.labels import read_onnx_labels, read_tflite_labels
from detflow.label_map import LabelMap


def write_onnx(path, **properties):
    from onnx import helper

    model = helper.make_model(helper.make_graph([], "nothing", [], []))
    helper.set_model_props(model, properties)
    path.write_bytes(model.SerializeToString())
    return path


def write_tflite(path, content):
    """A model is an archive by its end."""
    file = io.BytesIO(b"a model")
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("labels.txt", content)
    path.write_bytes(file.getvalue())
    return path


def test_names_of_any_kind_are_read(tmp_path):
    names = ("disc", "Ringe & Ösen", "it's", "line\u2028separator")
    onnx_path = write_onnx(tmp_path / "model.onnx", class_names=json.dumps(names))
    tflite_path = write_tflite(tmp_path / "model.tflite", "".join(f"{name}\n" for name in names))
    assert read_onnx_labels(onnx_path) == read_tflite_labels(tflite_path) == LabelMap(names)


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"class_names": "disc"}, "no JSON list of names"),
        ({"class_names": "[1, 2]"}, "no JSON list of names"),
        ({"class_names": "[" * 100_000}, "no JSON list of names"),
        ({"class_names": json.dumps(["a", "b"] * 49_000)}, "appear twice: a, b"),
        ({"class_names": '["a", "a"]'}, "class names are damaged: class names appear twice: a"),
    ],
)
def test_an_onnx_file_s_names_are_judged(properties, message, tmp_path):
    with pytest.raises(ArtifactError, match=message):
        read_onnx_labels(write_onnx(tmp_path / "model.onnx", **properties))


def encode_property(name, value):
    entry = b"".join(
        bytes([number << 3 | 2, len(part)]) + part for number, part in ((1, name), (2, value))
    )
    return bytes([14 << 3 | 2, len(entry)]) + entry


NAMES = encode_property(b"class_names", b'["disc"]')
# A graph of 300 bytes in front, and a number.
GRAPH = b"\x3a\xac\x02" + bytes(300) + b"\x08\x08"


def test_the_graph_is_passed_over(tmp_path):
    path = tmp_path / "model.onnx"
    other = encode_property(b"contract", b"{}")
    path.write_bytes(GRAPH + other + NAMES)
    assert read_onnx_labels(path) == LabelMap(("disc",))
    with path.open("wb") as file:
        # Weights of a terabyte, as the message says, which are not there.
        file.write(NAMES + b"\x3a\x80\x80\x80\x80\x80\x20")
    with pytest.raises(ArtifactError, match="not an ONNX model: it is cut off"):
        read_onnx_labels(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GRAPH + NAMES * 2, "class_names stands in it twice"),
        (GRAPH + NAMES[:-1], "cut off"),
        (NAMES + b"\x3a", "cut off"),
        (b"\xff" * 30, "cut off"),
        (b"\x0b", "unknown kind 3"),
        (NAMES + b"\x08\x01" * 200, "more than 200 fields"),
        (b"\x72\x80\x80\x80\x10" + bytes(32 << 20), "more than 4,194,304 bytes"),
        (encode_property(b"class_names", b'["\xff"]'), "no JSON list of names"),
        (encode_property(b"class_names", b""), "no JSON list of names"),
    ],
)
def test_a_hostile_onnx_file_is_refused(content, message, tmp_path, monkeypatch):
    monkeypatch.setattr(labels, "MAX_WALKED_FIELDS", 200)
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        read_onnx_labels(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "class names are damaged: a class name is empty"),
        (b"a\na\n", "appear twice"),
        (bytes(5 << 20), "more than 4,194,304 bytes"),
        (b"a\nb\n" * 60_000, "more than 100,000 class names"),
    ],
)
def test_a_tflite_file_s_names_are_judged(content, message, tmp_path):
    with pytest.raises(ArtifactError, match=message):
        read_tflite_labels(write_tflite(tmp_path / "model.tflite", content))


@pytest.mark.parametrize("properties", [{}, {"class_names": "[]"}])
def test_an_onnx_file_may_hold_no_names(properties, tmp_path):
    assert read_onnx_labels(write_onnx(tmp_path / "model.onnx", **properties)) is None


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_archive_has_no_names(content, tmp_path):
    path = tmp_path / "model"
    path.write_bytes(content)
    assert read_tflite_labels(path) is None
    assert read_tflite_labels(write_tflite(path, b"\xff\n")) is None


@pytest.mark.parametrize("folder", ["", "inner"])
def test_names_inside_win_over_a_label_map_that_lies_there(folder, tmp_path, caplog):
    """It may be that of another model: four classes became person, car, dog and cat."""
    (tmp_path / folder).mkdir(exist_ok=True)
    path = write_onnx(tmp_path / folder / "model.onnx", class_names='["a", "b"]')
    beside = tmp_path / "label_map.pbtxt"
    beside.write_text(LabelMap(("person", "car")).to_pbtxt())
    assert Onnx().read_labels(path) == LabelMap(("a", "b"))
    assert (
        f"{beside} has other classes than model.onnx holds: 'person', 'car' instead of 'a', 'b'"
        in caplog.text
    )
    caplog.clear()
    beside.write_text(LabelMap(("a", "b")).to_pbtxt())
    assert Onnx().read_labels(path) == LabelMap(("a", "b"))
    assert caplog.text == ""
    assert Onnx().read_labels(write_onnx(path)) == LabelMap(("a", "b"))
    beside.unlink()
    with pytest.raises(ArtifactError, match="there are no class names inside"):
        Onnx().read_labels(path)
