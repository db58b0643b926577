"""When a card states no AP, and why."""

from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.tf


def test_without_the_records_nothing_is_measured():
    from detflow.exporting.quality import measure_quality

    found = measure_quality(SimpleNamespace(), None)
    assert found == {"role": "none", "why_not": "the records that it was trained on are not there"}


@pytest.mark.parametrize(
    ("setting", "why_not"),
    [
        ("data.overfit=2", "it was trained on a few images, to see whether it can learn them"),
        ("data.train_split=train+val", "there is no split that the model was not trained on"),
    ],
)
def test_pictures_that_were_trained_on_are_not_measured(
    record_of, voc_writer, tmp_path, setting, why_not
):
    from detflow.exporting.quality import measure_quality

    records = voc_writer(tmp_path, {"train": 2, "val": 1})
    state = SimpleNamespace(record=record_of(setting))
    found = measure_quality(SimpleNamespace(state=state), records)
    assert found["role"] == "none"
    assert found["why_not"].startswith(why_not)
