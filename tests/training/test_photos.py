import pytest

from detflow.training import photos
from detflow.training.photos import read_photos

pytestmark = pytest.mark.tf


def test_the_images_follow_from_records_and_seed_alone(sample_list, monkeypatch):
    monkeypatch.setattr(photos, "_NUM_PHOTOS", 3)
    first, again, other = (
        read_photos(iter(sample_list), len(sample_list), (32, 48), seed) for seed in (1, 1, 2)
    )
    assert len(first.names) == 3
    assert first.names == again.names
    assert first.names != other.names
    assert {canvas.shape for canvas in first.canvases} == {(32, 48, 3)}
    assert all(canvas.min() >= 0 and canvas.max() <= 255 for canvas in first.canvases)


def test_a_large_set_is_not_read_to_its_end(sample_list, monkeypatch):
    monkeypatch.setattr(photos, "_MAX_READ", 4)
    samples = iter(sample_list)
    found = read_photos(samples, len(sample_list), (32, 32), 1)
    assert found.names == tuple(sample.filename for sample in sample_list[:4])
    assert next(samples) is sample_list[4]


@pytest.fixture
def sample_list(tiny_records):
    from detflow.data.records.manifest import read_manifest
    from detflow.data.records.reading import read_samples

    return list(read_samples(tiny_records, read_manifest(tiny_records), "train"))
