import dataclasses
from pathlib import Path

import numpy as np
import pytest

from detflow.data.records.manifest import read_manifest
from detflow.data.records.reading import read_samples
from detflow.errors import ConfigError, DataError
from detflow.inference.detector import Detector
from detflow.inference.evaluate import detect_samples, evaluate_detector
from detflow.label_map import LabelMap
from detflow.metrics.coco import coco_metrics

pytestmark = pytest.mark.tf


def detector_of_truth(samples, label_map):
    """Finds every object of the samples, which come in their order; each has one object."""
    truths = iter(samples)

    def run(images):
        objects = [next(truths).objects[0] for _ in images]
        return {
            "detection_boxes": np.array(
                [[[o.box.ymin, o.box.xmin, o.box.ymax, o.box.xmax]] for o in objects], np.float32
            ),
            "detection_scores": np.full((len(images), 1), 0.8, np.float32),
            "detection_classes": np.array([[label_map.id_of(o.name)] for o in objects], np.float32),
            "num_detections": np.ones(len(images), np.float32),
        }

    return Detector(run, label_map, Path("model"))


def test_the_truth_as_detections_scores_one(tiny_records):
    manifest = read_manifest(tiny_records)
    samples = list(read_samples(tiny_records, manifest, "train"))
    evaluation = evaluate_detector(
        detector_of_truth(samples, manifest.label_map), iter(samples), manifest.label_map
    )
    assert evaluation.metrics["AP"] == pytest.approx(1.0)
    assert evaluation.metrics == coco_metrics(evaluation.images, manifest.label_map)


def test_samples_stand_in_the_order_of_their_ids_and_lose_their_pictures(tiny_records):
    manifest = read_manifest(tiny_records)
    samples = list(read_samples(tiny_records, manifest, "train"))
    judged, images = detect_samples(
        detector_of_truth(samples, manifest.label_map), iter(samples), manifest.label_map
    )
    ordered = sorted(samples, key=lambda sample: sample.source_id)
    assert ordered != samples
    assert [one.key for one in judged] == [one.key for one in ordered]
    assert {one.encoded for one in judged} == {b""}
    for sample, image in zip(ordered, images, strict=True):
        assert image.objects == sample.objects
        assert [one.name for one in image.detections] == [one.name for one in sample.objects]


def test_images_of_an_evaluation_stand_in_the_order_of_the_samples(tiny_records):
    """A checkpoint's state has AP on the first ones, and an export is proved on the same ones."""
    manifest = read_manifest(tiny_records)
    samples = list(read_samples(tiny_records, manifest, "train"))
    assert sorted(samples, key=lambda sample: sample.source_id) != samples
    evaluation = evaluate_detector(
        detector_of_truth(samples, manifest.label_map), iter(samples), manifest.label_map
    )
    assert [image.objects for image in evaluation.images] == [one.objects for one in samples]


def test_classes_in_another_order_are_matched_by_name(tiny_records):
    manifest = read_manifest(tiny_records)
    samples = list(read_samples(tiny_records, manifest, "train"))
    reversed_map = LabelMap(tuple(reversed(manifest.label_map.names)))
    evaluation = evaluate_detector(
        detector_of_truth(samples, reversed_map), iter(samples), manifest.label_map
    )
    assert evaluation.metrics["AP"] == pytest.approx(1.0)


def test_other_classes_are_refused(tiny_records):
    manifest = read_manifest(tiny_records)
    other = LabelMap((*manifest.label_map.names, "third"))
    with pytest.raises(
        ConfigError, match=r"the model knows the classes .*third; the records have dark, light"
    ):
        evaluate_detector(detector_of_truth([], other), iter([]), manifest.label_map)


def test_an_image_that_cannot_be_decoded_is_named(tiny_records):
    manifest = read_manifest(tiny_records)
    sample = next(read_samples(tiny_records, manifest, "train"))
    broken = dataclasses.replace(sample, filename="broken.jpg", encoded=sample.encoded[:100])
    with pytest.raises(DataError, match=r"^broken\.jpg: the image cannot be decoded"):
        evaluate_detector(
            detector_of_truth([sample], manifest.label_map), iter([broken]), manifest.label_map
        )
