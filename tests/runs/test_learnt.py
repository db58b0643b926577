"""Which pictures a run has learnt: those of before an accepted change, and of earlier runs too."""

import json

import pytest

from detflow.errors import ArtifactError
from detflow.runs.learnt import (
    find_earlier_splits,
    find_learnt_splits,
    find_other_records,
    list_lessons,
)
from detflow.runs.record import RunRecord

OWN, OTHER = "0" * 64, "1" * 64
UNIONS = {"trainval": ("train", "val")}
WEIGHTS = {"source": "there", "files": {}}


def resolve(name):
    return UNIONS.get(name, (name,))


def test_a_run_learns_its_training_split(record_of):
    record = record_of("data.train_split=trainval")
    assert list_lessons(record) == [(OWN, "trainval")]
    assert find_learnt_splits(record, resolve) == {"train", "val"}
    assert find_other_records(record) == []


def test_what_was_learnt_before_accepted_changes_stays_learnt(record_of):
    changes = (
        {"step": 0, "changes": ["another split"], "learnt": [OTHER, "test"]},
        {"step": 8, "changes": ["another split", "a rate"], "learnt": [OTHER, "trainval"]},
        {"step": 9, "changes": ["other records"], "learnt": [OTHER, "val"]},
        {"step": 12, "changes": ["another split"], "learnt": [OWN, "val"]},
    )
    record = record_of(accepted_changes=changes)
    # The test split was given up before the first step.
    assert list_lessons(record) == [
        (OWN, "train"),
        (OWN, "val"),
        (OTHER, "val"),
        (OTHER, "trainval"),
    ]
    assert find_learnt_splits(record, resolve) == {"train", "val"}
    assert find_learnt_splits(record, resolve, OTHER) == {"val", "train"}
    assert find_learnt_splits(record, resolve, "f" * 64) == set()
    assert find_earlier_splits(record) == ["val"]
    assert find_other_records(record) == [OTHER]


def test_what_the_initial_weights_have_learnt_is_learnt(record_of):
    first = {"records": OWN, "learnt": [[OWN, "test"]], "begun_with": {}}
    second = {"records": OTHER, "learnt": [[OTHER, "train"]], "begun_with": first}
    record = record_of(initial_weights=WEIGHTS | {"terms": second})
    assert find_learnt_splits(record, resolve) == {"train", "test"}
    assert find_other_records(record) == [OTHER]
    alone = record_of(initial_weights=WEIGHTS | {"terms": {}})
    assert find_learnt_splits(alone, resolve) == {"train"}


def deep(number):
    terms = {}
    for _ in range(number):
        terms = {"records": OWN, "learnt": [], "begun_with": terms}
    return terms


@pytest.mark.parametrize(
    "initial",
    [
        None,
        WEIGHTS | {"terms": {}},
        WEIGHTS | {"terms": {"name": "a", "data": "b", "licence": "c"}},
        WEIGHTS | {"terms": {"records": OWN, "learnt": [[OWN, "a"]], "begun_with": None}},
        WEIGHTS | {"terms": deep(5000)},
    ],
)
def test_a_record_says_where_its_weights_came_from(record_of, initial, tmp_path):
    content = record_of().to_json() | {"initial_weights": initial}
    assert RunRecord.from_json(content, tmp_path).initial_weights == initial


@pytest.mark.parametrize(
    "initial",
    [
        [],
        "there",
        {"source": "there", "files": {}},
        {"source": 1, "files": {}, "terms": {}},
        {"source": "there", "files": [], "terms": {}},
        WEIGHTS | {"terms": None},
        WEIGHTS | {"terms": {"name": "a"}},
        WEIGHTS | {"terms": {"name": "a", "data": "b", "licence": 3}},
        WEIGHTS | {"terms": {"records": OWN, "learnt": []}},
        WEIGHTS | {"terms": {"records": OWN, "begun_with": None}},
        WEIGHTS | {"terms": {"records": OWN, "learnt": ["ab"], "begun_with": None}},
        WEIGHTS | {"terms": {"records": 7, "learnt": [], "begun_with": None}},
        WEIGHTS | {"terms": {"records": OWN, "learnt": [], "begun_with": {"name": "a"}}},
    ],
)
def test_initial_weights_of_another_form_are_refused_in_one_line(record_of, initial, tmp_path):
    content = record_of().to_json() | {"initial_weights": initial}
    with pytest.raises(ArtifactError, match="initial_weights are not what a run has there"):
        RunRecord.from_json(content, tmp_path)


@pytest.mark.parametrize(
    "accepted",
    [
        [3],
        [{}],
        [{"step": 1, "changes": []}],
        [{"step": "1", "changes": [], "learnt": ["", ""]}],
        [{"step": 1, "changes": "abc", "learnt": ["", ""]}],
        [{"step": 1, "changes": [], "learnt": "ab"}],
        [{"step": 1, "changes": [], "learnt": ["a"]}],
    ],
)
def test_accepted_changes_of_another_form_are_refused(record_of, accepted, tmp_path):
    content = record_of().to_json() | {"accepted_changes": accepted}
    with pytest.raises(ArtifactError, match="not the record of a run"):
        RunRecord.from_json(json.loads(json.dumps(content)), tmp_path)
