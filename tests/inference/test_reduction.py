"""What a model finds on large pictures that were read smaller, and what an evaluation then says."""

import numpy as np
import pytest
from PIL import Image

from detflow.geometry import pairwise_iou
from detflow.inference.detector import Detector
from detflow.inference.load import load_detector
from detflow.metrics.coco import EvaluatedImage, coco_metrics
from detflow.types import ObjectAnnotation

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def photos(pictures_dir, tmp_path_factory):
    """Pictures enlarged twelvefold, so that they are read at an eighth for a canvas of 64."""
    folder = tmp_path_factory.mktemp("photos")
    paths = []
    for number in range(0, 24, 2):
        with Image.open(pictures_dir / f"p{number:02}.jpg") as image:
            large = image.resize((image.width * 12, image.height * 12), Image.Resampling.BICUBIC)
        paths.append(folder / f"{number}.jpg")
        large.save(paths[-1], quality=92)
    return paths


def test_detections_on_smaller_renditions_are_those_on_the_whole(photos, onnx_dir):
    reading_smaller = load_detector(onnx_dir)
    assert reading_smaller.canvas_sizes == ((64, 64),)
    reading_all = Detector(reading_smaller.run, reading_smaller.label_map, onnx_dir)
    images, kept = [], []
    for path in photos:
        whole, small = (one.predict(path) for one in (reading_all, reading_smaller))
        assert whole.size == small.size
        truth = tuple(ObjectAnnotation(one.name, one.box) for one in whole)
        images.append(EvaluatedImage(whole.size, truth, tuple(small)))
        for found, other in ((whole, small), (small, whole)):
            sure = found.above(0.35)
            if not sure:
                continue
            same = [[one.name == another.name for another in other] for one in sure]
            overlaps = pairwise_iou(sure.boxes_px(), other.boxes_px()) * same
            scores = np.array([one.score for one in other])[overlaps.argmax(1)]
            differences = np.abs(scores - [one.score for one in sure])
            kept += [*((overlaps.max(1) > 0.95) & (differences < 0.02))]
    # The others stood at the threshold of the suppression, and the other one of two was taken.
    assert len(kept) > 100
    assert np.mean(kept) > 0.97
    assert coco_metrics(images, reading_smaller.label_map)["AP"] > 0.97
