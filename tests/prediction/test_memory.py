"""What predict takes for hostile pictures stays within its flag."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from detflow.data.images import pictures
from detflow.errors import DataError
from detflow.prediction.frames import find_media, read_frames
from detflow.prediction.limits import MAX_FRAME_PIXELS, fit_frame

TOOLS = Path(__file__).parents[2] / "tools"

# The peak is that of a process of its own; it begins anew once the model has run.
PROGRAM = """
import json, re, sys
from pathlib import Path
from detflow.prediction.run import predict

def read(entry):
    status = Path("/proc/self/status").read_text()
    return int(re.search(entry + r":\\s+(\\d+) kB", status)[1]) / 1024

model, sound, hostile, output, limit = sys.argv[1:]
predict([sound], Path(model), Path(output))
Path("/proc/self/clear_refs").write_text("5")
before = read("VmHWM")
result = predict([sound, hostile], Path(model), Path(output), max_bytes=int(limit) << 20,
                 formats=("voc",))
print(json.dumps({"grown": read("VmHWM") - before, "read": result.num_images,
                  "failed": [reason for _, reason in result.failed]}))
"""


@pytest.fixture(scope="module")
def hostile_dir(tmp_path_factory):
    """Files of some kilobytes each that would take gigabytes or minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOLS)
        from fuzz import pictures as hostile

        folder = tmp_path_factory.mktemp("hostile")
        for name, content in {
            "large.png": hostile.build_png(7_000, 7_000),
            "alpha16.png": hostile.build_png(3_600, 3_500, 16, 6),
            "line.png": hostile.build_png(65_500, 20),
            "column.png": hostile.build_png(20, 65_500),
            "panorama.png": hostile.build_png(20_000, 500),
            "texts.png": hostile.build_png_of_texts(60),
            "tiles.tif": hostile.build_tiff_in_tiles(16_384, 16_384),
            "pages.tif": hostile.build_tiff_of_pages(60_000),
            "scans.jpg": hostile.build_jpeg_of_scans(2_000),
            "bomb.png": hostile.build_png(60_000, 1_000)[:5_000],
        }.items():
            (folder / name).write_bytes(content)
        yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "fuzz"]:
        del sys.modules[name]


@pytest.mark.tf
@pytest.mark.slow
@pytest.mark.parametrize(
    "format_name", ["model.onnx", pytest.param("model.tflite", marks=pytest.mark.soak)]
)
def test_hostile_pictures_keep_predict_within_its_memory(
    format_name, onnx_dir, hostile_dir, pictures_dir, tmp_path
):
    limit = 400
    arguments = [onnx_dir / format_name, pictures_dir / "p00.jpg", hostile_dir, tmp_path, limit]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # 12.6 megapixels of 26 bytes fit, 49 do not.
    assert found["read"] == 1 + 5
    reasons = " ".join(found["failed"])
    for name, reason in (
        ("large.png", "are allowed"),
        ("tiles.tif", "in tiles of"),
        ("scans.jpg", "more than 64 scans"),
        ("pages.tif", "several frames"),
        ("bomb.png", ""),
    ):
        assert re.search(rf"{re.escape(name)}: .*{reason}", reasons), (name, reasons)
    assert len(found["failed"]) == 5
    assert 50 < found["grown"] < limit + 64


def test_what_would_take_too_much_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    texts = PngImagePlugin.PngInfo()
    for number in range(3):
        texts.add_text(f"k{number}", "A" * 1_000, zip=True)
    Image.new("RGB", (300, 200)).save(tmp_path / "large.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "texts.png", pnginfo=texts)
    assert pictures.read_picture(tmp_path / "large.png", max_bytes=2_000_000).pixels.size
    monkeypatch.setattr(pictures, "decode_picture", lambda *args, **kwargs: 1 / 0)
    for name, limit, needed in (
        # 26 bytes a pixel and twice the file.
        ("large.png", 1_560_000, r"1,56\d,\d{3}"),
        # A text may be a megabyte of bytes and as many letters, however small it is in the file.
        ("texts.png", 6 << 20, r"6,29\d,\d{3}"),
        ("large.png", 100, r"[\d,]+"),
    ):
        with pytest.raises(DataError, match=rf"{name}: it takes {needed} bytes of memory, and"):
            pictures.read_picture(tmp_path / name, max_bytes=limit)


def test_a_file_that_takes_too_much_is_named_and_passed_over(tmp_path):
    failed = []
    Image.new("RGB", (300, 200)).save(tmp_path / "large.png")
    Image.new("RGB", (30, 20)).save(tmp_path / "small.png")
    frames = read_frames(
        find_media([str(tmp_path)]),
        lambda path, reason: failed.append((path.name, reason)),
        lambda what, done, total: None,
        max_bytes=1_000_000,
    )
    assert [frame.name for frame in frames] == ["small.png"]
    assert [(name, "raise --max-memory-mb" in reason) for name, reason in failed] == [
        ("large.png", True)
    ]


def test_a_video_s_frame_is_as_large_as_the_memory_allows():
    assert fit_frame(2 << 30) == MAX_FRAME_PIXELS
    assert fit_frame(52 * 1_920 * 1_080) == 1_920 * 1_080
    # What is drawn on is encoded, too.
    assert fit_frame(130 * 1_920 * 1_080, is_encoded=True) == 1_920 * 1_080
    assert fit_frame(2 << 30, is_encoded=True) < 17_000_000
