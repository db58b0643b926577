import json

import pytest

from detflow.data.records.manifest import read_manifest
from detflow.digests import seal
from detflow.evaluation.seen import find_warnings
from detflow.evaluation.splits import open_split


@pytest.fixture(scope="module")
def records(voc_writer, tmp_path_factory):
    return voc_writer(tmp_path_factory.mktemp("seen"), {"train": 3, "val": 2, "test": 3})


@pytest.fixture
def export_of(tmp_path, records, record_of):
    """A file of an export whose card says what the model was trained on."""

    def write(train_split="train", fingerprint=None):
        own = read_manifest(records).fingerprint
        training = record_of(f"data.train_split={train_split}", fingerprint=fingerprint or own)
        card = seal({"files": {}, "training": training.to_json()})
        (tmp_path / "model.json").write_text(json.dumps(card))
        return tmp_path / "model.onnx"

    return write


@pytest.fixture
def twins(monkeypatch):
    counted = []

    def count(path, judged, learnt):
        counted.append((set(judged), set(learnt)))
        return 2

    monkeypatch.setattr("detflow.evaluation.seen.count_twins", count)
    return counted


def test_images_that_were_trained_on_are_called_that(records, export_of):
    (warning,) = find_warnings(export_of("train+val"), open_split(records, "val"))
    assert warning == (
        "The model was trained on these images (val): this says nothing of new ones."
    )


def test_near_duplicates_of_what_was_trained_on_flatter(records, export_of, twins):
    (warning,) = find_warnings(export_of("train+val"), open_split(records, "test"))
    assert warning == (
        "2 images of test are nearly the same as one of train, val: the numbers flatter a model "
        "that was trained on it."
    )
    assert twins == [({"test"}, {"train", "val"})]


def test_of_other_records_or_another_model_the_names_of_splits_tell(
    records, export_of, twins, tmp_path
):
    find_warnings(export_of("test", "0" * 64), open_split(records, "test"))
    (tmp_path / "model.json").write_text("{}")
    find_warnings(tmp_path / "model.onnx", open_split(records, "test"))
    assert twins == [({"test"}, {"train"})] * 2


def test_nothing_is_said_of_images_that_are_new(records, export_of):
    assert find_warnings(export_of(), open_split(records, "test")) == ()
