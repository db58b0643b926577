import pytest

from detflow.data.making import RecordOptions, publish_records


@pytest.fixture
def records(voc_set, tmp_path):
    for split, number in (("train", 6), ("val", 3)):
        for index in range(number):
            voc_set.add(f"{split}{index}", images=f"{split}/images", annotations=f"{split}/annots")
    publish_records(voc_set.root, tmp_path / "records", RecordOptions())
    return tmp_path / "records"
