"""The backbones that weights fit, trained for a minute on photos and exported as everything."""

import pytest

from detflow.config.reading import parse_config
from detflow.data.making import RecordOptions, publish_records
from detflow.exporting.run import export_model
from detflow.runs.run_dir import RunDir
from detflow.training.preflight import prepare_start
from detflow.training.recipe import train

pytestmark = [
    pytest.mark.tf,
    pytest.mark.slow,
    pytest.mark.soak,
    pytest.mark.whole_network,
]


@pytest.fixture(scope="module")
def raccoons(shared_data, tmp_path_factory):
    records = tmp_path_factory.mktemp("raccoon") / "records"
    publish_records(shared_data / "raccoon", records, RecordOptions(jobs=1, report=False))
    return records


@pytest.mark.parametrize("preset", ["retinanet_lite0", "retinanet_mobilenet_v2_light"])
def test_every_format_passes_its_gate_after_a_short_training(
    preset, raccoons, open_images_file, tmp_path
):
    sources = {
        "retinanet_lite0": "efficientnet-lite0-imagenet",
        "retinanet_mobilenet_v2_light": open_images_file,
    }
    settings = {
        "data.records": raccoons,
        "model.preset": preset,
        "model.input_size": "[192, 256]",
        "train.init_from": sources[preset],
        "train.freeze": "['backbone.level[12]']",
        "train.steps": 150,
        "augment.mosaic": 0.5,
        "evaluate.every_steps": 150,
        "checkpoint.every_steps": 150,
    }
    config = parse_config("", [f"{name}={value}" for name, value in settings.items()])
    model_dir = tmp_path / "run"
    with RunDir(model_dir).locked() as run:
        result = train(run, prepare_start(config, run))
    assert result.state.metrics["AP50"] > 0.6
    card = export_model(str(model_dir), tmp_path / "export", formats="all")
    assert card["failed"] == {}
    int8 = card["formats"]["tflite_int8"]
    assert int8["change"]["AP"] > -0.02
    assert "licence" in card["training"]["initial_weights"]["terms"]
