"""What predict writes grows on the disk, and not in memory."""

import csv
import gc
import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from detflow.data.images.pictures import Picture, PictureFile
from detflow.inference.detections import Detections
from detflow.prediction.files import FileNames, describe_frame
from detflow.prediction.folder import PredictionFolder
from detflow.prediction.frames import Frame
from detflow.prediction.run import predict
from detflow.types import Box, Detection, ImageSize

PICTURE = Picture(np.zeros((20, 40, 3), np.uint8), 1)
HEAD = {"model": "m", "classes": ["cat", "d\ng"], "score_threshold": 0.3}


def find(count):
    """Detections of both classes, other ones for every number."""
    items = tuple(
        Detection(HEAD["classes"][i % 2], 1 + i % 2, 0.9, Box(0.1, 0.2, 0.3 + i / 99, 0.8))
        for i in range(count)
    )
    return Detections(ImageSize(40, 20), items)


def frame(name, index=None):
    return Frame(PictureFile(f"in/{name}", name), PICTURE, index, None if index is None else 0.5)


@pytest.fixture
def folder(tmp_path):
    made = PredictionFolder(tmp_path, overlays=False, overlay_videos=False, formats=("coco", "csv"))
    made.begin(**HEAD)
    yield made
    made.close()


IMAGES = [(frame("ä\udcff.jpg"), find(2)), (frame("b.jpg"), find(0)), (frame("c.ts", 7), find(1))]


def assert_holds(path, images, failed):
    """Asserts that the three files say what they would if each were written at once."""
    text = (path / "predictions.json").read_text(encoding="utf-8")
    report = json.loads(text)
    assert text == json.dumps(report, indent=1) + "\n"
    assert list(report)[:5] == ["format_version", "model", "classes", "score_threshold", "frame"]
    assert report["classes"] == HEAD["classes"]
    entries = [describe_frame(*one, number) for number, one in enumerate(images, 1)]
    assert report["images"] == entries
    assert (report["videos"], report["failed"]) == ([], failed)
    text = (path / "coco_results.json").read_text()
    assert text == json.dumps(json.loads(text)) + "\n"
    assert json.loads(text) == [
        entry for number, (_, found) in enumerate(images, 1) for entry in found.to_coco(number)
    ]
    with open(path / "predictions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["frame"]) for row in rows] == [
        (one.name, str("" if image.index is None else image.index))
        for image, found in images
        for one in found
    ]


def test_files_that_grow_are_those_that_are_written_at_once(folder):
    for image in IMAGES:
        folder.add(*image)
    folder.finish(failed=[("x.jpg", "no image")])
    assert_holds(folder.path, IMAGES, [{"file": "x.jpg", "reason": "no image"}])
    # A name that is no text does not make the table unreadable.
    assert r"ä\udcff.jpg" in (folder.path / "predictions.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("written", [0, 1, 2])
def test_an_image_that_was_interrupted_is_in_no_file(folder, written, monkeypatch):
    for image in IMAGES[:2]:
        folder.add(*image)
    # Ctrl-C between the files.
    for growing in folder._growing[written:]:
        monkeypatch.setattr(growing.file, "append", lambda item: (_ for _ in ()).throw(EOFError))
    with pytest.raises(EOFError):
        folder.add(*IMAGES[2])
    folder.finish(failed=[])
    assert_holds(folder.path, IMAGES[:2], [])


def test_the_memory_is_that_of_an_image(folder):
    def grow(count):
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(count):
            folder.add(*IMAGES[0])
        # What encodes JSON leaves circles behind.
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        return grown

    grow(5)
    assert grow(200) < 20_000
    assert (folder.path / "predictions.json").stat().st_size > 100_000


def test_names_stay_their_own_and_many_of_one_name_take_no_longer_each():
    names = FileNames()
    chosen = [names.choose(f"{'a' * 300}{i}.jpg") for i in range(20_000)]
    # Whatever a file is called by itself.
    chosen += [names.choose(name) for name in ("b-2.jpg", "b.jpg", "B.png", "b/c.jpg", "b_c.bmp")]
    chosen += [names.choose("b/000001", is_frame=True), names.choose("b_000001.jpg")]
    assert len({name.casefold() for name in chosen}) == len(chosen)
    assert chosen[-7:] == ["b-2", "b", "B-3", "b_c", "b_c-2", "b_000001", "b_000001-2"]


def test_a_result_without_images_has_their_numbers(tmp_path, find_cats):
    for name in ("a", "b"):
        Image.new("RGB", (40, 20)).save(tmp_path / f"{name}.png")
    (tmp_path / "c.png").write_text("no image")

    find_cats(tmp_path)
    results = [
        predict([str(tmp_path)], tmp_path, tmp_path / "out", overlays=False, keep=keep)
        for keep in (False, True)
    ]
    for result in results:
        assert (result.num_images, result.num_detections, result.cut) == (2, 2, set())
        assert len(result.failed) == 1
    assert [len(result.images) for result in results] == [0, 2]
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]) == 2
