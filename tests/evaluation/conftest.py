"""Analyses of drawn truth and detections, for any number of classes."""

import io

import numpy as np
import pytest
from PIL import Image

from detflow.evaluation.analysis import Subject, analyse
from detflow.label_map import LabelMap
from detflow.metrics.coco import EvaluatedImage
from detflow.types import Box, Detection, ImageSize, ObjectAnnotation, Sample

SIZE = ImageSize(64, 48)


class Case:
    """Truth and detections of random quality: the higher a class's id, the less it is found."""

    subject = Subject("runs/one", "runs/one/ckpt-9", "records/one", "test", "0123456789abcdef")

    def __init__(self, names, num_images=6, objects=4, seed=0, ids=()):
        self.label_map = LabelMap(tuple(names), tuple(ids))
        self._random = np.random.default_rng(seed)
        self.images = [self._image(objects) for _ in range(num_images)]

    def _image(self, objects):
        truth, found = [], []
        for _ in range(objects):
            place = int(self._random.integers(len(self.label_map)))
            box = self._box()
            truth.append(ObjectAnnotation(self.label_map.names[place], box))
            if self._random.random() < 0.9 - 0.5 * (place + 1) / len(self.label_map):
                found.append(self._found(place, box))
            if self._random.random() < 0.3:
                found.append(
                    self._found(int(self._random.integers(len(self.label_map))), self._box())
                )
        return EvaluatedImage(SIZE, truth, found)

    def _found(self, place, box):
        name, score = self.label_map.names[place], float(self._random.uniform(0.05, 0.99))
        return Detection(name, self.label_map.id_of(name), score, box)

    def _box(self):
        (y, x), (height, width) = self._random.uniform(0, 0.6, 2), self._random.uniform(0.1, 0.4, 2)
        return Box(float(y), float(x), float(y + height), float(x + width))

    def analyse(self, score_threshold=None):
        return analyse(self.images, self.label_map, self.subject, score_threshold, max_draws=60)

    def samples(self, filename="images/{}.jpg"):
        return [
            Sample(
                f"images/{i}", 100 + i, filename.format(i), image.size, b"", tuple(image.objects)
            )
            for i, image in enumerate(self.images)
        ]

    def pictures(self, wanted):
        buffer = io.BytesIO()
        Image.new("RGB", (SIZE.width, SIZE.height), (120, 140, 160)).save(buffer, "JPEG")
        return dict.fromkeys(wanted, buffer.getvalue())


@pytest.fixture(scope="session")
def case():
    return Case


NAMES_THAT_HURT = (
    "<script>alert(1)</script>",
    '$x_1$ & "y"',
    "血小板",
    "a/b" * 30,
    "it's\u202e",
    "=1+1",
    "{{ 7*7 }}{% for",
    "</style><!--",
)


@pytest.fixture(scope="session")
def hostile_names():
    return NAMES_THAT_HURT


@pytest.fixture
def without_plots(monkeypatch):
    """Leaves the plots empty: they have their own tests, and take most of the time."""
    monkeypatch.setattr("detflow.evaluation.files.draw_plot", lambda name, analysis, theme: b"")
