import io

import numpy as np
import pytest
from PIL import Image

from detflow.errors import DataError
from detflow.label_map import LabelMap
from detflow.metrics.coco import EvaluatedImage
from detflow.pages.colours import class_colour
from detflow.training.side_by_side import SideBySide
from detflow.types import Box, Detection, ImageSize, ObjectAnnotation, Sample

LABELS = LabelMap(("cat", "dog"))
BOX = Box(0.25, 0.25, 0.75, 0.75)
CAT = ObjectAnnotation("cat", BOX)


def sample(width=64, height=48, filename="a.jpg"):
    file = io.BytesIO()
    Image.new("RGB", (width, height), (128, 128, 128)).save(file, "JPEG")
    return Sample("a", 1, filename, ImageSize(width, height), file.getvalue(), (CAT,))


def evaluated(one, *detections):
    return EvaluatedImage(one.size, one.objects, [Detection(*values, BOX) for values in detections])


def has(picture, class_id):
    return bool((np.asarray(picture) == class_colour(class_id)).all(-1).any())


def test_truth_stands_left_and_confident_detections_right():
    one = sample()
    side_by_side = SideBySide([one], LABELS)
    ((name, pair),) = side_by_side.draw([evaluated(one, ("dog", 2, 0.3), ("cat", 1, 0.29))])
    left, right = pair.crop((0, 0, 640, 480)), pair.crop((648, 0, 1288, 480))
    assert (name, pair.size) == ("1 a.jpg", (1288, 480))
    assert (has(left, 1), has(left, 2), has(right, 1), has(right, 2)) == (True, False, False, True)
    # The next evaluation starts from the bare picture again.
    ((again, pair),) = side_by_side.draw([evaluated(one)])
    assert again == name
    assert pair.crop((648, 0, 1288, 480)).getcolors() == [(640 * 480, (128, 128, 128))]


def test_images_beyond_the_first_ones_are_not_shown():
    one = sample()
    assert len(list(SideBySide([one, one], LABELS).draw([evaluated(one)] * 5))) == 2
    assert list(SideBySide([], LABELS).draw([evaluated(one)])) == []


@pytest.mark.parametrize(
    ("width", "height", "shown"),
    [(1, 1, (12, 12)), (3000, 1, (640, 1)), (20, 2000, (6, 640)), (1000, 2000, (320, 640))],
)
def test_a_picture_of_any_size_becomes_one_that_fits(width, height, shown):
    one = sample(width, height)
    ((_, pair),) = SideBySide([one], LABELS).draw([evaluated(one, ("cat", 1, 0.9))])
    assert pair.size == (2 * shown[0] + 8, shown[1])


def test_a_name_that_is_no_text_becomes_one():
    one = sample(filename=b"\xff.jpg".decode("utf-8", "surrogateescape"))
    ((name, _),) = SideBySide([one], LABELS).draw([evaluated(one)])
    assert name == "1 \\udcff.jpg"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-200],
        lambda data: b"",
        lambda data: data.replace(b"\x00\x30\x00\x40", b"\xff\x30\xff\x40"),
    ],
)
def test_an_image_that_cannot_be_decoded_is_named(damage):
    one = sample()
    broken = Sample(
        one.key, one.source_id, "broken.jpg", one.size, damage(one.encoded), one.objects
    )
    with pytest.raises(DataError, match=r"broken\.jpg"):
        SideBySide([broken], LABELS)
