"""Images with truth and detections: written by hand, and drawn at random."""

import numpy as np
import pytest

from detflow.label_map import LabelMap
from detflow.metrics.coco import EvaluatedImage
from detflow.types import Box, Detection, ImageSize, ObjectAnnotation


class Scene:
    """Builds truth and detections of the classes cat, dog and owl on images of 200×100 pixels."""

    labels = LabelMap(("cat", "dog", "owl"))
    size = ImageSize(200, 100)
    left, right = Box(0.1, 0.1, 0.9, 0.4), Box(0.1, 0.6, 0.9, 0.9)

    @staticmethod
    def truth(name, box, *, difficult=False):
        return ObjectAnnotation(name, box, difficult=difficult)

    def found(self, name, box, score=0.9):
        return Detection(name, self.labels.id_of(name), score, box)

    def image(self, objects, detections):
        return EvaluatedImage(self.size, objects, detections)

    @staticmethod
    def shift(box, share):
        """Moves a box to the right by a share of its width: IoU (1 - share) / (1 + share)."""
        step = share * (box.xmax - box.xmin)
        return Box(box.ymin, box.xmin + step, box.ymax, box.xmax + step)

    def random_images(self, seed, count=12):
        """Objects, some difficult; detections near them, some with a wrong place or class.

        There are false alarms and equal scores.
        """
        random = np.random.default_rng(seed)
        return [self._random_image(random) for _ in range(count)]

    def _random_image(self, random):
        names = self.labels.names
        objects = [
            self.truth(
                names[random.integers(3)],
                self._random_box(random),
                difficult=bool(random.random() < 0.15),
            )
            for _ in range(random.integers(0, 5))
        ]
        detections = []
        for item in [*objects, *objects]:
            if random.random() < 0.7:
                name = item.name if random.random() < 0.7 else names[random.integers(3)]
                detections.append(
                    self.found(
                        name, self._jitter(random, item.box), round(float(random.random()), 1)
                    )
                )
        for _ in range(random.integers(0, 3)):
            detections.append(
                self.found(
                    names[random.integers(3)],
                    self._random_box(random),
                    round(float(random.random()), 2),
                )
            )
        return EvaluatedImage(
            ImageSize(*(int(side) for side in random.integers(20, 900, 2))), objects, detections
        )

    @staticmethod
    def _random_box(random):
        (y, x), (height, width) = random.uniform(0, 0.55, 2), random.uniform(0.1, 0.45, 2)
        return Box(float(y), float(x), float(y + height), float(x + width))

    @staticmethod
    def _jitter(random, box):
        corners = np.clip(
            np.array([box.ymin, box.xmin, box.ymax, box.xmax]) + random.normal(0, 0.04, 4), 0, 1
        )
        return (
            Box(*corners.tolist()) if corners[0] < corners[2] and corners[1] < corners[3] else box
        )


@pytest.fixture(scope="session")
def scene():
    return Scene()
