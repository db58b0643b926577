"""When a card states no AP, and why."""

from types import SimpleNamespace

import numpy as np
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


def test_pictures_are_judged_as_small_as_the_proof_sees_them(
    record_of, voc_writer, tmp_path, monkeypatch
):
    from detflow.exporting import quality
    from detflow.exporting.proof.images import find_proof_images
    from detflow.label_map import LabelMap

    records = voc_writer(tmp_path, {"train": 2, "val": 3})
    record, label_map = record_of(), LabelMap(("dark", "light"))
    seen = []

    def look(images):
        seen.extend(images)
        count = len(images)
        return {
            "detection_boxes": np.tile(np.array([[0.1, 0.1, 0.5, 0.5]], np.float32), (count, 1, 1)),
            "detection_scores": np.full((count, 1), 0.5, np.float32),
            "detection_classes": np.ones((count, 1), np.float32),
            "num_detections": np.ones(count, np.float32),
        }

    monkeypatch.setattr(quality, "load_eager", lambda trained: look)
    sizes = [(8, 8)]
    model = SimpleNamespace(canvas_sizes=sizes)
    trained = SimpleNamespace(
        state=SimpleNamespace(record=record),
        serving=SimpleNamespace(model=model),
        label_map=label_map,
        checkpoint_path=tmp_path / "ckpt-1",
    )
    found = quality.measure_quality(trained, records)
    assert (found["split"], found["images"], found["objects"]) == ("val", 3, 3)
    proof = find_proof_images(records, "val", record.config.data, 9, label_map, sizes)
    expected = {image.pixels.tobytes(): image.pixels.shape for image in proof.images}
    assert {picture.tobytes(): picture.shape for picture in seen} == expected
    # The pictures are those of 48x48 pixels, made smaller.
    assert {shape < (48, 48, 3) for shape in expected.values()} == {True}
