import numpy as np
import pytest
from PIL import Image

from detflow.errors import ConfigError, DataError
from detflow.prediction.frames import find_media, read_frames
from detflow.prediction.limits import Limits


@pytest.fixture
def photos(tmp_path):
    """Two pictures, and between them the output of an earlier run with two of its own."""
    for name in ("a.jpg", "z.jpg", "out/overlays/a.jpg", "out/voc/z.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(path)
    return tmp_path / "photos"


def names(files):
    return [file.path.name for file in files]


def read(path, **settings):
    """Returns the frames of files, and why some were not read, without their paths."""
    failed = []
    files = find_media([str(path)])
    frames = list(
        read_frames(
            files,
            lambda at, reason: failed.append((at.name, reason.partition(": ")[2])),
            lambda *_: None,
            **settings,
        )
    )
    return frames, failed


def times(frames):
    return [frame.time_s for frame in frames]


def shade_of(frame):
    return frame.picture.pixels[:, 32:].mean() / 20


@pytest.mark.parametrize(
    ("suffix", "codec", "b_frames"),
    [
        *(("avi", "mpeg4", 2), ("mpg", "mpeg1video", 2), ("ts", "mpeg2video", 2)),
        *(("mp4", "mpeg4", 2), ("mov", "mpeg4", 0), ("m4v", "mpeg4", 0), ("mkv", "mpeg4", 2)),
        *(("webm", "libvpx", 0), ("flv", "flv1", 0), ("wmv", "wmv2", 0), ("3gp", "mpeg4", 0)),
        ("gif", "gif", 0),
    ],
)
def test_every_container_gives_all_frames_with_their_times(
    suffix, codec, b_frames, shades, write_video, tmp_path
):
    fps = 25 if codec.endswith("video") else 10
    pixels = "rgb8" if codec == "gif" else "yuv420p"
    options = {"b_frames": b_frames, "fps": fps, "pix_fmt": pixels}
    write_video(tmp_path / f"clip.{suffix}", shades, codec, **options)
    # The content decides, whatever the file is called.
    (tmp_path / f"clip.{suffix}").rename(tmp_path / "clip.bin")
    frames, failed = read(tmp_path)
    assert failed == []
    assert [frame.index for frame in frames] == list(range(12))
    assert times(frames) == pytest.approx([number / fps for number in range(12)], abs=1e-3)
    assert [shade_of(frame) for frame in frames] == pytest.approx(range(12), abs=1)
    red = frames[5].picture.pixels[10:40, 4:10].mean((0, 1))
    assert red == pytest.approx([200, 0, 0], abs=24)
    assert frames[0].name == "clip.bin/000000"


@pytest.mark.parametrize(("suffix", "b_frames"), [("mp4", 0), ("mkv", 2)])
def test_a_variable_rate_is_no_damage(suffix, b_frames, shades, write_video, tmp_path):
    shown = [0, 40, 500, 520, 2000, 2001, 2040, 3000, 3100, 3200, 3300, 9000]
    path = tmp_path / f"clip.{suffix}"
    write_video(path, shades, times_ms=shown, b_frames=b_frames)
    frames, failed = read(path)
    assert failed == []
    assert times(frames) == pytest.approx([one / 1000 for one in shown], abs=1e-3)
    some, _ = read(path, limits=Limits(every=5))
    assert [(frame.index, frame.time_s) for frame in some] == [
        (frame.index, frame.time_s) for frame in frames[::5]
    ]


def test_a_frame_that_an_avi_shows_for_longer_is_no_damage(shades, write_avi, tmp_path):
    shown = [shades[0], None, None, shades[3], None, shades[5]]
    frames, failed = read(write_avi(tmp_path / "clip.avi", shown))
    assert failed == []
    assert times(frames) == pytest.approx([0.0, 0.3, 0.5])
    assert [shade_of(frame) for frame in frames] == pytest.approx([0, 3, 5], abs=0.2)


# Where the corner of the stored frame's first row and column is seen, and the EXIF orientation of
# the same turn; a display matrix of a, b, u, c, d, v, x, y, w, as ISO 14496-12 has it.
@pytest.mark.parametrize(
    ("a", "b", "c", "d", "orientation"),
    [
        *((1, 0, 0, 1, 1), (-1, 0, 0, 1, 2), (-1, 0, 0, -1, 3), (1, 0, 0, -1, 4)),
        *((0, 1, 1, 0, 5), (0, 1, -1, 0, 6), (0, -1, -1, 0, 7), (0, -1, 1, 0, 8)),
    ],
)
def test_a_turned_video_is_read_as_a_player_shows_it(
    a, b, c, d, orientation, write_video, tmp_path
):
    stored = np.zeros((48, 64, 3), np.uint8)
    stored[:24, :32] = 250
    one = 1 << 16
    matrix = [a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30]
    frames, failed = read(write_video(tmp_path / "clip.mp4", [stored] * 2, matrix=matrix))
    assert failed == []
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "same.png", exif=exif)
    [photo], _ = read(tmp_path / "same.png")
    assert frames[1].picture.orientation == photo.picture.orientation == orientation
    difference = frames[1].picture.pixels.astype(int) - photo.picture.pixels
    assert np.abs(difference).mean() < 4


def test_a_picture_is_a_picture_whatever_its_name(photos):
    (photos / "a.jpg").rename(photos / "a.mp4")
    Image.new("P", (4, 3)).save(photos / "still.gif")
    frames, failed = read(photos / "a.mp4")
    assert [(frame.index, frame.time_s) for frame in frames] == [(None, None)]
    [still], _ = read(photos / "still.gif")
    assert (failed, still.index) == ([], None)


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("avi", "mpeg4"), ("webm", "libvpx"), ("wmv", "wmv2"), ("ts", "mpeg2video"), ("gif", "gif")],
)
def test_what_a_cut_file_still_holds_is_read_and_the_cut_is_told(
    suffix, codec, shades, write_video, tmp_path
):
    random = np.random.default_rng(0)
    noisy = [random.integers(0, 256, (48, 64, 3), np.uint8) for _ in shades]
    pixels = "rgb8" if codec == "gif" else "yuv420p"
    fps = 25 if codec.endswith("video") else 10
    path = write_video(tmp_path / f"clip.{suffix}", noisy, codec, pix_fmt=pixels, fps=fps)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 7 // 10])
    frames, [(name, reason)] = read(path)
    assert 4 <= len(frames) < 12
    assert name == path.name
    assert f"decoded up to frame {len(frames) - 1} (from 0), but the file" in reason
    missing = f"{len(whole) - len(whole) * 7 // 10:,} bytes early"
    assert (missing if suffix in ("avi", "webm", "wmv") else "end is missing") in reason


def test_damage_inside_costs_the_frames_around_it(shades, write_avi, tmp_path):
    path = write_avi(tmp_path / "clip.avi", shades)
    content = bytearray(path.read_bytes())
    # The tables of one JPEG: without them nothing of it can be decoded.
    place = content.find(b"\xff\xdb", len(content) // 2)
    content[place : place + 400] = bytes(400)
    path.write_bytes(content)
    frames, [(_, reason)] = read(path)
    assert len(frames) == 11
    assert times(frames)[-1] == pytest.approx(1.1)
    assert reason == "decoded up to frame 10 (from 0), but 1 piece cannot be decoded"


def test_what_is_no_video_is_named(photos, shades, write_video, tmp_path):
    whole = write_video(tmp_path / "whole.mp4", shades).read_bytes()
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "cut.mp4").write_bytes(whole[:300])
    (folder / "empty.mkv").write_bytes(b"")
    (folder / "list.ts").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path / 'whole.mp4'}\n")
    (folder / "notes.txt").write_text("this is free, and wide")
    (folder / "song.ogg").write_bytes(b"OggS" + bytes(60))
    frames, failed = read(folder)
    assert frames == []
    assert [name for name, _ in failed] == ["cut.mp4", "empty.mkv", "list.ts"]
    reasons = [reason for _, reason in failed]
    assert "Invalid data found when processing input, the file ends" in reasons[0]
    assert reasons[1:] == [
        "not a video: it begins with nothing",
        "not a video: it begins with 23 45 58 54 4d 33 55 0a",
    ]


def test_only_sound_is_no_video(tmp_path):
    import av

    path = tmp_path / "sound.mp4"
    with av.open(path, "w") as output:
        stream = output.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    assert read(path) == ([], [("sound.mp4", "there is no video in it")])


def test_large_frames_and_endless_videos_are_bounded(shades, write_video, tmp_path):
    path = write_video(tmp_path / "clip.mp4", shades)
    frames, failed = read(path, limits=Limits(max_pixels=3071))
    assert frames == []
    assert failed == [("clip.mp4", "image too large: 64x48, 3,072 pixels; expected at most 3,071")]
    frames, [(_, reason)] = read(path, limits=Limits(every=2, max_frames=4))
    assert [frame.index for frame in frames] == [0, 2, 4, 6]
    assert "as many frames as are taken (4; --max-frames takes more)" in reason
    frames, failed = read(path, limits=Limits(max_frames=12))
    assert (len(frames), failed) == (12, [])


def test_frames_that_grow_on_the_way_are_bounded_too(shades, write_avi, tmp_path):
    large = np.full((96, 128, 3), 250, np.uint8)
    path = write_avi(tmp_path / "clip.avi", [shades[1], shades[2], large, shades[3]])
    frames, failed = read(path)
    assert (len(frames), failed) == (4, [])
    assert frames[2].picture.pixels.shape == (96, 128, 3)
    frames, [(_, reason)] = read(path, limits=Limits(max_pixels=3072))
    assert {frame.picture.pixels.shape for frame in frames} == {(48, 64, 3)}
    assert "cannot be decoded" in reason or "too large" in reason


def test_predictions_do_not_find_themselves_again(photos, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(photos)
    assert len(find_media([str(photos)])) == 4
    monkeypatch.chdir(tmp_path)
    for source in (str(photos), "photos", "photos/**/*.jpg", "photos/*", "link"):
        assert names(find_media([source], photos / "out")) == ["a.jpg", "z.jpg"]
    assert names(find_media(["photos"], tmp_path / "link" / "out")) == ["a.jpg", "z.jpg"]


def test_an_output_beside_the_source_leaves_nothing_out(photos, tmp_path):
    assert len(find_media([str(photos)], tmp_path / "out")) == 4


@pytest.mark.parametrize("source", ["out", "out/voc", "out/voc/z.jpg"])
def test_a_source_that_would_be_replaced_is_refused(photos, source):
    with pytest.raises(ConfigError, match="--output would replace the source"):
        find_media([str(photos), str(photos / source)], photos / "out")


def test_only_pictures_of_an_earlier_run_are_none(photos):
    (photos / "a.jpg").unlink()
    (photos / "z.jpg").unlink()
    with pytest.raises(DataError, match="no image but in the output folder"):
        find_media([str(photos)], photos / "out")
