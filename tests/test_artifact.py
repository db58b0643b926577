"""What an export says of itself, with files that no runtime has to understand."""

import json

import pytest

from detflow.artifact import ArtifactDir
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
