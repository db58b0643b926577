import json
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from detflow.data import shrinking
from detflow.data.images.decode import decode_rgb
from detflow.data.images.transcode import Treatment, encode_record_jpeg
from detflow.data.records.manifest import read_manifest
from detflow.data.records.reading import read_samples
from detflow.types import ImageSize


def test_sizes_keep_their_shape_and_never_grow():
    shrink = Treatment(max_side=100).shrink
    assert shrink(ImageSize(400, 300)) == ImageSize(100, 75)
    assert shrink(ImageSize(300, 400)) == ImageSize(75, 100)
    assert shrink(ImageSize(10_000, 3)) == ImageSize(100, 1)
    assert shrink(ImageSize(100, 99)) == ImageSize(100, 99)
    assert Treatment().shrink(ImageSize(9_999, 1)) == ImageSize(9_999, 1)


def test_pixels_become_the_mean_of_those_that_lie_in_them():
    pixels = np.kron(np.array([[40, 90], [160, 220]]), np.ones((32, 48))).astype(np.uint8)
    noise = np.tile([[20, -20]], (64, 48)).astype(np.int16)
    data = pixels + noise
    file = Image.fromarray(data.astype(np.uint8))
    buffer = BytesIO()
    file.save(buffer, "PNG")
    stored = decode_rgb(
        encode_record_jpeg(buffer.getvalue(), Treatment(transcode=True, max_side=48))
    )
    assert stored.shape == (32, 48, 3)
    assert np.abs(stored[:, :, 0].astype(int) - pixels[::2, ::2]).max() <= 3


def test_boxes_stay_where_they_are_and_the_ledger_says_what_became_smaller(
    voc_set, command, tmp_path
):
    exif = Image.Exif()
    exif[0x0112] = 6
    voc_set.add("a", voc_set.object("cat", (9, 9, 32, 24)))
    voc_set.add("b", voc_set.object("cat", (1, 1, 3, 30)), voc_set.object("cat", (1, 1, 64, 48)))
    turned = voc_set.encode(voc_set.draw(48, 64), exif=exif)
    voc_set.add("c", voc_set.object("cat", (9, 9, 32, 24)), image=turned, size=(64, 48))
    voc_set.add("small", image=voc_set.encode(voc_set.draw(30, 32)), size=(30, 32))
    output = tmp_path / "records"
    done = command(
        *("make-records", voc_set.root, "--output", output, "--max-side", "32"),
        *("--split-by", "seed", "--split", "train=1", "--jobs", "1"),
    )
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(output)
    samples = {sample.key[-1]: sample for sample in read_samples(output, manifest, "train")}
    for key in "abc":
        assert samples[key].size == ImageSize(32, 24)
        assert decode_rgb(samples[key].encoded).shape == (24, 32, 3)
    assert samples["l"].size == ImageSize(30, 32)
    for key in "ac":
        [entry] = samples[key].objects
        assert entry.box.to_pixels(ImageSize(64, 48)) == pytest.approx((8, 8, 32, 24), abs=1e-4)
    ledger = [json.loads(line) for line in (output / "ledger.jsonl").read_text().splitlines()]
    shrunk = [entry["value"] for entry in ledger if entry["code"] == "image_shrunk"]
    assert shrunk == ["64x48, 32x24 in the records"] * 3
    tiny = [
        (entry["path"], entry["object_index"]) for entry in ledger if entry["code"] == "box_tiny"
    ]
    assert tiny == [("annotations/b.xml", 1)]
    assert json.loads((output / "manifest.json").read_text())["max_side"] == 32


def test_a_chosen_size_is_no_fault_under_strict(voc_set, command):
    voc_set.add("a")
    assert command("check", voc_set.root, "--max-side", "32", "--strict").returncode == 0


@pytest.fixture
def small_is_large(monkeypatch):
    """Takes pictures of a test for photos."""
    monkeypatch.setattr(shrinking, "_LARGE_PIXELS", 3_000)
    monkeypatch.setattr(shrinking, "_LARGE_BYTES", 100)
    monkeypatch.setattr(shrinking, "_SIDES", (16, 32, 48))


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize(
    ("box", "expected"),
    [((1, 1, 64, 48), 32), ((1, 1, 32, 32), 32), ((1, 1, 30, 30), None), ((5, 5, 9, 9), 16)],
)
def test_the_smallest_size_that_keeps_the_objects_is_proposed(voc_set, command, box, expected):
    for name in "abc":
        voc_set.add(name, voc_set.object("cat", box))
    found = json.loads(command("check", voc_set.root, "--json").stdout)
    text = command("check", voc_set.root).stdout
    if expected is None:
        assert "max_side_proposal" not in found
        assert "--max-side" not in text
        return
    proposal = found["max_side_proposal"]
    assert (proposal["max_side"], proposal["images"]) == (expected, 3)
    assert proposal["bytes_now"] == sum(
        path.stat().st_size for path in (voc_set.root / "images").iterdir()
    )
    assert proposal["decoding_seconds_now"] == pytest.approx(3 * 64 * 48 * 4e-9)
    assert proposal["decoding_seconds_then"] < proposal["decoding_seconds_now"]
    assert f"proposed      3 images above 4 megapixels: --max-side {expected} stores" in text
    assert "proposed" not in command("check", voc_set.root, "--max-side", "32").stdout


def test_ordinary_pictures_get_no_proposal(voc_set, command):
    voc_set.add("a")
    assert "proposed" not in command("check", voc_set.root).stdout
