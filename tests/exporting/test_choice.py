"""Which formats are written, and that every format has its two sides."""

import pytest

from detflow.cli.model import export
from detflow.errors import ConfigError, EnvironmentFault
from detflow.exporting.choice import DEFAULT_FORMATS, WRITTEN, choose_formats, parse_formats
from detflow.inference.formats import FORMATS, openvino


def names(formats):
    return [known.name for known in formats]


@pytest.fixture(params=[True, False], ids=["OpenVINO is there", "OpenVINO is missing"])
def has_openvino(request, monkeypatch):
    monkeypatch.setattr(openvino, "has_openvino", lambda: request.param)
    return request.param


def test_the_default_is_what_tensorflow_runs():
    assert DEFAULT_FORMATS == "frozen,saved_model"


def test_the_help_names_every_format():
    [option] = [one for one in export.params if one.name == "formats"]
    assert set(names(WRITTEN)) == set(option.help.rpartition(": ")[2].rstrip(".").split(", "))


def test_no_two_formats_share_a_name_or_a_file():
    assert len({known.name for known in FORMATS}) == len(FORMATS)
    paths = [path for known in FORMATS for path in known.paths]
    assert len(set(paths)) == len(paths)


@pytest.mark.tf
def test_every_format_has_a_writer():
    from detflow.exporting.formats.base import find_writer

    assert [find_writer(known).format for known in FORMATS] == list(FORMATS)


def test_names_are_put_into_the_order_of_writing():
    assert names(parse_formats(" tflite, frozen")) == ["frozen", "tflite"]


def test_all_leaves_out_what_is_not_installed(has_openvino):
    everything = set(names(WRITTEN))
    assert set(names(parse_formats("all"))) == everything - (
        set() if has_openvino else {"openvino"}
    )


def test_a_format_that_does_not_exist_is_refused():
    message = r"there is no format 'tflight'; choose from frozen, saved_model, onnx, .*, or all"
    with pytest.raises(ConfigError, match=message):
        parse_formats("frozen,tflight")


def test_a_format_that_is_not_installed_is_refused_with_a_remedy(monkeypatch):
    monkeypatch.setattr(openvino, "has_openvino", lambda: False)
    with pytest.raises(
        EnvironmentFault, match=r"OpenVINO is not installed.*pip install '\.\[openvino\]'"
    ):
        parse_formats("frozen,openvino")


def test_a_network_of_two_stages_is_refused_as_tflite():
    message = "faster_rcnn cannot become tflite, tflite_int8, .*leave out tflite, tflite_int8"
    with pytest.raises(ConfigError, match=message) as caught:
        choose_formats("frozen,tflite,tflite_int8", "faster_rcnn")
    assert caught.value.exit_code == 2


def test_all_leaves_out_what_the_architecture_cannot_become():
    assert choose_formats("all", "yolo") == choose_formats("all", "retinanet")
    left_out = set(choose_formats("all", "yolo")) - set(choose_formats("all", "faster_rcnn"))
    assert left_out == {known for known in FORMATS if known.needs_one_stage}
    assert "tflite_int8" in names(left_out)
