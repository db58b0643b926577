"""Cameras by a stand-in, and streams from a server on this machine that breaks off."""

import http.server
import json
import threading

import numpy as np
import pytest

from detflow.errors import DataError
from detflow.prediction import streams
from detflow.prediction.frames import find_media, read_frames
from detflow.prediction.limits import Limits
from detflow.prediction.run import predict


@pytest.fixture
def serve(monkeypatch):
    """Starts a server that answers each request with the next of some contents, then with 404."""
    monkeypatch.setattr(streams, "_WAITS_S", (0.01, 0.01))
    servers = []

    def start(*contents, length=False):
        left = list(contents)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if not left:
                    self.send_error(404)
                    return
                content = left.pop(0)
                self.send_response(200)
                self.send_header("Content-Type", "video/mp2t")
                if length:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://user:secret@127.0.0.1:{server.server_port}/live"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def read(source, **limits):
    failed = []
    files = find_media([source])
    frames = read_frames(
        files, lambda _, why: failed.append(why), lambda *_: None, limits=Limits(**limits)
    )
    return list(frames), failed


@pytest.fixture(scope="module")
def transport(shades, write_video, tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "clip.ts"
    return write_video(path, shades, "mpeg2video", fps=25).read_bytes()


def test_a_stream_that_breaks_off_is_opened_again(serve, transport):
    frames, [reason] = read(serve(transport, transport))
    assert [frame.index for frame in frames] == list(range(24))
    times = [frame.time_s for frame in frames]
    assert times == sorted(times)
    assert times[11] == pytest.approx(0.44)
    assert "the stream is gone after 24 frames" in reason
    assert "secret" not in reason + frames[0].source + frames[0].name


def test_a_damaged_file_on_a_server_is_read_once_and_told_of(serve, shades, write_video, tmp_path):
    whole = write_video(tmp_path / "clip.mkv", shades, "mpeg4", fps=25).read_bytes()
    damaged = whole[: len(whole) * 2 // 3].ljust(len(whole), b"\0")
    frames, [reason] = read(serve(damaged, damaged, damaged, length=True))
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert 0 < len(frames) < 12
    assert "1 frame damaged" in reason


def test_streams_that_look_alike_are_two():
    files = find_media(["rtsp://host/a/b", "rtsp://host/a_b", "rtsp://host/a/b"])
    assert [file.address for file in files] == ["rtsp://host/a/b", "rtsp://host/a_b"]


def test_enough_frames_end_a_stream(serve, transport):
    frames, failed = read(serve(transport, transport), every=5, max_frames=4)
    assert [frame.index for frame in frames] == [0, 5, 10, 15]
    assert failed == []


def test_a_stream_that_is_not_there_is_one_line(serve):
    frames, [reason] = read(serve())
    assert frames == []
    assert "the stream is gone after 0 frames" in reason


def test_what_failed_has_the_name_that_its_frames_have(
    serve, transport, find_cats, tmp_path, monkeypatch
):
    find_cats(tmp_path)
    address = serve(transport)
    (tmp_path / "cut.jpg").write_text("no image")
    monkeypatch.chdir(tmp_path)
    result = predict([address, "./cut.jpg"], tmp_path, tmp_path / "out", overlays=False)
    shown = address.replace("user:secret@", "")
    names = [name for name, _ in result.failed]
    assert names == [shown, "cut.jpg"]
    assert result.cut == {shown}
    assert {image.source for image in result.images} == {shown}
    assert set(result.to_pandas()["file"]) == {shown}
    report = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [entry["file"] for entry in report["failed"]] == names
    assert {entry["file"] for entry in report["images"]} == {shown}
    assert not [path for path in tmp_path.rglob("*") if "secret" in path.name]
    assert "secret" not in json.dumps(report)


class StandIn:
    """What `cv2.VideoCapture` is asked for."""

    def __init__(self, number):
        self.left = 3 if number == 0 else 0
        self.released = False

    def isOpened(self):  # noqa: N802
        return self.left > 0

    def read(self):
        self.left -= 1
        pixels = np.zeros((4, 6, 3), np.uint8)
        pixels[:, :, 2] = 200
        return (True, pixels) if self.left >= 0 else (False, None)

    def release(self):
        self.released = True


def test_a_camera_is_read_until_it_ends(monkeypatch):
    import cv2

    opened = []
    monkeypatch.setattr(
        cv2, "VideoCapture", lambda number: opened.append(StandIn(number)) or opened[-1]
    )
    frames, failed = read("0")
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert frames[0].time_s == 0.0
    # OpenCV has blue first.
    assert frames[0].picture.pixels[0, 0].tolist() == [200, 0, 0]
    assert failed == ["camera 0 gives no more pictures"]
    frames, failed = read("0", max_frames=2)
    assert (len(frames), failed) == (2, [])
    assert read("1") == ([], ["camera 1 cannot be opened; is it there, and free?"])
    assert all(camera.released for camera in opened)


def test_a_file_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert streams.find_live("0").shown == "0"
    (tmp_path / "0").mkdir()
    assert streams.find_live("0") is None
    with pytest.raises(DataError, match="no such file"):
        find_media(["ftp://host/clip.ts"])
