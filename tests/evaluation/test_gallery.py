import io

import numpy as np
import pytest
from PIL import Image

from detflow.evaluation.analysis import analyse
from detflow.evaluation.gallery import (
    BadImage,
    describe_errors,
    draw_errors,
    worst_images,
    worst_images_of,
)
from detflow.label_map import LabelMap
from detflow.metrics.coco import EvaluatedImage
from detflow.types import Box, Detection, ImageSize, ObjectAnnotation

LABELS = LabelMap(("cat", "dog"))
LEFT, RIGHT = Box(0.1, 0.1, 0.9, 0.4), Box(0.1, 0.6, 0.9, 0.9)


def image(objects, detections):
    return EvaluatedImage(ImageSize(40, 30), objects, detections)


def found(name, box, score):
    return Detection(name, LABELS.id_of(name), score, box)


def cat(box=LEFT):
    return ObjectAnnotation("cat", box)


@pytest.fixture
def analysis(case):
    images = [
        image([cat()], [found("cat", LEFT, 0.9)]),
        image([cat(), cat(RIGHT)], [found("cat", LEFT, 0.9)]),
        image(
            [cat()], [found("cat", LEFT, 0.9), found("cat", RIGHT, 0.8), found("cat", RIGHT, 0.2)]
        ),
        image([ObjectAnnotation("dog", LEFT)], [found("cat", LEFT, 0.9)]),
    ]
    return analyse(images, LABELS, case.subject, 0.5)


def test_the_worst_come_first_and_the_good_not_at_all(analysis):
    worst = worst_images(analysis)
    # Four cats and one dog: the dog taken for a cat weighs .9 of a dog and a cat, the missed cat 1
    # of a cat, the false one .8.
    assert [bad.index for bad in worst] == [3, 1, 2]
    assert [bad.cost for bad in worst] == pytest.approx([0.9 * (1 + 0.25), 0.25, 0.8 * 0.25])


def test_a_class_sees_only_what_hurts_it(analysis):
    assert [bad.index for bad in worst_images_of(analysis, 1)] == [3, 1, 2]
    assert [bad.index for bad in worst_images_of(analysis, 2)] == [3]


def test_errors_in_words(analysis):
    words = {bad.index: describe_errors(analysis, bad) for bad in worst_images(analysis)}
    assert words == {1: "cat missed", 2: "cat where there is none", 3: "dog taken for cat"}


def jpeg(width, height):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (90, 90, 90)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("size", [(1, 1), (8, 600), (40, 30), (3000, 1000)])
def test_pictures_have_a_size_for_a_page(analysis, size):
    for bad in worst_images(analysis):
        picture = Image.open(io.BytesIO(draw_errors(analysis, bad, jpeg(*size))))
        assert max(picture.size) == min(560, 12 * max(size))


def colours_near(picture, box):
    """How far the pixels along a box' left edge are from the ground."""
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)
    height, width, _ = pixels.shape
    edge = pixels[
        round(box.ymin * height) : round(box.ymax * height),
        round(box.xmin * width) : round(box.xmin * width) + 3,
    ]
    return np.abs(edge - 90).max(axis=(1, 2))


def test_truth_is_dashed_and_detections_are_solid(analysis):
    worst = {bad.index: bad for bad in worst_images(analysis)}
    missed = draw_errors(analysis, worst[1], jpeg(400, 300))
    assert colours_near(missed, RIGHT).min() > 20
    invented = draw_errors(analysis, worst[2], jpeg(400, 300))
    assert colours_near(invented, RIGHT).min() > 20
    # A detection below the threshold is not there.
    clean = draw_errors(analysis, BadImage(1, 0.0, []), jpeg(400, 300))
    assert missed != clean


def test_thousands_of_objects(case):
    boxes = [
        Box(y, x, y + 0.015, x + 0.009)
        for y in np.linspace(0, 0.98, 50).tolist()
        for x in np.linspace(0, 0.99, 100).tolist()
    ]
    crowd = analyse([image([cat(box) for box in boxes], [])], LABELS, case.subject)
    [bad] = worst_images(crowd)
    assert describe_errors(crowd, bad) == "5,000 × cat missed"
    assert draw_errors(crowd, bad, jpeg(64, 64))
