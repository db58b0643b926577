"""Which pictures a card's AP may be of, and what it says of those that were trained on."""

from types import SimpleNamespace

import pytest

from detflow.data.records.manifest import read_manifest
from detflow.exporting.training_data import (
    choose_judged_split,
    describe_choice,
    describe_training_data,
)


def manifest(**objects):
    """Splits with so many objects."""
    splits = {name: SimpleNamespace(objects=number) for name, number in objects.items()}
    return SimpleNamespace(splits=splits, unions={"trainval": ("train", "val")})


def settings(train, evaluated, *more):
    return (f"data.train_split={train}", f"data.eval_split={evaluated or 'null'}", *more)


@pytest.mark.parametrize(
    ("splits", "train", "evaluated", "chosen"),
    [
        ({"train": 9, "val": 3, "test": 3}, "train", "val", ("test", "test")),
        ({"train": 9, "val": 3, "testing": 3}, "train", "val", ("testing", "test")),
        ({"train": 9, "test": 3}, "train", None, ("test", "test")),
        ({"train": 9, "val": 3}, "train", "val", ("val", "validation")),
        # A test split without objects measures nothing.
        ({"train": 9, "val": 3, "test": 0}, "train", "val", ("val", "validation")),
        # What chose the checkpoint is no test, whatever it is called.
        ({"train": 9, "test": 3}, "train", "test", ("test", "validation")),
        ({"train": 9, "val": 3, "test": 3}, "train", "val+test", ("val+test", "validation")),
        # Pictures that were trained on are neither.
        ({"train": 9}, "train", None, None),
        ({"train": 9}, "train", "train", None),
        ({"train": 9, "val": 3}, "trainval", "val", None),
        ({"train": 9, "val": 3}, "train", "trainval", ("val", "validation")),
        ({"train": 9, "test": 3}, "train+test", None, None),
        # A split without a part in the training is a test, whatever it is called.
        ({"train": 9, "val": 3}, "train", None, ("val", "test")),
        ({"train": 9, "holdout": 3}, "train", "train", ("holdout", "test")),
        ({"train": 9, "val": 3, "holdout": 3}, "train", "val", ("holdout", "test")),
        ({"train": 9, "holdout": 3, "test": 3}, "train", None, ("test", "test")),
        ({"train": 9, "holdout": 0}, "train", "train", None),
    ],
)
def test_the_ap_is_of_pictures_that_were_not_trained_on_or_there_is_none(
    record_of, splits, train, evaluated, chosen
):
    record = record_of(*settings(train, evaluated))
    assert choose_judged_split(manifest(**splits), record) == chosen


def test_pictures_that_an_earlier_run_learnt_are_not_judged_on(record_of):
    terms = {"records": "0" * 64, "learnt": [["0" * 64, "test"]], "begun_with": None}
    record = record_of(initial_weights={"source": "a", "files": {}, "terms": terms})
    splits = manifest(train=9, val=3, test=3)
    assert choose_judged_split(splits, record) == ("val", "validation")


@pytest.fixture(scope="module")
def records(voc_writer, tmp_path_factory):
    return voc_writer(tmp_path_factory.mktemp("learnt"), {"train": 5, "val": 2, "test": 2})


@pytest.fixture
def judged(record_of):
    def build(*settings):
        return SimpleNamespace(
            record=record_of(*settings), metrics={"AP": 0.9}, metric="AP", step=8
        )

    return build


@pytest.mark.parametrize("where", ["records", "gone"])
@pytest.mark.parametrize(
    ("train", "evaluated", "is_training"),
    [
        ("train", "val", False),
        ("train", "train", True),
        ("train+val", "val", True),
        ("train", "train+val", True),
        ("trainval", "val+test", True),
        ("train", "val+test", False),
    ],
)
def test_splits_are_compared_and_not_names(judged, records, where, train, evaluated, is_training):
    state = judged(*settings(train, evaluated))
    found = describe_choice(state, records if where == "records" else None)
    assert found == {"split": evaluated, "metric": "AP", "value": 0.9, "is_training": is_training}


def test_a_run_that_learns_a_few_pictures_is_chosen_by_them(judged, records):
    found = describe_choice(judged("data.overfit=2"), records)
    assert (found["split"], found["is_training"]) == ("train", True)


def test_nothing_chose_where_nothing_was_evaluated(judged, records):
    assert describe_choice(judged("data.eval_split=null"), records) is None
    state = judged()
    state.metrics = {}
    assert describe_choice(state, records) is None


def test_a_few_pictures_are_counted_with_their_own_objects(record_of, records):
    names = read_manifest(records).label_map.names

    def describe(*settings):
        return describe_training_data(record_of(*settings, classes=names), records)

    whole, few, union = (
        describe(),
        describe("data.overfit=2"),
        describe("data.train_split=trainval"),
    )
    assert (whole["images"], few["images"], union["images"]) == (5, 2, 7)
    totals = [sum(found["objects_per_class"].values()) for found in (whole, few, union)]
    assert totals[0] == sum(read_manifest(records).splits["train"].objects_per_class.values())
    assert 0 < totals[1] < totals[0] < totals[2]
    assert few["overfit"] == 2
    # More than there are is all of them.
    assert describe("data.overfit=50") == whole


def test_without_the_records_nothing_is_counted(record_of):
    found = describe_training_data(record_of(), None)
    assert (found["images"], found["objects_per_class"]) == (None, None)
