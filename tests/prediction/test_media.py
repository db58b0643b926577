"""Videos, and the further formats, which other programs read back."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from detflow.cli.main import run
from detflow.data.making import RecordOptions, publish_records
from detflow.data.records.manifest import read_manifest
from detflow.data.records.reading import read_samples
from detflow.errors import ConfigError, DataError
from detflow.prediction.files import parse_formats
from detflow.prediction.frames import find_media, read_frames
from detflow.prediction.run import predict

pytestmark = pytest.mark.tf


def read(output):
    return json.loads((output / "predictions.json").read_text())


@pytest.fixture(scope="module")
def pictures(pictures_dir):
    return [
        np.asarray(Image.open(pictures_dir / f"p{number:02}.jpg")) for number in range(0, 24, 3)
    ]


def test_predictions_become_voc_and_records_with_the_same_boxes(pictures_dir, onnx_path, tmp_path):
    """From a detector to a labelling tool's files, and from them to training data."""
    predict([str(pictures_dir)], onnx_path, tmp_path / "found", formats=["voc"], overlays=False)
    publish_records(
        tmp_path / "found" / "voc", tmp_path / "records", RecordOptions(jobs=1, report=False)
    )
    manifest = read_manifest(tmp_path / "records")
    samples = {
        sample.key.rpartition("/")[2]: sample
        for split in manifest.splits
        for sample in read_samples(tmp_path / "records", manifest, split)
    }
    report = read(tmp_path / "found")
    assert len(samples) == len(report["images"]) == 24
    num_boxes = 0
    for entry in report["images"]:
        sample = samples[entry["file"].rpartition("/")[2].removesuffix(".jpg")]
        # A plain JPEG is copied.
        assert (
            sample.encoded == (pictures_dir / f"{sample.key.rpartition('/')[2]}.jpg").read_bytes()
        )
        assert [one.name for one in sample.objects] == [one["name"] for one in entry["detections"]]
        for one, detection in zip(sample.objects, entry["detections"], strict=True):
            num_boxes += 1
            left, top, right, bottom = one.box.to_pixels(sample.size)
            assert all(abs(side - round(side)) < 1e-3 for side in (left, top, right, bottom))
            # Half a pixel is lost by rounding; a box thinner than a pixel grows to one.
            assert [left, top, right, bottom] == pytest.approx(detection["box_px"], abs=1.0)
            thin = min(right - left, bottom - top) < 1.5
            assert thin or [left, top, right, bottom] == pytest.approx(
                detection["box_px"], abs=0.51
            )
    assert num_boxes > 50


def test_a_turned_photo_with_alpha_goes_to_the_labelling_tool_as_it_is_seen(
    pictures_dir, onnx_path, tmp_path
):
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(pictures_dir / "p00.jpg") as image:
        image.convert("RGBA").transpose(Image.Transpose.ROTATE_90).save(
            tmp_path / "turned.png", exif=exif
        )
    predict(
        [str(tmp_path / "turned.png")],
        onnx_path,
        tmp_path / "found",
        formats=["voc"],
        overlays=False,
    )
    with Image.open(tmp_path / "found" / "voc" / "JPEGImages" / "turned.jpg") as image:
        assert image.size == (96, 72)
        assert image.getexif().get(0x0112, 1) == 1
    assert (
        b"<width>96</width>"
        in (tmp_path / "found" / "voc" / "Annotations" / "turned.xml").read_bytes()
    )


def test_the_csv_holds_every_detection(pictures_dir, onnx_path, tmp_path):
    predict([str(pictures_dir)], onnx_path, tmp_path / "found", formats=["csv"], overlays=False)
    with open(tmp_path / "found" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [
        (entry, one) for entry in read(tmp_path / "found")["images"] for one in entry["detections"]
    ]
    assert len(rows) == len(expected) > 50
    for row, (entry, one) in zip(rows, expected, strict=True):
        assert (row["file"], row["name"], int(row["class_id"]), row["frame"]) == (
            entry["file"],
            one["name"],
            one["class_id"],
            "",
        )
        assert [float(row[side]) for side in ("left", "top", "right", "bottom")] == one["box_px"]
    assert not (tmp_path / "found" / "coco_results.json").exists()


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "mpeg4"), ("avi", "mpeg4")])
def test_the_frames_of_a_video_are_images_with_a_time(
    suffix, codec, pictures, onnx_path, write_video, tmp_path
):
    video = write_video(tmp_path / f"clip.{suffix}", pictures, codec, b_frames=2)
    result = predict(
        [str(tmp_path)],
        onnx_path,
        tmp_path / "found",
        every=3,
        formats=["voc", "coco"],
        overlay_videos=True,
    )
    assert (result.num_images, result.failed) == (3, [])
    entries = read(tmp_path / "found")["images"]
    assert [(entry["file"], entry["frame"], entry["time_s"]) for entry in entries] == [
        (str(video), index, pytest.approx(index / 10, abs=1e-3)) for index in (0, 3, 6)
    ]
    assert [entry["overlay"] for entry in entries] == [
        f"overlays/clip.{suffix}_{index:06}.jpg" for index in (0, 3, 6)
    ]
    assert read(tmp_path / "found")["videos"] == [
        {"file": str(video), "overlay_video": f"overlays/clip.{suffix}.mp4"}
    ]
    again = read_frames(
        find_media([str(tmp_path / "found" / "overlays" / f"clip.{suffix}.mp4")]),
        lambda path, reason: pytest.fail(reason),
        lambda *_: None,
    )
    assert [frame.time_s for frame in again] == pytest.approx([0, 0.3, 0.6], abs=1e-3)
    assert sum(len(entry["detections"]) for entry in entries) > 5
    for entry in entries:
        with Image.open(
            tmp_path / "found" / entry["overlay"].replace("overlays", "voc/JPEGImages")
        ) as frame:
            assert frame.size == (entry["width"], entry["height"]) == (96, 72)
            # Red is red: a video's colours are not swapped.
            assert (
                np.abs(
                    np.asarray(frame).astype(float).mean((0, 1))
                    - pictures[entry["frame"]].mean((0, 1))
                ).max()
                < 6
            )
    assert {
        one["image_id"]
        for one in json.loads((tmp_path / "found" / "coco_results.json").read_text())
    } <= {1, 2, 3}


def test_damaged_videos_are_named_and_read_as_far_as_they_go(
    pictures, pictures_dir, onnx_path, write_avi, tmp_path, capfd
):
    folder = tmp_path / "media"
    folder.mkdir()
    whole = write_avi(tmp_path / "whole.avi", pictures).read_bytes()
    (folder / "cut.avi").write_bytes(whole[: len(whole) // 2])
    (folder / "list.mp4").write_text(f"#EXTM3U\n{tmp_path / 'whole.avi'}\n")
    (folder / "good.jpg").write_bytes((pictures_dir / "p00.jpg").read_bytes())
    arguments = [str(folder), "--model", str(onnx_path), "--output", str(tmp_path / "found")]
    assert run(["predict", *arguments]) == 0
    report = read(tmp_path / "found")
    assert [entry["file"].rpartition("/")[2] for entry in report["failed"]] == [
        "cut.avi",
        "list.mp4",
    ]
    assert "bytes early" in report["failed"][0]["reason"]
    assert "begins with 23 45 58 54" in report["failed"][1]["reason"]
    # The frames before the break are there.
    assert 0 < sum(entry["file"].endswith("cut.avi") for entry in report["images"]) < 8
    assert report["images"][-1]["file"].endswith("good.jpg")
    # FFmpeg itself writes nothing.
    printed = capfd.readouterr()
    assert [line.split(": ")[:2] for line in printed.err.splitlines()] == [
        ["detflow", "read in part"],
        ["detflow", "passed over"],
    ]
    assert "images, 1 passed over, 1 read in part →" in printed.out
    with pytest.raises(DataError, match=r"no image can be read, 1 file tried; .*list\.mp4"):
        predict([str(folder / "list.mp4")], onnx_path, tmp_path / "nothing")


def test_formats_that_do_not_exist_are_refused(onnx_path, pictures_dir, tmp_path):
    reason = "there is no format 'xml'; choose from coco, csv, voc, yolo"
    with pytest.raises(ConfigError, match=reason):
        parse_formats("csv, xml")
    with pytest.raises(ConfigError, match=reason):
        predict([str(pictures_dir)], onnx_path, tmp_path / "found", formats=["csv", "xml"])
    assert not (tmp_path / "found").exists()


@pytest.mark.parametrize(
    ("model", "missing"),
    [(".", []), ("model.onnx", ["onnxruntime"]), ("model.tflite", ["onnxruntime"])],
    ids=["onnxruntime", "OpenCV", "LiteRT"],
)
def test_these_files_predict_without_tensorflow(model, missing, pictures_dir, onnx_dir, tmp_path):
    program = f"""
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in {missing} else find(name)
from detflow.cli.main import main
try:
    main()
finally:
    assert not {{'tensorflow', 'tf_keras', 'official', 'pydantic', *{missing}}} & set(sys.modules)
"""
    output = tmp_path / "found"
    arguments = [
        "predict",
        "p00.jpg",
        "p01.jpg",
        "--model",
        str(onnx_dir / model),
        "--output",
        str(output),
    ]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=pictures_dir,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "detections on 2 images" in done.stdout
