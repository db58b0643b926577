"""Which pictures a card's AP may be of."""

from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.tf


def manifest(**objects):
    """Splits with so many objects."""
    splits = {name: SimpleNamespace(objects=number) for name, number in objects.items()}
    return SimpleNamespace(splits=splits, unions={"trainval": ("train", "val")})


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
        # Pictures that were trained on are neither.
        ({"train": 9}, "train", None, None),
        ({"train": 9}, "train", "train", None),
        ({"train": 9, "val": 3}, "trainval", "val", None),
        ({"train": 9, "test": 3}, "train+test", None, None),
        ({"train": 9, "val": 3}, "train", None, None),
    ],
)
def test_the_ap_is_of_pictures_that_were_not_trained_on_or_there_is_none(
    splits, train, evaluated, chosen
):
    from detflow.exporting.quality import choose_judged_split

    assert choose_judged_split(manifest(**splits), train, evaluated) == chosen


def test_without_the_records_nothing_is_measured():
    from detflow.exporting.quality import measure_quality

    found = measure_quality(SimpleNamespace(), None)
    assert found == {"role": "none", "why_not": "the records that it was trained on are not there"}
