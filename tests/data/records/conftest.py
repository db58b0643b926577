import pytest

from detflow.data.convert import ConversionOptions, convert_dataset


@pytest.fixture
def records(voc_set, tmp_path):
    for split, number in (("train", 6), ("val", 3)):
        for index in range(number):
            voc_set.add(f"{split}{index}", images=f"{split}/images", annotations=f"{split}/annots")
    convert_dataset(voc_set.root, tmp_path / "records", ConversionOptions())
    return tmp_path / "records"
