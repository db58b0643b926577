"""Images in any form, and detections in the forms of other libraries.

supervision is not installed here: a stand-in takes the arguments that its documentation names,
`Detections(xyxy, mask, confidence, class_id, tracker_id, data)`.
"""

import io
import json
import sys
from types import ModuleType, SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from detflow.errors import DataError, EnvironmentFault
from detflow.inference.detections import Detections, import_optional, read_pixels
from detflow.inference.detector import Detector
from detflow.label_map import LabelMap
from detflow.types import Box, Detection, ImageSize

CLASSES = LabelMap(("cat", "dog"))
FOUND = Detections(
    ImageSize(200, 100),
    (
        Detection("dog", 2, 0.9, Box(0.1, 0.2, 0.5, 0.4)),
        Detection("cat", 1, 0.4, Box(0.0, 0.0, 0.001, 1.0)),
    ),
)
NOTHING = Detections(ImageSize(200, 100), ())


def mean_detector():
    """Finds one dog, as wide as the image is bright and with the red as its score."""

    def run(images):
        count = len(images)
        boxes = np.zeros((count, 2, 4), np.float32)
        scores = np.zeros((count, 2), np.float32)
        for row, image in enumerate(images):
            boxes[row, 0] = (0.0, 0.0, 1.0, image.mean() / 255)
            scores[row, 0] = image[..., 0].mean() / 255
        return {
            "detection_boxes": boxes,
            "detection_scores": scores,
            "detection_classes": np.full((count, 2), 2.0, np.float32),
            "num_detections": np.ones(count, np.float32),
        }

    return Detector(run, CLASSES, "a rule")


def photo(orientation=None, image_format="PNG"):
    """A picture 6 wide and 4 high with a bright left half, as a file's bytes."""
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:, :3] = (200, 100, 50)
    exif, buffer = Image.Exif(), io.BytesIO()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(buffer, image_format, exif=exif)
    return buffer.getvalue()


def test_it_is_a_sequence_with_a_size():
    assert len(FOUND) == 2
    assert [one.name for one in FOUND] == ["dog", "cat"]
    assert FOUND[-1].class_id == 1
    assert FOUND[:1] == Detections(FOUND.size, FOUND.items[:1])
    assert FOUND.above(0.4) == FOUND
    assert FOUND.above(0.41) == FOUND[:1]
    assert not NOTHING
    np.testing.assert_allclose(FOUND.boxes_px()[0], (40, 10, 80, 50))
    assert NOTHING.boxes_px().shape == (0, 4)


def test_a_pandas_frame_has_a_row_for_each():
    pytest.importorskip("pandas")
    frame = FOUND.to_pandas()
    columns = ["name", "class_id", "score", "left", "top", "right", "bottom"]
    assert list(frame.columns) == list(NOTHING.to_pandas().columns) == columns
    assert frame.iloc[0].tolist() == ["dog", 2, 0.9, 40.0, 10.0, 80.0, 50.0]
    assert (len(frame), len(NOTHING.to_pandas())) == (2, 0)


def test_supervision_gets_pixels_and_class_ids_from_zero(monkeypatch):
    def make(xyxy, mask=None, confidence=None, class_id=None, tracker_id=None, data=None):
        return SimpleNamespace(xyxy=xyxy, confidence=confidence, class_id=class_id, data=data)

    stand_in = ModuleType("supervision")
    stand_in.Detections = make
    monkeypatch.setitem(sys.modules, "supervision", stand_in)
    found = FOUND.to_supervision()
    np.testing.assert_allclose(found.xyxy, [[40, 10, 80, 50], [0, 0, 200, 0.1]], rtol=1e-6)
    np.testing.assert_allclose(found.confidence, [0.9, 0.4], rtol=1e-6)
    assert found.class_id.tolist() == [1, 0]
    assert found.data["class_name"].tolist() == ["dog", "cat"]
    empty = NOTHING.to_supervision()
    assert (empty.xyxy.shape, empty.class_id.shape, empty.confidence.shape) == ((0, 4), (0,), (0,))


def test_a_library_that_is_missing_is_one_line_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(EnvironmentFault, match=r"^supervision is not installed; pip install super"):
        FOUND.to_supervision()
    with pytest.raises(EnvironmentFault, match=r"^no_such_library is not installed"):
        import_optional("no_such_library")


def test_coco_s_results_are_in_pixels():
    first, second = FOUND.to_coco(7)
    assert first == {
        "image_id": 7,
        "category_id": 2,
        "bbox": [40.0, 10.0, 40.0, 40.0],
        "score": 0.9,
    }
    assert second["bbox"] == [0.0, 0.0, 200.0, 0.1]
    json.dumps(FOUND.to_coco(7))


def test_voc_has_whole_pixels_and_no_box_without_area():
    root = ElementTree.fromstring(FOUND.to_voc("a.jpg"))
    assert root.findtext("filename") == "a.jpg"
    assert (root.findtext("size/width"), root.findtext("size/height")) == ("200", "100")
    found = [
        (one.findtext("name"), *(float(side.text) for side in one.find("bndbox")))
        for one in root.findall("object")
    ]
    assert found[0] == ("dog", 41, 11, 80, 50)
    # Equal corners would be a box without area to some readers.
    assert found[1] == ("cat", 1, 1, 200, pytest.approx(1, abs=1e-6))
    assert found[1][4] > 1


def test_the_picture_is_drawn_with_its_boxes():
    image = Image.new("RGB", (200, 100))
    drawn = FOUND.draw(image)
    assert drawn.size == image.size
    assert np.asarray(drawn).any()
    assert not np.asarray(image).any()


@pytest.mark.parametrize("form", ["path", "text", "bytes", "pillow", "array"])
def test_an_image_in_any_form_is_the_same_image(form, tmp_path):
    data = photo()
    (tmp_path / "a.png").write_bytes(data)
    image = {
        "path": tmp_path / "a.png",
        "text": str(tmp_path / "a.png"),
        "bytes": data,
        "pillow": Image.open(io.BytesIO(data)),
        "array": np.asarray(Image.open(io.BytesIO(data))),
    }[form]
    found = mean_detector().predict(image)
    assert found.size == ImageSize(6, 4)
    assert found[0].score == pytest.approx(100 / 255)
    assert found[0].box.xmax == pytest.approx(350 / 6 / 255)


@pytest.mark.parametrize("form", ["bytes", "pillow"])
@pytest.mark.parametrize("image_format", ["PNG", "JPEG"])
def test_a_phone_s_photo_is_turned_upright(form, image_format):
    data = photo(6, image_format)
    pixels = read_pixels(data if form == "bytes" else Image.open(io.BytesIO(data)))
    assert pixels.shape == (6, 4, 3)
    # The stored left half is the upper one of the upright picture.
    assert pixels[:2].mean() > pixels[4:].mean() + 50


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_a_pillow_image_of_any_mode_is_read_as_its_file_would_be(mode):
    if mode == "I;16":
        image = Image.fromarray(np.full((4, 6), 0x8000, np.uint16))
    else:
        image = Image.new("RGB", (6, 4), (200, 200, 200)).convert(mode)
    pixels = read_pixels(image)
    assert (pixels.shape, pixels.dtype) == ((4, 6, 3), np.uint8)
    assert pixels.mean() == pytest.approx({"1": 200, "I;16": 128}.get(mode, 200), abs=60)
    transparent = Image.new("RGBA", (6, 4), (0, 0, 0, 0))
    transparent.putpixel((0, 0), (0, 0, 0, 255))
    assert read_pixels(transparent)[0, 1:].min() == 255


def test_several_images_are_several_results():
    detector = mean_detector()
    bright, dark = np.full((4, 6, 3), 250, np.uint8), np.full((5, 5, 3), 100, np.uint8)
    found = detector.predict([bright, dark, photo()], score_threshold=0.0)
    assert [one.size for one in found] == [ImageSize(6, 4), ImageSize(5, 5), ImageSize(6, 4)]
    assert [len(one) for one in detector.predict([bright, dark], score_threshold=0.5)] == [1, 0]
    stacked = detector.predict(np.stack([bright, bright]))
    assert isinstance(stacked, list)
    assert len(stacked) == 2
    assert detector.predict(iter([bright])) == [detector.predict(bright)]
    assert detector.predict([]) == []


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("none.jpg", "none.jpg: not a regular file"),
        (b"hello", "the image cannot be read: "),
        (photo()[:60], "the image cannot be read: "),
        (np.zeros((4, 6)), r"an array \[4, 6\] of float64; expected \[height, width, 3\] of uint8"),
        (np.zeros((4, 6, 4), np.uint8), r"an array \[4, 6, 4\] of uint8"),
        (np.zeros((0, 6, 3), np.uint8), "an array"),
        (3.5, "not an image: float"),
    ],
)
def test_what_is_no_image_is_one_line(image, reason):
    with pytest.raises(DataError, match=reason):
        mean_detector().predict(image)
