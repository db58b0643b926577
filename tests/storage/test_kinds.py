import pytest

from detflow import artifact
from detflow.data.records import manifest
from detflow.evaluation.run import MARKER_NAME
from detflow.runs.run_dir import STATE_NAME, RunDir
from detflow.storage.kinds import _MARKERS, describe_mistake, find_kind


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(name, *files):
        for file in files:
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).touch()
        return type(tmp_path)(name)

    return make


def test_the_marks_are_those_of_the_rooms_that_write_them(tmp_path):
    marks = dict(_MARKERS)
    assert marks["records"] == manifest.MANIFEST_NAME
    assert marks["run"] == RunDir(tmp_path).record_path.name
    assert marks["checkpoint"] == STATE_NAME
    assert marks["export"] == artifact.MANIFEST_NAME
    assert marks["evaluation"] == MARKER_NAME


@pytest.mark.parametrize(
    ("files", "wanted", "cause", "remedy"),
    [
        (
            ["Annotations/a.xml"],
            "records",
            "this looks like a dataset, not records",
            "detflow make-records pets --output records/pets",
        ),
        (
            ["run.json", "ckpt-8/state.json"],
            "export",
            "this is a model directory, not an exported folder",
            "detflow export --ckpt pets --output exports/pets",
        ),
        (
            ["manifest.json"],
            "configuration",
            "these are records, not a configuration file",
            "detflow init pets --output pets.yaml",
        ),
        (
            ["a.jpg"],
            "configuration",
            "this looks like a dataset, not a configuration file",
            "detflow init pets --output pets.yaml",
        ),
        (
            ["run.json"],
            "configuration",
            "this is a model directory, not a configuration file",
            "name the file that it was started with, and --model-dir pets",
        ),
        (
            ["model.json"],
            "run",
            "this is an exported folder, not a model directory or checkpoint",
            "name the model directory that it was made of",
        ),
        (
            ["predictions.json"],
            "model",
            "these are predictions, not a model directory, checkpoint or exported folder",
            "name a model directory, checkpoint or exported folder",
        ),
        (
            ["something.else"],
            "records",
            "there is nothing of detflow in it, not records",
            "name records",
        ),
    ],
)
def test_the_wrong_kind_of_folder_is_told_with_the_right_command(
    folder, files, wanted, cause, remedy
):
    assert describe_mistake(folder("pets", *files), wanted) == (cause, remedy)


def test_what_is_not_there_and_what_is_a_file(folder, tmp_path):
    folder("a", "file")
    assert describe_mistake(tmp_path / "none", "records") == ("no such file or folder", None)
    assert describe_mistake(tmp_path / "a/file", "export")[0] == (
        "this is a file, not an exported folder"
    )
    assert find_kind(tmp_path / "a" / "file") == ""
