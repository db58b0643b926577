import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from detflow.cli.main import run
from detflow.errors import ArtifactError, ConfigError, DataError
from detflow.inference import load
from detflow.prediction.run import predict

pytestmark = pytest.mark.tf


def read(output):
    return json.loads((output / "predictions.json").read_text())


def assert_alike(found, expected):
    """Asserts equal detections but for the last bits, which differ with several threads."""
    assert [one["name"] for one in found] == [one["name"] for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert [one["score"], *one["box"]] == pytest.approx(
            [other["score"], *other["box"]], abs=1e-5
        )


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_folder_becomes_json_coco_results_and_overlays(pictures_dir, onnx_dir, tmp_path):
    output = tmp_path / "deep" / "predictions"
    result = predict([str(pictures_dir)], onnx_dir, output)
    assert (result.num_images, result.failed) == (24, [])
    report = read(output)
    assert report["classes"] == ["disc", "Ringe & Ösen", "it's"]
    assert "upright" in report["frame"]
    assert [entry["file"] for entry in report["images"]] == [
        str(pictures_dir / f"p{number:02}.jpg") for number in range(24)
    ]
    assert [(entry["width"], entry["height"]) for entry in report["images"][:3]] == [
        (96, 72),
        (60, 90),
        (130, 40),
    ]
    detections = [(entry, found) for entry in report["images"] for found in entry["detections"]]
    assert len(detections) == result.num_detections > 50
    for entry, found in detections:
        assert report["classes"][found["class_id"] - 1] == found["name"]
        assert 0.3 <= found["score"] <= 1.0
        ymin, xmin, ymax, xmax = found["box"]
        expected = [
            xmin * entry["width"],
            ymin * entry["height"],
            xmax * entry["width"],
            ymax * entry["height"],
        ]
        assert found["box_px"] == pytest.approx(expected, abs=1e-3)
    results = json.loads((output / "coco_results.json").read_text())
    assert len(results) == len(detections)
    (entry, found), first = detections[0], results[0]
    assert (first["image_id"], first["category_id"], first["score"]) == (
        entry["id"],
        found["class_id"],
        found["score"],
    )
    left, top, right, bottom = found["box_px"]
    assert first["bbox"] == pytest.approx([left, top, right - left, bottom - top])
    for entry in report["images"]:
        with (
            Image.open(output / entry["overlay"]) as overlay,
            Image.open(entry["file"]) as original,
        ):
            assert overlay.size == (entry["width"], entry["height"])
            difference = np.abs(np.asarray(overlay).astype(int) - np.asarray(original)).max(2)
        # Noise that JPEG loses a second time stays below; a line does not.
        assert ((difference > 80).mean() > 0.005) == bool(entry["detections"])


def test_coco_s_tools_read_the_results(pictures_dir, onnx_dir, tmp_path):
    from pycocotools.coco import COCO

    predict([str(pictures_dir / "p00.jpg")], onnx_dir, tmp_path / "out", overlays=False)
    truth = COCO()
    truth.dataset = {
        "images": [{"id": 1}],
        "categories": [{"id": 1}, {"id": 2}, {"id": 3}],
        "annotations": [],
    }
    truth.createIndex()
    loaded = truth.loadRes(str(tmp_path / "out" / "coco_results.json"))
    assert len(loaded.anns) == len(read(tmp_path / "out")["images"][0]["detections"]) > 0


def test_the_checkpoint_and_its_export_predict_the_same(
    pictures_dir, model_dir, onnx_dir, tmp_path
):
    graph = onnx_dir / "frozen_inference_graph.pb"
    for name, model in (("run", model_dir), ("artifact", graph)):
        predict([str(pictures_dir)], model, tmp_path / name, overlays=False)
    run, artifact = read(tmp_path / "run"), read(tmp_path / "artifact")
    for one, other in zip(run["images"], artifact["images"], strict=True):
        assert_alike(other["detections"], one["detections"])
    assert not (tmp_path / "run" / "overlays").exists()


def test_a_phone_s_photo_is_predicted_as_a_person_sees_it(pictures_dir, onnx_dir, tmp_path):
    with Image.open(pictures_dir / "p00.jpg") as image:
        upright = image.copy()
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    predict(
        [str(tmp_path / "upright.png"), str(tmp_path / "turned.png")],
        onnx_dir,
        tmp_path / "out",
    )
    one, other = read(tmp_path / "out")["images"]
    assert (one["exif_orientation"], other["exif_orientation"]) == (1, 6)
    assert (other["width"], other["height"]) == (one["width"], one["height"]) == (96, 72)
    assert one["detections"] == other["detections"] != []


def test_images_that_cannot_be_read_are_named_and_passed_over(
    pictures_dir, onnx_dir, tmp_path, capfd
):
    folder = tmp_path / "mixed"
    folder.mkdir()
    shutil.copy(pictures_dir / "p01.jpg", folder / "b.jpg")
    shutil.copy(pictures_dir / "p02.jpg", folder / "d.jpg")
    (folder / "a.jpg").write_bytes((pictures_dir / "p00.jpg").read_bytes()[:-300])
    (folder / "c.jpg").write_text("no image")
    (folder / "e.png").write_bytes(b"")
    run(["predict", str(folder), "--model", str(onnx_dir), "--output", str(tmp_path / "out")])
    printed = capfd.readouterr()
    assert [os.path.basename(entry["file"]) for entry in read(tmp_path / "out")["images"]] == [
        "b.jpg",
        "d.jpg",
    ]
    assert [os.path.basename(entry["file"]) for entry in read(tmp_path / "out")["failed"]] == [
        "a.jpg",
        "c.jpg",
        "e.png",
    ]
    assert "2 images, 3 passed over" in printed.out
    assert all(f"{name}: " in printed.err for name in ("a.jpg", "c.jpg", "e.png"))


def test_if_no_image_can_be_read_nothing_is_published(onnx_dir, tmp_path):
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"no image can be read, 1 file tried; .*a\.jpg"):
        predict([str(tmp_path / "a.jpg")], onnx_dir, tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.jpg"]


def test_every_picture_keeps_an_overlay_of_its_own(pictures_dir, onnx_dir, tmp_path):
    sources = []
    for name in (
        "x/a.jpg",
        "y/a.jpg",
        "y/A.jpg",
        "y/a.png",
        "y/sub/a.jpg",
        "y/sub_a.jpg",
        f"z/{'ö' * 120}.jpg",
        f"z/{'ö' * 121}.jpg",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(pictures_dir / "p02.jpg") as image:
            image.save(path)
        sources.append(name)
    output = tmp_path / "out"
    found = predict([str(tmp_path / folder) for folder in ("x", "y", "z", "x")], onnx_dir, output)
    assert found.num_images == len(sources)
    overlays = [entry["overlay"] for entry in read(output)["images"]]
    assert len({name.casefold() for name in overlays}) == len(sources)
    assert sorted(path.relative_to(output).as_posix() for path in output.rglob("*.jpg")) == sorted(
        overlays
    )
    assert overlays[0] == "overlays/a.jpg"


def test_the_threshold_leaves_detections_out(pictures_dir, onnx_dir, tmp_path):
    for threshold in (0.3, 0.6, 1.0):
        predict(
            [str(pictures_dir)],
            onnx_dir,
            tmp_path / str(threshold),
            score_threshold=threshold,
            overlays=False,
        )
    low, high, none = (
        [found for entry in read(tmp_path / name)["images"] for found in entry["detections"]]
        for name in ("0.3", "0.6", "1.0")
    )
    assert_alike(high, [found for found in low if found["score"] >= 0.6])
    assert len(low) > len(high) > len(none) == 0


def test_old_predictions_are_replaced_and_anything_else_is_not(pictures_dir, onnx_dir, tmp_path):
    source = str(pictures_dir / "p00.jpg")
    predict([str(pictures_dir)], onnx_dir, tmp_path / "out")
    predict([source], onnx_dir, tmp_path / "out")
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 1
    for output, reason in ((pictures_dir, "would replace the source"), (onnx_dir, "holds no pred")):
        before = content(output)
        with pytest.raises(ConfigError, match=reason):
            predict([source], onnx_dir, output)
        assert content(output) == before


def test_a_damaged_model_publishes_nothing(pictures_dir, onnx_dir, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(onnx_dir, copy)
    (copy / "label_map.pbtxt").write_text("item { id: 1 name: 'cat' }")
    with pytest.raises(ArtifactError, match=r"label_map\.pbtxt"):
        predict([str(pictures_dir)], copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "output", "code"),
    [
        ("p00.jpg", "/sys/detflow-predictions", 5),
        ("nothing.jpg", "out", 3),
        ("p00.jpg", "p01.jpg", 2),
    ],
)
def test_what_can_be_refused_at_once_is_refused_before_the_model_is_loaded(
    source, output, code, pictures_dir, onnx_dir, monkeypatch, capsys
):
    def fail(path):
        raise AssertionError("the model is loaded")

    monkeypatch.chdir(pictures_dir)
    monkeypatch.setattr(load, "load_detector", fail)
    assert run(["predict", source, "--model", str(onnx_dir), "--output", output]) == code
    assert capsys.readouterr().err.count("\n") == 1


def test_without_an_output_the_detections_are_returned_and_nothing_is_written(
    pictures_dir, onnx_dir, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    sources = [str(pictures_dir / name) for name in ("p00.jpg", "p01.jpg")]
    found = predict(sources, onnx_dir)
    assert list(tmp_path.iterdir()) == []
    written = predict(sources, onnx_dir, tmp_path / "out", overlays=False)
    assert found == written
    assert [str(image.file) for image in found.images] == sources
    entries = read(tmp_path / "out")["images"]
    for image, entry in zip(found.images, entries, strict=True):
        size = image.detections.size
        assert (size.width, size.height) == (entry["width"], entry["height"])
        assert [one.score for one in image.detections] == [
            one["score"] for one in entry["detections"]
        ]
    frame = found.to_pandas()
    assert len(frame) == found.num_detections > 0
    assert set(frame["file"]) == set(sources)
    assert frame["frame"].isna().all()
