import json

import cv2
import numpy as np
import pytest
from PIL import Image

import detflow

BOX = [0.25, 0.125, 0.75, 0.5]


def found(name, score, box=BOX):
    return {"name": name, "class_id": 1, "score": score, "box": box, "box_px": []}


@pytest.fixture
def predictions(tmp_path, write_avi):
    """A folder as predict writes it, of a JPEG, a PNG, a turned JPEG and two frames of a video."""
    pixels = np.random.default_rng(4).integers(0, 256, (48, 64, 3), np.uint8)
    picture = Image.fromarray(cv2.GaussianBlur(pixels, (0, 0), 4))
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "photos").mkdir()
    paths = [tmp_path / "photos" / name for name in ("a.jpg", "a.png", "turned.jpg", "film.avi")]
    picture.save(paths[0], quality=95)
    picture.save(paths[1])
    picture.save(paths[2], quality=95, exif=exif)
    write_avi(paths[3], [np.full((48, 64, 3), 60 * shade, np.uint8) for shade in range(4)])
    images = [
        {"file": str(paths[0]), "detections": [found("cat", 0.9), found("dog", 0.5)]},
        {"file": str(paths[1]), "detections": []},
        {"file": str(paths[2]), "width": 48, "height": 64, "detections": [found("dog", 0.7)]},
        {"file": str(paths[3]), "frame": 1, "detections": [found("cat", 0.8)]},
        {"file": str(paths[3]), "frame": 3, "detections": [found("cat", 0.6)]},
    ]
    folder = tmp_path / "predictions"
    folder.mkdir()
    write(folder, [{"width": 64, "height": 48, **image} for image in images])
    return folder


def write(folder, images):
    content = {"format_version": 2, "classes": ["cat", "dog"], "images": images}
    (folder / "predictions.json").write_text(json.dumps(content))


def test_predictions_become_a_set_to_be_corrected(predictions, tmp_path):
    done = detflow.convert(predictions, tmp_path / "coco", to="coco")
    content = json.loads((tmp_path / "coco/annotations/instances_train.json").read_text())
    assert [one["score"] for one in content["annotations"]] == [0.9, 0.5, 0.7, 0.8, 0.6]
    assert content["annotations"][0]["bbox"] == [8, 12, 24, 24]
    assert content["annotations"][2]["bbox"] == [6, 16, 18, 32]
    images = {one["file_name"]: one for one in content["images"]}
    folder = tmp_path / "coco/images/train"
    assert set(images) == {path.name for path in folder.iterdir()}
    assert [images[name]["width"] for name in sorted(images) if "turned" in name] == [48]
    photos = tmp_path / "photos"
    originals = {(photos / name).read_bytes() for name in ("a.jpg", "a.png")}
    assert originals < {path.read_bytes() for path in folder.iterdir()}
    assert done["images_encoded_anew"] == 3
    frames = [Image.open(path) for path in sorted(folder.glob("film*"))]
    assert [round(np.asarray(frame).mean() / 60) for frame in frames] == [1, 3]
    for frame in frames:
        frame.close()


def test_what_was_predicted_is_read_back_as_annotations(predictions, tmp_path):
    done = detflow.convert(predictions / "predictions.json", tmp_path / "voc", to="voc")
    assert done["lost"] == {"score": 5}
    manifest = detflow.make_records(
        tmp_path / "voc", tmp_path / "records", split="train=1", jobs=1, report=False
    )
    assert manifest["splits"]["train"]["objects_per_class"] == {"cat": 3, "dog": 2}
    [sample] = [
        one
        for one in detflow.read_samples(tmp_path / "records")
        if [item.name for item in one.objects] == ["cat", "dog"]
    ]
    box = sample.objects[0].box
    assert [box.ymin, box.xmin, box.ymax, box.xmax] == BOX


def test_a_picture_that_is_gone_or_another_one_is_named(predictions, tmp_path):
    path = tmp_path / "photos" / "a.png"
    Image.new("RGB", (30, 20)).save(path)
    with pytest.raises(detflow.DataError, match=r"a\.png: the picture is 30x20, and was 64x48"):
        detflow.convert(predictions, tmp_path / "out", to="voc")
    path.unlink()
    with pytest.raises(detflow.DataError, match=r"a\.png: the picture is not there any more"):
        detflow.convert(predictions, tmp_path / "out", to="voc")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"file": 3},
        {"detections": [found("owl", 0.5)]},
        {"detections": [found("cat", 0.5, [0.5, 0.1, 0.2, 0.9])]},
        {"detections": [found("cat", 0.5, [0.1, 0.1, "nan", 0.9])]},
        {"width": 0},
        {"width": float("inf")},
        {"frame": "1"},
    ],
)
def test_damaged_predictions_are_refused(predictions, tmp_path, change):
    image = {"file": "a.jpg", "width": 64, "height": 48, "detections": []}
    write(predictions, [{**image, **change}])
    with pytest.raises(detflow.ArtifactError, match="the predictions are damaged"):
        detflow.convert(predictions, tmp_path / "out", to="voc")


def test_the_output_is_not_written_into_the_predictions(predictions):
    with pytest.raises(detflow.ConfigError, match="would write into what is read"):
        detflow.convert(predictions, predictions / "voc", to="voc")
