import contextlib

import numpy as np
import pytest

from detflow.data.images.pictures import Picture
from detflow.errors import EnvironmentFault
from detflow.inference.detections import Detections
from detflow.prediction import overlay_video
from detflow.prediction.containers import find_container
from detflow.prediction.folder import PredictionFolder
from detflow.prediction.frames import Frame, PictureFile
from detflow.prediction.limits import Limits
from detflow.prediction.videos import read_video
from detflow.types import Box, Detection, ImageSize

BOX = Detections(ImageSize(63, 47), (Detection("cat", 1, 0.9, Box(0.2, 0.2, 0.9, 0.9)),))


def read(path):
    container = find_container(path.read_bytes()[:4096])
    return list(read_video(path, container, Limits(), lambda *_: None, ""))


@pytest.mark.parametrize("missing", [0, 2], ids=["the best", "the last"])
def test_a_video_plays_at_its_own_pace(missing, shades, tmp_path, monkeypatch):
    kept = dict(list(overlay_video._ENCODERS.items())[missing:])
    monkeypatch.setattr(overlay_video, "_ENCODERS", kept)
    assert overlay_video.find_encoder() == ("mpeg4" if missing else "libx264")
    times = [0.0, 0.04, 0.04, 2.0, 2.5]
    video = overlay_video.OverlayVideo(tmp_path / "clip.mp4", (63, 47))
    for pixels, time_s in zip(shades, times, strict=False):
        video.add(pixels[:47, :63], time_s)
    video.close()
    frames = read(tmp_path / "clip.mp4")
    assert [frame.time_s for frame in frames] == pytest.approx(times, abs=1e-3)
    # Odd sides grow by a pixel.
    assert frames[0].picture.pixels.shape == (48, 64, 3)
    means = [frame.picture.pixels[:, 32:].mean() / 20 for frame in frames]
    assert means == pytest.approx(range(5), abs=0.3)


@pytest.mark.parametrize("pause", [4_000, 10**9, 1e18])
def test_a_pause_of_years_becomes_an_hour(shades, tmp_path, pause):
    video = overlay_video.OverlayVideo(tmp_path / "clip.mp4", (64, 48))
    for number, time_s in enumerate((0, 0.5, pause, pause + 0.25 if pause < 1e17 else pause)):
        video.add(shades[number], time_s)
    video.close()
    times = [frame.time_s for frame in read(tmp_path / "clip.mp4")]
    assert times[:3] == pytest.approx([0, 0.5, 3_600.5], abs=0.01)
    assert times[3] - times[2] == pytest.approx(0.25 if pause < 1e17 else 0, abs=0.001)


def test_without_an_encoder_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(overlay_video, "_ENCODERS", {"vhs": {}})
    with pytest.raises(EnvironmentFault, match=r"no encoder out of vhs; .*--overlay-video"):
        overlay_video.OverlayVideo(tmp_path / "clip.mp4", (64, 48))


def test_a_full_disk_is_an_error_of_the_disk(shades, small_files, tmp_path):
    video = overlay_video.OverlayVideo(tmp_path / "clip.mp4", (64, 48))
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)

    def fill():
        for number in range(200):
            video.add(noise, number / 10)
        video.close()

    with small_files(1000):
        with pytest.raises(OSError, match="File too large"):
            fill()
        with contextlib.suppress(OSError):
            video.close()


def test_each_video_has_one_of_its_own_and_pictures_have_none(shades, tmp_path):
    (tmp_path / "out").mkdir()
    folder = PredictionFolder(
        tmp_path / "out", overlays=False, overlay_videos=True, formats=("csv", "yolo")
    )
    folder.begin(model="m", classes=["cat"], score_threshold=0.3)
    small = [pixels[:47, :63] for pixels in shades]
    for name in ("a/clip.avi", "b/clip.avi"):
        for index in range(3):
            file = PictureFile(str(tmp_path / name), "clip.avi")
            folder.add(Frame(file, Picture(small[index], 1), index, index / 10), BOX)
    folder.add(Frame(PictureFile(str(tmp_path / "c.jpg"), "c.jpg"), Picture(small[0], 1)), BOX)
    # A frame of another size begins a file.
    large = Detections(ImageSize(64, 48), ())
    file = PictureFile(str(tmp_path / "d.ts"), "d.ts")
    folder.add(Frame(file, Picture(small[0], 1), 0, 0.0), BOX)
    folder.add(Frame(file, Picture(shades[1], 1), 1, 0.5), large)
    folder.finish(failed=[])
    yolo = tmp_path / "out" / "yolo"
    assert (yolo / "data.yaml").read_text() == 'names:\n  0: "cat"\n'
    assert (yolo / "labels" / "c.txt").read_text() == (
        "0 0.550000 0.550000 0.700000 0.700000 0.900000\n"
    )
    assert (yolo / "labels" / "d.ts_000001.txt").read_text() == ""
    assert len(list((yolo / "labels").iterdir())) == 9
    videos = sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir())
    assert videos == ["clip.avi-2.mp4", "clip.avi.mp4", "d.ts-2.mp4", "d.ts.mp4"]
    frames = read(tmp_path / "out" / "overlays" / "clip.avi.mp4")
    assert len(frames) == 3
    edge = frames[1].picture.pixels[8:12, 16:56].astype(int)
    assert np.abs(edge - 20).max() > 80
