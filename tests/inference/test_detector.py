import numpy as np
import pytest
from PIL import Image

from detflow.errors import ArtifactError
from detflow.inference.detector import Detector
from detflow.label_map import LabelMap

LABELS = LabelMap(("a", "b"))


def random_images(*sizes):
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (height, width, 3), np.uint8) for height, width in sizes]


def outputs_of(num_images, boxes, scores, classes, count):
    return {
        "detection_boxes": np.tile(np.array(boxes, np.float32)[None], (num_images, 1, 1)),
        "detection_scores": np.tile(np.array(scores, np.float32)[None], (num_images, 1)),
        "detection_classes": np.tile(np.array(classes, np.float32)[None], (num_images, 1)),
        "num_detections": np.full(num_images, count, np.float32),
    }


def detector_giving(tmp_path, **changes):
    values = {
        "boxes": [[0, 0, 0.5, 0.5], [0, 0, 0, 0]],
        "scores": [0.9, 0.0],
        "classes": [2, 1],
        "count": 1,
    } | changes
    return Detector(lambda images: outputs_of(len(images), **values), LABELS, tmp_path)


def test_large_images_do_not_go_through_together(tmp_path):
    batches = []

    def run(images):
        batches.append(len(images))
        return outputs_of(len(images), [[0, 0, 1, 1]], [0.5], [1], 1)

    # The same row seen many times: no memory behind it.
    large = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (2000, 2000, 3))
    huge = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (3000, 3000, 3))
    small = np.zeros((10, 10, 3), np.uint8)
    found = list(Detector(run, LABELS, tmp_path).detect([large] * 5 + [huge] * 2 + [small] * 9))
    assert len(found) == 16
    assert batches == [2, 2, 1, 1, 1, 8, 1]
    batches.clear()
    assert len(list(Detector(run, LABELS, tmp_path, (), 300).detect([small] * 7 + [large]))) == 8
    assert batches == [3, 3, 1, 1]


def test_boxes_are_clipped_and_what_has_no_area_is_left_out(tmp_path):
    detector = detector_giving(
        tmp_path,
        boxes=[[-1e-6, 0, 0.5, 1.0000001], [1.0, 0.2, 1.0, 0.4]],
        scores=[0.9, 0.8],
        classes=[2, 1],
        count=2,
    )
    (found,) = detector.detect(random_images((5, 5)))
    assert [(d.name, d.class_id, d.box.ymin, d.box.xmax) for d in found] == [("b", 2, 0.0, 1.0)]


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": [3, 1]},
        {"classes": [0, 1]},
        {"classes": [float("nan"), 1]},
        {"classes": [float("inf"), 1]},
        {"count": float("nan")},
        {"count": float("inf")},
        {"boxes": [[0, 0, 1], [0, 0, 1]]},
    ],
)
def test_outputs_that_break_the_contract_are_an_error(changes, tmp_path):
    with pytest.raises(ArtifactError, match="serving contract"):
        list(detector_giving(tmp_path, **changes).detect(random_images((5, 5))))


def test_ids_with_gaps_are_those_of_the_label_map(tmp_path):
    labels = LabelMap.from_pbtxt("item { id: 1 name: 'a' } item { id: 90 name: 'b' }")
    outputs = [[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.6]], [0.9, 0.8], [90, 1], 2
    detector = Detector(lambda images: outputs_of(len(images), *outputs), labels, tmp_path)
    (found,) = detector.detect(random_images((5, 5)))
    assert [(d.name, d.class_id) for d in found] == [("b", 90), ("a", 1)]
    unknown = [[0, 0, 0.5, 0.5]], [0.9], [2], 1
    detector = Detector(lambda images: outputs_of(len(images), *unknown), labels, tmp_path)
    with pytest.raises(ArtifactError, match="there is no class 2"):
        list(detector.detect(random_images((5, 5))))


def find_bright(images):
    """Finds the rectangle of the bright pixels."""
    boxes = []
    for image in images:
        rows, columns = np.nonzero(image[:, :, 0] > 127)
        height, width = image.shape[:2]
        top, left = rows.min() / height, columns.min() / width
        boxes.append([top, left, (rows.max() + 1) / height, (columns.max() + 1) / width])
    found = outputs_of(len(images), [[0, 0, 1, 1]], [0.9], [1], 1)
    return found | {"detection_boxes": np.array(boxes, np.float32)[:, None]}


@pytest.mark.parametrize("size", [(1200, 1600), (1193, 1601), (1600, 1199)])
@pytest.mark.parametrize("form", ["array", "JPEG", "PNG", "Pillow"])
def test_boxes_stay_in_the_pixels_of_a_picture_that_was_read_smaller(size, form, tmp_path):
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[160:, 400:1120] = 255
    image = Image.fromarray(pixels)
    shapes = []

    def run(images):
        shapes.append(images.shape)
        return find_bright(images)

    if form in ("JPEG", "PNG"):
        image.save(tmp_path / "photo", form)
    source = {"array": pixels, "Pillow": image}.get(form, tmp_path / "photo")
    detector = Detector(run, LABELS, tmp_path, canvas_sizes=((96, 128),))
    found = detector.predict(source)
    assert shapes == [(1, -(-size[0] // 8), -(-size[1] // 8), 3)]
    assert (found.size.height, found.size.width) == size
    assert found.boxes_px()[0] == pytest.approx([400, 160, 1120, size[0]], abs=0.1)
    # What lies beyond the picture is no part of it.
    assert found[0].box.ymax <= 1.0


def test_without_a_known_canvas_pictures_are_read_whole(tmp_path):
    shapes = []

    def run(images):
        shapes.append(images.shape)
        return outputs_of(len(images), [[0, 0, 1, 1]], [0.5], [1], 1)

    Detector(run, LABELS, tmp_path).predict(np.zeros((1200, 1600, 3), np.uint8))
    assert shapes == [(1, 1200, 1600, 3)]
