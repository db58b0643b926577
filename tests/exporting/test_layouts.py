"""Folders for model servers: what is in them, and what the servers' own schema says of it."""

import json
import os
import re
from pathlib import Path

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from detflow.artifact import CONTRACT, ArtifactDir
from detflow.errors import ConfigError
from detflow.exporting import layouts
from detflow.exporting.layouts import (
    LAYOUTS,
    Served,
    choose_layouts,
    format_triton_config,
    link,
    to_model_name,
    write_layouts,
)
from detflow.inference.formats import find_format
from detflow.label_map import LabelMap

DOCS = Path(__file__).resolve().parents[2] / "docs" / "export.md"
SERVED = Served("pets", 600, LabelMap(("cat", 'say "Ö"', "a\\b")), 100)
FIELD = descriptor_pb2.FieldDescriptorProto
TYPES = ("INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32",
         "INT64", "FP16", "FP32", "FP64", "STRING", "BF16")  # fmt: skip


def build_model_config():
    """The parts of Triton's `model_config.proto` that a config of ours can have.

    Names, numbers and types are those of github.com/triton-inference-server/common.
    """
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", syntax="proto3")
    file.package = "inference"
    enum = file.enum_type.add(name="DataType")
    for number, name in enumerate(TYPES):
        enum.value.add(name=f"TYPE_{name}", number=number)

    def add(message, name, number, kind, *, many=False):
        field = message.field.add(name=name, number=number)
        field.label = FIELD.LABEL_REPEATED if many else FIELD.LABEL_OPTIONAL
        if isinstance(kind, str):
            field.type = FIELD.TYPE_ENUM if kind == "DataType" else FIELD.TYPE_MESSAGE
            field.type_name = f".inference.{kind}"
        else:
            field.type = kind

    for name, dims in (("ModelInput", 4), ("ModelOutput", 3)):
        message = file.message_type.add(name=name)
        add(message, "name", 1, FIELD.TYPE_STRING)
        add(message, "data_type", 2, "DataType")
        add(message, "dims", dims, FIELD.TYPE_INT64, many=True)
    policy = file.message_type.add(name="ModelVersionPolicy")
    add(policy.nested_type.add(name="Latest"), "num_versions", 1, FIELD.TYPE_UINT32)
    add(policy, "latest", 1, "ModelVersionPolicy.Latest")
    add(file.message_type.add(name="ModelParameter"), "string_value", 1, FIELD.TYPE_STRING)
    config = file.message_type.add(name="ModelConfig")
    add(config, "name", 1, FIELD.TYPE_STRING)
    add(config, "platform", 2, FIELD.TYPE_STRING)
    add(config, "version_policy", 3, "ModelVersionPolicy")
    add(config, "max_batch_size", 4, FIELD.TYPE_INT32)
    add(config, "input", 5, "ModelInput", many=True)
    add(config, "output", 6, "ModelOutput", many=True)
    entry = config.nested_type.add(name="ParametersEntry")
    entry.options.map_entry = True
    add(entry, "key", 1, FIELD.TYPE_STRING)
    add(entry, "value", 2, "ModelParameter")
    add(config, "parameters", 14, "ModelConfig.ParametersEntry", many=True)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


def read_config(text):
    return text_format.Parse(text, build_model_config()())


def test_triton_s_schema_takes_the_configuration():
    config = read_config(format_triton_config("pets_onnx", "onnxruntime_onnx", SERVED))
    assert (config.name, config.platform, config.max_batch_size) == (
        "pets_onnx",
        "onnxruntime_onnx",
        0,
    )
    (image,) = config.input
    assert (image.name, TYPES[image.data_type], list(image.dims)) == (
        "image_tensor",
        "UINT8",
        [-1, -1, -1, 3],
    )
    assert [(out.name, TYPES[out.data_type], list(out.dims)) for out in config.output] == [
        ("detection_boxes", "FP32", [-1, 100, 4]),
        ("detection_scores", "FP32", [-1, 100]),
        ("detection_classes", "FP32", [-1, 100]),
        ("num_detections", "FP32", [-1]),
    ]
    assert config.version_policy.latest.num_versions == 1
    names = json.loads(config.parameters["class_names"].string_value)
    assert names == list(SERVED.label_map)


def test_the_schema_would_notice_a_slip():
    text = format_triton_config("pets", "onnxruntime_onnx", SERVED)
    for wrong in (text.replace("dims", "shape", 1), text.replace("TYPE_FP32", "TYPE_FLOAT", 1)):
        with pytest.raises(text_format.ParseError):
            read_config(wrong)


@pytest.fixture
def artifact(tmp_path):
    (tmp_path / "saved_model" / "variables").mkdir(parents=True)
    for name in ("model.onnx", "saved_model/saved_model.pb", "saved_model/variables/v.index"):
        (tmp_path / name).write_text(name)
    return ArtifactDir(tmp_path)


TRITON = {
    "triton/pets_onnx/600/model.onnx": "model.onnx",
    "triton/pets_saved_model/600/model.savedmodel/saved_model.pb": "saved_model/saved_model.pb",
    "triton/pets_saved_model/600/model.savedmodel/variables/v.index": (
        "saved_model/variables/v.index"
    ),
}
TFSERVING = {
    "tfserving/pets/600/saved_model.pb": "saved_model/saved_model.pb",
    "tfserving/pets/600/variables/v.index": "saved_model/variables/v.index",
}


@pytest.mark.parametrize("links", [True, False], ids=["links", "copies"])
def test_each_server_finds_its_files(artifact, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: os.stat("/nowhere"))
    found = write_layouts(artifact, LAYOUTS, SERVED, ["frozen", "onnx", "saved_model"])
    assert found == {"triton": ["pets_onnx", "pets_saved_model"], "tfserving": ["pets"]}
    files = {
        path.relative_to(artifact.path).as_posix()
        for layout in ("triton", "tfserving")
        for path in (artifact.path / layout).rglob("*")
        if path.is_file()
    }
    configs = {f"triton/{name}/config.pbtxt" for name in found["triton"]}
    assert files == {*TRITON, *TFSERVING, *configs}
    for name, source in (TRITON | TFSERVING).items():
        assert (artifact.path / name).read_text() == source
        assert os.path.samefile(artifact.path / name, artifact.path / source) is links
    for name in configs:
        assert read_config((artifact.path / name).read_text()).name == name.split("/")[1]


def test_a_layout_holds_what_was_published_alone(artifact):
    assert write_layouts(artifact, LAYOUTS, SERVED, ["onnx"]) == {"triton": ["pets_onnx"]}
    assert not (artifact.path / "tfserving").exists()
    assert not (artifact.path / "triton" / "pets_saved_model").exists()


def choose(*names, formats=("saved_model", "onnx")):
    return [layout.name for layout in choose_layouts(names, [find_format(f) for f in formats])]


def test_layouts_are_chosen_by_name():
    assert choose("tfserving", "triton") == ["triton", "tfserving"]
    assert choose() == []
    with pytest.raises(ConfigError, match=r"--layout triten: .*choose from triton, tfserving"):
        choose("triten")
    with pytest.raises(
        ConfigError, match=r"its server runs saved_model, .*add saved_model to --fo"
    ):
        choose("tfserving", formats=["onnx"])
    with pytest.raises(ConfigError, match="its server runs onnx or saved_model"):
        choose("triton", formats=["tflite"])


def test_names_are_such_as_addresses_take():
    assert to_model_name("pets 2026/11") == "pets_2026_11"
    assert to_model_name("Ö") == "detector"
    assert to_model_name("pets-1.0") == "pets-1.0"


def test_a_link_that_stands_already_is_a_fault(artifact):
    link(artifact.path / "model.onnx", artifact.path / "triton" / "a")
    with pytest.raises(OSError, match="exist"):
        link(artifact.path / "saved_model", artifact.path / "triton")


def test_the_compose_file_of_the_docs_mounts_what_is_written():
    (text,) = re.findall(r"```yaml\n(services:.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    (service,) = yaml.safe_load(text)["services"].values()
    (volume,) = service["volumes"]
    source, target, mode = volume.split(":")
    name = service["environment"]["MODEL_NAME"]
    assert source == f"./exports/pets/{layouts.TfServing.name}/{name}"
    assert target == f"/models/{name}"
    assert mode == "ro"


# --- Real files -----------------------------------------------------------------------------------


@pytest.mark.tf
def test_the_shapes_are_those_of_the_real_files(export_dir):
    import onnx
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    card = ArtifactDir(export_dir).verify()
    served = Served(
        "run", 10, LabelMap(tuple(card["classes"])), card["thresholds"]["max_detections"]
    )
    config = read_config(format_triton_config("run", "onnxruntime_onnx", served))
    told = {part.name: list(part.dims) for part in (*config.input, *config.output)}
    graph = onnx.load(export_dir / "model.onnx").graph
    found = {
        value.name: [side.dim_value or -1 for side in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert found == told
    content = (export_dir / "saved_model" / "saved_model.pb").read_bytes()
    saved = SavedModel.FromString(content)
    signature = saved.meta_graphs[0].signature_def["serving_default"]
    shapes = {
        name: [side.size for side in tensor.tensor_shape.dim]
        for part in (signature.inputs, signature.outputs)
        for name, tensor in part.items()
    }
    assert set(shapes) == set(told) == {"image_tensor", *CONTRACT["outputs"]}
    for name, sides in shapes.items():
        # What the graph does not know is open there; what it knows is what the config says.
        assert len(sides) == len(told[name])
        assert all(one in (-1, other) for one, other in zip(sides, told[name], strict=True))
