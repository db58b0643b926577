"""The images of a proof."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from detflow.config.schema import DataConfig
from detflow.data.records.manifest import read_manifest
from detflow.errors import ArtifactError, ConfigError, DataError
from detflow.exporting.proof.images import find_proof_images, read_training_samples
from detflow.geometry import choose_reduction
from detflow.label_map import LabelMap

pytestmark = pytest.mark.tf

NOWHERE = DataConfig(records="nowhere")
LABELS = LabelMap(("it's", "Ringe & Ösen", "disc"))


def test_without_records_synthetic_pictures_of_many_sizes_stand_in():
    proof = find_proof_images(None, None, NOWHERE, 32, LABELS)
    assert (proof.kind, proof.source) == ("synthetic", "")
    images = list(proof.images)
    assert len({image.name for image in images}) == 32
    assert len({image.pixels.shape for image in images}) > 20
    for image in images:
        assert image.objects is None
        assert image.pixels.dtype == np.uint8
        assert (np.asarray(Image.open(io.BytesIO(image.encoded))) == image.pixels).all()


def test_synthetic_pictures_are_the_same_each_time():
    proof = find_proof_images(None, None, NOWHERE, 32, LABELS)
    again = find_proof_images(None, None, NOWHERE, 32, LABELS)
    first = [image.encoded for image in proof.images]
    assert first == [image.encoded for image in proof.images]
    assert first == [image.encoded for image in again.images]


def test_the_run_s_records_come_with_their_objects(records_dir):
    proof = find_proof_images(None, None, DataConfig(records=str(records_dir)), 5, LABELS)
    assert (proof.kind, proof.source) == ("records", f"{records_dir} val")
    assert (proof.split, proof.fingerprint) == ("val", read_manifest(records_dir).fingerprint)
    images = list(proof.images)
    assert len(images) == 5
    for image in images:
        assert [found.name for found in image.objects] != []
        assert (np.asarray(Image.open(io.BytesIO(image.encoded))) == image.pixels).all()


def test_a_folder_of_pictures_is_taken_as_it_is(pictures_dir):
    proof = find_proof_images(pictures_dir, None, NOWHERE, 7, LABELS)
    assert (proof.kind, proof.source) == ("folder", str(pictures_dir))
    assert len(list(proof.images)) == 7
    assert {image.objects for image in proof.images} == {None}


def test_a_split_needs_records(pictures_dir):
    with pytest.raises(ConfigError, match="--split test: there are no records"):
        find_proof_images(pictures_dir, "test", NOWHERE, 7, LABELS)


def test_damaged_records_are_not_taken_for_missing_ones(records_dir, tmp_path):
    copy = tmp_path / "records"
    shutil.copytree(records_dir, copy)
    (shard,) = copy.glob("val-*")
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(ArtifactError, match="val-"):
        list(find_proof_images(None, None, DataConfig(records=str(copy)), 32, LABELS).images)


@pytest.mark.parametrize("names", [("disc",), ("disc", "Ringe & Ösen", "it's", "cat")])
def test_records_of_other_classes_are_refused_in_a_line(records_dir, names):
    data, others = DataConfig(records=str(records_dir)), LabelMap(names)
    message = r"records: the records have the classes .*; the checkpoint knows disc.*--images"
    with pytest.raises(ConfigError, match=message) as caught:
        find_proof_images(None, None, data, 5, others)
    assert caught.value.exit_code == 2
    with pytest.raises(ConfigError, match=message):
        next(read_training_samples(None, data, others))


def test_training_samples_that_are_not_there_are_asked_for():
    with pytest.raises(DataError, match="the training records are not there"):
        next(read_training_samples(None, NOWHERE, LABELS))


def test_far_larger_images_are_proved_on_as_every_evaluation_sees_them(records_dir):
    data = DataConfig(records=str(records_dir))
    whole = list(find_proof_images(None, None, data, 5, LABELS).images)
    small = list(find_proof_images(None, None, data, 5, LABELS, ((8, 8),)).images)
    for one, other in zip(whole, small, strict=True):
        height, width = one.pixels.shape[:2]
        factor = choose_reduction((height, width), ((8, 8),))
        assert factor > 1
        assert other.pixels.shape[:2] == (-(-height // factor), -(-width // factor))
        assert (other.name, other.objects) == (one.name, one.objects)
        # What takes files gets the same pixels.
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(other.encoded))), other.pixels)
