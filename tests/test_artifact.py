"""What an export says of itself, with files that no runtime has to understand."""

import json

import pytest

from detflow.artifact import ArtifactDir, read_canvas_sizes
from detflow.digests import digest_files, seal
from detflow.errors import ArtifactError


@pytest.fixture
def export(tmp_path):
    folder = tmp_path / "export"
    (folder / "saved_model" / "variables").mkdir(parents=True)
    for name in ("model.onnx", "saved_model/saved_model.pb", "label_map.pbtxt"):
        (folder / name).write_text(name)
    card = {"classes": ["cat"], "thresholds": {"nms_iou": 0.5}, "files": digest_files(folder)}
    (folder / "model.json").write_text(json.dumps(seal(card), indent=2))
    return ArtifactDir(folder)


def test_every_flipped_bit_of_the_manifest_is_noticed_or_changes_nothing(export, flip_bits):
    expected = export.verify()
    for read in flip_bits(export.manifest_path, export.verify):
        assert read == expected


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ["dog"]},
        {"thresholds": {"nms_iou": 0.9}},
        {"thresholds": {}},
        {"more": 1},
        {"digest": "0" * 64},
        {"files": {}},
    ],
)
def test_no_edit_of_the_manifest_is_believed(export, change):
    content = json.loads(export.manifest_path.read_text())
    export.manifest_path.write_text(json.dumps(content | change))
    with pytest.raises(ArtifactError, match=r"model\.json: its content is not what was written"):
        export.verify()


@pytest.mark.parametrize(
    "entries",
    [
        {"classes": "cat"},
        {"classes": [1]},
        {"canvas_size": [192, 256]},
        {"canvas_size": {"height": 0, "width": 9}},
        {"canvas_size": {"height": 1e9, "width": 9}},
        {"canvas_size": {"height": 10**9, "width": 9}},
        {"more_canvas_sizes": {}},
        {"more_canvas_sizes": [{"height": True, "width": 9}]},
        {"formats": []},
        {"formats": {"onnx": None}},
        {"formats": {"onnx": {"entries": [], "metrics": None}}},
        {"formats": {"onnx": {"entries": {}, "metrics": {"AP50": 1}}}},
    ],
)
def test_whoever_sealed_it_what_is_read_has_its_form(export, entries):
    content = json.loads(export.manifest_path.read_text())
    export.manifest_path.write_text(json.dumps(seal(content | entries)))
    (name,) = entries
    with pytest.raises(ArtifactError, match=rf"model\.json: {name} is not what an export has"):
        export.read_card()


@pytest.mark.parametrize("size", [float("inf"), float("nan"), "x", None])
def test_a_size_that_is_no_number_lists_no_file(export, size):
    content = json.loads(export.manifest_path.read_text())
    content["files"]["model.onnx"]["bytes"] = size
    export.manifest_path.write_text(json.dumps(seal(content)))
    with pytest.raises(ArtifactError, match="lists no files"):
        export.verify()


def test_a_missing_entry_is_named(export):
    card = export.verify()
    with pytest.raises(ArtifactError, match="there is no canvas_size in it"):
        export.require_entries(card, "classes", "canvas_size")
    with pytest.raises(ArtifactError, match="there is no 'canvas_size' in it"):
        read_canvas_sizes(card)


def test_a_file_that_is_not_listed_lies_there_and_is_no_part(export):
    (export.path / "model.tflite").write_text("planted")
    card = export.verify()
    assert export.lists(card, "model.onnx")
    assert export.lists(card, "saved_model")
    assert not export.lists(card, "model.tflite")
    assert not export.lists(card, "saved")
    export.verify_part(export.path / "model.onnx")
    export.verify_part(export.path / "saved_model")
    with pytest.raises(ArtifactError, match=r"model\.tflite: model\.json .* does not list it"):
        export.verify_part(export.path / "model.tflite")


@pytest.mark.parametrize("kind", ["file", "link", "linked folder"])
def test_a_file_that_is_not_listed_in_a_listed_folder_is_refused(export, kind, tmp_path):
    planted = export.path / "saved_model" / "variables" / "variables.index"
    if kind == "file":
        planted.write_text("planted")
    else:
        outside = tmp_path / "outside"
        outside.mkdir() if kind == "linked folder" else outside.write_text("planted")
        planted.symlink_to(outside)
    for verify in (export.verify, lambda: export.verify_part(export.path / "saved_model")):
        with pytest.raises(ArtifactError, match=r"variables\.index: model\.json does not list"):
            verify()


@pytest.mark.parametrize("name", ["model.onnx", "label_map.pbtxt"])
def test_a_part_is_compared_together_with_the_label_map(export, name):
    (export.path / name).write_text("changed!")
    with pytest.raises(ArtifactError, match=name):
        export.verify_part(export.path / "model.onnx")
